/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The communicator as the engine sees it. One thread at a time executes on it (the caller's, or the progress thread
 * while asynchronous work is queued); the reactor's thread and aborting threads touch only what is marked [any thread].
 */
#ifndef MDL_ENGINE_COMM_H_
#define MDL_ENGINE_COMM_H_

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/boot/boot.h"
#include "lib/engine/board.h"
#include "lib/engine/call.h"
#include "lib/engine/diary.h"
#include "lib/engine/far.h"
#include "lib/engine/program.h"
#include "lib/net/reactor.h"
#include "lib/topo/team.h"
#include <medley/plugin.h>
#include <pthread.h>

enum { MDL_MAX_TRANSPORTS = 8, MDL_P2P_CHANNEL = MDL_MAX_CHANNELS - 1, MDL_NO_TRANSPORT = 255 };

struct mdl_batch;
struct mdl_direct;
struct mdl_stager;
struct mdl_native_comm;
struct mdl_island_comm;

/* What every rank told about itself at creation. */
enum { MDL_FACTS_CPU_WORDS = 12 };
struct mdl_rank_facts {
    uint64_t cpus[MDL_FACTS_CPU_WORDS]; /* processors that the process may use, as bits; above 767 none is told */
    char host[MEDLEY_NAME_BYTES], arch[MEDLEY_NAME_BYTES], agreed[256];
    char device[MEDLEY_NAME_BYTES]; /* "cuda:0", or "host" for none */
    uint64_t machine; /* a hash of what its kernel calls this boot, the same in all containers; 0: unknown */
    uint32_t pid, cores, net_mbps, rails;
    uint64_t board_segment, board_bytes, board_place;
};

struct mdl_transport_use {
    const struct mdl_transport *ops; /* the contract, completed with defaults */
    void *ctx;
    uint32_t *reach; /* [nranks] both ways */
    bool used;       /* by some pair: progressed and armed */
    bool overdue;    /* somebody did not answer until the deadline of connect_all */
};

/* Plain counters of the executing thread; readers may see them half a step behind. */
struct mdl_peer_counters {
    _Atomic uint64_t wait_ns, sent, received;
};
struct mdl_coll_counters {
    _Atomic uint64_t calls, bytes, ticks;
    uint64_t untimed; /* quick calls since the last whose time was taken, which stands for them too */
};

struct mdl_redop {
    bool used;
    int number; /* what the user calls it */
    medleyDataType_t dtype;
    medleyScalarResidence_t residence;
    uint64_t value;
    void *pointer;
};

struct mdl_comm {
    struct mdl_config cfg;
    int rank, nranks;
    bool blocking;
    struct mdl_ctl *ctl;
    struct mdl_stager *stager; /* its device; NULL: the host */
    struct mdl_native_comm *native; /* its vendor's communicator, or that of its island; NULL: there is none */
    struct mdl_island_comm *islands; /* on all ranks or none, see island.h */
    _Atomic bool native_refused;    /* while that is made: some rank's vendor cannot */
    struct mdl_direct *direct; /* its window and those of all others; NULL: not all have one */

    /* [any thread] failure: the first wins. abort_word is looked at in every loop */
    _Atomic uint32_t abort_word;
    pthread_mutex_t fault_lock;
    medleyResult_t fault_code;
    int fault_origin;
    char fault_text[MDL_ERROR_TEXT_BYTES], last_text[MDL_ERROR_TEXT_BYTES];
    _Atomic uint8_t *gone;     /* [nranks] has said goodbye: it will take part in nothing more */
    uint64_t refused_until_ns; /* a peer refused a message of ours: the explanation may still come until then */
    char refused_text[MDL_ERROR_TEXT_BYTES];
    char doubt_text[MDL_ERROR_TEXT_BYTES]; /* of an operation in doubt */
    struct mdl_list making, making_link;   /* under fault_lock: children that are being made; its place among a parent's
                                            */
    struct mdl_list broken;                /* under fault_lock: children that failed on some member (job.c) */
    uint64_t child_serial;                 /* as a child: what its members call it among them */
    bool orphans;                          /* aborted: children shall not be made any more */
    _Atomic int sleeper;                   /* bell of the thread that sleeps on it, + 1; 0: none */
    bool holds_bells;

    struct mdl_transport_use transport[MDL_MAX_TRANSPORTS];
    int ntransports;
    uint8_t *via; /* [nranks] index into transport */
    size_t request_bytes;
    struct mdl_rank_facts *facts; /* [nranks] */
    struct mdl_team *team;
    struct mdl_board board;
    bool use_board;
    _Atomic bool boards_mapped; /* [any thread] all of the host's boards can be read */
    uint32_t quick;    /* bit of each collective whose small calls go through quick.h */
    uint32_t quick_most[medleyNumColls]; /* bytes of a payload */
    struct mdl_transport_use *map_transport;

    /* execution */
    uint64_t coll_seq, history; /* history: the tag of the newest collective, which covers all before it */
    _Atomic uint64_t *p2p_seq;  /* [any thread] may read */
    uint64_t *p2p_posted;       /* [2 * nranks] each: sends to, receives from; numbered, handed to the transport */
    struct mdl_program_cache cache;
    struct mdl_choose_limits limits;
    struct mdl_call *calls; /* [nlocal] lines of the collective in hand */
    struct mdl_mapped {
        void *in, *out;
        size_t in_len, out_len;
    } * mapped;                /* [nlocal] where their buffers are here; NULL: not mapped yet */
    struct mdl_run *free_runs; /* reused window state */
    struct mdl_message_slot *free_messages, *all_messages;
    char *stage; /* bounce buffers for single copy into reductions */
    size_t stage_bytes;
    uint64_t spin_ns, yield_ns;
    struct mdl_far far;
    size_t stream_bytes; /* an operation that touches more writes its results past the caches */
    bool holds_workers;

