/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Islands: the ranks of a mixed communicator that have devices of one vendor in one host, a device each, and a library
 * of that vendor's which binds. Between themselves they leave the work to that library; between islands Medley does it.
 * Everybody else is an island of one rank: hosts, ranks without a library, the second rank on a device.
 *
 * A call is made of parts, and in each island a part has an owner. All-reduces, broadcasts and reduces are cut into
 * slices, as many as the largest island has members (MDL_ISLAND_SLICES_MOST at most); what one member owns is one range
 * of elements. All-gathers and reduce-scatters have a row for each rank: its block, which it owns in its own island; in
 * others the members take turns. On the streams of the members:
 *
 *     GATHER  the vendor's reductions of each part to its owner; or, where the data is, the root's or each member's
 *             broadcast to the island;
 *     STAGE   owners: their parts through the stage (stage.h), while each part is all-reduced, broadcast from the
 * island that has it, or reduced to the island that wants it, among its owners by Medley's plans; SPREAD  the vendor's
 * broadcasts from owners to those who want what has come.
 *
 * So a device's data crosses to the host once for each island and not once for each rank. A part that comes out in OUT
 * is worked on there; what is not this rank's result takes room of the device (MDL_NATIVE_SPARE).
 *
 * An element gets its value in one place of an island, or by one plan of Medley's; the vendor only copies it on. So all
 * ranks have the same bits (but not those of another placement: MEDLEY_DETERMINISTIC=1 keeps reductions out).
 *
 * The middle is no communicator of its own. Its plans are made for a team of the owners, and their ranks are then
 * renamed to the communicator's (mdl_program_args.ranks): who owns nothing of a slice has nothing to do in it. The call
 * itself is one operation of the communicator, on every rank: numbered, published, compared, blamed and timed as ever.
 * Slices have channels and scratch of their own, so they run side by side; every rank begins them in ascending order as
 * its stage goes, so they cannot wait for each other in a circle.
 *
 * What all must decide alike is decided from what they all know: who is in which island from facts that are exchanged
 * when the communicator is made, and which calls go this way from their signatures (mdl_island_takes). Where a rank's
 * buffers are is known to that rank only: a buffer of the host passes through memory of the device (native.h).
 *
 * A member's operation has a part of the vendor's (op->native) and, if it owns elements, a stage. It publishes its line
 * as soon as it was issued, like one that passes through, so that whoever is late or calls something else is named; its
 * windows wait for the stage, its end for the event behind the broadcasts.
 */
#ifndef MDL_ENGINE_ISLAND_H_
#define MDL_ENGINE_ISLAND_H_

#include "lib/engine/exec.h"
#include "lib/engine/native.h"
#include "lib/engine/stage.h"

/* More bytes than MDL_BOARD_PAYLOAD_BYTES, so that no call of the quick way is one. */
enum { MDL_ISLAND_SLICES_MOST = 8, MDL_ISLAND_LEAST_BYTES = 262144 };
/* A row costs each island a call of the vendor's. */
enum { MDL_ISLAND_ROWS_MOST = 128, MDL_ISLAND_ROW_BYTES = 32768 };

/* ---- who is where: pure ---- */

/* Why a rank is alone. */
enum mdl_island_why {
    MDL_ISLAND_MEMBER,  /* it is not */
    MDL_ISLAND_HOST,    /* it has no device */
    MDL_ISLAND_OFF,     /* MEDLEY_NATIVE is 0 there */
    MDL_ISLAND_UNBOUND, /* no library */
    MDL_ISLAND_LACKS,   /* the library has no reductions or broadcasts */
    MDL_ISLAND_SHARED,  /* a lower rank is on its device, or in its process where the library does not allow that */
    MDL_ISLAND_NOBODY,  /* nobody else of its kind in its host */
    MDL_ISLAND_FAILED,  /* the vendor could not make the communicator */
};

/* Islands are numbered in the order of their lowest ranks; members are in the order of ranks. */
struct mdl_islands {
    int nranks, n, nslices; /* nslices: 0 if all are alone */
    int *island, *index;    /* [nranks] its island, its number in that */
    int *start;             /* [n + 1] into members */
    int *members;           /* [nranks] */
    uint8_t *why;           /* [nranks] enum mdl_island_why */
};

medleyResult_t mdl_islands_make(const struct mdl_native_row *rows, const struct mdl_rank_facts *facts, int nranks,
                                struct mdl_islands **islands) MDL_MUST_USE;
void mdl_islands_free(struct mdl_islands *islands);
/* The islands in which `ok` is not set for all members fall apart. */
void mdl_islands_dissolve(struct mdl_islands *islands, const uint8_t *ok);
const char *mdl_island_why_text(enum mdl_island_why why);

