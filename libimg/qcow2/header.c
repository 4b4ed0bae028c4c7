/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* header.c - reading, checking and writing the header of an image.
 *
 * The first cluster is read once, and everything is judged from that copy: nobody can change a field between the check
 * and its use. The checks stand in the order in which QEMU makes them, with its words where it has them, so that an
 * image that both refuse is refused for the same reason; each message names the field and its value. Beyond QEMU every
 * table must lie inside the file and no two of them may overlap: an image that fails here has lost something, and
 * zeroes must not be shown in its place.
 *
 * Always holds after header_read: sizes and offsets are below 2^63, so that sums of an offset and a size that are in
 * the header do not overflow; tables are cluster aligned.
 *
 * Specification: "Header", "Additional fields".
 */
#include "header.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "extension.h"

#define SECTOR 512

static struct qcow2_disk_header *disk_of(const struct qcow2_header *h) {
    return (struct qcow2_disk_header *)h->first;
}

/* ---- the fixed fields, from the first to the last ---------------------------------------------- */

/* Magic, version and cluster size: what must be known to read the rest. */
static int check_identity(const struct qcow2_disk_header *disk, uint64_t file_size, struct img_error *err) {
    if (file_size < QCOW2_V2_HEADER_SIZE)
        return img_fail(err, -EINVAL, "Image is not in qcow2 format (the file has only %" PRIu64 " bytes)", file_size);
    if (get32(disk->magic) != QCOW2_MAGIC)
        return img_fail(err, -EINVAL, "Image is not in qcow2 format (magic = 0x%08" PRIx32 ")", get32(disk->magic));
    uint32_t version = get32(disk->version), bits = get32(disk->cluster_bits);
    if (version < 2 || version > 3)
        return img_fail(err, -ENOTSUP, "Unsupported qcow2 version %" PRIu32, version);
    if (bits < QCOW2_MIN_CLUSTER_BITS || bits > QCOW2_MAX_CLUSTER_BITS)
        return img_fail(err, -EINVAL, "Unsupported cluster size: 2^%" PRIu32 " (cluster_bits may be %d to %d)", bits,
                        QCOW2_MIN_CLUSTER_BITS, QCOW2_MAX_CLUSTER_BITS);
    return 0;
}

/* Reads the first cluster, as far as the file has it, into a buffer of a whole one. */
static int load_first_cluster(struct storage *file, struct qcow2_header *h, struct img_error *err) {
    union {
        uint8_t bytes[SECTOR];
        struct qcow2_disk_header disk;
    } start = {.bytes = {0}};
    uint64_t file_size = storage_size(file);
    int r = storage_read(file, start.bytes, SECTOR, 0);
    if (r < 0)
        return img_fail_errno(err, r, "Could not read qcow2 header");
    r = check_identity(&start.disk, file_size, err);
    if (r < 0)
        return r;
    h->cluster_bits = get32(start.disk.cluster_bits);
    h->first_size = (size_t)1 << h->cluster_bits;
    h->first = calloc(1, h->first_size);
    if (h->first == NULL)
        return img_fail_errno(err, -ENOMEM, "Could not read qcow2 header");
    memcpy(h->first, start.bytes, SECTOR);
    size_t count = file_size < h->first_size ? (size_t)file_size : h->first_size;
    if (count <= SECTOR)
        return 0;
    r = storage_read(file, h->first + SECTOR, count - SECTOR, SECTOR);
    return r < 0 ? img_fail_errno(err, r, "Could not read qcow2 header") : 0;
}

static int check_lengths(struct qcow2_header *h, struct img_error *err) {
    const struct qcow2_disk_header *disk = disk_of(h);
    if (h->version >= 3) {
        if (h->header_length < QCOW2_V3_MIN_HEADER_SIZE)
            return img_fail(err, -EINVAL, "qcow2 header too short (header_length = %" PRIu32 ", at least %d)",
                            h->header_length, QCOW2_V3_MIN_HEADER_SIZE);
        if (h->header_length > h->first_size)
            return img_fail(err, -EINVAL,
                            "qcow2 header exceeds cluster size (header_length = %" PRIu32 ", cluster size = %zu)",
                            h->header_length, h->first_size);
        if (h->header_length % 8 != 0)
            return img_fail(err, -EINVAL, "qcow2 header length is not a multiple of 8 (header_length = %" PRIu32 ")",
                            h->header_length);
    }
    uint64_t backing = get64(disk->backing_file_offset);
    size_t fixed = h->version >= 3 ? QCOW2_V3_MIN_HEADER_SIZE : QCOW2_V2_HEADER_SIZE;
    if (backing != 0 && (backing < fixed || backing > h->first_size))
        return img_fail(err, -EINVAL, "Invalid backing file offset (backing_file_offset = %" PRIu64 ")", backing);
    return 0;
}

