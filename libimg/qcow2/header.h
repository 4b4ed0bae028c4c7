/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* header.h - the header of an image in memory: read once, checked once, written back one sector at a time.
 *
 * header_read checks everything that the header says by itself: versions, sizes, limits, alignments, table places
 * inside the file, extensions, names. Whoever holds a struct qcow2_header may rely on that. Unknown extensions, fields
 * and feature bits stay in `first` and so survive every rewrite.
 */
#ifndef LIBIMG_QCOW2_HEADER_H
#define LIBIMG_QCOW2_HEADER_H

#include "format.h"
#include "img.h"
#include "storage.h"

struct qcow2_header {
    uint32_t version, cluster_bits, crypt_method;
    uint64_t size; /* bytes */
    uint64_t l1_offset;
    uint32_t l1_size; /* entries */
    uint64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    uint32_t nb_snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible, compatible, autoclear;
    uint32_t refcount_order, header_length;
    uint8_t compression_type;

    char *backing_file, *backing_format, *data_file; /* owned; NULL: none. Control characters are kept */
    bool has_bitmaps, has_crypto;
    uint32_t nb_bitmaps;
    uint64_t bitmap_directory_offset, bitmap_directory_size;
    uint64_t crypto_offset, crypto_length;
    uint8_t lineage[QCOW2_MAX_LINEAGE]; /* an extension of ours, for who knows about snapshots */
    uint32_t lineage_length;            /* bytes; 0: the image has none */

    uint8_t *first;    /* owned: the first cluster as it is on disk */
    size_t first_size; /* bytes of it: the cluster size */
};

/* Reads and checks. On failure nothing is owned. Messages name the field and the value. A dirty or corrupt bit is no
 * error here. With `lenient` (for repair) tables that lie outside the file are no error either. */
int header_read(struct storage *file, struct qcow2_header *header, bool lenient, struct img_error *err);
void header_free(struct qcow2_header *header);

/* Writes header sector 0: the fields above that a switch may change (size, L1, refcount table, snapshots, feature bits,
 * version, refcount_order) are put into first[0..512) and written as one 512-byte write at offset 0. No barrier:
 * the caller has one before and one after (rule 8 of the invariants). */
int header_write_sector(struct storage *file, struct qcow2_header *header);

/* Puts the fields above that a switch may change into first[0..512), without writing them. */
void header_encode(struct qcow2_header *header);

/* Lays out a whole first cluster for a new image from the fields and names above: header, extensions (bitmaps, crypto,
 * backing format, data file, feature names), backing name. Fills header->first (header->first_size is the cluster
 * size). -EINVAL when it does not fit. */
int header_compose(struct qcow2_header *header, struct img_error *err);

/* What a new layout means for the bytes of the first cluster from 512 on. */
struct header_outside {
    size_t offset, length;      /* these must be durable before sector 0 is written; length 0: none */
    size_t stale, stale_length; /* these are fields of the header afterwards that nobody knows: to be zeroed then */
};

/* For a switch that changes names or extensions: makes `first` say what the fields say, if it does not yet. What comes
 * to lie outside of sector 0 lies where the header on the disk keeps nothing, so it can be written, and be made
 * durable, before sector 0 names it. Extensions of others are kept. -ENOSPC: there is no such place; -EINVAL: a name is
 * too long. The header is as it was then, but for the fields that the caller changed. */
int header_relayout(struct qcow2_header *header, struct header_outside *outside, struct img_error *err);

/* The image's number of L1 entries for `size` bytes; UINT64_MAX: too large for the format. */
uint64_t header_l1_entries(uint64_t size, uint32_t cluster_bits, bool extended_l2);

/* One of the places that a header names, for checks and their messages. */
struct qcow2_table {
    const char *what;  /* as a sentence begins with it: "Active L1 table" */
    const char *field; /* "l1_table_offset" */
    uint64_t offset, bytes;
};

/* Checks that a table is cluster aligned, below the format's last host offset, inside the file of `file_size` bytes,
 * and apart from the header's own tables (header cluster, L1, reference count table). An empty table needs only the
 * alignment. */
int header_check_table(const struct qcow2_header *header, const struct qcow2_table *table, uint64_t file_size,
                       struct img_error *err);

static inline bool header_extended_l2(const struct qcow2_header *h) {
    return h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2;
}

#endif
