/* SPDX-License-Identifier: Apache-2.0 */
/* Denies system calls to the calling thread and its children with a seccomp filter, as containers do. */
#ifndef MDL_TESTS_SHM_DENY_H_
#define MDL_TESTS_SHM_DENY_H_

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

enum deny { DENY_READV = 1, DENY_PIDFD = 2, DENY_MEMFD = 4, DENY_ALL = 7 };

static inline bool deny_one(long nr, int err)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)err),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

static inline bool deny(unsigned calls, int err)
{
    if ((calls & DENY_READV) && !deny_one(SYS_process_vm_readv, err)) return false;
    if ((calls & DENY_PIDFD) && !deny_one(SYS_pidfd_open, err)) return false;
    return !(calls & DENY_MEMFD) || deny_one(SYS_memfd_create, err);
}

#endif
