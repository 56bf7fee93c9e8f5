/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: MEDLEY_DEBUG picks the level, MEDLEY_DEBUG_SUBSYS the subsystems, MEDLEY_DEBUG_FILE the file (%h host, %p
 * pid), or a callback takes the messages. Each line: "host:pid:tid [rank] medley LEVEL SUBSYS message". Reads its three
 * variables itself at first use, because the configuration logs too. Any thread. A disabled message costs one load and
 * a branch.
 */
#ifndef MDL_BASE_LOG_H_
#define MDL_BASE_LOG_H_

#include "lib/base/status.h"
#include <stdatomic.h>
#include <stdbool.h>

/* X(id, name): one line per subsystem. */
#define MDL_SUBSYS_LIST(X)                                                                                             \
    X(INIT, "INIT")                                                                                                    \
    X(BOOT, "BOOT") X(NET, "NET") X(SHM, "SHM") X(COLL, "COLL") X(P2P, "P2P") X(PLAN, "PLAN") X(TUNE, "TUNE")          \
        X(ENV, "ENV") X(MEM, "MEM") X(FAULT, "FAULT") X(TOPO, "TOPO")

enum mdl_subsys {
#define MDL_SUBSYS_ENUM(id, name) MDL_##id,
    MDL_SUBSYS_LIST(MDL_SUBSYS_ENUM)
#undef MDL_SUBSYS_ENUM
        MDL_NUM_SUBSYS
};

bool mdl_log_enabled(medleyLogLevel_t level, enum mdl_subsys subsys);
void mdl_log_write(medleyLogLevel_t level, enum mdl_subsys subsys, const char *fmt, ...) MDL_PRINTF(3, 4);
void mdl_log_set_rank(int rank); /* the calling thread's rank for the line's head; -1: none */
medleyResult_t mdl_log_set_callback(medleyLogCallback_t callback, medleyLogLevel_t level, void *user);
void mdl_log_reload(void); /* tests: read the environment again */

#define MDL_LOG(level, subsys, ...)                                                                                    \
    do {                                                                                                               \
        if (mdl_log_enabled(level, subsys)) mdl_log_write(level, subsys, __VA_ARGS__);                                 \
    } while (0)
#define MDL_WARN(subsys, ...)  MDL_LOG(medleyLogWarn, subsys, __VA_ARGS__)
#define MDL_INFO(subsys, ...)  MDL_LOG(medleyLogInfo, subsys, __VA_ARGS__)
#define MDL_TRACE(subsys, ...) MDL_LOG(medleyLogTrace, subsys, __VA_ARGS__)

#endif
