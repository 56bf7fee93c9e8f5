/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Communicators of the emulated collectives: unique ids, the meeting of the ranks, groups, abort. A unique id names a
 * memfd of the process that made it, and every byte of it is checked, so that an id cut short by a struct of the wrong
 * size is seen.
 */
#include "config.h"
#include "tests/emul/ccl_state.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static const uint64_t magic = 0x6d64656d75636c31u;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct emul_comm *comms;
static struct maker {
    struct maker *next;
    int fd;
    uint64_t nonce;
} * makers; /* ids made here and not used yet */

struct id_head {
    uint64_t magic, nonce;
    int32_t pid, fd;
    uint32_t vendor, size;
};

/* Never 0, so that an id that was cut short and filled up with zeros is told from the first byte that is missing. */
static unsigned char pattern(uint64_t nonce, size_t at)
{
    return (unsigned char)(((nonce >> at % 56) ^ (at * 131)) | 0x80);
}

int emul_ccl_id(int vendor, void *id, size_t size)
{
    struct timespec now;
    if (!id) return EMUL_CCL_ARGUMENT;
    clock_gettime(CLOCK_REALTIME, &now);
    int fd = memfd_create("emulated communicator", MFD_CLOEXEC);
    struct maker *maker = calloc(1, sizeof(*maker));
    if (fd < 0 || !maker) return EMUL_CCL_SYSTEM;
    struct id_head head = {
        magic,         (uint64_t)now.tv_sec * 1000000007u ^ (uint64_t)now.tv_nsec << 20, getpid(), fd, (uint32_t)vendor,
        (uint32_t)size};
    *maker = (struct maker){NULL, fd, head.nonce};
    for (size_t i = 0; i < size; i++) ((unsigned char *)id)[i] = pattern(head.nonce, i);
    memcpy(id, &head, sizeof(head));
    pthread_mutex_lock(&lock);
    maker->next = makers;
    makers = maker;
    pthread_mutex_unlock(&lock);
    return EMUL_CCL_OK;
}

static int check_id(int vendor, const unsigned char *id, size_t size, struct id_head *head)
{
    memcpy(head, id, sizeof(*head));
    if (head->magic != magic || head->size != size)
        return emul_misuse(EMUL_INVALID, "the unique id is none of this library"), EMUL_CCL_ARGUMENT;
    if ((int)head->vendor != vendor)
        return emul_misuse(EMUL_INVALID, "a unique id of another library"), EMUL_CCL_ARGUMENT;
    for (size_t i = sizeof(*head); i < size; i++)
        if (id[i] != pattern(head->nonce, i))
            return emul_misuse(EMUL_INVALID, "the unique id is damaged from byte %zu of %zu on", i, size),
                   EMUL_CCL_ARGUMENT;
    return EMUL_CCL_OK;
}

static void forget_maker(const struct id_head *head)
{
    pthread_mutex_lock(&lock);
    for (struct maker **at = &makers; *at; at = &(*at)->next) {
        struct maker *maker = *at;
        if (maker->fd != head->fd || maker->nonce != head->nonce) continue;
        close(maker->fd);
        *at = maker->next;
        free(maker);
        break;
    }
    pthread_mutex_unlock(&lock);
}

static struct ccl_shared *meet(const struct id_head *head, int ranks, size_t *size)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", head->pid, head->fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return NULL;
    *size = sizeof(struct ccl_shared) + (size_t)ranks * (size_t)ranks * sizeof(struct ccl_channel);
    void *shared = MAP_FAILED;
    if (ftruncate(fd, (off_t)*size) == 0)
        shared = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    close(fd);
    return shared == MAP_FAILED ? NULL : shared;
}

uint64_t ccl_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void emul_ccl_limit(struct emul_comm *comm, unsigned seconds)
{
    const char *text = getenv("EMUL_CCL_SECOND");
    comm->limit_ns = (text ? strtoull(text, NULL, 10) : 1000) * 1000000u * seconds;
}