    /* asynchronous work, guarded by the queue's lock */
    struct mdl_list queue;   /* of mdl_batch */
    struct mdl_list active;  /* in the progress thread's list of communicators */
    _Atomic uint32_t queued; /* batches in `queue` */

    struct mdl_redop *redops;
    int nredops;
    struct mdl_list windows;
    uint32_t splits; /* all ranks of the communicator count the same */
    struct mdl_shrunk {
        uint64_t members; /* a hash of who stayed */
        uint32_t times;   /* only those who stayed count it */
    } * shrunk;
    int nshrunk;

    struct mdl_diary diary; /* [any thread] */
    struct {
        bool on;
        struct mdl_timer timer; /* the reactor's, with `told`: number of the newest collective that was told */
        uint64_t told;
    } audit; /* audit.c */
    struct {
        struct mdl_diary diary; /* [any thread]; written by the one thread that runs them, shrinks with number 0 */
        struct mdl_timer timer; /* the reactor's, with the rest: the job in hand */
        struct mdl_call call;
        const int *members; /* NULL: all */
        int nmembers;
        uint64_t seq, number;
        bool open;
    } job;                       /* job.c */
    _Atomic uint32_t unreached;  /* [any thread] calls that are queued, but their streams have not come to them */
    struct mdl_waiting {         /* [any thread] see diag.c */
        _Atomic uint32_t number; /* of the wait in hand; grows when something moves */
        _Atomic uint64_t whom;   /* packed: a rank that this one waits for, and in which entry of the diary; 0: none */
        _Atomic bool stream;     /* for the stream of the call that it is in */
        _Atomic uint64_t cause;  /* packed: what is known of the end of the chain, and for which wait */
    } waiting;
    struct mdl_peer_counters *peers;
    struct mdl_coll_counters colls[medleyNumColls];
    _Atomic uint64_t fallbacks;
    _Atomic(const char *) last_algo; /* lives as long as the library */
    _Atomic uint64_t last_predicted_ns;
};

static inline bool mdl_comm_failed(const struct mdl_comm *c)
{
    return atomic_load_explicit(&c->abort_word, memory_order_acquire) != 0; /* pairs with mdl_comm_fail */
}

/* fault.c [any thread] */
void mdl_comm_fail(struct mdl_comm *c, medleyResult_t code, int origin, const char *text, bool spread);
medleyResult_t mdl_comm_fault(struct mdl_comm *c); /* the code; its text becomes the thread's last error. Success if
                                                      healthy */
/* A child that is being made: the parent's abort must not wait for it. */
void mdl_comm_adopt(struct mdl_comm *parent, struct mdl_comm *child); /* child_serial is set; it may fail at once */
void mdl_comm_let_go(struct mdl_comm *parent, struct mdl_comm *child);
void mdl_comm_fail_children(struct mdl_comm *parent, const char *text);
/* Those that are being made now fail; others can be made after. */
void mdl_comm_fail_making(struct mdl_comm *parent, medleyResult_t code, const char *text);
void mdl_comm_fail_here(struct mdl_comm *c, medleyResult_t code); /* with the calling thread's last error as text */
void mdl_comm_wake(struct mdl_comm *c);
void mdl_fault_attach(struct mdl_comm *c);
void mdl_fault_detach(struct mdl_comm *c); /* handlers on the control plane */

/* init.c: c->cfg, rank, nranks are set; the control plane is joined or derived by the caller */
medleyResult_t mdl_comm_alloc(const struct mdl_config *cfg, int rank, int nranks, struct mdl_comm **c) MDL_MUST_USE;
medleyResult_t mdl_comm_connect(struct mdl_comm *c, uint64_t deadline_ns) MDL_MUST_USE;
medleyResult_t mdl_comm_usable(struct mdl_comm *c) MDL_MUST_USE; /* gets the descriptors that its threads sleep on */
void mdl_comm_free(struct mdl_comm *c);
void mdl_comm_on_fault(void *comm, medleyResult_t code, int origin, const char *text);

/* diag.c: asks `peer` over the control plane what it is doing, and compares; a mismatch becomes the fault of both */
struct mdl_op;
void mdl_diag_attach(struct mdl_comm *c);
void mdl_diag_ask(struct mdl_comm *c, const struct mdl_op *op, int peer);
void mdl_diag_ask_job(struct mdl_comm *c, int peer);  /* about the job in hand; reactor's thread */
void mdl_diag_ask_past(struct mdl_comm *c, int peer); /* about every collective that the diary still has */
void mdl_diag_waits(struct mdl_comm *c, const struct mdl_op *op, int peer); /* tells who asks: this rank waits for it */
void mdl_diag_moved(struct mdl_comm *c);                                    /* no longer */
void mdl_diag_waits_for_stream(struct mdl_comm *c, bool waits); /* that of the call in hand, and no rank */
int mdl_diag_late(struct mdl_comm *c); /* the rank that is known to hold up the wait in hand, or -1 */
/* Who holds all up, as far as the answers tell: appends words to `text` and returns the rank, or -1. */
int mdl_diag_cause(struct mdl_comm *c, char *text, size_t bytes);
void mdl_diag_mismatch(struct mdl_comm *c, uint64_t seq, int rank_a, const struct mdl_call *a, int rank_b,
                       const struct mdl_call *b);

/* audit.c */
void mdl_audit_start(struct mdl_comm *c);
void mdl_audit_stop(struct mdl_comm *c);

#endif
