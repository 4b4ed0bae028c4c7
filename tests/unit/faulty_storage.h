/* SPDX-License-Identifier: GPL-3.0-or-later */
/* faulty_storage.h - a storage over a host file that counts what is done to it, and fails where a test says so.
 *
 * The numbers that say where may be changed at any time while nothing runs: a host that fails, and is well again.
 */
#ifndef TESTS_UNIT_FAULTY_STORAGE_H
#define TESTS_UNIT_FAULTY_STORAGE_H

#include "storage.h"

enum { FAULTY_NEVER = INT32_MAX };

struct faulty {
    struct storage base;
    struct storage *under;
    unsigned reads;                   /* asked for */
    unsigned writes, writes_left;     /* done, and until they fail; all that changes something counts, and barriers */
    int error;                        /* what they fail with */
    bool unflushed, header_unflushed; /* writes since the last barrier: elsewhere, of the header */
    unsigned out_of_order;            /* header writes without a barrier before or behind */
    uint64_t bad_start, bad_end;      /* reads that touch it fail with -EIO */
};

/* Opens the file for writing. To be closed as any storage, by the image that it was given to or by storage_close; the
 * struct is the caller's. */
void faulty_open(struct faulty *f, const char *path);

#endif
