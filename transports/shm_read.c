/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Single copy: reading a peer's memory with process_vm_readv, or with memcpy if the peer is a thread of this process.
 *
 * A process number says little: its process may have died and the number may belong to another one. So the last call of
 * every read also reads the peer's probe word, which holds the peer's nonce as long as that process, with that memory,
 * is up and has not aborted. One call sees one address space, and a number is not given out anew while its process
 * lives: the nonce in the last call proves all calls before it. This is stricter than a look at a pidfd after the read
 * (it also notices exec and abort) and costs no call of its own.
 */
#include "config.h"
#include "lib/base/log.h"
#include "transports/shm.h"
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

static bool is_refusal(int err) { return err == EPERM || err == EACCES || err == ENOSYS; }

static medleyResult_t check_nonce(struct mdl_shm_peer *p, uint64_t nonce)
{
    if (nonce == p->nonce) return medleySuccess;
    return mdl_error(medleyRemoteError, "rank %d: rank %d (pid %u) has aborted, left or died while its memory was read",
                     p->ctx->args.rank, p->rank, p->told_pid);
}

/* What its probe word holds now; 0 if it cannot be read. */
static uint64_t read_probe(const struct mdl_shm_peer *p)
{
    uint64_t nonce = 0;
    struct iovec to = {&nonce, sizeof(nonce)}, from = {(void *)(uintptr_t)p->probe, sizeof(nonce)};
    return process_vm_readv(p->pid, &to, 1, &from, 1, 0) == (ssize_t)sizeof(nonce) ? nonce : 0;
}

/* A rank that has aborted may free its buffers, and does so after its probe word has changed: memory that is not there
 * is the caller's mistake only if that word still stands. */
static medleyResult_t read_failed(struct mdl_shm_peer *p, int err, uint64_t remote, size_t len)
{
    if (is_refusal(err)) return medleyInvalidUsage;
    if (err == ESRCH)
        return mdl_error(medleyRemoteError, "rank %d: rank %d (pid %u) is gone: its memory cannot be read",
                         p->ctx->args.rank, p->rank, p->told_pid);
    if (err == EFAULT && read_probe(p) != p->nonce) return check_nonce(p, 0);
    return mdl_system_error(err, "rank %d: reading %zu bytes at %#llx of rank %d (pid %u)", p->ctx->args.rank, len,
                            (unsigned long long)remote, p->rank, p->told_pid);
}

/* Reads of less than was asked for go on behind what came: the kernel stops early only at memory that is not there,
 * which the next turn then reports. */
static medleyResult_t read_process(struct mdl_shm_peer *p, uint64_t remote, char *local, size_t len, bool last)
{
    uint64_t nonce = 0;
    do {
        struct iovec to[2] = {{local, len}, {&nonce, sizeof(nonce)}};
        struct iovec from[2] = {{(void *)(uintptr_t)remote, len}, {(void *)(uintptr_t)p->probe, sizeof(nonce)}};
        unsigned long n = last ? 2 : 1;
        ssize_t got = process_vm_readv(p->pid, to, n, from, n, 0);
        if (got < 0) return read_failed(p, errno, remote, len);
        if (got == 0 && len > 0) return read_failed(p, EFAULT, remote, len);
        if ((size_t)got == len + (last ? sizeof(nonce) : 0)) break;
        size_t moved = (size_t)got < len ? (size_t)got : len;
        if (moved == len) return check_nonce(p, 0); /* its probe word is gone */
        local += moved;
        remote += moved;
        len -= moved;
    } while (len > 0 || last);
    return last ? check_nonce(p, nonce) : medleySuccess;
}

medleyResult_t mdl_shm_read_tile(struct mdl_shm_peer *p, uint64_t remote, void *local, size_t len, bool last)
{
    if (!p->same_process) return read_process(p, remote, local, len, last);
    bool open = mdl_shm_home_read(p->home, (const void *)(uintptr_t)remote, local, len);
    return check_nonce(p, open ? p->nonce : 0);
}

medleyResult_t mdl_shm_check_open(struct mdl_shm_peer *p)
{
    mdl_fence(); /* the reads before; pairs with mdl_shm_home_end, which comes before the owner's memory is reused
                      */
    bool open = atomic_load_explicit(&p->front->state, memory_order_acquire) == MDL_SHM_OPEN;
    return check_nonce(p, open ? p->nonce : 0);
}

static void explain_refusal(struct mdl_shm *s, struct mdl_shm_peer *p, const char *why)
{
    if (mdl_shm_note(s, MDL_SHM_NOTE_READV))
        MDL_INFO(
            MDL_SHM,
            "rank %d: process_vm_readv cannot read rank %d (pid %u): %s; messages are copied through slots instead. "
            "Look at the container's seccomp profile, kernel.yama.ptrace_scope, user ids and namespaces",
            s->args.rank, p->rank, p->told_pid, why);
}

void mdl_shm_probe_peer(struct mdl_shm_peer *p)
{
    struct mdl_shm *s = p->ctx;
    p->can_get = false;
    if (!s->args.config->cma) return;
    if (p->same_process) {
        p->can_get = true;
        return;
    }
    if (p->pid == 0) {
        explain_refusal(s, p, "its process is in another PID namespace");
        return;
    }
    uint64_t nonce = 0;
    struct iovec to = {&nonce, sizeof(nonce)}, from = {(void *)(uintptr_t)p->probe, sizeof(nonce)};
    ssize_t got = process_vm_readv(p->pid, &to, 1, &from, 1, 0);
    if (got == (ssize_t)sizeof(nonce) && nonce == p->nonce)
        p->can_get = true;
    else
        explain_refusal(s, p, got < 0 ? strerror(errno) : "its number means another process here");
}

/* One piece inside the guard. */
static medleyResult_t get_piece(struct mdl_shm_peer *p, uint64_t remote, void *local, size_t len, bool last)
{
    struct mdl_shm *s = p->ctx;
    if (mdl_shm_told_to_stop(s) || !mdl_guard_enter(&s->guard)) return mdl_guard_refuse();
    medleyResult_t result = mdl_shm_read_tile(p, remote, local, len, last);
    mdl_guard_leave(&s->guard);
    return result;
}

medleyResult_t mdl_shm_get(void *ctx, int rank, uint64_t remote, void *local, size_t len)
{
    struct mdl_shm *s = ctx;
    struct mdl_shm_peer *p = mdl_shm_peer(s, rank);
    if (!p || !p->can_get)
        return mdl_error(medleyInvalidUsage, "rank %d cannot read the memory of rank %d", s->args.rank, rank);
    for (size_t done = 0;;) {
        size_t n = len - done < MDL_SHM_GET_TILE ? len - done : MDL_SHM_GET_TILE;
        bool last = n == len - done;
        medleyResult_t result = get_piece(p, remote + done, (char *)local + done, n, last);
        if (result == medleyInvalidUsage && !mdl_guard_is_shut(&s->guard) && !mdl_shm_told_to_stop(s))
            return mdl_system_error(EPERM, "rank %d: the kernel no longer lets it read rank %d (pid %u)", s->args.rank,
                                    rank, p->told_pid);
        if (result != medleySuccess) return result;
        done += n;
        if (last) break;
    }
    mdl_shm_count(&p->recv_bytes, len);
    return medleySuccess;
}
