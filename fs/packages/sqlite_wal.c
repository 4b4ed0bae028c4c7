/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sqlite_wal.c - the write-ahead log beside a database of SQLite: pages that were changed and not copied back yet.
 *
 * After a header come frames: 24 bytes about a page, and the page. A frame counts if it carries the header's two salts
 * and if the checksum over everything up to it is right; a transaction counts if the frame that ends it does. Of a page
 * that comes several times the last one counts.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "rpm.h"

#define HEADER 32
#define FRAME 24
#define FRAMES_MAX (1u << 20)

struct checksum {
    bool big_endian; /* of the numbers that are summed up */
    uint32_t a, b;
};

static void add_bytes(struct checksum *sum, const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i + 8 <= count; i += 8) {
        uint32_t x = sum->big_endian ? big32(bytes + i) : little32(bytes + i);
        uint32_t y = sum->big_endian ? big32(bytes + i + 4) : little32(bytes + i + 4);
        sum->a += x + sum->b;
        sum->b += y + sum->a;
    }
}

static bool is_right(const struct checksum *sum, const uint8_t *stored) {
    return big32(stored) == sum->a && big32(stored + 4) == sum->b;
}

static bool read_header(const uint8_t head[HEADER], uint32_t page_size, struct checksum *sum) {
    if ((big32(head) & ~1u) != 0x377f0682 || big32(head + 4) != 3007000 || big32(head + 8) != page_size)
        return false;
    *sum = (struct checksum){.big_endian = big32(head) & 1};
    add_bytes(sum, head, 24);
    return is_right(sum, head + 24);
}

static int by_number(const void *a, const void *b) {
    const struct wal_page *x = a, *y = b;
    if (x->number != y->number)
        return x->number < y->number ? -1 : 1;
    return x->frame < y->frame ? 1 : -1; /* the newest first */
}

static void sort_pages(struct wal *wal) {
    size_t kept = 0;
    if (wal->count > 0)
        qsort(wal->pages, wal->count, sizeof(wal->pages[0]), by_number);
    for (size_t i = 0; i < wal->count; i++)
        if (kept == 0 || wal->pages[kept - 1].number != wal->pages[i].number)
            wal->pages[kept++] = wal->pages[i];
    wal->count = kept;
}

static int keep_frame(struct wal *wal, uint32_t number, uint32_t frame, uint64_t offset, struct img_error *err) {
    if ((frame & (frame - 1)) == 0) { /* 0, 1, 2, 4 ...: the room is used up */
        struct wal_page *pages = realloc(wal->pages, (frame ? 2 * (size_t)frame : 1) * sizeof(pages[0]));
        if (!pages)
            return fail_no_memory(err);
        wal->pages = pages;
    }
    wal->pages[frame] = (struct wal_page){number, frame, offset};
    return 0;
}

static int read_frames(struct wal *wal, const uint8_t head[HEADER], struct checksum sum, uint32_t page_size,
                       struct img_error *err) {
    uint8_t *frame = calloc(1, FRAME + page_size);
    int ret = frame ? 0 : fail_no_memory(err);
    uint64_t at = HEADER;
    for (uint32_t i = 0; ret == 0 && i < FRAMES_MAX && wal->file->size - at >= FRAME + page_size; i++) {
        ret = rpm_file_read(wal->file, frame, FRAME + page_size, at, err);
        if (ret < 0 || memcmp(frame + 8, head + 16, 8) != 0)
            break;
        add_bytes(&sum, frame, 8);
        add_bytes(&sum, frame + FRAME, page_size);
        if (!is_right(&sum, frame + 16))
            break;
        ret = keep_frame(wal, big32(frame), i, at + FRAME, err);
        if (ret == 0 && big32(frame + 4) != 0) { /* ends a transaction: the database's length behind it */
            wal->count = i + 1;
            wal->database_pages = big32(frame + 4);
        }
        at += FRAME + page_size;
    }
    free(frame);
    return ret;
}

int wal_open(struct rpm_file *file, uint32_t page_size, struct wal *wal, struct img_error *err) {
    uint8_t head[HEADER] = {0};
    struct checksum sum;
    *wal = (struct wal){.file = file};
    if (!file || file->size < HEADER)
        return 0;
    int ret = rpm_file_read(file, head, sizeof(head), 0, err);
    if (ret < 0 || !read_header(head, page_size, &sum))
        return ret;
    ret = read_frames(wal, head, sum, page_size, err);
    sort_pages(wal);
    return ret;
}

const struct wal_page *wal_find(const struct wal *wal, uint32_t number) {
    size_t low = 0, high = wal->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (wal->pages[middle].number == number)
            return &wal->pages[middle];
        if (wal->pages[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
