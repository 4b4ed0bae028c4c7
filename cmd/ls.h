/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ls.h - the parts of `img ls`. */
#ifndef LS_H
#define LS_H

#include <stdbool.h>

#include "fs/guest.h"

/* As `ls -la PATH` would print it inside the guest, with owners as numbers. False after reporting. */
bool list_long(struct guest *guest, const char *path, bool human);

#endif
