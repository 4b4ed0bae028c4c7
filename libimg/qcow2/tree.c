/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tree.c - walks over L1 and L2 tables in the file (tree.h).
 *
 * A snapshot's tables are looked at by nobody until they are needed, so nothing in them is believed: an entry that
 * names a place outside the file ends the walk with a sentence. As no table may be named twice, a walk reads no more
 * than the file holds, whatever L1 says.
 */
#include "tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint64_t file_clusters(const struct qcow2 *q) {
    return (storage_size(q->file) + q->cluster_size - 1) >> q->cluster_bits;
}

int tree_names(const struct qcow2 *q, const be64 *table, uint64_t index, struct tree_names *n, struct img_error *err) {
    uint64_t word = get64(table[index * q->words]);
    *n = (struct tree_names){0};
    if (q->external)
        return 0;
    if (word & QCOW2_COMPRESSED) {
        compressed_clusters(q, word, &n->first, &n->count);
    } else if (word & QCOW2_OFFSET_MASK) {
        n->first = cluster_index(q, word & QCOW2_OFFSET_MASK);
        n->count = 1;
        n->standard = true;
        n->own = word & QCOW2_COPIED;
        if (in_cluster(q, word & QCOW2_OFFSET_MASK))
            return img_fail(err, -EIO, "an L2 entry of '%s' (0x%llx) names a host cluster that is not aligned",
                            q->image->path, (unsigned long long)word);
    }
    if (n->count && (n->first == 0 || n->first + n->count > file_clusters(q)))
        return img_fail(err, -EIO, "an L2 entry of '%s' (0x%llx) names a host cluster outside the file", q->image->path,
                        (unsigned long long)word);
    return 0;
}

/* ---- L1 ---- */

static int compare_offsets(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

int tree_check_entry(struct qcow2 *q, uint64_t index, uint64_t entry, struct img_error *err) {
    uint64_t table = entry & QCOW2_OFFSET_MASK;
    const char *fault = NULL;
    if (entry & QCOW2_L1_RESERVED)
        fault = "has reserved bits set";
    else if (!table || in_cluster(q, table))
        fault = "is not the place of a cluster";
    else if (table + q->cluster_size > storage_size(q->file))
        fault = "names a table outside the file";
    return fault ? img_fail(err, -EIO, "L1 entry %llu of '%s' (0x%llx) %s", (unsigned long long)index, q->image->path,
                            (unsigned long long)entry, fault)
                 : 0;
}

/* Tables that are named twice would be counted, and walked, twice. */
static int check_unique(struct qcow2 *q, const be64 *l1, uint64_t entries, struct img_error *err) {
    uint64_t *offsets = malloc((entries + 1) * sizeof *offsets), n = 0;
    int r = 0;
    if (!offsets)
        return img_fail(err, -ENOMEM, "no memory for an L1 table of '%s'", q->image->path);
    for (uint64_t i = 0; i < entries; i++)
        if (l1[i].raw)
            offsets[n++] = get64(l1[i]) & QCOW2_OFFSET_MASK;
    qsort(offsets, n, sizeof *offsets, compare_offsets);
    for (uint64_t i = 1; r == 0 && i < n; i++)
        if (offsets[i] == offsets[i - 1])
            r = img_fail(err, -EIO, "two L1 entries of '%s' name the same L2 table at 0x%llx", q->image->path,
                         (unsigned long long)offsets[i]);
    free(offsets);
    return r;
}

int tree_read_l1(struct qcow2 *q, const struct tree *t, be64 **out, struct img_error *err) {
    size_t bytes = (size_t)t->entries * 8;
    be64 *l1 = calloc(bytes ? bytes : 8, 1);
    *out = NULL;
    if (!l1)
        return img_fail(err, -ENOMEM, "no memory for an L1 table of %zu bytes", bytes);
    int r = bytes ? storage_read(q->file, l1, bytes, t->l1_offset) : 0;
    if (r < 0)
        img_fail_errno(err, r, "could not read the L1 table at 0x%llx of '%s'", (unsigned long long)t->l1_offset,
                       q->image->path);
    for (uint64_t i = 0; r == 0 && i < t->entries; i++)
        if (l1[i].raw)
            r = tree_check_entry(q, i, get64(l1[i]), err);
    if (r == 0)
        r = check_unique(q, l1, t->entries, err);
    if (r < 0)
        free(l1);
    else
        *out = l1;
    return r;
}

/* ---- L2 ---- */

/* What the host says about the place is kept: to ask again for each neighbour can be dear. */
static bool in_hole(struct tree_reader *t, uint64_t host) {
    struct storage *file = t->q->file;
    if (host < t->start || host >= t->end) {
        uint64_t rest = storage_size(file) - host;
        struct storage_extent e = {.length = rest};
        if (file->ops->extent(file, host, rest, &e) < 0 || !e.length)
            e = (struct storage_extent){.length = rest};
        t->start = host;
        t->end = host + e.length;
        t->zero = e.zero;
    }
    return t->zero && t->end - host >= t->q->cluster_size;
}

int tree_read_table(struct tree_reader *t, uint64_t host, be64 *table, struct img_error *err) {
    struct qcow2 *q = t->q;
    if (in_hole(t, host)) {
        memset(table, 0, q->cluster_size);
        return 0;
    }
    int r = storage_read(q->file, table, q->cluster_size, host);
    return r < 0 ? img_fail_errno(err, r, "could not read the L2 table at 0x%llx of '%s'", (unsigned long long)host,
                                  q->image->path)
                 : 0;
}

int tree_walk(struct qcow2 *q, const struct tree *t, tree_visit visit, void *opaque, struct img_error *err) {
    struct tree_reader reader = {.q = q};
    be64 *l1 = NULL, *table = malloc(q->cluster_size);
    int r = table ? tree_read_l1(q, t, &l1, err) : img_fail(err, -ENOMEM, "no memory for an L2 table");
    if (r < 0) {
        free(table);
        return r;
    }
    for (uint64_t i = 0; r >= 0 && i < t->entries; i++) {
        if (!l1[i].raw)
            continue;
        r = tree_read_table(&reader, get64(l1[i]) & QCOW2_OFFSET_MASK, table, err);
        if (r == 0)
            r = visit(opaque, i, get64(l1[i]), table);
    }
    free(l1);
    free(table);
    return r < 0 ? r : 0;
}