static void decode(struct qcow2_header *h) {
    const struct qcow2_disk_header *disk = disk_of(h);
    h->version = get32(disk->version);
    h->crypt_method = get32(disk->crypt_method);
    h->size = get64(disk->size);
    h->l1_offset = get64(disk->l1_table_offset);
    h->l1_size = get32(disk->l1_size);
    h->refcount_table_offset = get64(disk->refcount_table_offset);
    h->refcount_table_clusters = get32(disk->refcount_table_clusters);
    h->nb_snapshots = get32(disk->nb_snapshots);
    h->snapshots_offset = get64(disk->snapshots_offset);
    h->refcount_order = 4;
    h->header_length = QCOW2_V2_HEADER_SIZE;
    if (h->version < 3)
        return;
    h->incompatible = get64(disk->incompatible_features);
    h->compatible = get64(disk->compatible_features);
    h->autoclear = get64(disk->autoclear_features);
    h->refcount_order = get32(disk->refcount_order);
    h->header_length = get32(disk->header_length);
    if (h->header_length > QCOW2_V3_MIN_HEADER_SIZE)
        h->compression_type = disk->compression_type;
}

static int check_features(const struct qcow2_header *h, struct img_error *err) {
    bool bit = h->incompatible & QCOW2_INCOMPAT_COMPRESSION;
    if (bit != (h->compression_type != QCOW2_COMPRESSION_DEFLATE))
        return img_fail(err, -EINVAL,
                        "qcow2: Compression type incompatible feature bit must %sbe set (compression_type = %u)",
                        bit ? "not " : "", h->compression_type);
    if (h->compression_type > QCOW2_COMPRESSION_ZSTD)
        return img_fail(err, -ENOTSUP, "qcow2: unknown compression type: %u", h->compression_type);
    if (h->incompatible & ~QCOW2_INCOMPAT_KNOWN)
        return extensions_name_features(h, err);
    if (header_extended_l2(h) && h->cluster_bits < QCOW2_MIN_EXTENDED_CLUSTER_BITS)
        return img_fail(err, -EINVAL, "Unsupported subcluster size: %zu (cluster_bits = %" PRIu32 ")",
                        h->first_size / QCOW2_SUBCLUSTERS, h->cluster_bits);
    if (h->refcount_order > QCOW2_MAX_REFCOUNT_ORDER)
        return img_fail(err, -EINVAL,
                        "Reference count entry width too large; may not exceed 64 bits (refcount_order = %" PRIu32 ")",
                        h->refcount_order);
    if (h->crypt_method > QCOW2_CRYPT_LUKS)
        return img_fail(err, -ENOTSUP, "Unsupported encryption method %" PRIu32, h->crypt_method);
    return 0;
}

/* ---- tables ------------------------------------------------------------------------------------ */

static int check_alignment(const struct qcow2_header *h, const struct qcow2_table *t, struct img_error *err) {
    if ((t->offset & (h->first_size - 1)) != 0 || t->offset > QCOW2_MAX_HOST_OFFSET)
        return img_fail(err, -EINVAL, "%s offset invalid (%s = %" PRIu64 ")", t->what, t->field, t->offset);
    return 0;
}

/* The bytes of a table must be there; the rest of its last cluster need not be. */
static int check_inside(const struct qcow2_table *t, uint64_t file_size, struct img_error *err) {
    if (t->bytes != 0 && (t->offset > file_size || t->bytes > file_size - t->offset))
        return img_fail(err, -EUCLEAN,
                        "%s lies outside the file (%s = %" PRIu64 ", %" PRIu64 " bytes; the file has %" PRIu64 ")",
                        t->what, t->field, t->offset, t->bytes, file_size);
    return 0;
}

static uint64_t end_cluster(const struct qcow2_header *h, const struct qcow2_table *t) {
    return (t->offset + t->bytes + h->first_size - 1) & ~(uint64_t)(h->first_size - 1);
}

