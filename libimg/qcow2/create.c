/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* create.c - writing a new image as layout.h has laid it out.
 *
 * Everything is written from front to back through one buffer, whatever the size of the disk: table entries are
 * computed, not stored. A new file reads as zeroes, so there the empty parts of tables are left out; on a block device
 * they are zeroed.
 *
 * What a preallocated cluster says: an ordinary cluster with its place, which on a new file reads as zeroes. A block
 * device may hold anything, and what zeroes of an encrypted image are decrypted to is anything, so there the entry also
 * says zero, or where it must not (version 2, a data file that has to
 * be a raw image) the device is zeroed. With extended entries the place is recorded and no subcluster is allocated, so
 * that a backing file still shows; but a raw data file is shown as it is.
 *
 * A block device is written in place: its old header goes first and the new one comes last, each behind a barrier, so a
 * power cut in between leaves no image rather than half a one.
 *
 * Specification: "Cluster mapping", "Extended L2 Entries", "Refcount table structure".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "layout.h"

#define SECTOR 512
#define STREAM_BYTES (1u << 20)
#define ALL_SUBCLUSTERS 0xffffffffull

/* Bytes on their way to the file, in order. The first error stays. */
struct stream {
    struct storage *file;
    uint64_t offset; /* of buffer[0] */
    size_t used;
    uint8_t *buffer;
    int error;
};

static void stream_push(struct stream *s) {
    if (s->error == 0 && s->used > 0)
        s->error = storage_write(s->file, s->buffer, s->used, s->offset);
    s->offset += s->used;
    s->used = 0;
}

static inline void stream_byte(struct stream *s, uint8_t value) {
    if (s->used == STREAM_BYTES)
        stream_push(s);
    s->buffer[s->used++] = value;
}

static inline void stream_u64(struct stream *s, uint64_t value) {
    be64 entry = put64(value);
    if (s->used > STREAM_BYTES - sizeof entry)
        stream_push(s);
    memcpy(s->buffer + s->used, &entry, sizeof entry);
    s->used += sizeof entry;
}

static void stream_begin(struct stream *s, uint64_t offset) {
    s->offset = offset;
    s->used = 0;
}

/* Ends a part whose place ends at `end`. */
static void stream_end(struct stream *s, uint64_t end) {
    stream_push(s);
    if (s->error == 0 && s->file->fixed_size && s->offset < end)
        s->error = storage_zero(s->file, s->offset, end - s->offset, false);
}

/* ---- the parts ------------------------------------------------------------------------------- */

static void write_refcount_table(const struct qcow2_layout *l, struct stream *s) {
    stream_begin(s, l->header.refcount_table_offset);
    for (uint64_t i = 0; i < l->refcount_blocks; i++)
        stream_u64(s, l->blocks_offset + i * l->cluster_size);
    stream_end(s, l->blocks_offset);
}

/* A count of one for each cluster in use; entries narrower than a byte begin at its low bits. */
static void write_refcount_blocks(const struct qcow2_layout *l, struct stream *s) {
    static const uint8_t ones[] = {0xff, 0x55, 0x11, 0x01};
    unsigned order = l->header.refcount_order;
    stream_begin(s, l->blocks_offset);
    if (order <= 3) {
        uint64_t bits = l->used_clusters << order;
        for (uint64_t i = 0; i < bits / 8; i++)
            stream_byte(s, ones[order]);
        if (bits % 8 != 0)
            stream_byte(s, ones[order] & ((1u << bits % 8) - 1));
    } else {
        unsigned zeroes = (1u << order) / 8 - 1;
        for (uint64_t i = 0; i < l->used_clusters; i++) {
            for (unsigned j = 0; j < zeroes; j++)
                stream_byte(s, 0);
            stream_byte(s, 1);
        }
    }
    stream_end(s, l->blocks_offset + l->refcount_blocks * l->cluster_size);
}

static void write_l1(const struct qcow2_layout *l, struct stream *s) {
    stream_begin(s, l->blocks_offset + l->refcount_blocks * l->cluster_size);
    for (uint64_t i = 0; i < l->l2_tables; i++)
        stream_u64(s, (l->l2_offset + i * l->cluster_size) | QCOW2_COPIED);
    stream_end(s, l->header.has_crypto ? l->header.crypto_offset : l->l2_offset);
}

static void write_crypto(const struct qcow2_layout *l, struct stream *s) {
    if (!l->header.has_crypto)
        return;
    stream_begin(s, l->header.crypto_offset);
    for (size_t i = 0; i < l->crypto_count; i++)
        stream_byte(s, l->crypto_bytes[i]);
    stream_end(s, l->l2_offset);
}

static void write_l2(const struct qcow2_layout *l, bool zero_flag, struct stream *s) {
    uint64_t flags = QCOW2_COPIED | (zero_flag ? QCOW2_ZERO : 0);
    uint64_t first = l->external ? 0 : l->data_offset;
    uint64_t bitmap = l->external_raw ? ALL_SUBCLUSTERS : 0;
    bool extended = header_extended_l2(&l->header);
    stream_begin(s, l->l2_offset);
    for (uint64_t i = 0; i < l->data_clusters && s->error == 0; i++) {
        stream_u64(s, (first + i * l->cluster_size) | flags);
        if (extended)
            stream_u64(s, bitmap);
    }
    stream_end(s, l->data_offset);
}