static bool out_of_time(struct emul_comm *comm)
{
    uint64_t began = atomic_load_explicit(&comm->began_ns, memory_order_relaxed);
    if (!comm->limit_ns || !began || ccl_now() - began < comm->limit_ns) return false;
    atomic_store_explicit(&comm->error, EMUL_CCL_REMOTE, memory_order_release);
    return true;
}

bool ccl_pause(struct emul_comm *comm, unsigned *turn)
{
    struct timespec nap = {.tv_nsec = ++*turn < 50 ? 5000 : 100000};
    nanosleep(&nap, NULL);
    if (out_of_time(comm)) return false;
    return !atomic_load_explicit(&comm->aborted, memory_order_acquire) &&
           !emul_device_failed(comm->vendor, comm->device);
}

/* Pairs with itself in the other ranks: all that was written before it is seen after it. */
bool ccl_barrier(struct emul_comm *comm)
{
    unsigned turn = 0;
    uint64_t target = ++comm->barriers;
    atomic_store_explicit(&comm->shared->rank[comm->rank].arrived, target, memory_order_release);
    for (int r = 0; r < comm->ranks; r++)
        while (atomic_load_explicit(&comm->shared->rank[r].arrived, memory_order_acquire) < target)
            if (!ccl_pause(comm, &turn)) return false;
    return true;
}

/* Like the real ones: no two ranks on one device, unless EMUL_CCL_SHARE=1. */
static int check_devices(struct emul_comm *comm)
{
    const char *share = getenv("EMUL_CCL_SHARE");
    if (share && *share == '1') return EMUL_CCL_OK;
    for (int a = 0; a < comm->ranks; a++)
        for (int b = 0; b < a; b++)
            if (strcmp(comm->shared->rank[a].device, comm->shared->rank[b].device) == 0) return EMUL_CCL_USAGE;
    return EMUL_CCL_OK;
}

static int join(struct emul_comm *comm)
{
    struct ccl_rank *mine = &comm->shared->rank[comm->rank];
    emul_device_pci(comm->vendor, comm->device, mine->device, sizeof(mine->device));
    if (atomic_exchange_explicit(&mine->attached, 1, memory_order_acq_rel))
        return emul_misuse(EMUL_INVALID, "rank %d is there already", comm->rank), EMUL_CCL_USAGE;
    if (!ccl_barrier(comm)) return EMUL_CCL_REMOTE;
    return check_devices(comm);
}

int ccl_init_now(int vendor, const void *id, size_t size, int ranks, int rank, struct emul_comm **out)
{
    struct id_head head;
    if (!id || !out) return EMUL_CCL_ARGUMENT;
    if (ranks < 1 || ranks > CCL_RANKS || rank < 0 || rank >= ranks)
        return emul_misuse(EMUL_INVALID, "rank %d of %d: are the arguments in order?", rank, ranks), EMUL_CCL_ARGUMENT;
    if (emul_fault(vendor, "cclexit", NULL)) _exit(9);
    int code = emul_fault(vendor, "cclinit", NULL) ? EMUL_CCL_SYSTEM : check_id(vendor, id, size, &head);
    struct emul_comm *comm = code ? NULL : calloc(1, sizeof(*comm));
    if (!comm) return code ? code : EMUL_CCL_SYSTEM;
    *comm = (struct emul_comm){.magic = magic, .vendor = vendor, .ranks = ranks, .rank = rank};
    comm->device = emul_device_get(vendor);
    atomic_init(&comm->refs, 1);
    comm->shared = meet(&head, ranks, &comm->size);
    code = comm->shared ? join(comm) : EMUL_CCL_SYSTEM;
    if (head.pid == getpid()) forget_maker(&head);
    pthread_mutex_lock(&lock);
    comm->next = comms;
    comm->dead = code != EMUL_CCL_OK;
    comms = comm;
    pthread_mutex_unlock(&lock);
    if (code) {
        ccl_put(comm);
        return code;
    }
    *out = comm;
    return EMUL_CCL_OK;
}

/* The communicator itself stays, so that a later use of it is seen. */
void ccl_put(struct emul_comm *comm)
{
    if (atomic_fetch_sub_explicit(&comm->refs, 1, memory_order_acq_rel) != 1) return;
    if (comm->shared) munmap(comm->shared, comm->size);
    comm->shared = NULL;
}