static int check_apart(const struct qcow2_header *h, const struct qcow2_table *a, const struct qcow2_table *b,
                       struct img_error *err) {
    if (a->bytes == 0 || b->bytes == 0 || a->offset >= end_cluster(h, b) || b->offset >= end_cluster(h, a))
        return 0;
    return img_fail(err, -EUCLEAN, "%s (%s = %" PRIu64 ") overlaps %s (%s = %" PRIu64 ")", b->what, b->field, b->offset,
                    a->what, a->field, a->offset);
}

enum { HEADER_CLUSTER, REFCOUNT_TABLE, L1_TABLE, OWN_TABLES };

static void own_tables(const struct qcow2_header *h, struct qcow2_table t[OWN_TABLES]) {
    t[HEADER_CLUSTER] = (struct qcow2_table){"Header", "offset", 0, h->first_size};
    t[REFCOUNT_TABLE] = (struct qcow2_table){"Reference count table", "refcount_table_offset", h->refcount_table_offset,
                                             (uint64_t)h->refcount_table_clusters << h->cluster_bits};
    t[L1_TABLE] = (struct qcow2_table){"Active L1 table", "l1_table_offset", h->l1_offset, (uint64_t)h->l1_size * 8};
}

int header_check_table(const struct qcow2_header *h, const struct qcow2_table *table, uint64_t file_size,
                       struct img_error *err) {
    struct qcow2_table own[OWN_TABLES];
    own_tables(h, own);
    int r = check_alignment(h, table, err);
    if (r == 0)
        r = check_inside(table, file_size, err);
    for (int i = 0; r == 0 && i < OWN_TABLES; i++)
        r = check_apart(h, &own[i], table, err);
    return r;
}

/* Sizes and alignments, before the extensions are looked at. */
static int check_tables(const struct qcow2_header *h, bool lenient, struct img_error *err) {
    struct qcow2_table own[OWN_TABLES];
    own_tables(h, own);
    if (h->refcount_table_clusters == 0 && !lenient)
        return img_fail(err, -EINVAL, "Image does not contain a reference count table (refcount_table_clusters = 0)");
    if (own[REFCOUNT_TABLE].bytes > QCOW2_MAX_REFCOUNT_TABLE_BYTES)
        return img_fail(err, -EINVAL, "Reference count table too large (refcount_table_clusters = %" PRIu32 ")",
                        h->refcount_table_clusters);
    int r = check_alignment(h, &own[REFCOUNT_TABLE], err);
    if (r < 0)
        return r;
    if (h->nb_snapshots > QCOW2_MAX_SNAPSHOTS)
        return img_fail(err, -EINVAL, "Snapshot table too large (nb_snapshots = %" PRIu32 ")", h->nb_snapshots);
    struct qcow2_table snapshots = {"Snapshot table", "snapshots_offset", h->snapshots_offset, 0};
    r = check_alignment(h, &snapshots, err);
    if (r < 0)
        return r;
    if (own[L1_TABLE].bytes > QCOW2_MAX_L1_BYTES)
        return img_fail(err, -EINVAL, "Active L1 table too large (l1_size = %" PRIu32 ")", h->l1_size);
    return check_alignment(h, &own[L1_TABLE], err);
}

/* Entries that `size` needs, without the format's limit. */
static uint64_t l1_entries(uint64_t size, uint32_t cluster_bits, bool extended_l2) {
    uint32_t shift = 2 * cluster_bits - (extended_l2 ? 4 : 3);
    return (size >> shift) + ((size & ((1ull << shift) - 1)) != 0);
}

uint64_t header_l1_entries(uint64_t size, uint32_t cluster_bits, bool extended_l2) {
    uint64_t entries = l1_entries(size, cluster_bits, extended_l2);
    return size > INT64_MAX || entries > QCOW2_MAX_L1_BYTES / 8 ? UINT64_MAX : entries;
}

static int check_size(const struct qcow2_header *h, struct img_error *err) {
    uint64_t entries = l1_entries(h->size, h->cluster_bits, header_extended_l2(h));
    if (h->size > INT64_MAX || entries > INT_MAX)
        return img_fail(err, -EFBIG, "Image is too big (size = %" PRIu64 ")", h->size);
    if (h->l1_size < entries)
        return img_fail(err, -EINVAL,
                        "L1 table is too small (l1_size = %" PRIu32 ", but size = %" PRIu64 " needs %" PRIu64 ")",
                        h->l1_size, h->size, entries);
    return 0;
}

