/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bells: what the threads of this process sleep on.
 *
 * A bell is an eventfd that one thread has for the time of one sleep, whatever the number of communicators that it
 * sleeps on: it tells each of them the bell's number, looks once more for what it waits for, and polls the descriptor;
 * who has something for it rings that number. So the process needs as many as it has threads that sleep at a time. The
 * first MDL_BELLS_SHARED are there from the beginning: processes that share memory get their descriptors and ring them
 * directly; to ring another they have to ask this process to do it.
 *
 * A bell may ring although nobody wants its owner any more: who rings it late rings for the owner before. So a sleep
 * may end for nothing. [any thread]
 */
#ifndef MDL_NET_BELL_H_
#define MDL_NET_BELL_H_

#include "lib/base/status.h"
#include <stdint.h>

enum { MDL_BELLS_SHARED = 2, MDL_BELLS_MAX = 1024 };

/* Bells are there while somebody holds them. */
medleyResult_t mdl_bells_hold(void) MDL_MUST_USE;
void mdl_bells_release(void);

/* The descriptors of the shared ones, and a number for them that no other process has. While held. */
uint64_t mdl_bells_shared(int fds[MDL_BELLS_SHARED]);

int mdl_bell_take(void); /* the calling thread's; again: the same one. -1: there is none, do not sleep */
int mdl_bell_fd(int bell);
void mdl_bell_give(void); /* as often as it was taken */
void mdl_bell_ring(int bell);

#endif
