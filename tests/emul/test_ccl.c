/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The emulated collective libraries as independent users meet them: three ranks in three processes, each on a device of
 * its own. Every rank adds 1 to its number in every element, so that results are easy to say.
 */
#include "config.h"
#include "tests/emul/runtimes.h"
#include <string.h>
#include <unistd.h>

enum { RANKS = 3, COUNT = 200000, I32 = 2, F32 = 7, F64 = 8, I64 = 4, F16 = 6, SUM = 0, MAX = 2, AVG = 4 };

struct unique_id {
    char bytes[128];
};
static struct {
    int (*GetUniqueId)(struct unique_id *), (*CommInitRank)(void **, int, struct unique_id, int);
    int (*CommDestroy)(void *), (*CommAbort)(void *), (*CommGetAsyncError)(void *, int *), (*CommCount)(void *, int *);
    int (*AllReduce)(const void *, void *, size_t, int, int, void *, void *);
    int (*ReduceScatter)(const void *, void *, size_t, int, int, void *, void *);
    int (*AllGather)(const void *, void *, size_t, int, void *, void *);
    int (*Broadcast)(const void *, void *, size_t, int, int, void *, void *);
    int (*Reduce)(const void *, void *, size_t, int, int, int, void *, void *);
    int (*Send)(const void *, size_t, int, int, void *, void *), (*Recv)(void *, size_t, int, int, void *, void *);
    int (*GroupStart)(void), (*GroupEnd)(void);
} ccl;

static struct library {
    const char *name, *object, *prefix, *runtime;
    int fp8, groups_mix, wide;
} const libraries[] = {
    {"NCCL", "cuda12/libnccl.so.2", "nccl", "cuda12", 1, 1, 1},
    {"RCCL", "hip6/librccl.so.1", "nccl", "hip6", 0, 1, 1},
    {"RCCL on DTK", "dtk/librccl.so.1", "nccl", "dtk", 0, 1, 1},
    {"MCCL of musa", "musa/libmccl.so", "mccl", "musa", 0, 1, 1},
    {"MCCL of maca", "maca/libmccl.so", "mccl", "maca", 0, 1, 1},
    {"MXCCL", "maca_mx/libmccl.so", "mxccl", "maca", 0, 1, 1},
    {"ECCL", "tops/libeccl.so", "eccl", "tops", 0, 0, 0},
    {"SUCCL", "supa/libsuccl.so", "succl", "supa", 0, 1, 1},
    {"TCCL", "tx/libtccl.so", "tccl", "tx", 0, 1, 1},
    {"PCCL", "tang/libpccl.so", "pccl", "tang", 0, 1, 1},
};
static const struct library *library;

static void *find(void *object, const char *name)
{
    char whole[64];
    snprintf(whole, sizeof(whole), "%s%s", library->prefix, name);
    return frame_find(object, whole);
}

static void load(void)
{
    for (size_t i = 0; i < runtime_count; i++)
        if (strcmp(runtimes[i].name, library->runtime) == 0) runtime_load(&runtimes[i]);
    void *object = frame_open(library->object);
#define LOAD(name) *(void **)&ccl.name = find(object, #name)
    LOAD(GetUniqueId), LOAD(CommInitRank), LOAD(CommDestroy), LOAD(CommAbort), LOAD(CommGetAsyncError), LOAD(CommCount);
    LOAD(AllReduce), LOAD(ReduceScatter), LOAD(AllGather), LOAD(Broadcast), LOAD(Reduce), LOAD(Send), LOAD(Recv);
    LOAD(GroupStart), LOAD(GroupEnd);
#undef LOAD
}

static int pipes[RANKS][2], me;
static void *comm, *stream;

/* Rank 0 makes the id; its own pipe too gets it. */
static void join_device(int device)
{
    struct unique_id id;
    load();
    CHECK_IS(rt.SetDevice(device), 0);
    stream = stream_new(true);
    if (me == 0) {
        CHECK_IS(ccl.GetUniqueId(&id), 0);
        for (int r = 0; r < RANKS; r++) CHECK_IS(write(pipes[r][1], &id, sizeof(id)), sizeof(id));
    }
    CHECK_IS(read(pipes[me][0], &id, sizeof(id)), sizeof(id));
    comm = NULL;
    int code = ccl.CommInitRank(&comm, RANKS, id, me);
    if (device < 0 || getenv("SAME_DEVICE")) exit(code == 5 ? 0 : 1);
    CHECK_IS(code, 0);
}

