/* SPDX-License-Identifier: Apache-2.0 */
/* All-reduce among a power of two of the ranks; see power.h. */
#include "config.h"
#include "lib/algo/power.h"

struct mdl_power mdl_power_of(const struct mdl_emit *e)
{
    struct mdl_power pw = {.p = mdl_power_below(e->n), .partner = -1};
    pw.extra = e->n - pw.p;
    int at = mdl_order_position(e, e->rank);
    if (at >= 2 * pw.extra) {
        pw.id = at - pw.extra;
        return pw;
    }
    pw.id = at % 2 ? -1 : at / 2;
    pw.partner = mdl_order_rank(e, at ^ 1);
    return pw;
}

int mdl_power_rank(const struct mdl_emit *e, const struct mdl_power *pw, int id)
{
    return mdl_order_rank(e, id < pw->extra ? 2 * id : id + pw->extra);
}

bool mdl_power_acc(const struct mdl_emit *e, const struct mdl_power *pw, int id)
{
    return id < pw->extra || mdl_leaf_acc(e);
}

struct mdl_ref mdl_power_fold_in(struct mdl_emit *e, const struct mdl_power *pw)
{
    struct mdl_ref leaf = mdl_leaf(e, 0);
    if (pw->partner < 0) return leaf;
    if (pw->id < 0) {
        mdl_build_send(e->b, pw->partner, 0, leaf);
        return leaf;
    }
    struct mdl_ref got = mdl_scratch(e, e->rank, mdl_leaf_acc(e), mdl_builder_scratch(e->b, 1), 0);
    struct mdl_ref sum = mdl_scratch(e, e->rank, true, mdl_builder_scratch(e->b, 1), 0);
    mdl_build_recv(e->b, pw->partner, 0, got);
    mdl_fold2(e, sum, leaf, got, 0);
    return sum;
}

void mdl_power_fold_out(struct mdl_emit *e, const struct mdl_power *pw)
{
    if (pw->partner < 0) return;
    if (pw->id < 0)
        mdl_build_recv(e->b, pw->partner, 0, mdl_out(e, e->rank, 0));
    else
        mdl_build_send(e->b, pw->partner, 0, mdl_out(e, e->rank, 0));
}
