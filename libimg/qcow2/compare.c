/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* compare.c - the refcount table and its blocks, and how they compare with the references.
 *
 * Blocks are read in the order of the clusters that they describe, beside the sorted leaves of the counters; where a
 * block is a hole or missing only the leaves are looked at. A block that cannot be used (outside the file, not aligned,
 * on other metadata, named twice) counts as missing. Counts behind the end of the file mean nothing and are not looked
 * at.
 */
#include "scan.h"

#include <string.h>

/* ---- single counts in a block ---------------------------------------------------------------------- */

uint64_t blockcount_get(const uint8_t *block, unsigned order, uint64_t index) {
    if (order < 3) {
        unsigned width = 1u << order, per_byte = 8 / width;
        return (block[index / per_byte] >> (index % per_byte * width)) & ((1u << width) - 1);
    }
    uint64_t count = 0;
    const uint8_t *p = block + (index << (order - 3));
    for (unsigned i = 0; i < 1u << (order - 3); i++)
        count = count << 8 | p[i];
    return count;
}

void blockcount_set(uint8_t *block, unsigned order, uint64_t index, uint64_t count) {
    if (order < 3) {
        unsigned width = 1u << order, per_byte = 8 / width, shift = index % per_byte * width;
        uint8_t mask = ((1u << width) - 1) << shift;
        block[index / per_byte] = (block[index / per_byte] & ~mask) | (uint8_t)(count << shift);
        return;
    }
    uint8_t *p = block + (index << (order - 3));
    for (unsigned i = 1u << (order - 3); i-- > 0; count >>= 8)
        p[i] = count;
}

/* ---- the refcount table -------------------------------------------------------------------------------- */

static uint64_t usable_block(struct scan *s, uint64_t entry, size_t i) {
    uint64_t offset = entry & ~QCOW2_REFTABLE_RESERVED;
    const char *fault = NULL;
    if (!entry)
        return 0;
    if (entry & QCOW2_REFTABLE_RESERVED)
        scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0, "ERROR refcount table entry %zu has reserved bits set",
                   i);
    else if (offset & (s->cluster_size - 1))
        fault = "is not cluster aligned; refcount table entry corrupted";
    else if (offset >= s->file_size)
        fault = "is outside image";
    else if (offset + s->cluster_size > s->file_size)
        fault = "is cut off by the end of the file";
    else
        return offset;
    if (fault)
        scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0, "ERROR refcount block %zu %s", i, fault);
    s->refcounts_broken = true;
    return 0;
}

/* Reads the table in memory; entries that nothing can be read from become 0. */
int scan_refcount_table(struct scan *s) {
    const struct qcow2_header *h = s->header;
    uint64_t start = h->refcount_table_offset, length = (uint64_t)h->refcount_table_clusters << s->cluster_bits, end;
    if (!length || start & (s->cluster_size - 1) || start >= s->file_size || length > QCOW2_MAX_REFCOUNT_TABLE_BYTES ||
        __builtin_add_overflow(start, length, &end) || end > s->file_size) {
        if (!s->without_refcounts)
            scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0,
                       "ERROR refcount_table_offset=0x%llx refcount_table_clusters=%u: the table lies outside the file",
                       (unsigned long long)start, h->refcount_table_clusters);
        s->refcounts_broken = true;
        return 0;
    }
    s->nreftable = length / 8;
    s->reftable = calloc(s->nreftable + 1, sizeof *s->reftable);
    if (!s->reftable)
        return -ENOMEM;
    size_t piece;
    for (uint64_t at = start; scan_next_data(s, &at, end, &piece), piece; at += piece) {
        const void *raw;
        int code = scan_read(s, at, piece, &raw);
        if (code == -ENOMEM)
            return code;
        if (code)
            continue;
        const be64 *entry = raw;
        size_t first = (at - start) / 8;
        for (size_t i = 0; i < piece / 8; i++)
            s->reftable[first + i] = get64(entry[i]);
    }
    return 0;
}

