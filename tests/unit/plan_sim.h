/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs plans with real values in a random order that their dependencies allow: what the verifier is checked against.
 *
 * It shares no code and no idea with the verifier: memory holds numbers, an instruction reads when it starts and writes
 * some time later, a SEND is eager or a rendezvous, ranks start late, and whoever leaves scribbles over its buffers.
 */
#ifndef MDL_TEST_PLAN_SIM_H_
#define MDL_TEST_PLAN_SIM_H_

#include "tests/unit/plan_support.h"

uint64_t sim_random(uint64_t *state);

/* One run. False: a wrong result or a hang, with the reason in `why`. */
bool sim_run(const struct call *call, uint64_t seed, char *why, size_t why_bytes);

#endif
