/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of medley-info. */
#ifndef INFO_INFO_H_
#define INFO_INFO_H_

#include "lib/base/config.h"

struct info_options {
    const char *simulate; /* a collective's name, or NULL */
    int env, hosts, ranks, cores, mbps, rails, mapped, version, help;
};

/* Version, build, processors, interfaces, transports, devices, algorithms. False: some could not be looked at. */
bool info_show(const struct mdl_config *cfg);
bool info_show_devices(const struct mdl_config *cfg);
void info_show_env(const struct mdl_config *cfg);

/* Predicts a collective on hosts that need not exist; the exit status. */
int info_simulate(const struct mdl_config *cfg, const struct info_options *o);

#endif
