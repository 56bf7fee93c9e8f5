/* SPDX-License-Identifier: Apache-2.0 */
/* The emulated collective libraries that are not of NCCL's shape, HCCL and CNCL: two ranks in two processes. */
#include "config.h"
#include "tests/emul/frame.h"
#include <stdint.h>
#include <string.h>
#include <unistd.h>

enum { RANKS = 2, COUNT = 1000 };
static int pipes[RANKS][2], pids[RANKS], me;

static void exchange(void *id, size_t size)
{
    for (int r = 1; me == 0 && r < RANKS; r++) CHECK_IS(write(pipes[r][1], id, size), size);
    if (me != 0) CHECK_IS(read(pipes[me][0], id, size), size);
}

static void world(void (*part)(void))
{
    for (int r = 0; r < RANKS; r++) CHECK(pipe(pipes[r]) == 0);
    for (me = 0; me < RANKS; me++) pids[me] = frame_fork(part);
    for (int r = 0; r < RANKS; r++) frame_join(pids[r]);
}

/* Memory and a stream of the one runtime or the other. */
static int (*copy_in)(void *, const void *, size_t), (*copy_out)(void *, const void *, size_t), (*sync_stream)(void *);
static void *(*take)(size_t);
static void *stream;

static void *filled(int value, int parts)
{
    int *host = malloc(sizeof(int) * (size_t)(COUNT * parts)), *out = take(sizeof(int) * (size_t)(COUNT * parts));
    for (int i = 0; i < COUNT * parts; i++) host[i] = value + 100 * (i / COUNT);
    CHECK_IS(copy_in(out, host, sizeof(int) * (size_t)(COUNT * parts)), 0);
    free(host);
    return out;
}

static void expect(const void *from, int block, int value)
{
    int host[COUNT];
    CHECK_IS(sync_stream(stream), 0);
    CHECK_IS(copy_out(host, (const int *)from + block * COUNT, sizeof(host)), 0);
    for (int i = 0; i < COUNT; i++) CHECK_IS(host[i], value);
}

/* HCCL. */
static int (*acl_memcpy)(void *, size_t, const void *, size_t, int), (*acl_malloc)(void **, size_t, int);
static int acl_in(void *to, const void *from, size_t size) { return acl_memcpy(to, size, from, size, 1); }
static int acl_out(void *to, const void *from, size_t size) { return acl_memcpy(to, size, from, size, 2); }
static void *acl_take(size_t size)
{
    void *out;
    CHECK_IS(acl_malloc(&out, size, 0), 0);
    return out;
}

static void *hccl;
static void begin_acl(void)
{
    void *object = frame_open("acl/libascendcl.so");
    hccl = frame_open("acl/libhccl.so");
    int (*init)(const char *), (*set)(int32_t), (*create)(void **);
    *(void **)&init = frame_find(object, "aclInit");
    *(void **)&set = frame_find(object, "aclrtSetDevice");
    *(void **)&create = frame_find(object, "aclrtCreateStream");
    *(void **)&acl_memcpy = frame_find(object, "aclrtMemcpy");
    *(void **)&acl_malloc = frame_find(object, "aclrtMalloc");
    *(void **)&sync_stream = frame_find(object, "aclrtSynchronizeStream");
    copy_in = acl_in;
    copy_out = acl_out;
    take = acl_take;
    CHECK_IS(init(NULL), 0);
    CHECK_IS(set(me), 0);
    CHECK_IS(create(&stream), 0);
}

struct item {
    int kind;
    void *buffer;
    uint64_t count;
    int type;
    uint32_t peer;
};