/* ---- space ----------------------------------------------------------------------------------- */

/* True when entries can say by themselves that nothing is there yet. */
static bool entries_hide_data(const struct qcow2_layout *l) {
    return l->header.version >= 3 && !l->external_raw && l->preallocation == IMG_PREALLOCATION_METADATA;
}

/* Gives the file its length and the guest's clusters their space. */
static int make_room(const struct qcow2_layout *l, struct storage *target, uint64_t offset, uint64_t bytes,
                     uint64_t length, struct img_error *err) {
    int r = 0;
    if (!target->fixed_size) {
        r = target->ops->truncate(target, length);
        if (r < 0)
            return img_fail_errno(err, r, "Could not resize file");
    }
    if (bytes == 0)
        return 0;
    switch (l->preallocation) {
    case IMG_PREALLOCATION_FULL:
        r = storage_write_zeroes(target, offset, bytes);
        break;
    case IMG_PREALLOCATION_FALLOC:
        if (target->fixed_size)
            r = storage_zero(target, offset, bytes, false);
        else
            r = target->ops->reserve != NULL ? target->ops->reserve(target, offset, bytes) : -ENOTSUP;
        break;
    default:
        if (target->fixed_size && !entries_hide_data(l))
            r = storage_zero(target, offset, bytes, true);
        break;
    }
    return r < 0 ? img_fail_errno(err, r, "Could not preallocate data") : 0;
}

/* Large tables get their space before the first byte, so that a disk without room says so at once. */
static int reserve_tables(const struct qcow2_layout *l, struct storage *file, struct img_error *err) {
    if (file->fixed_size || file->ops->reserve == NULL || l->l2_tables == 0)
        return 0;
    int r = file->ops->reserve(file, 0, l->data_offset);
    return r < 0 && r != -ENOTSUP
               ? img_fail_errno(err, r, "Could not reserve %llu bytes for tables", (unsigned long long)l->data_offset)
               : 0;
}

static int make_all_room(const struct qcow2_layout *l, struct storage *file, struct storage *data,
                         struct img_error *err) {
    int r = reserve_tables(l, file, err);
    if (r < 0)
        return r;
    if (data == NULL)
        return make_room(l, file, l->data_offset, l->data_clusters * l->cluster_size, l->file_length, err);
    uint64_t bytes = l->data_clusters > 0 ? l->header.size : 0;
    r = make_room(l, data, 0, bytes, l->header.size, err);
    return r < 0 ? r : make_room(l, file, 0, 0, l->file_length, err);
}

static int check_device(struct storage *s, uint64_t needed, struct img_error *err) {
    if (!s->fixed_size || storage_size(s) >= needed)
        return 0;
    return img_fail(err, -ENOSPC, "'%s' is too small: %llu bytes are needed, it has %llu", s->name,
                    (unsigned long long)needed, (unsigned long long)storage_size(s));
}

/* ---- all of it ------------------------------------------------------------------------------- */

static int remove_old_header(struct storage *file) {
    static const uint8_t nothing[SECTOR];
    if (!file->fixed_size)
        return 0;
    int r = storage_write(file, nothing, SECTOR, 0);
    return r < 0 ? r : storage_flush(file);
}

static int write_header(struct qcow2_layout *l, struct storage *file) {
    struct qcow2_header *h = &l->header;
    size_t used = h->first_size;
    while (used > SECTOR && h->first[used - 1] == 0)
        used--;
    size_t rest = file->fixed_size ? h->first_size : used;
    int r = rest > SECTOR ? storage_write(file, h->first + SECTOR, rest - SECTOR, SECTOR) : 0;
    if (r == 0 && file->fixed_size)
        r = storage_flush(file);
    return r < 0 ? r : header_write_sector(file, h);
}

static int write_tables(const struct qcow2_layout *l, struct storage *file, bool zero_flag) {
    struct stream s = {.file = file, .buffer = malloc(STREAM_BYTES)};
    if (s.buffer == NULL)
        return -ENOMEM;
    write_refcount_table(l, &s);
    write_refcount_blocks(l, &s);
    write_l1(l, &s);
    write_crypto(l, &s);
    write_l2(l, zero_flag, &s);
    free(s.buffer);
    return s.error;
}

int layout_write(struct qcow2_layout *l, struct storage *file, struct storage *data, struct img_error *err) {
    struct storage *target = data != NULL ? data : file;
    bool zero_flag = ((target->fixed_size && entries_hide_data(l)) || l->encrypted) && !header_extended_l2(&l->header);
    int r = check_device(file, l->file_length, err);
    if (r == 0 && data != NULL)
        r = check_device(data, l->header.size, err);
    if (r < 0)
        return r;
    r = remove_old_header(file);
    if (r < 0)
        return img_fail_errno(err, r, "Could not write '%s'", file->name);
    r = make_all_room(l, file, data, err);
    if (r < 0)
        return r;
    r = write_tables(l, file, zero_flag);
    /* What the header shows must be there before it, the data file too. */
    if (r == 0 && file->fixed_size && data != NULL)
        r = storage_flush(data);
    if (r == 0)
        r = write_header(l, file);
    return r < 0 ? img_fail_errno(err, r, "Could not write the image") : 0;
}
