/* SPDX-License-Identifier: Apache-2.0 */
/* See ccl.h; no vendor's name is in this file. */
#include "config.h"

#include "devices/ccl.h"
#include "devices/bind.h"
#include "lib/base/status.h"

#include <stdio.h>

bool mdl_ccl_bind(struct mdl_ccl_state *s, const struct mdl_ccl_shape *shape, const char *prefix, char *why,
                  size_t why_bytes)
{
    s->shape = shape;
    s->prefix = prefix;
    s->caps = (struct mdl_native_caps){0};
    for (int i = 0; i < shape->ncalls; i++) {
        const struct mdl_ccl_call *call = &shape->calls[i];
        s->fn[i] = mdl_bind_symbol(s->library, prefix, call->stem);
        if (s->fn[i] && call->coll != MDL_CCL_NONE) s->caps.colls |= (uint32_t)1 << call->coll;
        if (s->fn[i] || !call->needed) continue;
        snprintf(why, why_bytes, "the library has no %s%s", prefix, call->stem);
        return false;
    }
    return true;
}

void mdl_ccl_reduces(struct mdl_ccl_state *s, uint32_t types)
{
    uint32_t known = 0;

    for (int type = 0; type < medleyNumTypes; type++)
        if (s->shape->types[type] != MDL_CCL_NONE) known |= (uint32_t)1 << type;
    for (int op = 0; op < medleyNumOps; op++)
        if (s->shape->ops[op] != MDL_CCL_NONE) s->caps.reduces[op] = types & known;
}

medleyResult_t mdl_ccl_probe(struct mdl_ccl_state *s, const struct mdl_native *n, mdl_ccl_binder *bind,
                             const char *where, char *found, size_t found_bytes, char *why, size_t why_bytes)
{
    bool bound;

    pthread_mutex_lock(&s->lock);
    bound = s->found[0] || bind(n, where, why, why_bytes);
    if (!bound) {
        mdl_bind_close(s->library);
        s->library = NULL;
    }
    snprintf(found, found_bytes, "%s", s->found);
    pthread_mutex_unlock(&s->lock);
    return bound ? medleySuccess : medleyInvalidUsage;
}

medleyResult_t mdl_ccl_not_supported(const struct mdl_native *n, const char *where, char *found, size_t found_bytes,
                                     char *why, size_t why_bytes)
{
    snprintf(why, why_bytes, "not supported, because %s", (const char *)n->self);
    return medleyInvalidUsage;
}

medleyResult_t mdl_ccl_report(const struct mdl_ccl_state *s, const char *stem, int rc)
{
    const char *(*text)(int) = (const char *(*)(int))(uintptr_t)s->fn[s->shape->error_text];
    const char *words = text ? text(rc) : NULL;
    medleyResult_t code = s->shape->code_of ? s->shape->code_of(rc) : medleyUnhandledDeviceError;

    return mdl_error(code, "%s%s failed: %d (%s)", s->prefix, stem, rc, words ? words : "no text");
}

medleyResult_t mdl_ccl_check(const struct mdl_ccl_state *s, int call, int rc)
{
    return rc == 0 ? medleySuccess : mdl_ccl_report(s, s->shape->calls[call].stem, rc);
}

/* A group is ended even if a call in it has failed. */
medleyResult_t mdl_ccl_messages(const struct mdl_native *n, void *comm, const struct mdl_native_call *list, int ncalls,
                                mdl_dev_stream stream)
{
    medleyResult_t res, end;

    MDL_TRY(n->group_start(n));
    res = medleySuccess;
    for (int i = 0; res == medleySuccess && i < ncalls; i++) res = n->run(n, comm, &list[i], stream);
    end = n->group_end(n);
    return res == medleySuccess ? end : res;
}