int scan_refcount_blocks(struct scan *s) {
    const struct qcow2_header *h = s->header;
    uint64_t length = (uint64_t)s->nreftable * 8;
    if (s->without_refcounts) {
        /* They stay where they are until the new ones are named. */
        if (s->nreftable && s->named_end < h->refcount_table_offset + length)
            s->named_end = h->refcount_table_offset + length;
        for (size_t i = 0; i < s->nreftable; i++) {
            uint64_t offset = s->reftable[i] & ~(s->cluster_size - 1);
            if (offset < s->file_size && s->named_end < offset + s->cluster_size)
                s->named_end = offset + s->cluster_size;
        }
        return 0;
    }
    size_t overlaps = s->overlaps.n;
    int code = scan_meta(s, KIND_REFCOUNT_TABLE, h->refcount_table_offset, length, 1, 0);
    for (size_t i = 0; i < s->nreftable && !code; i++) {
        uint64_t offset = s->reftable[i] = usable_block(s, s->reftable[i], i);
        if (!offset)
            continue;
        /* A block on other metadata, another block for one, describes nothing. */
        if (counts_marks(&s->counts, offset >> s->cluster_bits) & COUNT_META)
            s->reftable[i] = 0;
        size_t before = s->overlaps.n;
        code = scan_meta(s, KIND_REFCOUNT_BLOCK, offset, s->cluster_size, 1, 0);
        if (!code && s->overlaps.n > before)
            scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0, "ERROR refcount block %zu refcount=%llu", i,
                       (unsigned long long)counts_get(&s->counts, offset >> s->cluster_bits));
    }
    if (s->overlaps.n > overlaps)
        s->refcounts_broken = true;
    return code;
}

/* ---- side by side ------------------------------------------------------------------------------------------- */

struct comparison {
    struct scan *s;
    scan_differs differs;
    void *opaque;
    uint64_t *leaves; /* sorted */
    size_t nleaves, next;
    uint64_t highest; /* cluster in use; UINT64_MAX: none */
};

static int compare_cluster(struct comparison *m, uint64_t cluster, uint64_t on_disk, uint16_t cell) {
    struct scan *s = m->s;
    uint64_t references = counts_cell(&s->counts, cell, cluster);
    if (on_disk | references)
        m->highest = cluster;
    if (references > s->max_count)
        s->max_count = references;
    if (cell & COUNT_COPIED) {
        s->flags_clear |= references != 1;
        s->flags_differ |= on_disk != 1;
    }
    if (cell & COUNT_PLAIN) {
        s->flags_set |= references == 1;
        s->flags_differ |= on_disk == 1;
    }
    if (on_disk == references)
        return 0;
    s->counts_wrong = true;
    return m->differs ? m->differs(s, m->opaque, cluster, on_disk, references) : 0;
}

/* Up to a leaf's clusters. `block`: the counts from `index` on, NULL: all zero. `leaf`: NULL: no references. */
static int compare_group(struct comparison *m, uint64_t first, uint64_t n, const uint8_t *block, uint64_t index,
                         const uint16_t *leaf) {
    unsigned order = m->s->header->refcount_order;
    int code = 0;
    for (uint64_t i = 0; i < n && !code; i++) {
        uint64_t on_disk = block ? blockcount_get(block, order, index + i) : 0;
        uint16_t cell = leaf ? leaf[i] : 0;
        if (on_disk | cell)
            code = compare_cluster(m, first + i, on_disk, cell);
    }
    return code;
}

/* Leaves in [first, end) without counts on disk. */
static int compare_absent(struct comparison *m, uint64_t end, bool covered) {
    int code = 0;
    while (!code && m->next < m->nleaves && m->leaves[m->next] << COUNT_LEAF_BITS < end) {
        uint64_t first = m->leaves[m->next++] << COUNT_LEAF_BITS;
        uint64_t n = m->s->clusters - first < COUNT_LEAF ? m->s->clusters - first : COUNT_LEAF;
        if (!covered)
            m->s->uncovered = true;
        code = compare_group(m, first, n, NULL, 0, counts_leaf(&m->s->counts, first));
    }
    return code;
}

/* The counts of [first, first + n) as they lie in `raw`. */
static int compare_piece(struct comparison *m, uint64_t first, uint64_t n, const uint8_t *raw) {
    unsigned order = m->s->header->refcount_order;
    const size_t group_bytes = (size_t)COUNT_LEAF << order >> 3;
    int code = 0;
    for (uint64_t i = 0; i < n && !code; i += COUNT_LEAF) {
        uint64_t cluster = first + i, count = n - i < COUNT_LEAF ? n - i : COUNT_LEAF;
        bool referenced = m->next < m->nleaves && m->leaves[m->next] == cluster >> COUNT_LEAF_BITS;
        const uint8_t *group = raw + i / COUNT_LEAF * group_bytes;
        m->next += referenced;
        if (referenced || !img_is_zero(group, group_bytes))
            code = compare_group(m, cluster, count, group, 0, referenced ? counts_leaf(&m->s->counts, cluster) : NULL);
    }
    return code;
}

