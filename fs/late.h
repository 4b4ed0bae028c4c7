/* SPDX-License-Identifier: GPL-3.0-or-later */
/* late.h - shared libraries that are loaded by those who need them, when they do. Linked to the tool, the ones that
 * have many others behind them would cost every command more time than most commands take.
 *
 * A library is a list of the names that are used of it, LIST(F), and what the list makes: a table with a pointer for
 * each, `struct { LIST(LATE_POINTER) } table`, through which they are called, and the names that fill it.
 *
 * To load is to open files, so it comes before a sandbox; and nothing here is locked, so it comes before threads.
 */
#ifndef FS_LATE_H
#define FS_LATE_H

#include "img.h"

#define LATE_POINTER(name) __typeof__(name) *name;
#define LATE_NAME(name) #name,
#define LATE_NAMES(LIST)                                                                                               \
    (const char *const[]) {                                                                                            \
        LIST(LATE_NAME) NULL                                                                                           \
    }

/* Fills a table, or leaves it as it is when that has been done. -ELIBACC: there is no such library, or it has not all
 * of the names; nothing of the table may be called. */
int late_load(const char *soname, const char *const *names, void *table, struct img_error *err) IMG_WARN_UNUSED;

#endif
