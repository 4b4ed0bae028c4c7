/* SPDX-License-Identifier: GPL-3.0-or-later */
/* libxml2.c - see libxml2.h. */
#include "libxml2.h"

#include "report.h"

struct libxml2 lx;

bool libxml2_load(void) {
    struct img_error err = {0};
    if (late_load("libxml2.so.2", LATE_NAMES(LIBXML2), &lx, &err) == 0)
        return true;
    report_sentence(&err);
    return false;
}
