/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The calling thread's last error. The text is formatted into a local buffer first, because its arguments may well
 * point to the former text (an error that quotes the one below it).
 */
#include <config.h> /* not "config.h": this folder has one of that name */
#include "lib/base/status.h"
#include "lib/base/log.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char last_text[MDL_ERROR_TEXT_BYTES];

static void keep_text(const char *text) { snprintf(last_text, sizeof(last_text), "%s", text); }

/* Errors are logged at WARN, which shows every subsystem; the detector's is not known here. */
static void report(const char *text)
{
    keep_text(text);
    MDL_WARN(MDL_FAULT, "%s", text);
}

medleyResult_t mdl_error(medleyResult_t code, const char *fmt, ...)
{
    int saved = errno;
    char text[MDL_ERROR_TEXT_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    report(text);
    errno = saved;
    return code;
}

/* What the user can do about an errno; NULL where strerror says it all. */
static const char *system_hint(int err)
{
    switch (err) {
    case EMFILE: return "this process has too many open files: raise `ulimit -n`";
    case ENFILE: return "the machine has too many open files: raise fs.file-max";
    case ENOMEM: return "memory, or the limit of a cgroup or of `ulimit -v`/`ulimit -l`, is used up";
    case ENOSPC: return "free space there, or give the container a larger /dev/shm";
    case EDQUOT: return "the quota of the file system is used up";
    case EPERM:
    case EACCES: return "not permitted here: look at the container's seccomp profile, capabilities and file modes";
    case ENOSYS: return "this kernel, or the container's seccomp profile, lacks the system call";
    case EAGAIN: return "a limit was reached: look at `ulimit -u` and the cgroup's pids.max";
    case EADDRINUSE: return "the port is taken: widen MEDLEY_PORT_RANGE or choose another in MEDLEY_COMM_ID";
    case EADDRNOTAVAIL:
        return "no interface here has this address, or the local ports are used up: see MEDLEY_COMM_ID, "
               "MEDLEY_SOCKET_IFNAME and net.ipv4.ip_local_port_range";
    case ECONNREFUSED: return "nobody listens there: is the rank alive, and is the port open?";
    case ECONNRESET:
    case EPIPE: return "the peer has closed the connection: its log says why";
    case EHOSTUNREACH:
    case ENETUNREACH: return "no route: choose interfaces that reach each other with MEDLEY_SOCKET_IFNAME";
    case ETIMEDOUT: return "no answer: is a firewall between the hosts?";
    case ENOBUFS: return "the kernel has no buffers left: lower MEDLEY_SOCKET_BUFFER or MEDLEY_NSOCKS_PERPEER";
    default: return NULL;
    }
}

medleyResult_t mdl_system_error(int err, const char *fmt, ...)
{
    int saved = errno;
    char what[MDL_ERROR_TEXT_BYTES], reason[128], text[MDL_ERROR_TEXT_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);

    /* The GNU strerror_r: the thread-safe one that always gives a text. */
    const char *words = strerror_r(err, reason, sizeof(reason));
    const char *hint = system_hint(err);
    /* A long `what` gives way, so that the reason is never cut off. */
    size_t rest = strlen(words) + (hint ? strlen(hint) + 3 : 0) + 2;
    int room = (int)(rest + 1 < sizeof(text) ? sizeof(text) - 1 - rest : 0);
    snprintf(text, sizeof(text), "%.*s: %s%s%s%s", room, what, words, hint ? " (" : "", hint ? hint : "",
             hint ? ")" : "");
    report(text);
    errno = saved;
    return medleySystemError;
}

medleyResult_t mdl_error_set(medleyResult_t code, const char *text)
{
    char copy[MDL_ERROR_TEXT_BYTES];
    snprintf(copy, sizeof(copy), "%s", text);
    keep_text(copy);
    return code;
}

const char *mdl_error_text(void) { return last_text; }

void mdl_error_clear(void) { last_text[0] = '\0'; }
