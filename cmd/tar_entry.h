/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tar_entry.h - one file's head in a tar archive: a ustar header, and before it a pax header with all that does not fit
 * into that one. */
#ifndef TAR_ENTRY_H
#define TAR_ENTRY_H

#include <stdbool.h>
#include <stddef.h>

#include "fs/vfs.h"
#include "sink.h"

#define TAR_BLOCK 512u

/* Where the data of a file with holes is. */
struct tar_range {
    uint64_t start, length;
};

/* Bytes that grow. */
struct tar_text {
    char *bytes;
    size_t length, room;
};
void tar_text_add(struct tar_text *text, const void *bytes, size_t length);
/* "LENGTH KEY=VALUE\n", as a pax header holds them. */
void tar_record(struct tar_text *records, const char *key, const void *value, size_t length);

struct tar_entry {
    const char *name;   /* as the archive has it; of a directory with '/' at its end */
    const char *target; /* of a symbolic link, or the name that a hard link has the file of; NULL */
    bool hardlink;
    const char *user, *group; /* NULL: numbers alone */
    struct fs_stat stat;
    bool nanoseconds;               /* parts of a second are told */
    struct tar_text *more;          /* records of the caller, NULL: none */
    const struct tar_range *ranges; /* NULL: all of it is data */
    size_t nranges;
};

/* Writes the head. *data: how many bytes of the file's data must follow it, then zeroes up to a multiple of
 * TAR_BLOCK. */
bool tar_write_head(struct sink *sink, const struct tar_entry *entry, uint64_t *data);
/* The end of an archive: two empty blocks, and what makes its length a multiple of 10 KiB. */
bool tar_write_end(struct sink *sink);

#endif
