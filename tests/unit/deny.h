/* SPDX-License-Identifier: Apache-2.0 */
/* A seccomp filter, as containers have them: refuses system calls with an errno of choice, for the rest of the process.
 * Check runs each test in a process of its own, so a test simply calls it. */
#ifndef MDL_TESTS_DENY_H_
#define MDL_TESTS_DENY_H_

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

struct deny {
    int call;      /* SYS_... */
    int err;       /* what it returns */
    unsigned arg;  /* with mask: only if this argument has all bits of mask */
    uint32_t mask; /* 0: always */
};

enum { DENY_MAX = 16 };

/* The argument's low word: the bits that matter here are all in it. */
static inline uint32_t deny_arg_offset(unsigned arg)
{
    uint32_t high_first = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0;
    return (uint32_t)(offsetof(struct seccomp_data, args) + arg * 8) + high_first;
}

/* False: this kernel has no seccomp filters; the reason has been printed. */
static inline bool deny_calls(const struct deny *list, size_t count)
{
    struct sock_filter code[DENY_MAX * 6 + 1];
    unsigned short n = 0;
    if (count > DENY_MAX) return false;
    for (size_t i = 0; i < count; i++) {
        code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)list[i].call, 0, 4);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, deny_arg_offset(list[i].arg));
        code[n++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, list[i].mask);
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, list[i].mask, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)list[i].err);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = n, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
        return true;
    fprintf(stderr, "skipped: no seccomp filters here: %s\n", strerror(errno));
    return false;
}

#endif
