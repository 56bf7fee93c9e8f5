/* SPDX-License-Identifier: Apache-2.0 */
/* A scene of test_native whose ranks are all of one thread. */
#ifndef TESTS_HETERO_NATIVE_THREAD_H_
#define TESTS_HETERO_NATIVE_THREAD_H_

struct ranks_world;
int native_one_thread(struct ranks_world *w, int rank, void *arg); /* for ranks_run, as its only rank */

#endif
