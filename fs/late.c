/* SPDX-License-Identifier: GPL-3.0-or-later */
/* late.c - see late.h. The first pointer of a table tells whether it is filled, so it is the last to be written. A
 * library stays loaded until the end: it may have threads, or handlers for the end of the process. */
#include "late.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "error.h"

/* A table is an array of pointers of different types; memcpy is how they may be written and read as one type. */
static bool is_filled(const void *table) {
    void *first;
    memcpy(&first, table, sizeof(first));
    return first != NULL;
}

int late_load(const char *soname, const char *const *names, void *table, struct img_error *err) {
    if (is_filled(table))
        return 0;
    size_t count = 0;
    while (names[count])
        count++;
    void *library = dlopen(soname, RTLD_LAZY);
    for (size_t i = count; library && i-- > 0;) {
        void *address = dlsym(library, names[i]);
        if (!address)
            break;
        memcpy((char *)table + i * sizeof(address), &address, sizeof(address));
    }
    return is_filled(table) ? 0 : fail(err, -ELIBACC, "A library cannot be used: %s", dlerror());
}
