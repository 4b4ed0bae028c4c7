/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* bitmap.c - reading the bitmap directory, and the mark that keeps stale bitmaps from being believed.
 *
 * A bitmap that is enabled (flag "auto") must record every write of the guest. What is recorded (record.c) reaches the
 * disk when the image is closed, so before the first change of guest data each such bitmap is marked in use, in place:
 * whoever opens the image after a crash then knows that it is not complete. A disabled bitmap describes a closed period
 * and stays as it is.
 *
 * Only the directory is read here; bitmap tables and data stay on disk (bitmap_data.c).
 *
 * Always holds after bitmaps_read: there are exactly as many entries as the header says and they fill the directory;
 * each table is aligned, inside the file and apart from the header's own tables.
 *
 * Specification: "Bitmaps", "Bitmap directory".
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "directory.h"
#include "error.h"
#include "snapshot.h"

enum {
    TYPE_DIRTY_TRACKING = 1,
    MIN_GRANULARITY_BITS = 9,
    MAX_GRANULARITY_BITS = 31,
    MAX_NAME = 1023,
    MAX_TABLE_BYTES = 128 << 20,
};
#define KNOWN_FLAGS (QCOW2_BITMAP_IN_USE | QCOW2_BITMAP_AUTO | QCOW2_BITMAP_EXTRA_COMPATIBLE)

static int read_failed(int code, size_t index, const struct qcow2_header *h, struct img_error *err) {
    if (code == -ENODATA)
        return img_fail(err, -EUCLEAN,
                        "Broken bitmap directory: entry %zu of %" PRIu32 " does not fit (directory_size = %" PRIu64 ")",
                        index, h->nb_bitmaps, h->bitmap_directory_size);
    return img_fail_errno(err, code, "Could not read bitmap directory entry %zu", index);
}

static int check_entry(const struct qcow2_header *h, const struct qcow2_bitmap *b, uint64_t file_size,
                       struct img_error *err) {
    const char *field = NULL;
    uint64_t value = 0;
    if (b->type != TYPE_DIRTY_TRACKING) {
        field = "type";
        value = b->type;
    } else if (b->granularity_bits < MIN_GRANULARITY_BITS || b->granularity_bits > MAX_GRANULARITY_BITS) {
        field = "granularity_bits";
        value = b->granularity_bits;
    } else if (b->flags & ~KNOWN_FLAGS) {
        field = "flags";
        value = b->flags;
    } else if ((uint64_t)b->table_size * 8 > MAX_TABLE_BYTES) {
        field = "bitmap_table_size";
        value = b->table_size;
    }
    if (field != NULL)
        return img_fail(err, -EINVAL, "Bitmap '%s' doesn't satisfy the constraints (%s = %" PRIu64 ")", b->name, field,
                        value);
    struct qcow2_table table = {"Bitmap table", "bitmap_table_offset", b->table_offset, (uint64_t)b->table_size * 8};
    int r = header_check_table(h, &table, file_size, err);
    return r < 0 ? img_prefix(err, r, "Bitmap '%s': ", b->name) : 0;
}

static int read_one(struct directory *d, const struct qcow2_header *h, size_t index, struct qcow2_bitmap *b,
                    struct img_error *err) {
    struct qcow2_disk_bitmap disk;
    uint64_t start = d->position;
    int r = directory_take(d, &disk, sizeof disk);
    if (r < 0)
        return read_failed(r, index, h, err);
    uint16_t name_size = get16(disk.name_size);
    if (name_size == 0 || name_size > MAX_NAME)
        return img_fail(err, -EINVAL, "Bitmap directory entry %zu: name_size = %u is not between 1 and %d", index,
                        name_size, MAX_NAME);
    b->table_offset = get64(disk.table_offset);
    b->table_size = get32(disk.table_size);
    b->flags = get32(disk.flags);
    b->type = disk.type;
    b->granularity_bits = disk.granularity_bits;
    b->flags_offset = start + offsetof(struct qcow2_disk_bitmap, flags);
    b->extra_size = get32(disk.extra_data_size);
    r = directory_take(d, NULL, b->extra_size);
    if (r == 0)
        r = directory_take_name(d, name_size, &b->name);
    if (r < 0)
        return read_failed(r, index, h, err);
    directory_align(d);
    return check_entry(h, b, storage_size(d->file), err);
}