/* Everything that the header names: inside the file and apart from each other. */
static int check_places(const struct qcow2_header *h, uint64_t file_size, bool lenient, struct img_error *err) {
    struct qcow2_table t[OWN_TABLES + 3];
    own_tables(h, t);
    int n = OWN_TABLES, r;
    t[n++] = (struct qcow2_table){"Snapshot table", "snapshots_offset", h->snapshots_offset,
                                  h->nb_snapshots * (uint64_t)sizeof(struct qcow2_disk_snapshot)};
    if (h->has_bitmaps)
        t[n++] = (struct qcow2_table){"Bitmap directory", "bitmap_directory_offset", h->bitmap_directory_offset,
                                      h->bitmap_directory_size};
    if (h->has_crypto)
        t[n++] = (struct qcow2_table){"Encryption header", "crypto_offset", h->crypto_offset, h->crypto_length};
    for (int i = HEADER_CLUSTER + 1; i < n; i++) {
        r = check_alignment(h, &t[i], err);
        if (r == 0 && t[i].bytes > QCOW2_MAX_HOST_OFFSET)
            r = img_fail(err, -EINVAL, "%s too large (%" PRIu64 " bytes)", t[i].what, t[i].bytes);
        if (r == 0 && !lenient)
            r = check_inside(&t[i], file_size, err);
        for (int j = 0; r == 0 && j < i; j++)
            r = check_apart(h, &t[j], &t[i], err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_data_file(const struct qcow2_header *h, struct img_error *err) {
    if ((h->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW) && !(h->incompatible & QCOW2_INCOMPAT_DATA_FILE))
        return img_fail(err, -EINVAL, "data-file-raw requires a data file (autoclear_features = 0x%" PRIx64 ")",
                        h->autoclear);
    return 0;
}

/* ---- the promises of header.h ------------------------------------------------------------------ */

int header_read(struct storage *file, struct qcow2_header *h, bool lenient, struct img_error *err) {
    memset(h, 0, sizeof *h);
    int r = load_first_cluster(file, h, err);
    if (r == 0) {
        decode(h);
        r = check_lengths(h, err);
    }
    if (r == 0)
        r = check_features(h, err);
    if (r == 0)
        r = check_tables(h, lenient, err);
    if (r == 0)
        r = check_size(h, err);
    if (r == 0)
        r = extensions_read(h, err);
    if (r == 0)
        r = check_data_file(h, err);
    if (r == 0)
        r = check_places(h, storage_size(file), lenient, err);
    if (r < 0)
        header_free(h);
    else
        h->size &= ~(uint64_t)(SECTOR - 1); /* a disk has whole sectors */
    return r;
}

void header_free(struct qcow2_header *h) {
    free(h->backing_file);
    free(h->backing_format);
    free(h->data_file);
    free(h->first);
    memset(h, 0, sizeof *h);
}

void header_encode(struct qcow2_header *h) {
    struct qcow2_disk_header *disk = disk_of(h);
    disk->version = put32(h->version);
    disk->size = put64(h->size);
    disk->l1_size = put32(h->l1_size);
    disk->l1_table_offset = put64(h->l1_offset);
    disk->refcount_table_offset = put64(h->refcount_table_offset);
    disk->refcount_table_clusters = put32(h->refcount_table_clusters);
    disk->nb_snapshots = put32(h->nb_snapshots);
    disk->snapshots_offset = put64(h->snapshots_offset);
    if (h->version < 3)
        return; /* what follows in version 2 is the first extension */
    disk->incompatible_features = put64(h->incompatible);
    disk->compatible_features = put64(h->compatible);
    disk->autoclear_features = put64(h->autoclear);
    disk->refcount_order = put32(h->refcount_order);
    disk->header_length = put32(h->header_length);
    if (h->header_length > QCOW2_V3_MIN_HEADER_SIZE)
        disk->compression_type = h->compression_type;
}

int header_write_sector(struct storage *file, struct qcow2_header *h) {
    header_encode(h);
    return storage_write(file, h->first, SECTOR, 0);
}
