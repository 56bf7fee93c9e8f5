/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The id through PMI-1, as MPICH's hydra and Slurm speak it: lines of "key=value" words over an inherited descriptor.
 * Process 0 puts the id into the job's key-value space, all meet at a barrier, the others get it, and the session is
 * closed again, because a process that leaves it open ends as a failure.
 */
#include "config.h"
#include "bench/perf/place.h"
#include "lib/base/clock.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES = 2048, NAME_BYTES = 256, WAIT_S = 120 };
static const char id_key[] = "medley-perf-id";

struct session {
    int fd;
    char kvs[NAME_BYTES];
    char line[LINE_BYTES]; /* the last answer */
};

static medleyResult_t say(struct session *s, const char *text)
{
    size_t done = 0, len = strlen(text);
    while (done < len) {
        ssize_t n = write(s->fd, text + done, len - done);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return mdl_system_error(n ? errno : EPIPE, "PMI: the launcher does not listen on PMI_FD");
        done += (size_t)n;
    }
    return medleySuccess;
}

/* Byte by byte: what follows a line is not ours to take. */
static medleyResult_t hear(struct session *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    uint64_t deadline = mdl_now_ns() + WAIT_S * MDL_NS_PER_S;
    for (size_t len = 0; len + 1 < sizeof(s->line);) {
        uint64_t now = mdl_now_ns();
        int ready = now < deadline ? poll(&p, 1, (int)((deadline - now) / MDL_NS_PER_MS) + 1) : 0;
        if (ready < 0 && errno == EINTR) continue;
        if (ready == 0) return mdl_error(medleyTimeout, "PMI: no answer from the launcher for %d s", WAIT_S);
        ssize_t n = ready > 0 ? read(s->fd, s->line + len, 1) : -1;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return mdl_system_error(errno, "PMI: the launcher cannot be heard on PMI_FD");
        if (n == 0) return mdl_error(medleyRemoteError, "PMI: the launcher has closed the connection");
        if (s->line[len] == '\n') {
            s->line[len] = 0;
            return medleySuccess;
        }
        len++;
    }
    return mdl_error(medleyRemoteError, "PMI: the launcher's answer is too long");
}

/* The value of `key` in the answer; false: it has none, or too long a one. */
static bool value_of(const struct session *s, const char *key, char *value, size_t room)
{
    size_t len = strlen(key);
    for (const char *word = s->line; *word; word += strcspn(word, " "), word += strspn(word, " ")) {
        if (strncmp(word, key, len) || word[len] != '=') continue;
        size_t n = strcspn(word + len + 1, " ");
        if (n >= room) return false;
        memcpy(value, word + len + 1, n);
        value[n] = 0;
        return true;
    }
    return false;
}

/* Sends a command and takes the answer `reply`, whose rc, if it has one, must be 0. */
static medleyResult_t ask(struct session *s, const char *command, const char *reply)
{
    char word[NAME_BYTES];
    MDL_TRY(say(s, command));
    MDL_TRY(hear(s));
    if (!value_of(s, "cmd", word, sizeof(word)) || strcmp(word, reply))
        return mdl_error(medleyRemoteError, "PMI: the launcher was to answer %s but did not", reply);
    if (value_of(s, "rc", word, sizeof(word)) && strcmp(word, "0"))
        return mdl_error(medleyRemoteError, "PMI: the launcher refused (%s, rc=%s)", reply, word);
    return medleySuccess;
}

static medleyResult_t open_session(struct session *s)
{
    char *rest;
    const char *text = getenv("PMI_FD");
    long fd = text ? strtol(text, &rest, 10) : -1;
    if (!text || rest == text || *rest || fd < 0 || fd > 1 << 20)
        return mdl_error(medleyInvalidUsage, "PMI_FD=%s is no descriptor", text ? text : "");
    s->fd = (int)fd;
    MDL_TRY(ask(s, "cmd=init pmi_version=1 pmi_subversion=1\n", "response_to_init"));
    MDL_TRY(ask(s, "cmd=get_my_kvsname\n", "my_kvsname"));
    if (value_of(s, "kvsname", s->kvs, sizeof(s->kvs))) return medleySuccess;
    return mdl_error(medleyRemoteError, "PMI: the launcher did not name the key-value space");
}

static medleyResult_t put_id(struct session *s, const medleyUniqueId *id)
{
    char text[PERF_ID_TEXT_BYTES], command[LINE_BYTES];
    perf_id_to_text(id, text);
    snprintf(command, sizeof(command), "cmd=put kvsname=%s key=%s value=%s\n", s->kvs, id_key, text);
    return ask(s, command, "put_result");
}

static medleyResult_t get_id(struct session *s, medleyUniqueId *id)
{
    char text[PERF_ID_TEXT_BYTES], command[LINE_BYTES];
    snprintf(command, sizeof(command), "cmd=get kvsname=%s key=%s\n", s->kvs, id_key);
    MDL_TRY(ask(s, command, "get_result"));
    if (value_of(s, "value", text, sizeof(text)) && perf_id_from_text(text, id)) return medleySuccess;
    return mdl_error(medleyRemoteError, "PMI: the launcher's key-value space holds no id");
}

medleyResult_t perf_pmi_share(int proc, medleyUniqueId *id)
{
    struct session s = {.fd = -1};
    MDL_TRY(open_session(&s));
    if (proc == 0) MDL_TRY(put_id(&s, id));
    MDL_TRY(ask(&s, "cmd=barrier_in\n", "barrier_out"));
    if (proc) MDL_TRY(get_id(&s, id));
    return ask(&s, "cmd=finalize\n", "finalize_ack");
}
