/* SPDX-License-Identifier: GPL-3.0-or-later */
/* bytes.h - a sparse row of bytes in memory: what a disk holds, cheap to copy.
 *
 * Pages of 4 KiB, shared between copies until one of them is changed, so that the replayer can build thousands of disk
 * states out of one. A page that was never written is a hole. Not thread-safe: who shares one, locks it.
 */
#ifndef CRASH_BYTES_H
#define CRASH_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BYTES_PAGE = 4096 };
/* More than any scenario needs: a runaway engine is stopped here with -EFBIG. */
#define BYTES_MAX (1ull << 30)

struct bytes_page {
    unsigned refs;
    uint8_t data[BYTES_PAGE];
};

struct bytes {
    uint64_t length;
    size_t npages; /* entries of `pages`; those behind are holes */
    struct bytes_page **pages;
};

/* A struct of zeroes is an empty row of bytes. */
void bytes_free(struct bytes *b);
void bytes_clone(struct bytes *to, const struct bytes *from);

/* Past the end: zeroes. */
void bytes_read(const struct bytes *b, void *buffer, size_t count, uint64_t offset);
/* Grows the length when it must. 0 or -EFBIG. */
int bytes_write(struct bytes *b, const void *buffer, size_t count, uint64_t offset);
/* The range reads as zeroes; whole pages become holes. The length stays. */
void bytes_zero(struct bytes *b, uint64_t offset, uint64_t length);
int bytes_truncate(struct bytes *b, uint64_t length);
/* How far from `offset` it is all hole or all data, at most `length`. */
uint64_t bytes_extent(const struct bytes *b, uint64_t offset, uint64_t length, bool *hole);
uint64_t bytes_allocated(const struct bytes *b);
/* Equal contents and lengths have equal hashes, whether zeroes are holes or stored. */
uint64_t bytes_hash(const struct bytes *b);

/* From and to a host file; 0 or -errno. The file is made sparse. */
int bytes_load(struct bytes *b, const char *path);
int bytes_save(const struct bytes *b, const char *path);

#endif