bool ccl_known(struct emul_comm *comm)
{
    pthread_mutex_lock(&lock);
    struct emul_comm *at = comms;
    while (at && at != comm) at = at->next;
    bool live = at && !at->dead;
    pthread_mutex_unlock(&lock);
    if (!live) emul_misuse(EMUL_INVALID, at ? "the communicator was destroyed" : "%p is no communicator", (void *)comm);
    return live;
}

/* Groups, of a thread. */
struct start {
    struct start *next;
    pthread_t thread;
    int vendor, device, ranks, rank, code;
    void *id;
    size_t size;
    struct emul_comm **out;
};
struct member {
    struct emul_comm *comm;
    struct emul_ccl_op op;
};
static _Thread_local struct group {
    int depth;
    struct start *starts;
    struct member *members;
    size_t count;
} groups[EMUL_VENDORS];

int emul_ccl_init(int vendor, const void *id, size_t size, int ranks, int rank, struct emul_comm **out)
{
    struct group *group = &groups[vendor];
    if (!group->depth) return ccl_init_now(vendor, id, size, ranks, rank, out);
    struct start *start = calloc(1, sizeof(*start));
    if (!start || !(start->id = malloc(size))) return EMUL_CCL_SYSTEM;
    memcpy(start->id, id, size);
    start->vendor = vendor;
    start->device = emul_device_get(vendor);
    start->ranks = ranks;
    start->rank = rank;
    start->size = size;
    start->out = out;
    start->next = group->starts;
    group->starts = start;
    return EMUL_CCL_OK;
}

static void *start_main(void *argument)
{
    struct start *start = argument;
    emul_enter(start->vendor, "a grouped init", 0);
    emul_device_set(start->vendor, start->device);
    start->code = ccl_init_now(start->vendor, start->id, start->size, start->ranks, start->rank, start->out);
    return NULL;
}

static int run_starts(struct group *group)
{
    int code = EMUL_CCL_OK;
    for (struct start *at = group->starts; at; at = at->next)
        if (pthread_create(&at->thread, NULL, start_main, at) != 0) abort();
    for (struct start *at = group->starts, *next; at; at = next) {
        next = at->next;
        pthread_join(at->thread, NULL);
        if (at->code) code = at->code;
        free(at->id);
        free(at);
    }
    group->starts = NULL;
    return code;
}

/* group: a number of its own; 0: none. */
static int launch(struct emul_comm *comm, const struct emul_ccl_op *ops, size_t count, uint64_t group)
{
    struct ccl_batch *batch = calloc(1, sizeof(*batch));
    if (!batch || !(batch->ops = malloc(count * sizeof(*ops)))) abort();
    memcpy(batch->ops, ops, count * sizeof(*ops));
    batch->comm = comm;
    batch->count = count;
    batch->first = atomic_fetch_add_explicit(&comm->operations, count, memory_order_relaxed);
    if (!group || group != comm->group) comm->before_group = batch->first;
    comm->group = group;
    batch->after = comm->before_group;
    atomic_fetch_add_explicit(&comm->refs, 1, memory_order_relaxed);
    return emul_work(comm->vendor, ops[0].stream, ccl_run, ccl_drop, batch) ? EMUL_CCL_DEVICE : EMUL_CCL_OK;
}

/* In place is what NCCL's documents call so, and an all-to-all never is. */
bool emul_ccl_overlaps(struct emul_comm *comm, const struct emul_ccl_op *op)
{
    size_t whole = op->count * emul_type_size(op->type), ranks = (size_t)comm->ranks, rank = (size_t)comm->rank;
    size_t gives = op->call == EMUL_REDUCE_SCATTER || op->call == EMUL_ALL_TO_ALL ? ranks * whole : whole;
    size_t takes = op->call == EMUL_ALL_GATHER || op->call == EMUL_ALL_TO_ALL ? ranks * whole : whole;
    uintptr_t from = (uintptr_t)op->send, to = (uintptr_t)op->recv;
    bool unused = (op->call == EMUL_BROADCAST || op->call == EMUL_REDUCE) && op->peer != comm->rank;
    if (!whole || !from || !to || unused || from + gives <= to || to + takes <= from) return false;
    switch (op->call) {
    case EMUL_ALL_GATHER: return from != to + rank * whole;
    case EMUL_REDUCE_SCATTER: return to != from + rank * whole;
    case EMUL_ALL_TO_ALL: return true;
    default: return from != to;
    }
}

