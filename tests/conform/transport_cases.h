/* SPDX-License-Identifier: Apache-2.0 */
/* The cases of the conformance suite; transport.c says how each is run. */
#ifndef MDL_TESTS_CONFORM_TRANSPORT_CASES_H_
#define MDL_TESTS_CONFORM_TRANSPORT_CASES_H_

#include "tests/conform/transport.h"

/* transport_data.c: what moves arrives */
void case_sizes(struct rank *r);
void case_late(struct rank *r);
void case_channels(struct rank *r);
void case_fifo(struct rank *r);
void case_both_ways(struct rank *r);
void case_flood(struct rank *r);
void case_flood_other_channel(struct rank *r);
void case_sleep_wake(struct rank *r);
void case_all_to_all(struct rank *r);

/* transport_faults.c: what goes wrong is told, and ends */
void case_tag_mismatch(struct rank *r);
void case_length_mismatch(struct rank *r);
void case_bad_arguments(struct rank *r);
void case_abort(struct rank *r);
void case_abort_before_use(struct rank *r);
void case_killed(struct rank *r);
void case_close_outstanding(struct rank *r);
void case_leave_early(struct rank *r);
void case_reopen(struct rank *r);
void case_links(struct rank *r);

#endif
