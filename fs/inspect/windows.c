/* SPDX-License-Identifier: GPL-3.0-or-later */
/* windows.c - a Windows root: the folder of the system, by its usual names and by what must be in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

/* Is `child` in the folder, in any case? */
static bool has(struct guest *guest, const char *folder, const char *child, bool is_dir) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, child);
    char *found = look_without_case(guest, path);
    bool there = found && (is_dir ? look_is_dir(guest, found) : look_is_file(guest, found));
    free(found);
    return there;
}

bool windows_find_root(struct guest *guest, char **systemroot) {
    static const char *const names[] = {"/windows", "/winnt", "/win32", "/win", "/reactos"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char *found = look_without_case(guest, names[i]);
        if (found && look_is_dir(guest, found) && has(guest, names[i], "system32", true) &&
            has(guest, names[i], "system32/config", true) && has(guest, names[i], "system32/cmd.exe", false)) {
            *systemroot = found;
            return true;
        }
        free(found);
    }
    return false;
}
