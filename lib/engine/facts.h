/* SPDX-License-Identifier: Apache-2.0 */
/* What each rank tells all others at creation, and its bytes on the wire (fixed size, so that one all-gather carries
 * it). */
#ifndef MDL_ENGINE_FACTS_H_
#define MDL_ENGINE_FACTS_H_

#include "lib/engine/comm.h"

enum { MDL_FACTS_WIRE_BYTES = 592 };

void mdl_facts_own(const struct mdl_comm *c, struct mdl_rank_facts *f); /* of this process, without the board */
void mdl_facts_write(struct mdl_writer *w, const struct mdl_rank_facts *f);
medleyResult_t mdl_facts_read(struct mdl_reader *r, struct mdl_rank_facts *f) MDL_MUST_USE;

bool mdl_facts_share_machine(const struct mdl_rank_facts *a, const struct mdl_rank_facts *b);

/* Do the ranks of rank's machine outnumber the processors that they may use together? */
bool mdl_facts_crowded(const struct mdl_rank_facts *all, int nranks, int rank);

#endif
