/* SPDX-License-Identifier: GPL-3.0-or-later */
/* error.c - see error.h. */
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int fail(struct img_error *err, int code, const char *format, ...) {
    if (!err)
        return code;
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof(err->text), format, args);
    va_end(args);
    err->code = code;
    return code;
}

int fail_no_memory(struct img_error *err) {
    return fail(err, -ENOMEM, "Out of memory");
}