static void join(void) { join_device(getenv("SAME_DEVICE") ? 0 : me); }

static void leave(void)
{
    CHECK_IS(rt.StreamSynchronize(stream), 0);
    CHECK_IS(ccl.CommDestroy(comm), 0);
    CHECK_IS(rt.StreamDestroy(stream), 0);
}

static void (*part)(void);
static void rank_main(void) { part(); }

static void world(void (*what)(void))
{
    int pids[RANKS];
    part = what;
    for (int r = 0; r < RANKS; r++) CHECK(pipe(pipes[r]) == 0);
    for (me = 0; me < RANKS; me++) pids[me] = frame_fork(rank_main);
    for (int r = 0; r < RANKS; r++) frame_join(pids[r]);
}

/* `parts` blocks of COUNT int32: block b of rank r holds 100 * b + r + 1. */
static int *filled(int parts)
{
    int *host = malloc(sizeof(int) * COUNT * (size_t)parts),
        *device = device_alloc(sizeof(int) * COUNT * (size_t)parts);
    for (int i = 0; i < COUNT * parts; i++) host[i] = 100 * (i / COUNT) + me + 1;
    CHECK_IS(rt.Memcpy(device, host, sizeof(int) * COUNT * (size_t)parts, which->kinds[H2D]), 0);
    free(host);
    return device;
}

static void expect(const int *device, int block, int value)
{
    int *host = malloc(sizeof(int) * COUNT);
    CHECK_IS(rt.StreamSynchronize(stream), 0);
    CHECK_IS(rt.Memcpy(host, device + (size_t)block * COUNT, sizeof(int) * COUNT, which->kinds[D2H]), 0);
    for (int i = 0; i < COUNT; i++) CHECK_IS(host[i], value);
    free(host);
}

static void collectives_part(void)
{
    int ranks = 0;
    join();
    CHECK_IS(ccl.CommCount(comm, &ranks), 0);
    CHECK_IS(ranks, RANKS);
    int *in = filled(RANKS), *out = filled(RANKS);
    CHECK_IS(ccl.AllReduce(in, out, COUNT, I32, SUM, comm, stream), 0);
    expect(out, 0, 6);
    CHECK_IS(ccl.AllReduce(in, out, COUNT, I32, MAX, comm, stream), 0);
    expect(out, 0, 3);
    CHECK_IS(ccl.AllReduce(in, out, COUNT, I32, AVG, comm, stream), 0);
    expect(out, 0, 2);
    CHECK_IS(ccl.ReduceScatter(in, out, COUNT, I32, SUM, comm, stream), 0);
    expect(out, 0, 300 * me + 6);
    CHECK_IS(ccl.AllGather(in, out, COUNT, I32, comm, stream), 0);
    for (int r = 0; r < RANKS; r++) expect(out, r, r + 1);
    CHECK_IS(ccl.Broadcast(in, out, COUNT, I32, 1, comm, stream), 0);
    expect(out, 0, 2);
    CHECK_IS(ccl.Reduce(in, me == 2 ? out : NULL, COUNT, I32, SUM, 2, comm, stream), 0);
    if (me == 2) expect(out, 0, 6);
    CHECK_IS(ccl.AllReduce(in, in, COUNT, I32, SUM, comm, stream), 0); /* in place */
    expect(in, 0, 6);
    CHECK_IS(rt.Free(in), 0);
    CHECK_IS(rt.Free(out), 0);
    leave();
}
static void collectives(void) { world(collectives_part); }