/* Makes room for one more, all zero. */
static int grow(struct qcow2_bitmaps *b, size_t *room) {
    if (b->count == *room) {
        size_t wanted = *room > 0 ? *room * 2 : 8;
        struct qcow2_bitmap *list = realloc(b->list, wanted * sizeof *list);
        if (list == NULL)
            return -ENOMEM;
        b->list = list;
        *room = wanted;
    }
    memset(&b->list[b->count], 0, sizeof *b->list);
    return 0;
}

static int read_all(struct directory *d, const struct qcow2_header *h, struct qcow2_bitmaps *out,
                    struct img_error *err) {
    size_t room = 0;
    uint64_t names = 0;
    while (out->count < h->nb_bitmaps) {
        size_t index = out->count;
        int r = grow(out, &room);
        if (r < 0)
            return read_failed(r, index, h, err);
        out->count++; /* from here on bitmaps_free frees what it owns */
        r = read_one(d, h, index, &out->list[index], err);
        if (r < 0)
            return r;
        names += strlen(out->list[index].name);
        if (names > QCOW2_MAX_NAME_BYTES)
            return img_fail(err, -EINVAL,
                            "Bitmap directory entry %zu: the names up to here take %" PRIu64 " bytes, more than %d",
                            index, names, QCOW2_MAX_NAME_BYTES);
    }
    if (directory_left(d) > 0)
        return img_fail(err, -EUCLEAN,
                        "More bitmaps found than specified in header extension (nb_bitmaps = %" PRIu32 ", %" PRIu64
                        " bytes of the directory left)",
                        h->nb_bitmaps, directory_left(d));
    return 0;
}

int bitmaps_read(struct storage *file, const struct qcow2_header *h, struct qcow2_bitmaps *out, struct img_error *err) {
    *out = (struct qcow2_bitmaps){0};
    if (!h->has_bitmaps)
        return 0;
    struct qcow2_table whole = {"Bitmap directory", "bitmap_directory_offset", h->bitmap_directory_offset,
                                h->bitmap_directory_size};
    int r = header_check_table(h, &whole, storage_size(file), err);
    if (r < 0)
        return r;
    struct directory d;
    r = directory_open(&d, file, whole.offset, whole.offset + whole.bytes);
    if (r < 0)
        return img_fail_errno(err, r, "Could not read the bitmap directory");
    r = read_all(&d, h, out, err);
    directory_close(&d);
    if (r < 0)
        bitmaps_free(out);
    return r;
}

void bitmaps_free(struct qcow2_bitmaps *b) {
    for (size_t i = 0; i < b->count; i++)
        free(b->list[i].name);
    free(b->list);
    *b = (struct qcow2_bitmaps){0};
}

int bitmaps_mark_in_use(struct storage *file, struct qcow2_bitmaps *b, struct img_error *err) {
    bool changed = false;
    for (size_t i = 0; i < b->count; i++) {
        struct qcow2_bitmap *bitmap = &b->list[i];
        if (!(bitmap->flags & QCOW2_BITMAP_AUTO) || (bitmap->flags & QCOW2_BITMAP_IN_USE))
            continue;
        be32 flags = put32(bitmap->flags | QCOW2_BITMAP_IN_USE);
        int r = storage_write(file, &flags, sizeof flags, bitmap->flags_offset);
        if (r < 0)
            return img_fail_errno(err, r, "Could not mark bitmap '%s' as in use", bitmap->name);
        bitmap->flags |= QCOW2_BITMAP_IN_USE;
        changed = true;
    }
    int r = changed ? storage_flush(file) : 0;
    return r < 0 ? img_fail_errno(err, r, "Could not mark the bitmaps as in use") : 0;
}
