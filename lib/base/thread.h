/* SPDX-License-Identifier: Apache-2.0 */
/* Threads of the library. They block all signals: the application's handlers run on the application's threads. Each names
 * itself: to name another one the C library opens a file, which a program that is executed meanwhile would inherit. */
#ifndef MDL_BASE_THREAD_H_
#define MDL_BASE_THREAD_H_

#include <pthread.h>

/* Starts fn(arg) on a new thread. Returns 0 or an errno. */
int mdl_thread_start(void *(*fn)(void *arg), void *arg, pthread_t *thread);

#endif