static int compare_block(struct comparison *m, uint64_t offset, uint64_t first, uint64_t end) {
    struct scan *s = m->s;
    unsigned order = s->header->refcount_order;
    uint64_t bytes = ((end - first) + (COUNT_LEAF - 1)) / COUNT_LEAF * COUNT_LEAF << order >> 3;
    size_t length;
    for (uint64_t at = offset; scan_next_data(s, &at, offset + bytes, &length), length; at += length) {
        uint64_t from = first + ((at - offset) << 3 >> order), to = first + ((at + length - offset) << 3 >> order);
        int code = compare_absent(m, from, true);
        const void *raw;
        if (code)
            return code;
        code = scan_read(s, at, length, &raw);
        if (code == -ENOMEM)
            return code;
        if (code) {
            /* Unknown, which is neither right nor wrong. */
            while (m->next < m->nleaves && m->leaves[m->next] << COUNT_LEAF_BITS < to)
                m->next++;
            continue;
        }
        code = compare_piece(m, from, (to < end ? to : end) - from, raw);
        if (code)
            return code;
    }
    return compare_absent(m, end, true);
}

int scan_compare(struct scan *s, scan_differs differs, void *opaque) {
    struct comparison m = {.s = s, .differs = differs, .opaque = opaque, .highest = UINT64_MAX};
    int code = counts_leaves(&s->counts, &m.leaves, &m.nleaves);
    if (code)
        return code;
    uint64_t per_block = scan_block_clusters(s);
    size_t blocks = s->without_refcounts ? 0 : s->nreftable;
    if (!blocks)
        m.differs = NULL; /* nothing to compare with, which has been reported */
    for (size_t i = 0; i < blocks && !code && i * per_block < s->clusters; i++) {
        uint64_t first = i * per_block, end = s->clusters - first < per_block ? s->clusters : first + per_block;
        code = s->reftable[i] ? compare_block(&m, s->reftable[i], first, end) : compare_absent(&m, end, false);
        scan_progress(s, 1);
    }
    if (!code)
        code = compare_absent(&m, s->clusters, false);
    s->result.image_end_offset = m.highest == UINT64_MAX ? 0 : (m.highest + 1) << s->cluster_bits;
    if (s->done < s->total)
        scan_progress(s, s->total - s->done);
    free(m.leaves);
    return code;
}

/* ---- single lookups ---------------------------------------------------------------------------------------- */

enum { RC_PIECE = 512, RC_SLOTS = 4096 };

struct rc_cache {
    uint64_t tag[RC_SLOTS]; /* host offset of the piece + 1; 0: empty */
    uint8_t data[RC_SLOTS][RC_PIECE];
};

void scan_refcounts_forget(struct scan *s) {
    free(s->rc_cache);
    s->rc_cache = NULL;
}

int scan_refcount(struct scan *s, uint64_t cluster, uint64_t *count) {
    *count = 0;
    uint64_t per_block = scan_block_clusters(s), block = cluster / per_block;
    if (cluster >= s->clusters || block >= s->nreftable || !s->reftable[block])
        return 0;
    if (!s->rc_cache) {
        s->rc_cache = calloc(1, sizeof *s->rc_cache);
        if (!s->rc_cache)
            return -ENOMEM;
    }
    unsigned order = s->header->refcount_order;
    uint64_t index = cluster % per_block, per_piece = (uint64_t)RC_PIECE * 8 >> order;
    uint64_t at = s->reftable[block] + index / per_piece * RC_PIECE;
    size_t slot = at / RC_PIECE % RC_SLOTS;
    if (s->rc_cache->tag[slot] != at + 1) {
        s->rc_cache->tag[slot] = 0;
        int code = storage_read(s->file, s->rc_cache->data[slot], RC_PIECE, at);
        if (code)
            return code;
        s->rc_cache->tag[slot] = at + 1;
    }
    *count = blockcount_get(s->rc_cache->data[slot], order, index % per_piece);
    return 0;
}