/* What the real ones let pass, and nobody should do. */
static int judge_buffers(struct emul_comm *comm, const struct emul_ccl_op *op)
{
    size_t width = emul_type_size(op->type);
    if (emul_ccl_overlaps(comm, op))
        return emul_misuse(EMUL_INVALID, "the buffers overlap otherwise than in place"), EMUL_CCL_ARGUMENT;
    if (op->count && ((uintptr_t)op->send % width || (uintptr_t)op->recv % width))
        return emul_misuse(EMUL_INVALID, "a buffer is not aligned to %zu bytes, as its type is", width),
               EMUL_CCL_ARGUMENT;
    return EMUL_CCL_OK;
}

/* cclconnect: like a library that connects as it goes, each call of a collective, or the group with it, returns when all
 * ranks have called it. */
static bool connects(const struct emul_comm *comm, const struct emul_ccl_op *op)
{
    return op->call != EMUL_SEND && op->call != EMUL_RECV && emul_fault(comm->vendor, "cclconnect", NULL);
}

static void count_call(struct emul_comm *comm)
{
    atomic_fetch_add_explicit(&comm->shared->rank[comm->rank].called, 1, memory_order_release);
}

static void await_calls(struct emul_comm *comm)
{
    unsigned turn = 0;
    uint64_t own = atomic_load_explicit(&comm->shared->rank[comm->rank].called, memory_order_relaxed);
    for (int r = 0; r < comm->ranks; r++)
        while (atomic_load_explicit(&comm->shared->rank[r].called, memory_order_acquire) < own) /* pairs with count_call */
            if (!ccl_pause(comm, &turn)) return;
}

int emul_ccl_submit(struct emul_comm *comm, const struct emul_ccl_op *op)
{
    if (!ccl_known(comm)) return EMUL_CCL_ARGUMENT;
    if (atomic_load_explicit(&comm->aborted, memory_order_acquire)) return EMUL_CCL_USAGE;
    bool rooted =
        op->call == EMUL_REDUCE || op->call == EMUL_BROADCAST || op->call == EMUL_SEND || op->call == EMUL_RECV;
    if (rooted && (op->peer < 0 || op->peer >= comm->ranks))
        return emul_misuse(EMUL_INVALID, "rank %d of %d", op->peer, comm->ranks), EMUL_CCL_ARGUMENT;
    if (op->call != EMUL_BARRIER && judge_buffers(comm, op)) return EMUL_CCL_ARGUMENT;
    struct group *group = &groups[comm->vendor];
    if (!group->depth) {
        if (connects(comm, op)) {
            count_call(comm);
            await_calls(comm);
        }
        return launch(comm, op, 1, 0);
    }
    group->members = realloc(group->members, (group->count + 1) * sizeof(*group->members));
    if (!group->members) abort();
    group->members[group->count++] = (struct member){comm, *op};
    return EMUL_CCL_OK;
}

unsigned emul_ccl_group_calls(int vendor)
{
    unsigned calls = 0;
    for (size_t i = 0; i < groups[vendor].count; i++) calls |= 1u << groups[vendor].members[i].op.call;
    return calls;
}

bool emul_ccl_grouped(int vendor) { return groups[vendor].depth > 0; }

int emul_ccl_group_start(int vendor)
{
    groups[vendor].depth++;
    return EMUL_CCL_OK;
}

static void connect_group(const struct group *group)
{
    for (int waits = 0; waits < 2; waits++)
        for (size_t i = 0; i < group->count; i++)
            if (connects(group->members[i].comm, &group->members[i].op))
                (waits ? await_calls : count_call)(group->members[i].comm);
}

