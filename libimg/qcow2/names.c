/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* names.c - the snapshot table and the bitmap directory, as the check sees them.
 *
 * Other than for opening, a snapshot that cannot be right must not stop the check: it is reported and the others are
 * read on. Where even its length is not credible, what follows cannot be found; a repair keeps the snapshots before.
 */
#include "scan.h"

#include <stdio.h>
#include <string.h>

/* The id and name for a message. */
static void snapshot_names(struct scan *s, const struct scan_snapshot *snap, char id[64], char name[64]) {
    uint64_t at = snap->entry + sizeof(struct qcow2_disk_snapshot) + snap->extra_size;
    size_t nid = snap->id_size < 63 ? snap->id_size : 63, nname = snap->name_size < 63 ? snap->name_size : 63;
    if (storage_read(s->file, id, nid, at))
        nid = 0;
    if (storage_read(s->file, name, nname, at + snap->id_size))
        nname = 0;
    id[nid] = name[nname] = 0;
}

static void check_snapshot_extra(struct scan *s, size_t i, const struct scan_snapshot *snap) {
    if (snap->extra_size > QCOW2_MAX_SNAPSHOT_EXTRA) {
        scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0,
                   "ERROR Too much extra metadata in snapshot table entry %zu: %u bytes", i, snap->extra_size);
        s->snapshots_wrong = true;
    } else if (s->v3 && snap->extra_size < 16) {
        scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0, "ERROR snapshot table entry %zu is incomplete", i);
        s->snapshots_wrong = true;
    }
}

static void check_snapshot_l1(struct scan *s, struct scan_snapshot *snap) {
    const char *fault = NULL;
    uint64_t bytes = (uint64_t)snap->l1_size * 8;
    if (bytes > QCOW2_MAX_L1_BYTES)
        fault = "L1 table is too large";
    else if (snap->l1_offset & (s->cluster_size - 1))
        fault = "L1 table is not cluster aligned";
    else if (bytes && (snap->l1_offset == 0 || snap->l1_offset >= s->file_size))
        fault = "L1 table lies outside the file";
    char id[64], name[64];
    if (fault || (bytes && snap->l1_offset + bytes > s->file_size))
        snapshot_names(s, snap, id, name);
    if (fault) {
        bool size = bytes > QCOW2_MAX_L1_BYTES;
        scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0,
                   "ERROR snapshot %s (%s) %s=0x%llx: %s; snapshot table entry corrupted", id, name,
                   size ? "l1_size" : "l1_offset", (unsigned long long)(size ? snap->l1_size : snap->l1_offset), fault);
        snap->bad = s->snapshots_wrong = s->hidden = true;
    } else if (bytes && snap->l1_offset + bytes > s->file_size) {
        scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0,
                   "ERROR snapshot %s (%s) l1_offset=0x%llx: L1 table is cut off by the end of the file", id, name,
                   (unsigned long long)snap->l1_offset);
        s->entries_wrong = s->hidden = true;
        if (s->cut_end < snap->l1_offset + bytes)
            s->cut_end = snap->l1_offset + bytes;
    }
}

/* Reads one entry at `offset`; false: it does not fit the limits of a table that began at `start`. */
static int read_snapshot(struct scan *s, uint64_t start, uint64_t offset, struct scan_snapshot *snap, bool *fits) {
    const void *raw;
    *fits = offset + sizeof(struct qcow2_disk_snapshot) <= s->file_size;
    if (!*fits)
        return 0;
    int code = scan_read(s, offset, sizeof(struct qcow2_disk_snapshot), &raw);
    if (code)
        return code;
    const struct qcow2_disk_snapshot *disk = raw;
    *snap = (struct scan_snapshot){
        .entry = offset,
        .l1_offset = get64(disk->l1_table_offset),
        .l1_size = get32(disk->l1_size),
        .extra_size = get32(disk->extra_data_size),
        .id_size = get16(disk->id_size),
        .name_size = get16(disk->name_size),
    };
    uint64_t size = sizeof *disk + (uint64_t)snap->extra_size + snap->id_size + snap->name_size;
    size = (size + 7) & ~7ull;
    *fits = size <= QCOW2_MAX_SNAPSHOT_TABLE_BYTES && offset - start + size <= QCOW2_MAX_SNAPSHOT_TABLE_BYTES &&
            offset + size <= ((s->file_size + 7) & ~7ull);
    snap->entry_size = *fits ? size : 0;
    return 0;
}

static bool was_dropped(const struct scan *s, uint64_t entry) {
    size_t low = 0, high = s->dropped.n; /* sorted */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (s->dropped.list[middle] < entry)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->dropped.n && s->dropped.list[low] == entry;
}

