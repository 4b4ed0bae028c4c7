// SPDX-License-Identifier: GPL-3.0-or-later
/* fuzz_image.c - bytes as an image file: opened in every way that reads, asked everything, never written.
 *
 * Held: no crash, no hang, and bounded memory; an error always comes with a sentence; the map of the image has no gaps
 * and agrees with what is read. */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>

#include "qcow2/format.h"

#define READ_MOST (8u << 20)
#define PIECE (64u << 10)
#define MAP_CALLS 400
#define PROBES 32

static uint8_t buffer[PIECE];

static void ask(struct img *image) {
    struct img_info info;
    struct img_check_result result;
    struct img_error err = {0};
    int rc = img_info(image, &info, &err);
    if (rc && !err.text[0])
        fuzz_fail("img_info fails with %d and says nothing", rc);
    if (rc == 0) {
        size_t length = strlen(info.format);
        for (size_t i = 0; i < info.nsnapshots; i++)
            length += strlen(info.snapshots[i].id) + strlen(info.snapshots[i].name);
        for (size_t i = 0; i < info.nbitmaps; i++)
            length += strlen(info.bitmaps[i].name);
        if (info.virtual_size != img_size(image) || length == 0)
            fuzz_fail("img_info and img_size do not agree");
    }
    fuzz_check(image, 0, &result);
}

/* Runs come in order, are inside the disk and do not overlap. */
static void bitmaps(struct img *image) {
    struct img_info info;
    if (img_info(image, &info, NULL))
        return;
    for (size_t i = 0; i < info.nbitmaps && i < 4; i++) {
        uint64_t at = 0, start, length;
        for (unsigned calls = 0; calls < MAP_CALLS; calls++, at = start + length) {
            struct img_error err = {0};
            int rc = img_bitmap_next(image, info.bitmaps[i].name, at, &start, &length, &err);
            if (rc && (err.code != rc || !err.text[0]))
                fuzz_fail("img_bitmap_next gives %d and says %d '%s'", rc, err.code, err.text);
            if (rc || length == 0)
                break;
            if (start < at || start >= info.virtual_size || length > info.virtual_size - start)
                fuzz_fail("img_bitmap_next of %llu gives %llu+%llu", (unsigned long long)at, (unsigned long long)start,
                          (unsigned long long)length);
        }
    }
}

static void map(struct img *image) {
    uint64_t size = img_size(image), offset = 0;
    for (unsigned i = 0; i < MAP_CALLS && offset < size; i++) {
        struct img_extent e = {0};
        struct img_error err = {0};
        int rc = img_map(image, offset, size - offset, i % 2, &e, &err);
        if (rc) {
            if (!err.text[0])
                fuzz_fail("img_map fails with %d and says nothing", rc);
            offset += PIECE; /* behind the bad place it may go on */
            continue;
        }
        if (e.start != offset || e.length == 0 || e.length > size - offset)
            fuzz_fail("img_map of %llu gives %llu+%llu of %llu", (unsigned long long)offset,
                      (unsigned long long)e.start, (unsigned long long)e.length, (unsigned long long)size);
        if (e.flags & IMG_EXTENT_ZERO || !(e.flags & IMG_EXTENT_PRESENT)) {
            uint64_t count = e.length < PIECE ? e.length : PIECE;
            if (img_pread(image, buffer, count, offset, NULL) == 0 && !img_is_zero(buffer, count))
                fuzz_fail("img_map calls %llu zero, and it is not", (unsigned long long)offset);
        }
        offset += e.length;
    }
}

static void read_at(struct img *image, uint64_t offset, uint64_t count) {
    struct img_error err = {0};
    int rc = img_pread(image, buffer, count, offset, &err);
    if (rc && (err.code != rc || !err.text[0]))
        fuzz_fail("img_pread gives %d and says %d '%s'", rc, err.code, err.text);
}

static void read_all(struct img *image) {
    uint64_t size = img_size(image);
    uint64_t most = size < READ_MOST ? size : READ_MOST;
    for (uint64_t offset = 0; offset < most; offset += PIECE)
        read_at(image, offset, most - offset < PIECE ? most - offset : PIECE);
    if (size > READ_MOST)
        for (unsigned i = 0; i < PROBES; i++)
            read_at(image, size / PROBES * i, 512);
    if (size >= 512) {
        read_at(image, size - 512, 512);
        if (img_pread(image, buffer, 512, size - 511, NULL) == 0)
            fuzz_fail("a read past the end");
    }
}

static int see(void *opaque, uint64_t start, uint64_t length) {
    uint64_t *calls = opaque;
    (void)start;
    return !length || ++*calls > MAP_CALLS;
}

/* What they descend from, and where they differ from each other and from the active state. */
static void relate(struct img *image, const char *a, const char *b) {
    struct img_parent parent;
    struct img_error err = {0};
    uint64_t calls = 0;
    int rc = img_snapshot_parent(image, a, &parent, &err);
    if (rc && !err.text[0])
        fuzz_fail("img_snapshot_parent gives %d and says nothing", rc);
    if (rc == 0 && parent.kind == IMG_PARENT_SNAPSHOT && (!parent.id || !parent.name))
        fuzz_fail("a parent without a name");
    rc = img_snapshot_diff(image, a, b, see, &calls, &err);
    if (rc && !err.text[0])
        fuzz_fail("img_snapshot_diff gives %d and says nothing", rc);
}

static void snapshots(struct mem *mem, struct img *image) {
    struct img_info info;
    char names[4][64];
    size_t count = 0;
    if (img_info(image, &info, NULL) == 0)
        for (; count < info.nsnapshots && count < 4; count++)
            snprintf(names[count], sizeof(names[count]), "%s", info.snapshots[count].id);
    relate(image, NULL, NULL);
    for (size_t i = 0; i < count; i++) {
        relate(image, names[i], i ? names[i - 1] : NULL);
        struct img *snapshot = fuzz_open(mem, 0, "qcow2", names[i]);
        if (snapshot) {
            map(snapshot);
            read_all(snapshot);
            img_close(snapshot, NULL);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct mem *mem = mem_load(data, size);
    struct img *image = fuzz_open(mem, IMG_OPEN_INFO, NULL, NULL);
    if (image) {
        ask(image);
        img_close(image, NULL);
    }
    fuzz_forget_data_file(mem);
    for (unsigned way = 0; way < 2; way++) {
        image = fuzz_open(mem, way ? IMG_OPEN_CHECK : 0, NULL, NULL);
        if (!image)
            continue;
        ask(image);
        bitmaps(image);
        map(image);
        read_all(image);
        if (way == 0)
            snapshots(mem, image);
        struct img_error err = {0};
        if (img_close(image, &err))
            fuzz_fail("img_close: %s", err.text);
    }
    if (mem->writes)
        fuzz_fail("an image that was open to read has been written");
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    if (seed % 2)
        return LLVMFuzzerMutate(data, size, max_size);
    mutate_image(data, size, seed);
    return size;
}
