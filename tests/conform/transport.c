/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conformance suite of the transports: what include/medley/plugin.h promises of send and recv, waiting, abort, lost
 * peers and close, for every transport alike. Compiled once per transport, with MDL_CONFORM_TRANSPORT naming it; names
 * of cases as arguments run only those.
 */
#include "config.h"
#include "tests/conform/transport_cases.h"

static const struct test_case cases[] = {
    {"sizes", 2, BOTH, case_sizes, NULL, 60},
    {"late", 2, BOTH, case_late, NULL, 0},
    {"channels", 2, BOTH, case_channels, NULL, 0},
    {"fifo", 2, BOTH, case_fifo, NULL, 0},
    {"both_ways", 2, BOTH, case_both_ways, NULL, 60},
    {"flood", 2, BOTH, case_flood, NULL, 0},
    {"flood_other_channel", 2, BOTH, case_flood_other_channel, NULL, 0},
    {"tag_mismatch", 2, BOTH, case_tag_mismatch, NULL, 0},
    {"length_mismatch", 2, BOTH, case_length_mismatch, NULL, 60},
    {"bad_arguments", 2, THREADS, case_bad_arguments, NULL, 0},
    {"sleep_wake", 2, BOTH, case_sleep_wake, NULL, 60},
    {"abort", 2, BOTH, case_abort, NULL, 0},
    {"abort_before_use", 2, BOTH, case_abort_before_use, NULL, 0},
    {"killed", 3, PROCESSES, case_killed, "MEDLEY_DEAD_AFTER=1s", 0},
    {"close_outstanding", 2, BOTH, case_close_outstanding, NULL, 0},
    {"leave_early", 2, BOTH, case_leave_early, NULL, 0},
    {"all_to_all", 8, BOTH, case_all_to_all, NULL, 60},
    {"reopen", 2, BOTH, case_reopen, NULL, 60},
    {"links", 2, BOTH, case_links, NULL, 0},
    {"no_eager", 2, BOTH, case_fifo, "MEDLEY_EAGER=0", 0},
};

int main(int argc, char **argv)
{
    return run_cases(MDL_CONFORM_TRANSPORT, cases, sizeof cases / sizeof *cases, argc, argv);
}
