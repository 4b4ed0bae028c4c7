/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* walk.c - L1 tables, then each distinct L2 table once.
 *
 * All L1 tables (the active one and the snapshots') are swept as host ranges, and every entry adds to the record of the
 * table that it names. The L2 tables are then read in the order in which they lie in the file, each once, and what they
 * name is counted with the number of L1 entries that lead there. So four million L1 entries that name one table cost
 * four million additions, not four million tables.
 *
 * The loop over L2 entries knows two kinds: plain ones, which have nothing unusual in them and are gathered into runs
 * of neighbouring host clusters, and all others, which scan_l2_faults judges.
 */
#include "scan.h"

#include <string.h>

/* ---- the tables that L1 entries name ---------------------------------------------------------------- */

static struct scan_table *hash_slot(struct scan_table *tables, size_t mask, uint64_t offset) {
    uint64_t key = (offset >> 9) * 0x9e3779b97f4a7c15ull;
    size_t i = (key ^ key >> 32) & mask;
    while (tables[i].offset && tables[i].offset != offset)
        i = (i + 1) & mask;
    return &tables[i];
}

static struct scan_table *add_table(struct scan *s, uint64_t offset) {
    if (!s->tables || (s->ntables + 1) * 4 > (s->tables_mask + 1) * 3) {
        size_t mask = s->tables ? s->tables_mask * 2 + 1 : 63;
        struct scan_table *larger = calloc(mask + 1, sizeof *larger);
        if (!larger)
            return NULL;
        for (size_t i = 0; s->tables && i <= s->tables_mask; i++)
            if (s->tables[i].offset)
                *hash_slot(larger, mask, s->tables[i].offset) = s->tables[i];
        free(s->tables);
        s->tables = larger;
        s->tables_mask = mask;
    }
    struct scan_table *t = hash_slot(s->tables, s->tables_mask, offset);
    if (!t->offset) {
        *t = (struct scan_table){.offset = offset, .first_l1 = UINT32_MAX};
        s->ntables++;
    }
    return t;
}

static int compare_tables(const void *a, const void *b) {
    const struct scan_table *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static void sort_tables(struct scan *s) {
    size_t n = 0;
    for (size_t i = 0; s->tables && i <= s->tables_mask; i++)
        if (s->tables[i].offset)
            s->tables[n++] = s->tables[i];
    if (n)
        qsort(s->tables, n, sizeof *s->tables, compare_tables);
}

struct scan_table *scan_find_table(const struct scan *s, uint64_t offset) {
    struct scan_table key = {.offset = offset};
    return s->ntables ? bsearch(&key, s->tables, s->ntables, sizeof key, compare_tables) : NULL;
}

/* ---- L1 ------------------------------------------------------------------------------------------------ */

unsigned scan_l1_faults(const struct scan *s, uint64_t entry) {
    unsigned faults = entry & QCOW2_L1_RESERVED ? FAULT_RESERVED : 0;
    uint64_t offset = entry & QCOW2_OFFSET_MASK;
    if (!offset)
        return faults | FAULT_OVERLAP; /* cluster 0 is the header; no table is an entry of 0 */
    if (offset & (s->cluster_size - 1))
        return faults | FAULT_MISALIGNED;
    return offset >= s->file_size ? faults | FAULT_PAST_END : faults;
}

static void report_l1(struct scan *s, uint64_t entry, unsigned faults, uint64_t active_index) {
    uint64_t guest = SCAN_NO_GUEST, length = s->cluster_size << s->l2_bits;
    if (active_index != UINT64_MAX && s->header->size && active_index <= (s->header->size - 1) / length)
        guest = active_index * length;
    if (guest != SCAN_NO_GUEST && length > s->header->size - guest)
        length = s->header->size - guest;
    unsigned long long offset = entry & QCOW2_OFFSET_MASK;
    if (faults & FAULT_RESERVED)
        scan_found(s, IMG_FINDING_CORRUPTION, guest, length, "ERROR found L1 entry with reserved bits set: %llx",
                   (unsigned long long)entry);
    if (faults & FAULT_MISALIGNED)
        scan_found(s, IMG_FINDING_CORRUPTION, guest, length,
                   "ERROR l2_offset=%llx: Table is not cluster aligned; L1 entry corrupted", offset);
    else if (faults & FAULT_OVERLAP)
        scan_found(s, IMG_FINDING_CORRUPTION, guest, length, "ERROR l1_entry=%llx: names the header as its L2 table",
                   (unsigned long long)entry);
    else if (faults & FAULT_PAST_END)
        scan_found(s, IMG_FINDING_CORRUPTION, guest, length, SCAN_PAST_END, offset,
                   (unsigned long long)s->cluster_size);
    else if (offset + s->cluster_size > s->file_size)
        scan_found(s, IMG_FINDING_CORRUPTION, guest, length,
                   "ERROR l2_offset=0x%llx: L2 table is cut off by the end of the file", offset);
    s->entries_wrong = true;
    if (faults & FAULT_LOST || offset + s->cluster_size > s->file_size)
        s->hidden = true;
}

static int add_l1_entry(struct scan *s, uint64_t entry, uint64_t host, const struct scan_range *range) {
    uint64_t index = range->active ? (host - s->header->l1_offset) / 8 : UINT64_MAX;
    uint64_t offset = entry & QCOW2_OFFSET_MASK;
    unsigned faults = scan_l1_faults(s, entry);
    bool cut = !faults && offset + s->cluster_size > s->file_size;
    if (faults || cut) {
        report_l1(s, entry, faults, index);
        if (range->weight > range->active && scan_push(&s->bad_l1, host))
            return -ENOMEM;
        if (cut && s->cut_end < offset + s->cluster_size)
            s->cut_end = offset + s->cluster_size;
    }
    if (!offset || faults & FAULT_LOST)
        return 0;
    struct scan_table *t = add_table(s, offset);
    if (!t)
        return -ENOMEM;
    if (__builtin_add_overflow(t->refs, range->weight, &t->refs))
        t->refs = UINT64_MAX;
    if (range->active) {
        t->active += t->active < UINT32_MAX;
        if (t->first_l1 > index)
            t->first_l1 = index;
        t->flags |= entry & QCOW2_COPIED ? TABLE_COPIED : TABLE_PLAIN;
    }
    return 0;
}

static int add_l1_range(struct scan *s, const struct scan_range *range) {
    size_t length;
    for (uint64_t at = range->start; scan_next_data(s, &at, range->end, &length), length; at += length) {
        const void *raw;
        int code = scan_read(s, at, length, &raw);
        if (code == -ENOMEM)
            return code;
        if (code)
            continue;
        const be64 *entry = raw;
        for (size_t i = 0; i < length / 8; i++)
            if (entry[i].raw && add_l1_entry(s, get64(entry[i]), at + i * 8, range))
                return -ENOMEM;
    }
    return 0;
}

int scan_l1_tables(struct scan *s) {
    for (size_t i = 0; i < s->l1s.n; i++)
        if (add_l1_range(s, &s->l1s.list[i]))
            return -ENOMEM;
    sort_tables(s);
    return 0;
}

/* ---- what an L2 entry says ------------------------------------------------------------------------------ */

void scan_host(const struct scan *s, struct scan_entry e, uint64_t *first, uint64_t *n) {
    *first = *n = 0;
    if (s->external)
        return;
    if (e.word & QCOW2_COMPRESSED) {
        uint64_t offset = qcow2_compressed_offset(e.word, s->cluster_bits);
        uint64_t last = offset + qcow2_compressed_bytes(e.word, s->cluster_bits) - 1;
        *first = offset >> s->cluster_bits;
        *n = (last >> s->cluster_bits) - *first + 1;
    } else if (e.word & QCOW2_OFFSET_MASK) {
        *first = (e.word & QCOW2_OFFSET_MASK) >> s->cluster_bits;
        *n = 1;
    }
}

static unsigned compressed_faults(const struct scan *s, struct scan_entry e) {
    if (s->external)
        return FAULT_EXTERNAL;
    unsigned faults = e.word & QCOW2_COPIED ? FAULT_COPIED : 0;
    if (e.bitmap)
        faults |= FAULT_COMPRESSED_BITMAP;
    uint64_t offset = qcow2_compressed_offset(e.word, s->cluster_bits), first, n;
    scan_host(s, e, &first, &n);
    if (offset >= s->file_size)
        return faults | FAULT_PAST_END;
    return first + n > s->clusters ? faults | FAULT_LONG : faults;
}

unsigned scan_l2_faults(const struct scan *s, struct scan_entry e, uint64_t guest) {
    if (e.word & QCOW2_COMPRESSED)
        return compressed_faults(s, e);
    unsigned faults = e.word & QCOW2_L2_RESERVED ? FAULT_RESERVED : 0;
    if ((e.word & QCOW2_ZERO) && (!s->v3 || s->extended))
        faults |= FAULT_ZERO_FLAG;
    if ((uint32_t)e.bitmap & (uint32_t)(e.bitmap >> 32))
        faults |= FAULT_BOTH;
    if (!scan_is_standard(s, e))
        return (uint32_t)e.bitmap ? faults | FAULT_NO_HOST : faults;
    uint64_t offset = e.word & QCOW2_OFFSET_MASK;
    if (s->external && guest != SCAN_NO_GUEST && offset != guest)
        return faults | FAULT_DISPLACED;
    if (offset & (s->cluster_size - 1))
        return faults | FAULT_MISALIGNED;
    return offset >= (s->external ? s->data_size : s->file_size) ? faults | FAULT_PAST_END : faults;
}

uint64_t scan_guest(const struct scan *s, const struct scan_table *t, uint64_t index, uint64_t *length) {
    *length = 0;
    if (!t->active)
        return SCAN_NO_GUEST;
    uint64_t cluster = ((uint64_t)t->first_l1 << s->l2_bits) + index;
    if (!s->header->size || cluster > (s->header->size - 1) >> s->cluster_bits)
        return SCAN_NO_GUEST;
    uint64_t guest = cluster << s->cluster_bits;
    *length = s->header->size - guest < s->cluster_size ? s->header->size - guest : s->cluster_size;
    return guest;
}

static void report_l2(struct scan *s, const struct scan_table *t, uint64_t index, struct scan_entry e,
                      unsigned faults) {
    uint64_t length, guest = scan_guest(s, t, index, &length);
    unsigned long long word = e.word, offset = word & QCOW2_OFFSET_MASK;
    bool compressed = word & QCOW2_COMPRESSED;
    if (compressed)
        offset = qcow2_compressed_offset(word, s->cluster_bits);
#define FOUND(...) scan_found(s, IMG_FINDING_CORRUPTION, guest, length, __VA_ARGS__)
    if (faults & FAULT_RESERVED)
        FOUND("ERROR found l2 entry with reserved bits set: %llx", word);
    if (faults & FAULT_ZERO_FLAG)
        FOUND("ERROR l2_entry=0x%llx: bit 0 is reserved %s", word,
              s->extended ? "with extended L2 entries" : "in version 2");
    if (faults & FAULT_COPIED)
        FOUND("ERROR: coffset=0x%llx: copied flag must never be set for compressed clusters", offset);
    if (faults & FAULT_EXTERNAL)
        FOUND("ERROR compressed cluster %llu with data file, entry=0x%llx", offset >> s->cluster_bits, word);
    if (faults & FAULT_COMPRESSED_BITMAP)
        FOUND("ERROR compressed cluster %llu with non-zero subcluster allocation bitmap, entry=0x%llx",
              offset >> s->cluster_bits, word);
    if (faults & FAULT_BOTH)
        FOUND("ERROR offset=%llx: Allocated cluster has corrupted subcluster allocation bitmap", offset);
    if (faults & FAULT_NO_HOST)
        FOUND("ERROR: Unallocated cluster has non-zero subcluster allocation map");
    if (faults & FAULT_MISALIGNED)
        FOUND("ERROR offset=%llx: %s cluster is not properly aligned; L2 entry corrupted.", offset,
              word & QCOW2_ZERO ? "Preallocated" : "Data");
    if (faults & FAULT_DISPLACED)
        FOUND("ERROR offset=0x%llx: data file offset differs from the guest offset 0x%llx", offset,
              (unsigned long long)guest);
    if (faults & FAULT_PAST_END && s->external)
        FOUND("ERROR offset=0x%llx: the data file ends at 0x%llx", offset, (unsigned long long)s->data_size);
    else if (faults & (FAULT_PAST_END | FAULT_LONG))
        FOUND(SCAN_PAST_END, offset,
              (unsigned long long)(compressed ? qcow2_compressed_bytes(word, s->cluster_bits) : s->cluster_size));
#undef FOUND
}

/* ---- the walk over L2 tables ------------------------------------------------------------------------------ */

struct walk {
    struct scan *s;
    struct scan_table *t;
    uint64_t expect; /* the entry, but for its zero flag, that continues the run */
    uint64_t run;    /* clusters in it */
    uint64_t next;   /* host offset at which an unfragmented table goes on; 0: no data yet */
    uint64_t allocated, fragmented, compressed;
    uint32_t usual; /* entries without anything unusual */
};

static int end_run(struct walk *w) {
    uint64_t n = w->run;
    if (!n)
        return 0;
    w->run = 0;
    uint64_t end = (w->expect & QCOW2_OFFSET_MASK) >> w->s->cluster_bits;
    unsigned mark = w->expect & QCOW2_COPIED ? COUNT_COPIED : COUNT_PLAIN;
    return scan_data(w->s, end - n, n, w->t->refs, w->t->active ? mark : 0);
}

/* QEMU's measure: a cluster that does not follow the one before in the same table. */
static inline void note_place(struct walk *w, uint64_t offset) {
    w->allocated++;
    w->fragmented += w->next && w->next != offset;
    w->next = offset + w->s->cluster_size;
}

static int walk_unusual(struct walk *w, struct scan_entry e, uint64_t index) {
    struct scan *s = w->s;
    struct scan_table *t = w->t;
    uint64_t length, guest = scan_guest(s, t, index, &length);
    unsigned faults = scan_l2_faults(s, e, guest);
    if (faults) {
        report_l2(s, t, index, e, faults);
        t->faulty++;
        s->entries_wrong = true;
        s->hidden |= faults & FAULT_LOST;
    }
    bool compressed = e.word & QCOW2_COMPRESSED;
    t->entries++;
    if (!compressed && !scan_is_standard(s, e))
        return 0;
    if (compressed && !(faults & FAULT_EXTERNAL)) {
        w->allocated++;
        w->compressed++;
        w->fragmented++;
    } else if (!compressed && !(faults & FAULT_MISALIGNED)) {
        note_place(w, e.word & QCOW2_OFFSET_MASK);
    }
    if (s->external && !compressed && t->active && !(e.word & QCOW2_COPIED))
        s->flags_set = s->flags_differ = true;
    if (s->external || faults & FAULT_LOST)
        return 0;
    uint64_t first, n;
    scan_host(s, e, &first, &n);
    if (first + n > s->clusters)
        n = s->clusters - first;
    unsigned mark = e.word & QCOW2_COPIED ? COUNT_COPIED : COUNT_PLAIN;
    return scan_data(s, first, n, t->refs, t->active && !compressed ? mark : 0);
}

static int walk_standard(struct walk *w, const be64 *entry, uint64_t index, size_t n) {
    const uint64_t slow = w->s->l2_slow, file_size = w->s->file_size, cluster_size = w->s->cluster_size;
    int code = 0;
    for (size_t i = 0; i < n && !code; i++) {
        uint64_t e = get64(entry[i]), offset = e & QCOW2_OFFSET_MASK;
        if (e & slow || offset >= file_size) {
            code = end_run(w);
            if (!code)
                code = walk_unusual(w, (struct scan_entry){e, 0}, index + i);
            continue;
        }
        if (!offset)
            continue;
        note_place(w, offset);
        w->usual++;
        e &= ~QCOW2_ZERO;
        if (e != w->expect || !w->run)
            code = end_run(w);
        w->expect = e + cluster_size;
        w->run++;
    }
    return code;
}

static int walk_extended(struct walk *w, const be64 *entry, uint64_t index, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct scan_entry e = {get64(entry[2 * i]), get64(entry[2 * i + 1])};
        int code = e.word | e.bitmap ? walk_unusual(w, e, index + i) : 0;
        if (code)
            return code;
    }
    return 0;
}

static int walk_table(struct scan *s, struct scan_table *t) {
    struct walk w = {.s = s, .t = t};
    int code = 0;
    size_t length, entry_size = s->words * 8;
    for (uint64_t at = t->offset; scan_next_data(s, &at, t->offset + s->cluster_size, &length), length; at += length) {
        const void *raw;
        code = scan_read(s, at, length, &raw);
        if (code == -ENOMEM)
            return code;
        if (code)
            continue;
        uint64_t index = (at - t->offset) / entry_size;
        code = s->extended ? walk_extended(&w, raw, index, length / entry_size)
                           : walk_standard(&w, raw, index, length / entry_size);
        if (code)
            return code;
    }
    t->entries += w.usual;
    s->result.allocated_clusters += w.allocated * t->active;
    s->result.fragmented_clusters += w.fragmented * t->active;
    s->result.compressed_clusters += w.compressed * t->active;
    return end_run(&w);
}

int scan_l2_tables(struct scan *s) {
    for (size_t i = 0; i < s->ntables; i++) {
        struct scan_table *t = &s->tables[i];
        int code = walk_table(s, t);
        if (code)
            return code;
        if (s->external && t->active > 1) {
            scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0,
                       "ERROR l2_offset=0x%llx: %u L1 entries name one L2 table of an image with a data file",
                       (unsigned long long)t->offset, t->active);
            s->entries_wrong = true;
        }
        scan_progress(s, 1);
    }
    return 0;
}
