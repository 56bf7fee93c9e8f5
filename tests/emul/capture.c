/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream capture. Operations of a captured stream are recorded, not run; a launch submits copies of them in the order
 * of their recording, which any graph of them allows. What is illegal meanwhile kills the capture, as CUDA's does.
 */
#include "config.h"
#include "tests/emul/state.h"
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pid_t me(void) { return (pid_t)syscall(SYS_gettid); }

enum { GLOBAL, THREAD_LOCAL, RELAXED };

bool emul_capture_forbids(int vendor)
{
    bool forbids = false;
    if (emul_me.mode[vendor] == RELAXED) return false;
    for (struct emul_graph *at = emul.graphs; at; at = at->next) {
        if (!at->active || at->vendor != vendor || at->mode == RELAXED) continue;
        if (at->thread != me() && (at->mode == THREAD_LOCAL || emul_me.mode[vendor] == THREAD_LOCAL)) continue;
        forbids = at->dead = true;
    }
    return forbids;
}

enum emul_code emul_capture_begin(int vendor, void *handle, int mode)
{
    if (!handle || mode < GLOBAL || mode > RELAXED) return handle ? EMUL_INVALID : EMUL_CAPTURE_UNSAFE;
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_stream *stream = emul_stream_get(vendor, handle, false, &code);
    if (!code && stream->graph) code = EMUL_INVALID;
    if (!code) {
        struct emul_graph *graph = calloc(1, sizeof(*graph));
        if (!graph) abort();
        graph->vendor = vendor;
        graph->mode = mode;
        graph->id = ++emul.next_id;
        graph->thread = me();
        graph->live = graph->active = true;
        graph->origin = stream;
        graph->next = emul.graphs;
        emul.graphs = graph;
        stream->graph = graph;
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

static void drop_nodes(struct emul_graph *graph)
{
    for (struct emul_op *op = graph->first, *next; op; op = next) {
        next = op->next;
        emul_op_put(op);
    }
    graph->first = graph->last = NULL;
    graph->live = false;
}

enum emul_code emul_capture_end(int vendor, void *handle, void **out)
{
    enum emul_code code;
    if (!out) return EMUL_INVALID;
    pthread_mutex_lock(&emul.lock);
    struct emul_stream *stream = emul_stream_get(vendor, handle, false, &code);
    struct emul_graph *graph = code ? NULL : stream->graph;
    if (!code && (!graph || graph->origin != stream)) code = EMUL_CAPTURE_UNMATCHED;
    if (!code) {
        graph->active = false;
        for (struct emul_stream *at = emul.streams; at; at = at->next)
            if (at->graph == graph) at->graph = NULL;
        for (struct emul_event *at = emul.events; at; at = at->next)
            if (at->graph == graph) at->graph = NULL;
        if (graph->dead) {
            drop_nodes(graph);
            code = EMUL_CAPTURE_DEAD;
        }
        *out = graph->dead ? NULL : graph;
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_capture_status(int vendor, void *handle, int *status, uint64_t *id)
{
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_stream *stream = emul_stream_get(vendor, handle, false, &code);
    if (!code && !handle)
        for (struct emul_stream *at = emul.streams; at; at = at->next)
            if (at->graph && at->vendor == vendor && !(at->flags & EMUL_NON_BLOCKING)) code = EMUL_CAPTURE_IMPLICIT;
    if (!code) {
        if (status) *status = !stream->graph ? 0 : stream->graph->dead ? 2 : 1;
        if (id) *id = stream->graph ? stream->graph->id : 0;
    }
    pthread_mutex_unlock(&emul.lock);
    return code;
}

/* Swaps the thread's mode with *mode. */
enum emul_code emul_capture_mode(int vendor, int *mode)
{
    if (!mode || *mode < GLOBAL || *mode > RELAXED) return EMUL_INVALID;
    int old = emul_me.mode[vendor];
    emul_me.mode[vendor] = *mode;
    *mode = old;
    return EMUL_OK;
}

static struct emul_graph *graph_get(int vendor, void *handle)
{
    struct emul_graph *at = emul.graphs;
    while (at && at != handle) at = at->next;
    return at && at->live && !at->active && at->vendor == vendor ? at : NULL;
}

static struct emul_op *copy_of(const struct emul_op *op)
{
    struct emul_op *copy = emul_op_new(op->kind);
    *copy = *op;
    copy->next = NULL;
    copy->refs = 1;
    copy->waits = 0;
    copy->waited = NULL;
    copy->drop = NULL; /* the graph's own operation keeps the data */
    if (op->staged) {
        copy->staged = malloc(op->size);
        if (!copy->staged) abort();
        memcpy(copy->staged, op->staged, op->size);
    }
    return copy;
}

enum emul_code emul_graph_launch(int vendor, void *handle, void *stream_handle)
{
    enum emul_code code;
    pthread_mutex_lock(&emul.lock);
    struct emul_graph *graph = graph_get(vendor, handle);
    struct emul_stream *stream = emul_stream_get(vendor, stream_handle, true, &code);
    if (!graph) code = EMUL_BAD_HANDLE;
    for (struct emul_op *op = code ? NULL : graph->first; op && !code; op = op->next)
        code = emul_submit(stream, copy_of(op));
    pthread_mutex_unlock(&emul.lock);
    return code;
}

enum emul_code emul_graph_nodes(int vendor, void *handle, size_t *nodes)
{
    pthread_mutex_lock(&emul.lock);
    struct emul_graph *graph = graph_get(vendor, handle);
    if (graph) *nodes = graph->nodes;
    pthread_mutex_unlock(&emul.lock);
    return graph ? EMUL_OK : EMUL_BAD_HANDLE;
}

/* For instantiation: an executable graph outlives its template. The data of `work` stays with the template, which is
   kept until the end of the process if it has any. */
enum emul_code emul_graph_copy(int vendor, void *handle, void **out)
{
    pthread_mutex_lock(&emul.lock);
    struct emul_graph *graph = graph_get(vendor, handle), *copy = graph ? calloc(1, sizeof(*copy)) : NULL;
    if (copy) {
        *copy = *graph;
        copy->first = copy->last = NULL;
        for (const struct emul_op *op = graph->first; op; op = op->next) {
            struct emul_op *node = copy_of(op);
            if (copy->last)
                copy->last->next = node;
            else
                copy->first = node;
            copy->last = node;
        }
        copy->next = emul.graphs;
        emul.graphs = copy;
        *out = copy;
    }
    pthread_mutex_unlock(&emul.lock);
    return copy ? EMUL_OK : EMUL_BAD_HANDLE;
}

enum emul_code emul_graph_destroy(int vendor, void *handle)
{
    pthread_mutex_lock(&emul.lock);
    struct emul_graph *graph = graph_get(vendor, handle);
    if (graph) {
        bool works = false;
        for (const struct emul_op *op = graph->first; op; op = op->next) works |= op->kind == OP_WORK;
        if (works)
            graph->live = false;
        else
            drop_nodes(graph);
    }
    pthread_mutex_unlock(&emul.lock);
    return graph ? EMUL_OK : EMUL_BAD_HANDLE;
}