/* What its documents do not allow. */
static void hccl_refuses(void *comm, int *in, int *out)
{
    enum { I32 = 2, SUM = 0, PARA = 1, PTR = 2 };
    uint32_t peer = (uint32_t)(1 - me);
    int (*reduce)(void *, void *, uint64_t, int, int, uint32_t, void *, void *),
        (*all_reduce)(void *, void *, uint64_t, int, int, void *, void *),
        (*all_to_all)(const void *, uint64_t, int, const void *, uint64_t, int, void *, void *),
        (*batch)(struct item *, uint32_t, void *, void *);
    *(void **)&reduce = frame_find(hccl, "HcclReduce");
    *(void **)&all_reduce = frame_find(hccl, "HcclAllReduce");
    *(void **)&all_to_all = frame_find(hccl, "HcclAlltoAll");
    *(void **)&batch = frame_find(hccl, "HcclBatchSendRecv");
    struct item items[3] = {{0, in, 10, I32, peer}, {1, out, 10, I32, peer}, {0, in + 10, 10, I32, peer}};
    CHECK_IS(reduce(in, NULL, 10, I32, SUM, peer, comm, stream), PTR); /* also on other ranks than the root */
    CHECK_IS(batch(items, 3, comm, stream), PARA);                     /* two to one rank */
    CHECK_IS(batch(items, 0, comm, stream), 0);
    CHECK_IS(all_reduce(in, out, 10, I32, SUM, comm, NULL), PTR); /* the default stream is none */
    CHECK_IS(all_reduce((char *)in + 2, out, 10, I32, SUM, comm, stream), PARA);
    CHECK_IS(all_to_all(in, 10, I32, in + 10, 10, I32, comm, stream), PARA); /* neither in place nor beside it */
    CHECK_IS(all_reduce(NULL, NULL, 0, I32, SUM, comm, stream), 0);          /* about nothing */
    CHECK_IS(reduce(in, out, COUNT, I32, SUM, 0, comm, stream), 0);
    CHECK_IS(sync_stream(stream), 0);
}

static void hccl_part(void)
{
    static char id[4108];
    enum { I32 = 2, F64 = 10, BF16 = 11, U32 = 9, SUM = 0 };
    void *comm;
    uint32_t ranks = 0;
    begin_acl();
    int (*root_info)(void *), (*init)(uint32_t, const void *, uint32_t, void **), (*destroy)(void *),
        (*size)(void *, uint32_t *);
    int (*all_reduce)(void *, void *, uint64_t, int, int, void *, void *),
        (*all_gather)(void *, void *, uint64_t, int, void *, void *);
    int (*reduce_scatter)(void *, void *, uint64_t, int, int, void *, void *);
    int (*broadcast)(void *, uint64_t, int, uint32_t, void *, void *),
        (*batch)(struct item *, uint32_t, void *, void *);
    *(void **)&root_info = frame_find(hccl, "HcclGetRootInfo");
    *(void **)&init = frame_find(hccl, "HcclCommInitRootInfo");
    *(void **)&destroy = frame_find(hccl, "HcclCommDestroy");
    *(void **)&size = frame_find(hccl, "HcclGetRankSize");
    *(void **)&all_reduce = frame_find(hccl, "HcclAllReduce");
    *(void **)&all_gather = frame_find(hccl, "HcclAllGather");
    *(void **)&reduce_scatter = frame_find(hccl, "HcclReduceScatter");
    *(void **)&broadcast = frame_find(hccl, "HcclBroadcast");
    *(void **)&batch = frame_find(hccl, "HcclBatchSendRecv");
    if (me == 0) CHECK_IS(root_info(id), 0);
    exchange(id, sizeof(id));
    CHECK_IS(init(RANKS, id, (uint32_t)me, &comm), 0);
    CHECK_IS(size(comm, &ranks), 0);
    CHECK_IS(ranks, RANKS);
    void *in = filled(me + 1, RANKS), *out = filled(0, RANKS);
    CHECK_IS(all_reduce(in, out, COUNT, I32, SUM, comm, stream), 0);
    expect(out, 0, 3);
    CHECK_IS(reduce_scatter(in, out, COUNT, I32, SUM, comm, stream), 0);
    expect(out, 0, 3 + 200 * me);
    CHECK_IS(all_gather(in, out, COUNT, I32, comm, stream), 0);
    expect(out, 1, 2);
    struct item items[2] = {{0, in, COUNT, I32, (uint32_t)(1 - me)}, {1, out, COUNT, I32, (uint32_t)(1 - me)}};
    CHECK_IS(batch(items, 2, comm, stream), 0);
    expect(out, 0, 2 - me);
    CHECK_IS(broadcast(in, COUNT, I32, 1, comm, stream), 0);
    expect(in, 0, 2);
    CHECK_IS(all_reduce(in, out, 10, F64, SUM, comm, stream), 5);
    CHECK_IS(all_reduce(in, out, 10, U32, SUM, comm, stream), 5);
    CHECK_IS(all_reduce(in, out, 10, I32, 4, comm, stream), 1); /* no average */
    hccl_refuses(comm, in, out);
    CHECK_IS(destroy(comm), 0);
}
static void hccl_works(void) { world(hccl_part); }