int scan_snapshots(struct scan *s) {
    const struct qcow2_header *h = s->header;
    uint64_t offset = h->snapshots_offset;
    if (h->nb_snapshots && s->external) {
        scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0, "ERROR %u snapshots in image with data file",
                   h->nb_snapshots);
        s->snapshots_wrong = s->hidden = true;
        return 0;
    }
    uint32_t n = h->nb_snapshots < QCOW2_MAX_SNAPSHOTS ? h->nb_snapshots : QCOW2_MAX_SNAPSHOTS;
    if (n < h->nb_snapshots) {
        scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0, "ERROR nb_snapshots is %u, more than %u",
                   h->nb_snapshots, n);
        s->snapshots_wrong = s->hidden = true;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct scan_snapshot snap;
        bool fits;
        int code = read_snapshot(s, h->snapshots_offset, offset, &snap, &fits);
        if (code)
            return code == -ENOMEM ? code : 0;
        if (!fits) {
            scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0,
                       "ERROR snapshot table entry %u of %u runs past the end of the table or the file", i, n);
            s->snapshots_wrong = s->hidden = true;
            return 0;
        }
        check_snapshot_extra(s, i, &snap);
        check_snapshot_l1(s, &snap);
        snap.drop = was_dropped(s, snap.entry);
        if (scan_push(&s->snapshots, snap))
            return -ENOMEM;
        offset += snap.entry_size;
    }
    return 0;
}

/* ---- bitmaps ------------------------------------------------------------------------------------------ */

int scan_bitmaps(struct scan *s) {
    const struct qcow2_header *h = s->header;
    if (!h->has_bitmaps || !(h->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
        return 0;
    struct qcow2_bitmaps bitmaps = {0};
    struct img_error error = {0};
    int code = bitmaps_read(s->file, h, &bitmaps, &error);
    if (code == -ENOMEM)
        return code;
    if (code) {
        scan_found(s, code == -EIO ? IMG_FINDING_ERROR : IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0,
                   "ERROR bitmap directory: %s", error.text);
        s->hidden = true;
        s->bitmaps_wrong = true;
        return 0;
    }
    for (size_t i = 0; i < bitmaps.count && !code; i++) {
        const struct qcow2_bitmap *b = &bitmaps.list[i];
        uint64_t end;
        if ((b->table_offset & (s->cluster_size - 1)) || b->table_offset >= s->file_size ||
            __builtin_add_overflow(b->table_offset, (uint64_t)b->table_size * 8, &end) || end > s->file_size) {
            scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0,
                       "ERROR bitmap %.64s table_offset=0x%llx table_size=%u: the table lies outside the file", b->name,
                       (unsigned long long)b->table_offset, b->table_size);
            s->hidden = true;
            s->bitmaps_wrong = true;
        } else {
            code = scan_push(&s->bitmap_tables, ((struct scan_range){b->table_offset, end, 1, 0}));
        }
    }
    bitmaps_free(&bitmaps);
    return code;
}

const char *scan_bitmap_fault(const struct scan *s, uint64_t entry) {
    uint64_t offset = entry & QCOW2_OFFSET_MASK;
    if (entry & ~(QCOW2_OFFSET_MASK | 1) || (offset && (entry & 1)))
        return "reserved bits are set";
    if (offset & (s->cluster_size - 1))
        return "the cluster is not aligned";
    if (offset >= s->file_size)
        return "the cluster lies past the end of the file";
    return NULL;
}

static int count_bitmap_entries(struct scan *s, const be64 *entry, size_t n, uint64_t weight) {
    for (size_t i = 0; i < n; i++) {
        uint64_t e = get64(entry[i]);
        const char *fault = e ? scan_bitmap_fault(s, e) : NULL;
        if (fault) {
            uint64_t offset = e & QCOW2_OFFSET_MASK;
            if (offset >= s->file_size && !(e & ~QCOW2_OFFSET_MASK))
                scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0, SCAN_PAST_END, (unsigned long long)offset,
                           (unsigned long long)s->cluster_size);
            else
                scan_found(s, IMG_FINDING_CORRUPTION, SCAN_NO_GUEST, 0, "ERROR bitmap table entry 0x%llx: %s",
                           (unsigned long long)e, fault);
            s->entries_wrong = true;
        } else if (e & QCOW2_OFFSET_MASK) {
            int code = scan_data(s, (e & QCOW2_OFFSET_MASK) >> s->cluster_bits, 1, weight, 0);
            if (code)
                return code;
        }
    }
    return 0;
}

int scan_bitmap_data(struct scan *s) {
    for (size_t i = 0; i < s->bitmap_tables.n; i++) {
        const struct scan_range *r = &s->bitmap_tables.list[i];
        size_t length;
        for (uint64_t at = r->start; scan_next_data(s, &at, r->end, &length), length; at += length) {
            const void *raw;
            int code = scan_read(s, at, length, &raw);
            if (!code)
                code = count_bitmap_entries(s, raw, length / 8, r->weight);
            if (code == -ENOMEM)
                return code;
        }
    }
    return 0;
}
