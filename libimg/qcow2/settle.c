/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* settle.c - repair of entries: those that name nothing valid, and COPIED flags.
 *
 * The rule is to keep what may still be right. Reserved bits are cleared and the rest of the entry stays. An entry is
 * lost only when its cluster cannot exist, or is metadata beyond doubt. What is "beyond doubt" where two owners claim a
 * cluster:
 *
 *   - The refcount structure never wins: a new one is written elsewhere.
 *   - What the header names, snapshots' L1 tables and bitmap tables win against an L2 table, and all of them against
 * data.
 *   - An "L2 table" that shares its cluster and holds impossible entries is no L2 table: the L1 entry is lost, the data
 *     stays. The same for a snapshot's L1 table.
 *
 * Entries are changed in place; each lies in one sector, and one that is lost names nothing that exists, so no order
 * among them matters.
 */
#include "scan.h"

#include <string.h>

/* ---- a piece of a table being edited ---------------------------------------------------------------- */

struct edit {
    struct scan *s;
    uint8_t *data; /* SCAN_WINDOW */
    uint64_t at;
    size_t length, low, high; /* bytes [low, high) have changed */
    bool *wrote;
    struct img_error *err;
    bool any;
};

static int edit_load(struct edit *e, uint64_t at, size_t length) {
    e->at = at;
    e->length = length;
    e->low = length;
    e->high = 0;
    int code = storage_read(e->s->file, e->data, length, at);
    if (code)
        return img_fail_errno(e->err, code, "Could not read %zu bytes at offset 0x%llx", length,
                              (unsigned long long)at);
    return 0;
}

static int edit_store(struct edit *e) {
    if (e->low >= e->high)
        return 0;
    *e->wrote = e->any = true;
    int code = storage_write(e->s->file, e->data + e->low, e->high - e->low, e->at + e->low);
    if (code)
        return img_fail_errno(e->err, code, "Could not write %zu bytes at offset 0x%llx", e->high - e->low,
                              (unsigned long long)(e->at + e->low));
    return 0;
}

static be64 *edit_word(struct edit *e, size_t i) {
    return (be64 *)e->data + i;
}

static void edit_set(struct edit *e, size_t i, uint64_t value) {
    *edit_word(e, i) = put64(value);
    if (e->low > i * 8)
        e->low = i * 8;
    if (e->high < i * 8 + 8)
        e->high = i * 8 + 8;
}

static int edit_begin(struct edit *e, struct scan *s, bool *wrote, struct img_error *err) {
    *e = (struct edit){.s = s, .wrote = wrote, .err = err, .data = malloc(SCAN_WINDOW)};
    return e->data ? 0 : img_fail_errno(err, -ENOMEM, "Could not repair");
}

/* Goes over what is there of [start, end) and lets `change` edit it piece by piece. */
static int edit_range(struct edit *e, uint64_t start, uint64_t end, void (*change)(struct edit *e, const void *owner),
                      const void *owner) {
    size_t length;
    for (uint64_t at = start; scan_next_data(e->s, &at, end, &length), length; at += length) {
        int code = edit_load(e, at, length);
        if (code)
            return code;
        change(e, owner);
        code = edit_store(e);
        if (code)
            return code;
    }
    return 0;
}

/* ---- who wins ------------------------------------------------------------------------------------------ */

static bool is_refcounts(enum scan_kind kind) {
    return kind == KIND_REFCOUNT_TABLE || kind == KIND_REFCOUNT_BLOCK;
}

/* Half of what it holds is wrong: these are not L2 entries. */
static bool is_implausible(const struct scan_table *t) {
    return t->faulty && t->faulty >= t->entries / 2;
}

/* Marks the tables that are lost. Those that lie on something certain come first, alone: what such a "table" names may
 * be what makes others look overlapped. True: some were found. */
static bool judge_tables(struct scan *s, bool certain) {
    bool any = false;
    for (size_t i = 0; i < s->overlaps.n; i++) {
        const struct scan_overlap *o = &s->overlaps.list[i];
        struct scan_table *t = scan_find_table(s, o->cluster << s->cluster_bits);
        if (!t || !(certain ? o->kind != KIND_L2 && !is_refcounts(o->kind) : is_implausible(t)))
            continue;
        t->flags |= TABLE_LOST;
        any = true;
    }
    return any;
}

/* Data on this cluster is lost. */
static bool is_metadata(const struct scan *s, uint64_t cluster) {
    const struct scan_overlap *o = scan_overlap(s, cluster), *end = s->overlaps.list + s->overlaps.n;
    for (; o && o < end && o->cluster == cluster; o++) {
        if (is_refcounts(o->kind))
            continue;
        if (o->kind != KIND_L2)
            return true;
        const struct scan_table *t = scan_find_table(s, cluster << s->cluster_bits);
        if (!t || !(t->flags & TABLE_LOST))
            return true;
    }
    return false;
}

