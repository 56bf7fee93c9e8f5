/* SPDX-License-Identifier: Apache-2.0 */
/* A thread inherits its creator's mask, which is restored afterwards: so no signal can come to it in between. */
#include <config.h>

#include "lib/base/thread.h"

#include <signal.h>

int mdl_thread_start(void *(*fn)(void *arg), void *arg, pthread_t *thread)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int err = pthread_create(thread, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return err;
}
