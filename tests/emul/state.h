/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the engine share: one state under one lock. Only the engine's own files include this. */
#ifndef MDL_TESTS_EMUL_STATE_H_
#define MDL_TESTS_EMUL_STATE_H_

#include "tests/emul/engine.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

enum { EMUL_DEVICES_MAX = 16, EMUL_QUEUES_MAX = 64 };

struct emul_op;
struct emul_stream;

/* The head of an arena: what is exported of it, read by importers. The slot of an allocation is its id modulo these. */
enum { EMUL_EXPORTS = 8192, EMUL_ALLOWED = 8 };
struct emul_export {
    uint64_t id, offset, size;
    uint32_t device, restricted; /* to the processes in `allowed` */
    int32_t allowed[EMUL_ALLOWED];
};
enum { EMUL_ARENA_HEAD = EMUL_EXPORTS * sizeof(struct emul_export) };

/* One allocation, registration or import. Freed ones stay as tombstones until their addresses are used again. */
struct emul_range {
    uintptr_t base;
    size_t size, mapped;
    char *alias; /* the same bytes, for the engine; equal to base for host memory */
    int vendor, memory, device;
    uint64_t id;
    unsigned opens; /* of an import */
    bool freed;
    const char *made_by, *freed_by;
    char key[EMUL_IPC_BYTES]; /* of an import */
};

/* A hardware queue: first in, first out, whatever streams its operations come from. */
struct emul_queue {
    struct emul_device *device;
    struct emul_op *head, *tail;
    pthread_cond_t more;
    unsigned streams, used;
    bool running;
};

struct emul_device {
    int vendor, number;
    int arena_fd;
    char *arena, *arena_alias; /* NULL until the first allocation */
    size_t arena_size, top, used;
    struct emul_export *exports;
    _Atomic bool failed;
    unsigned peers; /* bit per enabled peer */
    struct emul_stream *legacy;
    unsigned turn;
    struct emul_queue queues[EMUL_QUEUES_MAX];
};

struct emul_graph {
    struct emul_graph *next;
    int vendor, mode;
    uint64_t id;
    pid_t thread;
    bool live, active, dead;
    struct emul_stream *origin;
    struct emul_op *first, *last;
    size_t nodes;
};

struct emul_stream {
    struct emul_stream *next;
    int vendor, device;
    uint64_t id;
    unsigned flags;
    bool live;
    struct emul_queue *queue;
    struct emul_op *last; /* submitted; holds a reference */
    struct emul_graph *graph;
    uint64_t submitted, executed, random;
};

struct emul_event {
    struct emul_event *next;
    int vendor, device;
    uint64_t id;
    unsigned flags;
    bool live;
    struct emul_op *last;
    struct emul_graph *graph; /* recorded in a capture */
};

enum emul_op_kind { OP_NOTHING, OP_COPY, OP_FILL, OP_WRITE, OP_WAIT, OP_HOST, OP_CALLBACK, OP_WORK, OP_FREE };

struct emul_op {
    struct emul_op *next;
    struct emul_stream *stream;
    unsigned refs;
    bool done;
    enum emul_op_kind kind;
    const char *call;
    unsigned waits;
    struct emul_op **waited; /* done before this starts */
    char *to;
    const char *from;
    char *staged; /* snapshot of a pageable source; owned */
    size_t size, width;
    unsigned char pattern[16];
    uint64_t value, mask;
    int compare;
    void (*host)(void *);
    void (*callback)(void *, int, void *);
    int (*work)(void *);
    void (*drop)(void *);
    void *data;
    uint64_t ended;
};

struct emul_thread {
    const char *call;
    int vendor;
    bool in_host;
    pid_t capturing_relaxed;
    int mode[EMUL_VENDORS];   /* of capture exchange */
    int device[EMUL_VENDORS]; /* number + 1; 0: never entered */
    int error[EMUL_VENDORS];
    unsigned captures; /* thread-local ones begun here */
};

struct emul_state {
    pthread_mutex_t lock;
    pthread_cond_t progress; /* an operation ended */
    unsigned waiters;
    bool strict, require_enter, trace;
    int leaks;
    unsigned queues, delay_us, stuck_s, depth;
    uint64_t seed, next_id;
    size_t memory, arena;
    _Atomic pid_t pid;
    int counts[EMUL_VENDORS];
    unsigned allocations[EMUL_VENDORS], pinned[EMUL_VENDORS], queries[EMUL_VENDORS];
    struct emul_device *devices[EMUL_VENDORS][EMUL_DEVICES_MAX];
    struct emul_range **ranges; /* sorted by base */
    size_t range_count, range_room;
    struct emul_stream *streams;
    struct emul_event *events;
    struct emul_graph *graphs;
};

extern struct emul_state emul;
extern _Thread_local struct emul_thread emul_me;

/* All with the lock held unless they say otherwise. */
struct emul_device *emul_device_at(int vendor, int number);
struct emul_device *emul_device_current(int vendor);
uint64_t emul_now(void); /* any time */
uint64_t emul_random(uint64_t *state);
/* Waits for `op` (holds a reference of its own meanwhile). false: the time ran out. */
bool emul_op_wait(struct emul_op *op, uint64_t timeout_ns);
void emul_op_put(struct emul_op *op);
/* Every stream of the device; what allocation calls of real drivers do. */
void emul_device_drain(struct emul_device *device);
enum emul_code emul_sticky(int vendor, int device);
struct emul_range *emul_range_find(uintptr_t address); /* live ones first; then tombstones; NULL: none */
struct emul_range *emul_range_add(const struct emul_range *range);
void emul_range_free(struct emul_range *range);
struct emul_stream *emul_stream_get(int vendor, void *handle, bool current, enum emul_code *code);
/* Any capture that forbids unsafe calls on this thread; kills it. */
bool emul_capture_forbids(int vendor);
/* Takes over `op`; with the lock. */
enum emul_code emul_submit(struct emul_stream *stream, struct emul_op *op);
struct emul_op *emul_op_new(enum emul_op_kind kind);
void emul_leaks(void);
void emul_catch_faults(void);

#endif
