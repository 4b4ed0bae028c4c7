// SPDX-License-Identifier: GPL-3.0-or-later
/* walk.c - see guest.h. */
#include "guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define UNIT 512u
#define HEAD 6u        /* bytes before a piece */
#define MOST_FILES 300 /* of one walk */
#define MOST_DEPTH 6
#define MOST_READ (256u << 10) /* bytes of a file */

/* ---- the device ---- */

#define MOST_PIECES 4096

struct pieces {
    struct device device;
    uint8_t *bytes; /* GUEST_MOST of them, zero but for the pieces */
    unsigned count;
    struct {
        uint64_t at;
        size_t count;
    } list[MOST_PIECES];
};

static struct pieces pieces;

static int read_pieces(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    (void)device, (void)err;
    memcpy(buffer, pieces.bytes + offset, count);
    return 0;
}

static const struct device_ops pieces_ops = {.read = read_pieces};

static uint64_t get(const uint8_t *p, unsigned bytes) {
    uint64_t n = 0;
    while (bytes--)
        n = n << 8 | p[bytes];
    return n;
}

/* The next piece of an input: its bytes begin at *data. 0: no more. */
static size_t next_piece(const uint8_t **data, size_t *left, uint64_t *at) {
    if (*left <= HEAD)
        return 0;
    size_t count = (size_t)get(*data + 4, 2);
    *at = get(*data, 4) * UNIT;
    *data += HEAD;
    *left -= HEAD;
    return count && count <= *left ? count : *left;
}

void guest_put(uint64_t at, const void *bytes, size_t count) {
    uint64_t length = pieces.device.size;
    if (at >= length || pieces.count == MOST_PIECES)
        return;
    if (count > length - at)
        count = (size_t)(length - at);
    memcpy(pieces.bytes + at, bytes, count);
    pieces.list[pieces.count].at = at;
    pieces.list[pieces.count++].count = count;
}

static void forget_pieces(void) {
    if (!pieces.bytes)
        pieces.bytes =
            mmap(NULL, GUEST_MOST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pieces.bytes == MAP_FAILED)
        abort();
    while (pieces.count) {
        pieces.count--;
        memset(pieces.bytes + pieces.list[pieces.count].at, 0, pieces.list[pieces.count].count);
    }
}

struct device *guest_device(const uint8_t *data, size_t size) {
    uint64_t units = size >= 4 ? get(data, 4) : 0, at;
    size_t left = size >= 4 ? size - 4 : 0, count;
    forget_pieces();
    pieces.device = (struct device){
        .ops = &pieces_ops, .size = units < GUEST_MOST / UNIT ? units * UNIT : GUEST_MOST, .sector_size = 512};
    for (data += size - left; (count = next_piece(&data, &left, &at)); data += count, left -= count)
        guest_put(at, data, count);
    return &pieces.device;
}

/* ---- the walk ---- */

struct walk {
    struct fs *fs;
    unsigned files, depth;
};

static void walk_file(struct walk *walk, uint64_t ino);

static bool check(int ret, const struct img_error *err, const char *what) {
    if (ret > 0 || (ret < 0 && (err->code != ret || !err->text[0])))
        fuzz_fail("%s gives %d and says %d '%s'", what, ret, err->code, err->text);
    return ret == 0;
}

struct found {
    uint64_t ino;
    size_t length;
    char name[FS_NAME_MAX + 1];
};

struct gathered {
    unsigned count;
    struct found list[64];
};

