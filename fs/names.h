/* SPDX-License-Identifier: GPL-3.0-or-later */
/* names.h - names that a directory may have, so that one which it surely has not is known without reading it: of a
 * directory that many files are put into, each name would be looked for in all of it.
 *
 * What is kept is a number for each name. A name that has gone stays, and two names may have one number: then the
 * directory has to be read, nothing else.
 */
#ifndef FS_NAMES_H
#define FS_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct names {
    uint64_t dir;    /* whose names they are; 0: nobody's */
    uint64_t *slots; /* 0: free */
    size_t count, room;
    uint64_t seed; /* so that nobody can choose names that have one number */
};

/* Begins anew with this directory. */
void names_begin(struct names *names, uint64_t dir);
/* Without memory they become nobody's. */
void names_add(struct names *names, const void *name, size_t length);
/* True: the directory has no such name. Of any other directory nothing is known. */
bool names_lack(const struct names *names, uint64_t dir, const void *name, size_t length);
void names_free(struct names *names);

#endif
