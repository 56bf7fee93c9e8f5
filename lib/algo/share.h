/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Collectives of one host by reading each other's memory: what direct, staged and one-shot have in common.
 *
 * Inputs are read where they are (IN) or from a copy that their owner makes in SCRATCH. Results of a reduction that is
 * split among the ranks travel in one of three ways: peers read OUT, the owner writes into the peers' OUT, or it leaves
 * them in SCRATCH. Between these there are only signals: an input is announced once it is staged, a result once it is
 * written, and before a rank leaves, its readers say that they are done.
 *
 * Why it is right in place. Rank r alone reads part r (or slot r) of everybody's IN, and what overwrites that place is
 * written by r itself, or by its owner after r's signal, which r sends after reading.
 */
#ifndef MDL_ALGO_SHARE_H_
#define MDL_ALGO_SHARE_H_

#include "lib/algo/common.h"

enum mdl_share_results { MDL_SHARE_GET, MDL_SHARE_PUT, MDL_SHARE_STAGE };

struct mdl_share {
    bool stage;  /* inputs are read from SCRATCH, not from IN */
    bool whole;  /* one window: SCRATCH needs no release, and several slots are staged at once */
    bool gather; /* a reduction is not split: whoever needs it computes all of it */
    enum mdl_share_results results;
    uint32_t input, result; /* SCRATCH slots, the same on every rank */
};

/* Emits the collective of `e`; not AlltoAllV. */
void mdl_share_build(struct mdl_emit *e, struct mdl_share *sh);

/* Parts per slot: one for each rank where a reduction is split. */
uint32_t mdl_share_parts(const struct mdl_team *team, const struct mdl_collective *c);

#endif
