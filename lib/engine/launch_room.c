/* SPDX-License-Identifier: Apache-2.0 */
/* See launch.h: room for all of what is to be issued, and whether its streams are held or attended. */
#include "config.h"

#include "lib/engine/comm.h"
#include "lib/engine/launch.h"
#include "lib/engine/stage.h"

/* ---- held or attended ---- */

static void attend(struct mdl_batch *const *batches, int n)
{
    for (int i = 0; i < n; i++) {
        mdl_list_each (it, &batches[i]->ops) {
            struct mdl_stage *s = mdl_stage_of(it);
            if (s) s->attended |= !s->direct;
        }
    }
}

/* Of calls that have not been given room. */
static void give_places(struct mdl_batch *const *batches, int n)
{
    for (int i = 0; i < n; i++) {
        mdl_list_each (it, &batches[i]->ops) {
            struct mdl_stage *s = mdl_stage_of(it);
            if (!s || !s->placed || s->listed) continue;
            mdl_hold_give(&s->op->comm->stager->hold, s->stream);
            s->placed = false;
        }
    }
}

/* For the stream of each call that is to be held; for none of them if there are too few, since of the calls on a stream
 * all are held or none. */
static bool take_places(struct mdl_batch *const *batches, int n)
{
    bool all = true;

    for (int i = 0; i < n; i++) {
        mdl_list_each (it, &batches[i]->ops) {
            struct mdl_stage *s = mdl_stage_of(it);
            if (!s || s->attended || s->direct || !all) continue;
            s->placed = all = mdl_hold_take(&s->op->comm->stager->hold, s->stream);
        }
    }
    if (!all) give_places(batches, n);
    return all;
}

/* ---- room ---- */

static medleyResult_t reserve(struct mdl_batch *b)
{
    struct mdl_dev_visit before;
    medleyResult_t res = mdl_dev_enter(&b->comm->stager->dev, &before);

    if (res != medleySuccess) return res;
    res = mdl_stage_reserve(b);
    mdl_dev_leave(&b->comm->stager->dev, &before);
    return res;
}

static medleyResult_t reserve_all(struct mdl_batch *const *batches, int n)
{
    for (int i = 0; i < n; i++) MDL_TRY(mdl_stager_fail(batches[i]->comm, reserve(batches[i])));
    return medleySuccess;
}

medleyResult_t mdl_launch_reserve(struct mdl_batch *const *batches, int n)
{
    bool many = false;
    medleyResult_t res;

    for (int i = 0; i < n; i++) many |= batches[i]->nops > MDL_STAGES_MOST; /* more words than there are */
    if (many || !take_places(batches, n)) attend(batches, n);
    res = reserve_all(batches, n);
    if (res != medleySuccess) give_places(batches, n);
    return res;
}
