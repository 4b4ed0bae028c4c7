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
#include "write.h"

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
    struct dirty *dirty; /* what was written; NULL: nothing can be */
    unsigned block_size; /* of the changes */
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

static int read_device(struct ext_io *io, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
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

void ext_io_forget(struct ext_io *io, uint64_t offset, uint64_t length) {
    for (unsigned i = 0; i < SETS * WAYS; i++) {
        struct line *line = &io->lines[i / WAYS][i % WAYS];
        uint64_t start = line->number * LINE;
        if (line->filled && start < offset + length && offset < start + LINE)
            line->filled = false;
    }
}

/* ---- changes over it ---- */

void ext_io_take_writes(struct ext_io *io, struct dirty *dirty, unsigned block_size) {
    io->dirty = dirty;
    io->block_size = block_size;
}

/* Calls `part` for the piece of each block in a range. */
#define FOR_BLOCKS(io, count, offset, done, inside, part)                                                              \
    for (size_t done = 0, inside, part;                                                                                \
         done < (count) &&                                                                                             \
         (inside = ((offset) + done) % (io)->block_size,                                                               \
         part = (io)->block_size - inside < (count)-done ? (io)->block_size - inside : (count)-done);                  \
         done += part)

int ext_io_read(struct ext_io *io, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    int ret = read_device(io, buffer, count, offset, err);
    if (ret < 0 || !io->dirty || dirty_count(io->dirty) == 0)
        return ret;
    FOR_BLOCKS(io, count, offset, done, inside, part) {
        const unsigned char *changed = dirty_find(io->dirty, (offset + done) / io->block_size);
        if (changed)
            memcpy((unsigned char *)buffer + done, changed + inside, part);
    }
    return 0;
}

/* What is written as it was is no change: the library writes all maps when one has changed. */
static int change_block(struct ext_io *io, const unsigned char *bytes, size_t count, uint64_t block, size_t inside,
                        struct img_error *err) {
    unsigned char *changed = dirty_find(io->dirty, block);
    if (!changed) {
        unsigned char before[65536];
        int ret = read_device(io, before, io->block_size, block * io->block_size, err);
        if (ret < 0 || memcmp(before + inside, bytes, count) == 0)
            return ret;
        if (!(changed = dirty_add(io->dirty, block)))
            return fail_no_memory(err);
        memcpy(changed, before, io->block_size);
    }
    memcpy(changed + inside, bytes, count);
    return 0;
}

static int change(struct ext_io *io, const unsigned char *bytes, size_t count, uint64_t offset, struct img_error *err) {
    FOR_BLOCKS(io, count, offset, done, inside, part) {
        int ret = change_block(io, bytes + done, part, (offset + done) / io->block_size, inside, err);
        if (ret < 0)
            return ret;
    }
    return 0;
}

int ext_io_write(struct ext_io *io, const void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    int ret = device_write(io->device, buffer, count, offset, err);
    ext_io_forget(io, offset, count);
    return ret;
}

/* ---- what the library calls ---- */

/* Where its blocks are; a negative count is one of bytes. */
static bool range_of(io_channel channel, unsigned long long block, int count, size_t *bytes, uint64_t *offset) {
    *bytes = count < 0 ? -(size_t)(ssize_t)count : (size_t)count * (size_t)channel->block_size;
    return !__builtin_mul_overflow((uint64_t)block, (uint64_t)channel->block_size, offset);
}

static errcode_t open_channel(const char *name, int flags, io_channel *channel) {
    void *named = NULL;
    if (sscanf(name, "%p", &named) != 1)
        return EXT2_ET_BAD_DEVICE_NAME;
    struct ext_io *io = named;
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
    uint64_t offset;
    size_t bytes;
    if (!range_of(channel, block, count, &bytes, &offset))
        return EXT2_ET_BAD_BLOCK_NUM;
    return ext_io_read(io, buffer, bytes, offset, &io->error) < 0 ? EXT2_ET_SHORT_READ : 0;
}

static errcode_t read_blocks_32(io_channel channel, unsigned long block, int count, void *buffer) {
    return read_blocks(channel, block, count, buffer);
}

static errcode_t write_blocks(io_channel channel, unsigned long long block, int count, const void *buffer) {
    struct ext_io *io = channel->private_data;
    uint64_t offset;
    size_t bytes;
    if (!io->dirty)
        return EXT2_ET_RO_FILSYS;
    if (!range_of(channel, block, count, &bytes, &offset))
        return EXT2_ET_BAD_BLOCK_NUM;
    return change(io, buffer, bytes, offset, &io->error) < 0 ? EXT2_ET_SHORT_WRITE : 0;
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
    snprintf(new->name, sizeof(new->name), "%p", (void *)new);
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
    if ((code == EXT2_ET_SHORT_READ || code == EXT2_ET_SHORT_WRITE) && io->error.code < 0)
        return fail(err, io->error.code, "%s: %s", what, io->error.text);
    if (code == ENOMEM || code == EXT2_ET_NO_MEMORY)
        return fail_no_memory(err);
    if (code == EXT2_ET_BLOCK_ALLOC_FAIL || code == EXT2_ET_INODE_ALLOC_FAIL)
        return fail(err, -ENOSPC, "No space left on the guest's filesystem");
    return fail(err, -EUCLEAN, "%s: %s", what, error_message(code));
}
