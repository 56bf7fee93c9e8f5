/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a rank of a test lives: on the host, or on a device, whose memory is then used for the buffers. One per thread.
 *
 * MDL_TEST_DEVICES=cuda:0,host,hip:0 gives the ranks their devices in turns.
 */
#ifndef TESTS_COLL_HOME_H_
#define TESTS_COLL_HOME_H_

#include <medley.h>
#include <stdbool.h>

/* The device of rank `rank` by MDL_TEST_DEVICES, "host" without it. The text lives until the thread's next call. */
const char *home_name(int rank);
int home_rank(void); /* the one that home_name was asked for last; -1: none */

/* Moves this thread to a device; NULL stream: the vendor's default one is used, else an own one is made. */
medleyResult_t home_enter(const char *device, bool own_stream);
void home_leave(void);
bool home_is_device(void);
void *home_stream(void);
medleyResult_t home_sync(void); /* until the stream has done all */

/* Device memory, 96 MiB in all, 64 pieces at once. */
void *home_take(size_t bytes);
void home_store(void *device, const void *host, size_t bytes);

/* A copy of `bytes` bytes in the device's memory; and back. */
void *home_copy_in(const void *host, size_t bytes);
void home_copy_out(void *host, const void *device, size_t bytes);
void home_free(void *device);

/* A copy `offset` bytes past an aligned address, between bytes that nobody may change. Given back with home_free_odd,
 * which tells whether somebody did. */
void *home_copy_in_odd(const void *host, size_t bytes, size_t offset);
bool home_free_odd(void *device, size_t bytes, size_t offset);

#endif