static int gather(void *opaque, const struct fs_entry *entry) {
    struct gathered *names = opaque;
    if (!entry->length || entry->length > FS_NAME_MAX || strlen(entry->name) != entry->length ||
        strchr(entry->name, '/') || strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
        fuzz_fail("a name of %zu bytes: '%s'", entry->length, entry->name);
    if (names->count == sizeof(names->list) / sizeof(names->list[0]))
        return 0;
    struct found *found = &names->list[names->count++];
    *found = (struct found){.ino = entry->ino, .length = entry->length};
    memcpy(found->name, entry->name, entry->length + 1);
    return 0;
}

static void walk_directory(struct walk *walk, uint64_t ino) {
    struct gathered *names = calloc(1, sizeof(*names));
    struct img_error err = {0};
    uint64_t found;
    if (!names)
        return;
    check(walk->fs->ops->list(walk->fs, ino, gather, names, &err), &err, "list");
    walk->depth++;
    for (unsigned i = 0; i < names->count && walk->files < MOST_FILES; i++) {
        int ret = walk->fs->ops->lookup(walk->fs, ino, names->list[i].name, names->list[i].length, &found, &err);
        check(ret, &err, "lookup");
        walk_file(walk, names->list[i].ino);
    }
    walk->depth--;
    free(names);
}

static void read_file(struct fs *fs, const struct fs_stat *stat) {
    static uint8_t buffer[20000];
    struct img_error err = {0};
    uint64_t start, length, at = 0;
    size_t got = sizeof(buffer);
    while (at < MOST_READ && got == sizeof(buffer)) {
        if (!check(fs->ops->read(fs, stat->ino, buffer, sizeof(buffer), at, &got, &err), &err, "read"))
            break;
        if (got > sizeof(buffer) || (got < sizeof(buffer) && at + got != stat->size))
            fuzz_fail("a read at %lu of %lu bytes gets %zu", (unsigned long)at, (unsigned long)stat->size, got);
        at += got;
    }
    check(fs->ops->read(fs, stat->ino, buffer, 1000, stat->size / 2, &got, &err), &err, "read");
    at = 0;
    for (unsigned i = 0; i < 50 && fs->ops->next_data; i++) {
        if (!check(fs->ops->next_data(fs, stat->ino, at, &start, &length, &err), &err, "next_data"))
            break;
        if (start < at || !length || start + length < start || start + length > stat->size)
            fuzz_fail("data behind %lu: %lu+%lu", (unsigned long)at, (unsigned long)start, (unsigned long)length);
        at = start + length;
    }
}

static int look_at_attribute(void *opaque, const char *name, const void *value, size_t length) {
    unsigned *sum = opaque;
    *sum += (unsigned)strlen(name);
    for (size_t i = 0; i < length; i++)
        *sum += ((const uint8_t *)value)[i];
    return 0;
}

static void walk_file(struct walk *walk, uint64_t ino) {
    struct fs *fs = walk->fs;
    struct fs_stat stat;
    struct img_error err = {0};
    char target[300];
    size_t length;
    unsigned sum = 0;
    walk->files++;
    if (!check(fs->ops->stat(fs, ino, &stat, &err), &err, "stat"))
        return;
    if (S_ISDIR(stat.mode) && walk->depth < MOST_DEPTH)
        walk_directory(walk, ino);
    if (S_ISREG(stat.mode))
        read_file(fs, &stat);
    if (S_ISLNK(stat.mode))
        check(fs->ops->readlink(fs, ino, target, sizeof(target), &length, &err), &err, "readlink");
    if (fs->ops->xattrs)
        check(fs->ops->xattrs(fs, ino, look_at_attribute, &sum, &err), &err, "xattrs");
}

void walk_everything(const struct fs_driver *driver, struct device *device) {
    static const struct fs_open_options options = {0};
    struct probe probe;
    struct fs_space space;
    struct img_error err = {0};
    struct walk walk = {0};
    if (driver->probe(device, &probe) < 0 ||
        !check(driver->open(device, &probe, &options, &walk.fs, &err), &err, "open"))
        return;
    if (check(walk.fs->ops->space(walk.fs, &space, &err), &err, "space") && space.blocks_free > space.blocks)
        fuzz_fail("%lu free blocks of %lu", (unsigned long)space.blocks_free, (unsigned long)space.blocks);
    walk_file(&walk, walk.fs->root);
    fs_close(walk.fs);
}

/* ---- mutation ---- */

size_t guest_mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    const uint8_t *piece = data + 4;
    size_t left = size > 4 ? size - 4 : 0, count, total = 0;
    uint64_t at;
    if (seed % 4 == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    while ((count = next_piece(&piece, &left, &at))) {
        total += count;
        piece += count;
        left -= count;
    }
    if (!total)
        return LLVMFuzzerMutate(data, size, max_size);
    size_t aim = seed / 4 % total;
    piece = data + 4;
    left = size - 4;
    while ((count = next_piece(&piece, &left, &at)) && count <= aim) {
        aim -= count;
        piece += count;
        left -= count;
    }
    size_t width = 1u << seed % 3;
    width *= seed % 5 ? 1 : 8;
    if (width > count - aim)
        width = count - aim;
    LLVMFuzzerMutate(data + (piece - data) + aim, width, width);
    return size;
}
