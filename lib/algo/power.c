/* SPDX-License-Identifier: Apache-2.0 */
/* All-reduce among a power of two of a line of ranks; see power.h. */
#include "config.h"
#include "lib/algo/power.h"

enum { FOLD_SLOTS = 2, HALVE_SLOTS = 4 };

uint32_t mdl_power_slots(int n) { return HALVE_SLOTS + (mdl_power_below(n) < n ? FOLD_SLOTS : 0); }

struct mdl_power mdl_power_of(struct mdl_line line, uint32_t lo, uint32_t hi)
{
    struct mdl_power pw = {.line = line, .p = mdl_power_below(line.n), .partner = -1, .lo = lo, .hi = hi};
    pw.extra = line.n - pw.p;
    if (line.at >= 2 * pw.extra) {
        pw.id = line.at - pw.extra;
        return pw;
    }
    pw.id = line.at % 2 ? -1 : line.at / 2;
    pw.partner = line.at ^ 1;
    return pw;
}

int mdl_power_position(const struct mdl_power *pw, int id) { return id < pw->extra ? 2 * id : id + pw->extra; }

static int position_rank(const struct mdl_emit *e, const struct mdl_power *pw, int position)
{
    return pw->line.rank(e, position, pw->line.arg);
}

int mdl_power_rank(const struct mdl_emit *e, const struct mdl_power *pw, int id)
{
    return position_rank(e, pw, mdl_power_position(pw, id));
}

bool mdl_power_acc(const struct mdl_emit *e, const struct mdl_power *pw, int id)
{
    return id < pw->extra || pw->line.partial(e, mdl_power_position(pw, id), pw->line.arg);
}

struct mdl_ref mdl_power_fold_in(struct mdl_emit *e, const struct mdl_power *pw, struct mdl_ref input)
{
    uint32_t slot = pw->extra ? mdl_builder_scratch(e->b, FOLD_SLOTS) : 0;
    input = mdl_cut(input, pw->lo, pw->hi);
    if (pw->partner < 0) return input;
    int peer = position_rank(e, pw, pw->partner);
    if (pw->id < 0) {
        mdl_build_send(e->b, peer, 0, input);
        return input;
    }
    bool acc = pw->line.partial(e, pw->partner, pw->line.arg);
    struct mdl_ref got = mdl_scratch(e, e->rank, acc, slot, 0);
    struct mdl_ref sum = mdl_scratch(e, e->rank, true, slot + 1, 0);
    got = mdl_cut(got, pw->lo, pw->hi);
    sum = mdl_cut(sum, pw->lo, pw->hi);
    mdl_build_recv(e->b, peer, 0, got);
    mdl_fold2(e, sum, input, got, 0);
    return sum;
}

void mdl_power_fold_out(struct mdl_emit *e, const struct mdl_power *pw, struct mdl_ref out)
{
    if (pw->partner < 0) return;
    out = mdl_cut(out, pw->lo, pw->hi);
    if (pw->id < 0)
        mdl_build_recv(e->b, position_rank(e, pw, pw->partner), 0, out);
    else
        mdl_build_send(e->b, position_rank(e, pw, pw->partner), 0, out);
}

struct mdl_range mdl_power_range(const struct mdl_power *pw, int id, int d)
{
    struct mdl_range r = {pw->lo, pw->hi};
    for (int k = 1; k < d; k *= 2) {
        uint32_t mid = (r.lo + r.hi) / 2;
        if (id & k)
            r.lo = mid;
        else
            r.hi = mid;
    }
    return r;
}

static struct mdl_ref cut(struct mdl_ref ref, struct mdl_range r) { return mdl_cut(ref, r.lo, r.hi); }

void mdl_power_halve(struct mdl_emit *e, const struct mdl_power *pw, struct mdl_ref have, struct mdl_ref dst)
{
    uint32_t first = mdl_builder_scratch(e->b, HALVE_SLOTS), later = first + 1, turn = 0;
    struct mdl_ref sum = mdl_scratch(e, e->rank, true, first + 3, 0);
    if (pw->id < 0) return;
    for (int d = 1; d < pw->p; d *= 2, turn ^= 1) {
        int other = pw->id ^ d, peer = mdl_power_rank(e, pw, other);
        struct mdl_range keep = mdl_power_range(pw, pw->id, 2 * d), give = mdl_power_range(pw, other, 2 * d);
        bool acc = d > 1 || mdl_power_acc(e, pw, other), last = d * 2 == pw->p;
        struct mdl_ref got = cut(mdl_scratch(e, e->rank, acc, d > 1 ? later + turn : first, 0), keep);
        struct mdl_ref mine = cut(have, keep);
        mdl_build_send(e->b, peer, 0, cut(have, give));
        mdl_build_recv(e->b, peer, 0, got);
        mdl_fold2(e, cut(last ? dst : sum, keep), pw->id < other ? mine : got, pw->id < other ? got : mine,
                  last ? MDL_INST_FINAL : 0);
        have = sum;
    }
}

void mdl_power_double(struct mdl_emit *e, const struct mdl_power *pw, struct mdl_ref out)
{
    for (int d = pw->id < 0 ? 0 : pw->p / 2; d; d /= 2) {
        int other = pw->id ^ d, peer = mdl_power_rank(e, pw, other);
        mdl_build_send(e->b, peer, 0, cut(out, mdl_power_range(pw, pw->id, 2 * d)));
        mdl_build_recv(e->b, peer, 0, cut(out, mdl_power_range(pw, other, 2 * d)));
    }
}