static void hccl_short_id(void)
{
    static char id[4108];
    void *comm;
    begin_acl();
    int (*root_info)(void *), (*init)(uint32_t, const void *, uint32_t, void **);
    *(void **)&root_info = frame_find(hccl, "HcclGetRootInfo");
    *(void **)&init = frame_find(hccl, "HcclCommInitRootInfo");
    CHECK_IS(root_info(id), 0);
    memset(id + 4100, 0, 8);
    init(1, id, 0, &comm);
}

/* CNCL. */
static int (*cn_memcpy)(void *, void *, size_t, int), (*cn_malloc)(void **, size_t);
static int cn_in(void *to, const void *from, size_t size) { return cn_memcpy(to, (void *)(uintptr_t)from, size, 0); }
static int cn_out(void *to, const void *from, size_t size) { return cn_memcpy(to, (void *)(uintptr_t)from, size, 2); }
static void *cn_take(size_t size)
{
    void *out;
    CHECK_IS(cn_malloc(&out, size), 0);
    return out;
}

static void *cncl;
static void begin_cnrt(void)
{
    void *object = frame_open("cnrt/libcnrt.so");
    cncl = frame_open("cnrt/libcncl.so");
    int (*set)(int), (*create)(void **);
    *(void **)&set = frame_find(object, "cnrtSetDevice");
    *(void **)&create = frame_find(object, "cnrtQueueCreate");
    *(void **)&cn_memcpy = frame_find(object, "cnrtMemcpy");
    *(void **)&cn_malloc = frame_find(object, "cnrtMalloc");
    *(void **)&sync_stream = frame_find(object, "cnrtQueueSync");
    copy_in = cn_in;
    copy_out = cn_out;
    take = cn_take;
    CHECK_IS(set(me), 0);
    CHECK_IS(create(&stream), 0);
}

