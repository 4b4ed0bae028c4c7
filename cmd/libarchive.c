/* SPDX-License-Identifier: GPL-3.0-or-later */
/* libarchive.c - see libarchive.h. */
#include "libarchive.h"

#include "report.h"

struct libarchive la;

bool libarchive_load(void) {
    struct img_error err = {0};
    if (late_load("libarchive.so.13", LATE_NAMES(LIBARCHIVE), &la, &err) == 0)
        return true;
    report_sentence(&err);
    return false;
}
