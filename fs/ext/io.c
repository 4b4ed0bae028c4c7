/* SPDX-License-Identifier: GPL-3.0-or-later */
/* io.c - a device as libext2fs wants to see it, and a small cache of it.
 *
 * Metadata is read in small pieces that lie near one another: inodes of one table, blocks of one directory. So a piece
 * brings the whole line of 64 KiB around it, which is also a cluster of most images: a compressed one is unpacked once.
 * Lines live in sets of four; the one that was not used for longest makes room. Contents of large files go past.
 *
 * The library opens its channel by name. Manager, channel and cache are one object here, whose name is its address.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ext.h"

#define LINE (64u << 10)
#define SETS 32u
#define WAYS 4u
#define PAST (32u << 10) /* pieces of this size do not use the cache */

struct line {
    uint64_t number; /* bytes [number * LINE, ...) of the device */
    uint64_t used;
    unsigned char *bytes; /* NULL: nothing yet */
    bool filled;
};

struct ext_io {
    struct struct_io_manager manager;
    struct struct_io_channel channel;
    char name[32];
    struct device *device;
    struct img_error error; /* why the device failed; code 0: it did not */
    uint64_t clock;
    struct line lines[SETS][WAYS];
};

/* ---- the cache ---- */

static struct line *find_line(struct ext_io *io, uint64_t number) {
    struct line *set = io->lines[number % SETS], *oldest = &set[0];
    for (unsigned i = 0; i < WAYS; i++) {
        if (set[i].filled && set[i].number == number)
            return &set[i];
        if (!set[i].filled || (oldest->filled && set[i].used < oldest->used))
            oldest = &set[i];
    }
    return oldest;
}

/* NULL: not all of the line can be read, or there is no memory for it. */
static const unsigned char *get_line(struct ext_io *io, uint64_t number) {
    struct line *line = find_line(io, number);
    uint64_t start = number * LINE, left = io->device->size - start;
    line->used = ++io->clock;
    if (line->filled && line->number == number)
        return line->bytes;
    if (!line->bytes && !(line->bytes = malloc(LINE)))
        return NULL;
    line->number = number;
    line->filled = device_read(io->device, line->bytes, left < LINE ? left : LINE, start, NULL) == 0;
    return line->filled ? line->bytes : NULL;
}

int ext_io_read(struct ext_io *io, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    unsigned char *to = buffer;
    if (count >= PAST || offset > io->device->size || count > io->device->size - offset)
        return device_read(io->device, buffer, count, offset, err);
    while (count > 0) {
        size_t in_line = offset % LINE, piece = LINE - in_line < count ? LINE - in_line : count;
        const unsigned char *line = get_line(io, offset / LINE);
        if (line)
            memcpy(to, line + in_line, piece);
        else {
            /* What is wanted may still be readable alone. */
            int ret = device_read(io->device, to, piece, offset, err);
            if (ret < 0)
                return ret;
        }
        to += piece;
        offset += piece;
        count -= piece;
    }
    return 0;
}

/* ---- what the library calls ---- */

static errcode_t open_channel(const char *name, int flags, io_channel *channel) {
    struct ext_io *io = (struct ext_io *)(uintptr_t)strtoull(name, NULL, 16);
    (void)flags;
    io->channel = (struct struct_io_channel){.magic = EXT2_ET_MAGIC_IO_CHANNEL,
                                             .manager = &io->manager,
                                             .name = io->name,
                                             .block_size = 1024,
                                             .refcount = 1,
                                             .private_data = io};
    *channel = &io->channel;
    return 0;
}

static errcode_t close_channel(io_channel channel) {
    (void)channel;
    return 0;
}

static errcode_t set_block_size(io_channel channel, int block_size) {
    channel->block_size = block_size;
    return 0;
}

static errcode_t read_blocks(io_channel channel, unsigned long long block, int count, void *buffer) {
    struct ext_io *io = channel->private_data;
    /* A negative count is one of bytes. */
    uint64_t bytes = count < 0 ? -(uint64_t)(int64_t)count : (uint64_t)count * (uint64_t)channel->block_size, offset;
    if (__builtin_mul_overflow((uint64_t)block, (uint64_t)channel->block_size, &offset))
        return EXT2_ET_BAD_BLOCK_NUM;
    return ext_io_read(io, buffer, bytes, offset, &io->error) < 0 ? EXT2_ET_SHORT_READ : 0;
}

static errcode_t read_blocks_32(io_channel channel, unsigned long block, int count, void *buffer) {
    return read_blocks(channel, block, count, buffer);
}

static errcode_t write_blocks(io_channel channel, unsigned long long block, int count, const void *buffer) {
    (void)channel, (void)block, (void)count, (void)buffer;
    return EXT2_ET_RO_FILSYS;
}

static errcode_t write_blocks_32(io_channel channel, unsigned long block, int count, const void *buffer) {
    return write_blocks(channel, block, count, buffer);
}

static errcode_t flush(io_channel channel) {
    (void)channel;
    return 0;
}

/* ---- its life ---- */

int ext_io_new(struct device *device, struct ext_io **io, struct img_error *err) {
    struct ext_io *new = calloc(1, sizeof(*new));
    if (!new)
        return fail_no_memory(err);
    new->device = device;
    new->manager = (struct struct_io_manager){.magic = EXT2_ET_MAGIC_IO_MANAGER,
                                              .name = "device",
                                              .open = open_channel,
                                              .close = close_channel,
                                              .set_blksize = set_block_size,
                                              .read_blk = read_blocks_32,
                                              .write_blk = write_blocks_32,
                                              .flush = flush,
                                              .read_blk64 = read_blocks,
                                              .write_blk64 = write_blocks};
    snprintf(new->name, sizeof(new->name), "%" PRIxPTR, (uintptr_t) new);
    *io = new;
    return 0;
}

void ext_io_free(struct ext_io *io) {
    if (!io)
        return;
    for (unsigned i = 0; i < SETS * WAYS; i++)
        free(io->lines[i / WAYS][i % WAYS].bytes);
    free(io);
}

io_manager ext_io_manager(struct ext_io *io) {
    return &io->manager;
}

const char *ext_io_name(const struct ext_io *io) {
    return io->name;
}

int ext_io_fail(struct ext_io *io, struct img_error *err, errcode_t code, const char *what) {
    if (code == EXT2_ET_SHORT_READ && io->error.code < 0)
        return fail(err, io->error.code, "%s: %s", what, io->error.text);
    if (code == ENOMEM || code == EXT2_ET_NO_MEMORY)
        return fail_no_memory(err);
    return fail(err, -EUCLEAN, "%s: %s", what, error_message(code));
}