static void cncl_part(void)
{
    char id[136];
    enum { I32 = 0x22, F64 = 0x13, SUM = 0, MIN = 3, ARGUMENTS = 7, IN_PROGRESS = 6 };
    void *comm;
    int ranks = 0, version[3];
    begin_cnrt();
    int (*group_start)(void), (*group_end)(void), (*lib_version)(int *, int *, int *);
    *(void **)&group_start = frame_find(cncl, "cnclGroupStart");
    *(void **)&group_end = frame_find(cncl, "cnclGroupEnd");
    *(void **)&lib_version = frame_find(cncl, "cnclGetLibVersion");
    CHECK_IS(lib_version(&version[0], &version[1], &version[2]), 0);
    CHECK_IS(version[0] * 10000 + version[1] * 100 + version[2], 12500);
    int (*get_id)(void *), (*init)(void **, int, const int *, const int *, int, const void *), (*destroy)(void **, int);
    int (*count)(int *, void *), (*error)(void *),
        (*all_reduce)(const void *, void *, size_t, int, int, void *, void *);
    *(void **)&get_id = frame_find(cncl, "cnclGetCliqueId");
    *(void **)&init = frame_find(cncl, "cnclInitComms");
    *(void **)&destroy = frame_find(cncl, "cnclDestroyComms");
    *(void **)&count = frame_find(cncl, "cnclGetCommCount");
    *(void **)&error = frame_find(cncl, "cnclGetCommAsyncError");
    *(void **)&all_reduce = frame_find(cncl, "cnclAllReduce");
    if (me == 0) CHECK_IS(get_id(id), 0);
    exchange(id, sizeof(id));
    CHECK_IS(init(&comm, 1, &me, &me, RANKS, id), 0);
    CHECK_IS(count(&ranks, comm), 0);
    CHECK_IS(ranks, RANKS);
    void *in = filled(me + 1, 1), *out = filled(0, 1);
    CHECK_IS(all_reduce(in, out, COUNT, I32, SUM, comm, stream), 0);
    expect(out, 0, 3);
    CHECK_IS(all_reduce(in, out, COUNT, I32, MIN, comm, stream), 0);
    expect(out, 0, 1);
    CHECK_IS(all_reduce(in, out, 10, F64, SUM, comm, stream), ARGUMENTS);
    CHECK_IS(all_reduce(in, out, 10, 2, SUM, comm, stream), ARGUMENTS); /* NCCL's number */
    CHECK_IS(all_reduce(in, out, 10, I32, 4, comm, stream), ARGUMENTS);
    CHECK_IS(all_reduce(NULL, out, 10, I32, SUM, comm, stream), 0x21);
    CHECK_IS(error(comm), 0);
    CHECK_IS(init(&comm, 1, &me, &me, RANKS, id), 0x71); /* this process has used the id */
    CHECK_IS(group_start(), 0);
    CHECK_IS(all_reduce(in, out, 10, I32, SUM, comm, stream), 0x11);
    CHECK_IS(group_start(), 0x11);
    CHECK_IS(group_end(), 0);
    if (me != 0) CHECK_IS(read(pipes[me][0], id, 1), 1); /* that rank 0 has seen itself wait */
    CHECK_IS(all_reduce(in, out, COUNT, I32, SUM, comm, stream), 0);
    if (me == 0) {
        CHECK_IS(error(comm), IN_PROGRESS);
        CHECK_IS(write(pipes[1][1], id, 1), 1);
    }
    expect(out, 0, 3);
    CHECK_IS(error(comm), 0);
    CHECK_IS(destroy(&comm, 1), 0);
}
static void cncl_works(void) { world(cncl_part); }

/* What the real one lets pass, with a wrong result. */
static void cncl_in_place(void)
{
    char id[136];
    int rank = 0;
    void *comm;
    begin_cnrt();
    int (*get_id)(void *), (*init)(void **, int, const int *, const int *, int, const void *);
    int (*all_to_all)(const void *, void *, size_t, int, void *, void *);
    *(void **)&get_id = frame_find(cncl, "cnclGetCliqueId");
    *(void **)&init = frame_find(cncl, "cnclInitComms");
    *(void **)&all_to_all = frame_find(cncl, "cnclAlltoAll");
    CHECK_IS(get_id(id), 0);
    CHECK_IS(init(&comm, 1, &rank, &rank, 1, id), 0);
    void *memory = take(64);
    all_to_all(memory, memory, 16, 0x22, comm, stream);
}

static void cncl_without_hash(void)
{
    char id[136];
    int rank = 0;
    void *comm;
    begin_cnrt();
    int (*get_id)(void *), (*init)(void **, int, const int *, const int *, int, const void *);
    *(void **)&get_id = frame_find(cncl, "cnclGetCliqueId");
    *(void **)&init = frame_find(cncl, "cnclInitComms");
    CHECK_IS(get_id(id), 0);
    memset(id + 128, 0, 8);
    init(&comm, 1, &rank, &rank, 1, id);
}

static const struct frame_case cases[] = {
    PASSES("HCCL", hccl_works, "EMUL_DEVICES=2 EMUL_REQUIRE_ENTER=1"),
    DIES("HCCL, id cut short", hccl_short_id, NULL, "damaged from byte 4100 of 4108"),
    PASSES("CNCL", cncl_works, "EMUL_DEVICES=2 EMUL_REQUIRE_ENTER=1"),
    DIES("CNCL, all-to-all in place", cncl_in_place, NULL, "overlap otherwise than in place"),
    DIES("CNCL, id without hash", cncl_without_hash, NULL, "damaged from byte 128 of 136"),
};

int main(void) { return frame_run("own shapes", cases, sizeof(cases) / sizeof(cases[0])) != 0; }
