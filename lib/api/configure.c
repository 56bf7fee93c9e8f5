/* SPDX-License-Identifier: Apache-2.0 */
/* medleyConfig_t: checks it, honours the size that the caller was compiled with, and lets it override the environment.
 */
#include "config.h"

#include "lib/api/create.h"
#include "lib/dev/dev.h"
#include "lib/dev/hold.h"
#include "lib/engine/transports.h"
#include "lib/net/cpus.h"

#include <stdio.h>
#include <string.h>

/* The variable's rules are the field's; the error names both. */
static medleyResult_t set_field(struct mdl_config *cfg, const char *field, const char *env, const char *value)
{
    medleyResult_t res = mdl_config_set(cfg, env, value);
    char text[MDL_ERROR_TEXT_BYTES];

    if (res == medleySuccess) return res;
    snprintf(text, sizeof(text), "medleyConfig_t.%s: %.400s", field, mdl_error_text());
    return mdl_error_set(res, text);
}

static medleyResult_t set_int(struct mdl_config *cfg, const char *field, const char *env, int value)
{
    char text[32];

    if (value == MEDLEY_CONFIG_UNDEF_INT) return medleySuccess;
    snprintf(text, sizeof(text), "%d", value);
    return set_field(cfg, field, env, text);
}

static medleyResult_t set_text(struct mdl_config *cfg, const char *field, const char *env, const char *value)
{
    return value ? set_field(cfg, field, env, value) : medleySuccess;
}

static medleyResult_t read_user(const medleyConfig_t *user, medleyConfig_t *own)
{
    const medleyConfig_t init = MEDLEY_CONFIG_INITIALIZER;

    if (user->magic != MEDLEY_CONFIG_MAGIC || user->size < offsetof(medleyConfig_t, timeout_ms))
        return mdl_error(medleyInvalidArgument, "the medleyConfig_t was not set up with MEDLEY_CONFIG_INITIALIZER");
    *own = init;
    memcpy(own, user, user->size < sizeof(*own) ? user->size : sizeof(*own));
    for (size_t i = 0; i < sizeof(own->reserved) / sizeof(own->reserved[0]); i++) {
        if (own->reserved[i])
            return mdl_error(
                medleyInvalidArgument,
                "medleyConfig_t.reserved[%zu] is set: this is Medley %d.%d.%d, the caller expects a newer one", i,
                MEDLEY_MAJOR, MEDLEY_MINOR, MEDLEY_PATCH);
    }
    return medleySuccess;
}

static medleyResult_t apply(const medleyConfig_t *u, struct mdl_config *cfg, bool *blocking)
{
    char text[32];

    if (u->blocking != MEDLEY_CONFIG_UNDEF_INT && u->blocking != 0 && u->blocking != 1)
        return mdl_error(medleyInvalidArgument, "medleyConfig_t.blocking is %d, it must be 0 or 1", u->blocking);
    if (u->blocking != MEDLEY_CONFIG_UNDEF_INT) *blocking = u->blocking;
    MDL_TRY(set_int(cfg, "timeout_ms", "MEDLEY_TIMEOUT", u->timeout_ms));
    MDL_TRY(set_int(cfg, "init_timeout_ms", "MEDLEY_INIT_TIMEOUT", u->init_timeout_ms));
    MDL_TRY(set_int(cfg, "deterministic", "MEDLEY_DETERMINISTIC", u->deterministic));
    MDL_TRY(set_int(cfg, "threads", "MEDLEY_THREADS", u->threads));
    MDL_TRY(set_text(cfg, "device", "MEDLEY_DEVICE", u->device));
    MDL_TRY(set_text(cfg, "transports", "MEDLEY_TRANSPORT", u->transports));
    MDL_TRY(set_text(cfg, "cpu_set", "MEDLEY_CPU_SET", u->cpu_set));
    MDL_TRY(set_text(cfg, "net_ifname", "MEDLEY_SOCKET_IFNAME", u->net_ifname));
    MDL_TRY(set_text(cfg, "comm_name", "MEDLEY_COMM_NAME", u->comm_name));
    if (!u->memory_budget) return medleySuccess;
    snprintf(text, sizeof(text), "%zu", u->memory_budget);
    return set_field(cfg, "memory_budget", "MEDLEY_MEMORY_BUDGET", text);
}

/* The calling thread's current device is meant, and the rest may run on another thread. */
static medleyResult_t resolve_device(struct mdl_config *cfg)
{
    struct mdl_dev dev;

    MDL_TRY(mdl_dev_find(cfg, cfg->device.s, &dev));
    mdl_dev_name(&dev, cfg->device.s, sizeof(cfg->device.s));
    return medleySuccess;
}

static medleyResult_t check(struct mdl_config *cfg)
{
    MDL_TRY(resolve_device(cfg));
    MDL_TRY(mdl_hold_check_name(cfg));
    if (cfg->cpu_set.s[0]) MDL_TRY(mdl_cpus_check(cfg->cpu_set.s));
    MDL_TRY(mdl_transports_check_names(cfg));
    MDL_TRY(mdl_algo_spec_check(cfg->algo.s));
    return mdl_reduce_select(cfg->simd.s[0] ? cfg->simd.s : NULL);
}

medleyResult_t mdl_config_merge(const medleyConfig_t *user, const struct mdl_config *base, struct mdl_config *cfg,
                                bool *blocking)
{
    medleyConfig_t own;

    if (base)
        *cfg = *base;
    else
        MDL_TRY(mdl_config_load(cfg));
    if (user) {
        MDL_TRY(read_user(user, &own));
        MDL_TRY(apply(&own, cfg, blocking));
    }
    return check(cfg);
}