static bool has_bad_entry(const struct scan *s, uint64_t start, uint64_t end) {
    size_t low = 0, high = s->bad_l1.n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->bad_l1.list[middle] < start)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->bad_l1.n && s->bad_l1.list[low] < end;
}

/* A snapshot's L1 table that lies on what is certain, or that cannot be an L1 table. */
static bool l1_is_lost(const struct scan *s, const struct scan_snapshot *snap) {
    uint64_t start = snap->l1_offset, end = start + (uint64_t)snap->l1_size * 8;
    uint64_t first = start >> s->cluster_bits, last = (end - 1) >> s->cluster_bits;
    bool bad = has_bad_entry(s, start, end);
    size_t low = 0, high = s->overlaps.n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->overlaps.list[middle].cluster < first)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < s->overlaps.n && s->overlaps.list[low].cluster <= last; low++) {
        enum scan_kind kind = s->overlaps.list[low].kind;
        if (kind == KIND_SNAPSHOT_L1 ? bad : kind > KIND_SNAPSHOT_L1 && !is_refcounts(kind))
            return true;
    }
    return false;
}

static int compare_entries(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* True when snapshots or bitmaps are given up: then entries are judged by the next scan, without them. */
static int give_up_tables(struct scan *s, bool *again) {
    for (size_t i = 0; i < s->snapshots.n && s->overlaps.n; i++) {
        struct scan_snapshot *snap = &s->snapshots.list[i];
        if (snap->bad || snap->drop || !snap->l1_size || !l1_is_lost(s, snap))
            continue;
        if (scan_push(&s->dropped, snap->entry))
            return -ENOMEM;
        *again = true;
    }
    if (s->dropped.n)
        qsort(s->dropped.list, s->dropped.n, sizeof *s->dropped.list, compare_entries);
    for (size_t i = 0; i < s->overlaps.n; i++)
        s->bitmaps_wrong |=
            s->overlaps.list[i].kind == KIND_BITMAP_TABLE || s->overlaps.list[i].kind == KIND_BITMAP_DIRECTORY;
    if (s->bitmaps_wrong && s->header->autoclear & QCOW2_AUTOCLEAR_BITMAPS) {
        scan_tell(s, IMG_FINDING_REPAIR, SCAN_NO_GUEST, 0, "Repairing bitmaps: they cannot be read and are disowned");
        s->header->autoclear &= ~QCOW2_AUTOCLEAR_BITMAPS;
        *again = true;
    }
    return 0;
}

/* ---- entries --------------------------------------------------------------------------------------------- */

static void settle_l1(struct edit *e, const void *owner) {
    const struct scan_range *range = owner;
    struct scan *s = e->s;
    for (size_t i = 0; i < e->length / 8; i++) {
        uint64_t entry = get64(*edit_word(e, i)), offset = entry & QCOW2_OFFSET_MASK, host = e->at + i * 8;
        if (!entry)
            continue;
        unsigned faults = scan_l1_faults(s, entry);
        const struct scan_table *t = offset ? scan_find_table(s, offset) : NULL;
        bool lost = faults & FAULT_LOST || (t && t->flags & TABLE_LOST);
        if (s->file->fixed_size && offset && offset + s->cluster_size > s->file_size)
            lost = true;
        if (s->external && range->active && t && (host - s->header->l1_offset) / 8 != t->first_l1)
            lost = true;
        if (!lost && !(faults & FAULT_RESERVED))
            continue;
        scan_tell(s, IMG_FINDING_REPAIR, SCAN_NO_GUEST, 0, "Repairing L1 entry 0x%llx at offset 0x%llx: %s",
                  (unsigned long long)entry, (unsigned long long)host,
                  lost ? "its L2 table is lost, the range becomes unallocated" : "reserved bits cleared");
        edit_set(e, i, lost ? 0 : entry & ~QCOW2_L1_RESERVED);
    }
}

static struct scan_entry lost_entry(const struct scan *s, struct scan_entry e) {
    if (s->extended) {
        uint64_t gone = e.word & QCOW2_COMPRESSED ? UINT32_MAX : (uint32_t)(e.bitmap | e.bitmap >> 32);
        return (struct scan_entry){0, gone << 32};
    }
    return (struct scan_entry){s->v3 ? QCOW2_ZERO : 0, 0};
}

static struct scan_entry settle_compressed(const struct scan *s, struct scan_entry e, unsigned faults) {
    e.word &= ~QCOW2_COPIED;
    e.bitmap = 0;
    if (faults & FAULT_LONG) {
        uint64_t offset = qcow2_compressed_offset(e.word, s->cluster_bits);
        e.word = qcow2_compressed_entry(offset, (s->clusters << s->cluster_bits) - offset, s->cluster_bits);
    }
    return e;
}

static struct scan_entry settle_entry(const struct scan *s, struct scan_entry e, unsigned faults, uint64_t guest) {
    if (faults & FAULT_DISPLACED) {
        if (guest >= s->data_size)
            return lost_entry(s, e);
        e.word = guest | QCOW2_COPIED | (e.word & QCOW2_ZERO);
    }
    if (faults & FAULT_LOST)
        return lost_entry(s, e);
    if (e.word & QCOW2_COMPRESSED)
        return settle_compressed(s, e, faults);
    e.word &= ~QCOW2_L2_RESERVED;
    if (faults & FAULT_ZERO_FLAG)
        e.word &= ~QCOW2_ZERO;
    if (faults & FAULT_BOTH)
        e.bitmap &= ~(e.bitmap << 32);
    return e;
}

static void settle_l2(struct edit *edit, const void *owner) {
    const struct scan_table *t = owner;
    struct scan *s = edit->s;
    uint64_t index = (edit->at - t->offset) / (s->words * 8);
    for (size_t i = 0; i < edit->length / (s->words * 8); i++) {
        size_t w = i * s->words;
        struct scan_entry e = {get64(*edit_word(edit, w)), s->extended ? get64(*edit_word(edit, w + 1)) : 0};
        if (!(e.word | e.bitmap))
            continue;
        uint64_t length, guest = scan_guest(s, t, index + i, &length), first, n;
        unsigned faults = scan_l2_faults(s, e, guest);
        scan_host(s, e, &first, &n);
        for (uint64_t c = 0; c < n && s->overlaps.n && !(faults & FAULT_LOST); c++)
            faults |= is_metadata(s, first + c) ? FAULT_OVERLAP : 0;
        if (!faults)
            continue;
        struct scan_entry fixed = settle_entry(s, e, faults, guest);
        const char *fate = !(faults & (FAULT_LOST | FAULT_DISPLACED)) ? "set right"
                           : s->v3                                    ? "lost, reads as zeroes"
                                                                      : "lost, becomes unallocated";
        if (faults & FAULT_DISPLACED && (fixed.word & QCOW2_OFFSET_MASK) == guest)
            fate = "moved to the guest's offset";
        scan_tell(s, IMG_FINDING_REPAIR, guest, length, "Repairing L2 entry 0x%llx of table 0x%llx: %s",
                  (unsigned long long)e.word, (unsigned long long)t->offset, fate);
        edit_set(edit, w, fixed.word);
        if (s->extended)
            edit_set(edit, w + 1, fixed.bitmap);
    }
}

/* A bitmap cluster that is lost counts as all dirty: whoever copies by it copies too much, never too little. */
static void settle_bitmap(struct edit *edit, const void *owner) {
    (void)owner;
    struct scan *s = edit->s;
    for (size_t i = 0; i < edit->length / 8; i++) {
        uint64_t e = get64(*edit_word(edit, i));
        uint64_t offset = e & QCOW2_OFFSET_MASK;
        if (!e || (!scan_bitmap_fault(s, e) && !(offset && is_metadata(s, offset >> s->cluster_bits))))
            continue;
        scan_tell(s, IMG_FINDING_REPAIR, SCAN_NO_GUEST, 0,
                  "Repairing bitmap table entry 0x%llx: its part is all set now", (unsigned long long)e);
        edit_set(edit, i, 1);
    }
}

/* A table that begins inside the file but ends behind it: the missing part reads as zero, so let it be there. */
static int complete_cut(struct scan *s, struct edit *e) {
    if (!s->cut_end || s->file->fixed_size || s->cut_end <= s->file_size)
        return 0;
    scan_tell(s, IMG_FINDING_REPAIR, SCAN_NO_GUEST, 0, "Repairing file length 0x%llx: a table ends at 0x%llx",
              (unsigned long long)s->file_size, (unsigned long long)s->cut_end);
    *e->wrote = e->any = true;
    int code = s->file->ops->truncate(s->file, s->cut_end);
    return code ? img_fail_errno(e->err, code, "Could not lengthen the file to %llu bytes",
                                 (unsigned long long)s->cut_end)
                : 0;
}

int repair_entries(struct scan *s, bool *again, bool *wrote, struct img_error *err) {
    struct edit edit;
    *again = false;
    int code = give_up_tables(s, again);
    if (code || *again)
        return code ? img_fail_errno(err, code, "Could not repair") : 0;
    bool l1_only = judge_tables(s, true);
    if (!l1_only)
        judge_tables(s, false);
    code = edit_begin(&edit, s, wrote, err);
    for (size_t i = 0; i < s->l1s.n && !code; i++)
        code = edit_range(&edit, s->l1s.list[i].start, s->l1s.list[i].end, settle_l1, &s->l1s.list[i]);
    for (size_t i = 0; i < s->ntables && !code && !l1_only; i++)
        if (!(s->tables[i].flags & TABLE_LOST))
            code =
                edit_range(&edit, s->tables[i].offset, s->tables[i].offset + s->cluster_size, settle_l2, &s->tables[i]);
    for (size_t i = 0; i < s->bitmap_tables.n && !code && !l1_only; i++)
        code = edit_range(&edit, s->bitmap_tables.list[i].start, s->bitmap_tables.list[i].end, settle_bitmap, NULL);
    if (!code)
        code = complete_cut(s, &edit);
    *again = edit.any;
    free(edit.data);
    return code || !edit.any ? code : repair_barrier(s, err);
}

/* ---- COPIED ---------------------------------------------------------------------------------------------- */

static bool flag_wrong(bool set, bool copied, uint64_t count) {
    return set ? !copied && count == 1 : copied && count != 1;
}

static void flag_l1(struct edit *e, bool set) {
    struct scan *s = e->s;
    for (size_t i = 0; i < e->length / 8; i++) {
        uint64_t entry = get64(*edit_word(e, i)), offset = entry & QCOW2_OFFSET_MASK;
        if (!offset)
            continue;
        uint64_t count = counts_get(&s->counts, offset >> s->cluster_bits);
        if (!flag_wrong(set, entry & QCOW2_COPIED, count))
            continue;
        scan_tell(s, IMG_FINDING_REPAIR, SCAN_NO_GUEST, 0,
                  "Repairing OFLAG_COPIED L2 cluster: l1_index=%llu l1_entry=%llx refcount=%llu",
                  (unsigned long long)((e->at - s->header->l1_offset) / 8 + i), (unsigned long long)entry,
                  (unsigned long long)count);
        edit_set(e, i, entry ^ QCOW2_COPIED);
    }
}

static void flag_l1_set(struct edit *e, const void *owner) {
    (void)owner;
    flag_l1(e, true);
}

static void flag_l1_clear(struct edit *e, const void *owner) {
    (void)owner;
    flag_l1(e, false);
}

static void flag_l2(struct edit *edit, const struct scan_table *t, bool set) {
    struct scan *s = edit->s;
    uint64_t index = (edit->at - t->offset) / (s->words * 8);
    for (size_t i = 0; i < edit->length / (s->words * 8); i++) {
        struct scan_entry e = {get64(*edit_word(edit, i * s->words)), 0};
        if (!scan_is_standard(s, e))
            continue;
        uint64_t count = s->external ? 1 : counts_get(&s->counts, (e.word & QCOW2_OFFSET_MASK) >> s->cluster_bits);
        if (!flag_wrong(set, e.word & QCOW2_COPIED, count))
            continue;
        uint64_t length, guest = scan_guest(s, t, index + i, &length);
        scan_tell(s, IMG_FINDING_REPAIR, guest, length,
                  "Repairing OFLAG_COPIED data cluster: l2_entry=%llx refcount=%llu", (unsigned long long)e.word,
                  (unsigned long long)count);
        edit_set(edit, i * s->words, e.word ^ QCOW2_COPIED);
    }
}

static void flag_l2_set(struct edit *e, const void *owner) {
    flag_l2(e, owner, true);
}

static void flag_l2_clear(struct edit *e, const void *owner) {
    flag_l2(e, owner, false);
}

int repair_flags(struct scan *s, bool set, bool *wrote, struct img_error *err) {
    struct edit edit;
    int code = edit_begin(&edit, s, wrote, err);
    for (size_t i = 0; i < s->l1s.n && !code; i++)
        if (s->l1s.list[i].active)
            code = edit_range(&edit, s->l1s.list[i].start, s->l1s.list[i].end, set ? flag_l1_set : flag_l1_clear, NULL);
    for (size_t i = 0; i < s->ntables && !code; i++)
        if (s->tables[i].active)
            code = edit_range(&edit, s->tables[i].offset, s->tables[i].offset + s->cluster_size,
                              set ? flag_l2_set : flag_l2_clear, &s->tables[i]);
    free(edit.data);
    return code || !edit.any ? code : repair_barrier(s, err);
}