static void messages_part(void)
{
    join();
    int *in = filled(1), *out = filled(RANKS);
    CHECK_IS(ccl.GroupStart(), 0);
    for (int r = 0; r < RANKS; r++) {
        CHECK_IS(ccl.Send(in, COUNT, I32, r, comm, stream), 0);
        CHECK_IS(ccl.Recv(out + (size_t)r * COUNT, COUNT, I32, r, comm, stream), 0);
    }
    CHECK_IS(ccl.GroupEnd(), 0);
    for (int r = 0; r < RANKS; r++) expect(out, r, r + 1);
    CHECK_IS(ccl.GroupStart(), 0);
    CHECK_IS(ccl.AllReduce(in, out, COUNT, I32, SUM, comm, stream), 0);
    CHECK_IS(ccl.Broadcast(in, out + COUNT, COUNT, I32, 0, comm, stream) == 0, library->groups_mix);
    CHECK_IS(ccl.GroupEnd(), 0);
    expect(out, 0, 6);
    if (library->groups_mix) expect(out, 1, 1);
    leave();
}
static void messages(void) { world(messages_part); }

/* Halves: 1.5, 2.5 and 3.5 in fp16. */
static void types_part(void)
{
    uint16_t host[8], want = 0x4780; /* 7.5 */
    join();
    for (int i = 0; i < 8; i++) host[i] = (uint16_t[]){0x3e00, 0x4100, 0x4300}[me];
    uint16_t *memory = device_alloc(64);
    CHECK_IS(rt.Memcpy(memory, host, sizeof(host), which->kinds[H2D]), 0);
    CHECK_IS(ccl.AllReduce(memory, memory, 8, F16, SUM, comm, stream), 0);
    CHECK_IS(rt.StreamSynchronize(stream), 0);
    CHECK_IS(rt.Memcpy(host, memory, sizeof(host), which->kinds[D2H]), 0);
    for (int i = 0; i < 8; i++) CHECK_IS(host[i], want);
    CHECK_IS(ccl.AllReduce(memory, memory, 8, 10, SUM, comm, stream) == 0, library->fp8);
    CHECK_IS(ccl.AllReduce(memory, memory, 8, I64, SUM, comm, stream) == 0, library->wide);
    CHECK_IS(ccl.AllGather(memory, device_alloc(8 * 8 * RANKS), 8, I64, comm, stream), 0);
    CHECK_IS(ccl.AllReduce(memory, memory, 8, 12, SUM, comm, stream), 4);
    CHECK_IS(ccl.AllReduce(memory, memory, 8, F32, 5, comm, stream), 4);
    leave();
}
static void types(void) { world(types_part); }

/* The library refuses two ranks on one device. */
static void same_device_part(void)
{
    setenv("SAME_DEVICE", "1", 1);
    join();
}
static void same_device(void) { world(same_device_part); }

/* One rank never comes: the others abort, and their streams are usable afterwards. */
static void abort_part(void)
{
    join();
    int *memory = filled(1);
    if (me != 0) {
        CHECK_IS(ccl.AllReduce(memory, memory, COUNT, I32, SUM, comm, stream), 0);
        frame_nap(30);
        CHECK(rt.StreamQuery(stream) != 0);
    }
    CHECK_IS(ccl.CommAbort(comm), 0);
    CHECK_IS(rt.StreamSynchronize(stream), 0);
    CHECK_IS(rt.Free(memory), 0);
    CHECK_IS(rt.StreamDestroy(stream), 0);
}
static void aborts(void) { world(abort_part); }

static void async_part(void)
{
    int error = 0;
    join();
    int *memory = filled(1);
    CHECK_IS(ccl.AllReduce(memory, memory, COUNT, I32, SUM, comm, stream), 0);
    CHECK_IS(rt.StreamSynchronize(stream), 0);
    CHECK_IS(ccl.CommGetAsyncError(comm, &error), 0);
    CHECK_IS(error, 0);
    CHECK_IS(ccl.AllReduce(memory, memory, COUNT, I32, SUM, comm, stream), 0);
    while (error == 0) {
        frame_nap(1);
        CHECK_IS(ccl.CommGetAsyncError(comm, &error), 0);
    }
    CHECK_IS(error, 6);
    CHECK_IS(ccl.CommAbort(comm), 0);
    CHECK_IS(rt.StreamSynchronize(stream), 0);
}
static void asynchronous(void) { world(async_part); }

static void alone(void)
{
    struct unique_id id;
    load();
    CHECK_IS(rt.SetDevice(0), 0);
    CHECK_IS(ccl.GetUniqueId(&id), 0);
    stream = stream_new(true);
    CHECK_IS(ccl.CommInitRank(&comm, 1, id, 0), 0);
}