static inline int mdl_island_size(const struct mdl_islands *s, int island)
{
    return s->start[island + 1] - s->start[island];
}
/* Slices go to members in order, each member's next to each other. */
static inline int mdl_island_owner(const struct mdl_islands *s, int island, int slice)
{
    return s->members[s->start[island] + slice * mdl_island_size(s, island) / s->nslices];
}
/* The slices [*first, *end) that a rank owns. */
void mdl_island_owned(const struct mdl_islands *s, int rank, int *first, int *end);
/* First element of a slice of `count` elements in blocks of `block`; slice nslices: count. */
size_t mdl_island_at(int nslices, size_t count, size_t block, int slice);
/* Of a row: in its own island the rank itself, in others the members in turn. */
int mdl_island_row_owner(const struct mdl_islands *s, int island, int row);

/* ---- a communicator's ---- */

struct mdl_island_plans {  /* of a slice or row */
    struct mdl_team *team; /* of its owners, in the order of islands; NULL: not made yet */
    struct mdl_program_cache cache;
};

struct mdl_island_comm {
    struct mdl_islands *map;
    char (*libraries)[sizeof(((struct mdl_native_row *)0)->name)]; /* [nranks] what they have */
    struct mdl_native_caps caps;     /* of all islands */
    struct mdl_choose_limits limits; /* of a lane */
    int *ranks;                      /* [map->n] the owners of the part whose program is being looked for */
    struct mdl_island_plans slices[MDL_ISLAND_SLICES_MOST], *rows; /* rows: [nranks], or NULL */
};

/* Makes the islands if there are to be some; collective. An error is one of the communicator. */
medleyResult_t mdl_island_open(struct mdl_comm *c, uint64_t deadline_ns) MDL_MUST_USE;
void mdl_island_close(struct mdl_comm *c); /* c->native is closed before */

/* Which of the vendors' communicators a rank is in, with the library's name; or -1, with the reason if others are in one. */
int mdl_island_of(const struct mdl_comm *c, int rank, char *text, size_t bytes);

/* The team of the owners c->islands->ranks. */
medleyResult_t mdl_island_team(struct mdl_comm *c, struct mdl_team **team) MDL_MUST_USE;

/* ---- a call ---- */

struct mdl_island_part { /* that this rank owns */
    int index;           /* of the slice or row */
    int root;            /* the island that has it, or wants it; -1: all */
    size_t first, count; /* elements of the slice or row, the first one in the user's buffer */
    char *in, *out;      /* where this rank has and wants them */
    struct mdl_run_part run;
    size_t nwindows, next, left;
    struct mdl_run *runs[MDL_MAX_DEPTH];
};

/* What the issuing thread appends next (launch.c). */
enum mdl_island_phase { MDL_ISLAND_GATHER, MDL_ISLAND_STAGE, MDL_ISLAND_SPREAD };

struct mdl_island_call {
    enum mdl_island_phase phase;    /* of a member's */
    int nparts, done;               /* done: so many of the first are through */
    struct mdl_stage_piece *pieces; /* [nparts] */
    struct mdl_island_part parts[];
};

/* Does the call go this way? The same on all ranks. */
bool mdl_island_takes(const struct mdl_op *op);
/* For an operation of a rank with a device that was just set up, with that entered: sets op->island, and what else it
 * needs of op->stage and op->native. */
medleyResult_t mdl_island_make(struct mdl_op *op, mdl_dev_stream stream) MDL_MUST_USE;

/* For native_call.c, of a member: bytes of room that is nobody's buffer; what comes before the vendor's first call; the
 * vendor's calls of a phase, and of which collective they are. */
size_t mdl_island_spare(const struct mdl_op *op);
medleyResult_t mdl_island_begin(struct mdl_op *op) MDL_MUST_USE;
medleyResult_t mdl_island_run_vendor(struct mdl_op *op) MDL_MUST_USE;
medleyColl_t mdl_island_vendor_coll(const struct mdl_op *op);

/* For the executing thread. */
/* All lines agree: finds its plans. `coll`: the call, without slices. */
medleyResult_t mdl_island_start(struct mdl_op *op, const struct mdl_collective *coll) MDL_MUST_USE;
medleyResult_t mdl_island_run(struct mdl_op *op, int *events) MDL_MUST_USE; /* InProgress, or how it ended */
int mdl_island_blame(const struct mdl_op *op, int *peers, int cap, uint64_t *outstanding);
void mdl_island_let_go(struct mdl_op *op);

#endif
