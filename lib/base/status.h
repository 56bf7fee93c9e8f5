/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors: a code travels up as the return value, its words stay behind in the thread.
 *
 * The function that detects an error calls mdl_error once: it formats the text, keeps it as the calling thread's last
 * error, logs it at WARN and returns the code. Callers only pass the code up. The layer that owns a communicator copies
 * the text into it.
 */
#ifndef MDL_BASE_STATUS_H_
#define MDL_BASE_STATUS_H_

#include <medley.h>

#define MDL_MUST_USE         __attribute__((warn_unused_result))
#define MDL_PRINTF(f, a)     __attribute__((format(printf, f, a)))
#define MDL_ERROR_TEXT_BYTES 512

/* Records and logs the error, returns `code`. The text names rank, peer, object and what the user can do; no trailing
 * newline. Keeps errno. */
medleyResult_t mdl_error(medleyResult_t code, const char *fmt, ...) MDL_PRINTF(2, 3);

/* The same for a failed system call: appends strerror(err) and, where one is known, a hint ("raise ulimit -n"). */
medleyResult_t mdl_system_error(int err, const char *fmt, ...) MDL_PRINTF(2, 3);

/* Records without logging: for a text that some other thread or rank has logged already. */
medleyResult_t mdl_error_set(medleyResult_t code, const char *text);

const char *mdl_error_text(void); /* the calling thread's last error, "" if none */
void mdl_error_clear(void);

/* Passes an error up. The one macro that hides a return: used only in functions that hold nothing. */
#define MDL_TRY(expr)                                                                                                  \
    do {                                                                                                               \
        medleyResult_t mdl_try_ = (expr);                                                                              \
        if (mdl_try_ != medleySuccess) return mdl_try_;                                                                \
    } while (0)

#endif
