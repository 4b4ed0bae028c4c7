/* SPDX-License-Identifier: GPL-3.0-or-later */
/* memory_storage.h - a storage in memory for unit tests: its bytes can be looked at and changed directly. */
#ifndef TESTS_UNIT_MEMORY_STORAGE_H
#define TESTS_UNIT_MEMORY_STORAGE_H

#include "storage.h"

struct memory_storage {
    struct storage base;
    uint8_t *bytes;
    uint64_t size;
    unsigned reads, writes, flushes;
    int fail_reads; /* -errno for every read from now on; 0: none */
};

/* Fills in `m` with `size` zero bytes; memory_close frees them. */
void memory_open(struct memory_storage *m, uint64_t size);
void memory_resize(struct memory_storage *m, uint64_t size);
void memory_close(struct memory_storage *m);

/* Big-endian access to the bytes; `width` 1, 2, 4 or 8. */
void memory_put(struct memory_storage *m, uint64_t offset, unsigned width, uint64_t value);
uint64_t memory_get(const struct memory_storage *m, uint64_t offset, unsigned width);

#endif