static void damaged_id(void)
{
    struct unique_id id;
    load();
    CHECK_IS(rt.SetDevice(0), 0);
    CHECK_IS(ccl.GetUniqueId(&id), 0);
    memset(id.bytes + 100, 0, 28);
    ccl.CommInitRank(&comm, 1, id, 0);
}

static void swapped_rank(void)
{
    struct unique_id id;
    load();
    CHECK_IS(rt.SetDevice(0), 0);
    CHECK_IS(ccl.GetUniqueId(&id), 0);
    ccl.CommInitRank(&comm, 0, id, 1);
}

static void host_buffer(void)
{
    static int memory[16];
    alone();
    ccl.AllReduce(memory, memory, 16, I32, SUM, comm, stream);
}

static void past_the_end(void)
{
    alone();
    int *memory = device_alloc(64);
    ccl.AllReduce(memory, memory, 17, I32, SUM, comm, stream);
}

static void half_overlapping(void)
{
    alone();
    int *memory = device_alloc(128);
    ccl.AllReduce(memory, memory + 1, 16, I32, SUM, comm, stream);
}

static void misaligned(void)
{
    alone();
    char *memory = device_alloc(128);
    ccl.AllReduce(memory + 2, memory + 64, 8, I32, SUM, comm, stream);
}

static void swapped_comm(void)
{
    alone();
    int *memory = device_alloc(64);
    ccl.AllReduce(memory, memory, 16, I32, SUM, stream, comm);
}

static void destroyed(void)
{
    alone();
    int *memory = device_alloc(64);
    CHECK_IS(ccl.CommDestroy(comm), 0);
    ccl.AllReduce(memory, memory, 16, I32, SUM, comm, stream);
}

/* What the ranks do differs: said by both, and they die. */
static void disagree_part(void)
{
    join();
    int *memory = filled(1);
    CHECK_IS(ccl.AllReduce(memory, memory, me == 1 ? 10 : 20, I32, SUM, comm, stream), 0);
    CHECK_IS(rt.StreamSynchronize(stream), 0);
}
static void disagree(void) { world(disagree_part); }

static const struct frame_case cases[] = {
    PASSES("collectives", collectives, "EMUL_DEVICES=3 EMUL_LEAKS=2 EMUL_REQUIRE_ENTER=1"),
    PASSES("collectives, late", collectives, "EMUL_DEVICES=3 EMUL_DELAY_US=3000"),
    PASSES("messages", messages, "EMUL_DEVICES=3"),
    PASSES("types", types, "EMUL_DEVICES=3"),
    PASSES("same device", same_device, NULL),
    PASSES("abort", aborts, "EMUL_DEVICES=3 EMUL_LEAKS=2"),
    PASSES("asynchronous error", asynchronous, "EMUL_DEVICES=3 EMUL_FAULT=cclasync@2"),
    DIES("damaged id", damaged_id, NULL, "damaged from byte 100 of 128"),
    DIES("swapped rank", swapped_rank, NULL, "rank 1 of 0"),
    DIES("host buffer", host_buffer, NULL, "pageable host memory"),
    DIES("past the end", past_the_end, NULL, "runs past the end"),
    DIES("half overlapping", half_overlapping, NULL, "overlap otherwise than in place"),
    DIES("misaligned", misaligned, NULL, "not aligned to 4 bytes"),
    DIES("communicator and stream swapped", swapped_comm, NULL, "is no communicator"),
    DIES("destroyed", destroyed, NULL, "the communicator was destroyed"),
    DIES("disagree", disagree, "EMUL_DEVICES=3", "10 of type 2"),
};

int main(int argc, char **argv)
{
    int failed = 0;
    for (size_t i = 0; i < sizeof(libraries) / sizeof(libraries[0]); i++) {
        library = &libraries[i];
        if (argc > 1 && strcmp(argv[1], library->name) != 0) continue;
        /* All of NCCL; of its likes what is theirs. */
        failed += frame_run(library->name, cases, i == 0 ? sizeof(cases) / sizeof(cases[0]) : 4);
    }
    return failed != 0;
}
