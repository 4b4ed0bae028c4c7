/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* layout.h - a new image on paper: which options go together, and what lies where.
 *
 *   header | refcount table | refcount blocks | L1 table | encryption header | L2 tables | data clusters
 *
 * Each part is contiguous and begins at a cluster; the last two exist only with preallocation, the last only without an
 * external data file; the encryption header only with LUKS. The refcount blocks count themselves.
 */
#ifndef LIBIMG_QCOW2_LAYOUT_H
#define LIBIMG_QCOW2_LAYOUT_H

#include "header.h"

struct qcow2_layout {
    struct qcow2_header header; /* owned: header_free; the names in it are copies */
    uint64_t cluster_size;
    enum img_preallocation preallocation; /* METADATA also where a raw data file implies it */
    bool external, external_raw;          /* guest data lies in another file; which is readable as a raw image */

    uint64_t refcount_blocks, l2_tables; /* clusters */
    uint64_t data_clusters;              /* guest clusters that get an L2 entry; 0: none */
    uint64_t blocks_offset, l2_offset, data_offset;
    uint64_t used_clusters; /* of the image's file: all have a count of one */
    uint64_t file_length;   /* bytes of the image's file */
    bool encrypted;
    uint8_t *crypto_bytes; /* owned: the encryption header as far as it is not zero; NULL: none */
    size_t crypto_count;
};

/* Checks the options (qcow2's, with `size` bytes of virtual size, a multiple of 512) and lays the image out. No I/O. On
 * failure nothing is owned. */
int layout_plan(const struct img_create_options *options, uint64_t size, struct qcow2_layout *layout,
                struct img_error *err);
void layout_free(struct qcow2_layout *layout);
/* The cluster size, and how long the file is when all of the disk is stored in it. The options that do not change this
 * are not looked at. */
int layout_measure(const struct img_create_options *options, uint64_t size, uint64_t *cluster_size,
                   uint64_t *file_length, struct img_error *err);

/* Writes all of it (create.c): `file` as output.h gives it, `data` the external data file or NULL. A block device gets
 * its header last, behind a barrier. Durable after the caller's flush. */
int layout_write(struct qcow2_layout *layout, struct storage *file, struct storage *data, struct img_error *err);

#endif