/* One work per communicator and stream. */
int emul_ccl_group_end(int vendor)
{
    struct group *group = &groups[vendor];
    if (!group->depth) return EMUL_CCL_USAGE;
    if (--group->depth) return EMUL_CCL_OK;
    static _Atomic uint64_t groups_ended;
    uint64_t number = atomic_fetch_add_explicit(&groups_ended, 1, memory_order_relaxed) + 1;
    int code = run_starts(group);
    connect_group(group);
    struct emul_ccl_op *ops = malloc((group->count + 1) * sizeof(*ops));
    if (!ops) abort();
    for (size_t i = 0; i < group->count; i++) {
        struct emul_comm *comm = group->members[i].comm;
        void *stream = group->members[i].op.stream;
        size_t count = 0;
        if (!comm) continue;
        for (size_t k = i; k < group->count; k++) {
            struct member *member = &group->members[k];
            if (member->comm != comm || member->op.stream != stream) continue;
            ops[count++] = member->op;
            member->comm = NULL;
        }
        int device = emul_device_get(vendor);
        emul_device_set(vendor, comm->device);
        int launched = launch(comm, ops, count, number);
        emul_device_set(vendor, device);
        if (launched) code = launched;
    }
    free(ops);
    free(group->members);
    group->members = NULL;
    group->count = 0;
    return code;
}

int emul_ccl_destroy(struct emul_comm *comm)
{
    if (!comm) return EMUL_CCL_OK;
    if (!ccl_known(comm)) return EMUL_CCL_ARGUMENT;
    if (!atomic_load_explicit(&comm->aborted, memory_order_acquire) && ccl_factors_left(comm))
        emul_misuse(EMUL_INVALID, "%u operations of the communicator were not destroyed", ccl_factors_left(comm));
    pthread_mutex_lock(&lock);
    comm->dead = true;
    pthread_mutex_unlock(&lock);
    ccl_put(comm);
    return EMUL_CCL_OK;
}

int emul_ccl_abort(struct emul_comm *comm)
{
    if (!comm) return EMUL_CCL_OK;
    if (!ccl_known(comm)) return EMUL_CCL_ARGUMENT;
    atomic_store_explicit(&comm->aborted, true, memory_order_release);
    return emul_ccl_destroy(comm);
}

int emul_ccl_async_error(struct emul_comm *comm, int *error)
{
    if (!error || !ccl_known(comm)) return EMUL_CCL_ARGUMENT;
    *error = atomic_load_explicit(&comm->error, memory_order_acquire);
    return EMUL_CCL_OK;
}

unsigned emul_comms_left(unsigned (*tell)(const char *what, int vendor, uint64_t id, const char *detail))
{
    unsigned count = 0;
    pthread_mutex_lock(&lock);
    for (const struct emul_comm *at = comms; at; at = at->next)
        if (!at->dead && !emul_device_failed(at->vendor, at->device))
            count += tell("communicator of rank", at->vendor, (uint64_t)at->rank, "");
    pthread_mutex_unlock(&lock);
    return count;
}

bool emul_ccl_busy(struct emul_comm *comm)
{
    return atomic_load_explicit(&comm->ended, memory_order_acquire) <
           atomic_load_explicit(&comm->operations, memory_order_acquire);
}

int emul_ccl_ranks(struct emul_comm *comm, int *ranks)
{
    if (!ranks || !ccl_known(comm)) return EMUL_CCL_ARGUMENT;
    *ranks = comm->ranks;
    return EMUL_CCL_OK;
}

int emul_ccl_rank(struct emul_comm *comm, int *rank)
{
    if (!rank || !ccl_known(comm)) return EMUL_CCL_ARGUMENT;
    *rank = comm->rank;
    return EMUL_CCL_OK;
}

int emul_ccl_device(struct emul_comm *comm, int *device)
{
    if (!device || !ccl_known(comm)) return EMUL_CCL_ARGUMENT;
    *device = comm->device;
    return EMUL_CCL_OK;
}
