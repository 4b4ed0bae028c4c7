/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* states.c - internal snapshots: create, apply, delete.
 *
 * Each is one full switch (fullswitch.h) and a snapshot table:
 *
 *   create  the active L1 and its tables become the snapshot's as they are. The active state gets a new L1, a copy of
 *           each table that had a COPIED entry, and shares the others
 *   apply   the same from the snapshot's tree, and the old active tree loses a reference. What of the L1 lies behind
 *           the disk's end comes along; but where the snapshot records the size of a machine's state, that is what
 *           lies there, and it stays the snapshot's alone
 *
 *   delete  the snapshot's tree loses a reference; active entries that are alone now get COPIED
 *
 * The tables of a snapshot are never written. Their COPIED flags mean nothing.
 *
 * A deletion for which there is no room gives up the entry first, then what the snapshot alone held, and tries again
 * with that room; at worst the rest of its clusters leak.
 *
 * Specification: "Snapshots", "Snapshot table entry".
 */
#include "fullswitch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NAME 255 /* bytes; as QEMU cuts them */

/* ---- the snapshot table ---- */

struct table {
    uint8_t *bytes;
    size_t length;
};

/* The table of the file with room for `more` bytes behind it, padded to where the next entry goes. */
static int read_table(struct qcow2 *q, size_t more, struct table *t, struct img_error *err) {
    size_t bytes = q->snapshots.count ? (q->snapshots.bytes + 7) & ~7ull : 0;
    t->length = bytes;
    t->bytes = calloc(1, bytes + more + 1);
    if (!t->bytes)
        return img_fail(err, -ENOMEM, "no memory for a snapshot table of %zu bytes", bytes + more);
    int r = bytes ? storage_read(q->file, t->bytes, q->snapshots.bytes, q->header.snapshots_offset) : 0;
    return r < 0 ? img_fail_errno(err, r, "could not read the snapshot table of '%s'", q->image->path) : 0;
}

/* Takes an entry out. */
static void cut_entry(struct table *t, const struct qcow2_snapshot *s) {
    size_t end = ((size_t)s->at + s->length + 7) & ~(size_t)7;
    if (end > t->length)
        end = t->length;
    memmove(t->bytes + s->at, t->bytes + end, t->length - end);
    t->length -= end - s->at;
}

/* One more than the highest number among the ids, as QEMU counts. */
static unsigned long next_id(const struct qcow2 *q) {
    unsigned long highest = 0;
    for (size_t i = 0; i < q->snapshots.count; i++) {
        unsigned long id = strtoul(q->snapshots.list[i].id, NULL, 10);
        highest = id > highest ? id : highest;
    }
    return highest + 1;
}

/* What an entry of ours has behind the fixed part: the known extra data, room for what others may add to it, and the
 * parent. */
struct own_extra {
    struct qcow2_disk_snapshot_extra known;
    uint8_t gap[QCOW2_LINEAGE_GAP];
    struct qcow2_disk_lineage lineage;
} __attribute__((packed));

static void put_entry(struct qcow2 *q, struct table *t, const char *id, const char *name, size_t name_size,
                      uint64_t date_ns, const struct qcow2_parent *parent) {
    struct qcow2_disk_snapshot disk = {
        .l1_table_offset = put64(q->header.l1_offset),
        .l1_size = put32(q->header.l1_size),
        .id_size = put16((uint16_t)strlen(id)),
        .name_size = put16((uint16_t)name_size),
        .date_sec = put32((uint32_t)(date_ns / 1000000000)),
        .date_nsec = put32((uint32_t)(date_ns % 1000000000)),
        .extra_data_size = put32(sizeof(struct own_extra)),
    };
    struct own_extra extra = {.known.disk_size = put64(q->header.size)};
    parent_encode(parent, &extra.lineage);
    uint8_t *at = t->bytes + t->length;
    memcpy(at, &disk, sizeof disk);
    at += sizeof disk;
    memcpy(at, &extra, sizeof extra);
    at += sizeof extra;
    memcpy(at, id, strlen(id));
    memcpy(at + strlen(id), name, name_size);
    t->length += sizeof disk + sizeof extra + strlen(id) + name_size;
}

/* ---- what changes ---- */

static struct tree active_tree(const struct qcow2 *q) {
    return (struct tree){q->header.l1_offset, q->header.l1_size};
}

static struct full_switch begin(const struct qcow2 *q, const struct table *t, uint32_t nsnapshots) {
    return full_switch_unchanged(q, t->bytes, t->length, nsnapshots);
}

/* ---- create ---- */

static int create(struct qcow2 *q, const struct img_snapshot_change *c, struct img_error *err) {
    char id[24];
    size_t name_size = strnlen(c->name, MAX_NAME);
    struct table t = {0};
    snprintf(id, sizeof id, "%lu", next_id(q));
    if (q->snapshots.count >= QCOW2_MAX_SNAPSHOTS)
        return img_fail(err, -EFBIG, "'%s' has %d snapshots and can have no more", q->image->path, QCOW2_MAX_SNAPSHOTS);
    size_t more = sizeof(struct qcow2_disk_snapshot) + sizeof(struct own_extra) + sizeof id + MAX_NAME;
    if (q->snapshots.bytes + more > QCOW2_MAX_SNAPSHOT_TABLE_BYTES)
        return img_fail(err, -EFBIG, "the snapshot table of '%s' cannot grow past %d bytes", q->image->path,
                        QCOW2_MAX_SNAPSHOT_TABLE_BYTES);
    struct qcow2_parent parent, new = {.kind = IMG_PARENT_SNAPSHOT};
    int r = lineage_active(q, &parent, err);
    if (r == 0)
        r = read_table(q, more, &t, err);
    if (r == 0) {
        put_entry(q, &t, id, c->name, name_size, c->date_ns, &parent);
        new.date_ns = (uint64_t)(uint32_t)(c->date_ns / 1000000000) * 1000000000 + c->date_ns % 1000000000;
        memcpy(new.id, id, strlen(id));
        lineage_set(q, &new);
        struct full_switch s = begin(q, &t, q->header.nb_snapshots + 1);
        s.trees[s.ntrees].tree = active_tree(q);
        s.trees[s.ntrees++].weight = 1;
        s.gains = true;
        r = full_switch(q, &s, err);
    }
    free(t.bytes);
    return r;
}

/* ---- apply ---- */

static int apply(struct qcow2 *q, const struct qcow2_snapshot *snapshot, struct img_error *err) {
    uint64_t size = snapshot->disk_size == UINT64_MAX ? q->header.size : snapshot->disk_size & ~511ull;
    uint64_t entries = header_l1_entries(size, q->cluster_bits, q->extended);
    struct qcow2_parent parent;
    struct table t = {0};
    if (!snapshot->vm_state_size && entries < snapshot->l1_size)
        entries = snapshot->l1_size;
    if (q->bitmaps.count)
        return img_fail(err, -EBUSY, "Device has active dirty bitmaps");
    if (size != q->header.size && !q->v3)
        return img_fail(err, -ENOTSUP, "Can't resize a v2 image which has snapshots");
    int r = read_table(q, 0, &t, err);
    if (r == 0) {
        struct full_switch s = begin(q, &t, q->header.nb_snapshots);
        s.size = size;
        s.l1_size = entries ? (uint32_t)entries : 1;
        s.next.l1_offset = snapshot->l1_offset;
        s.next.entries = snapshot->l1_size < entries ? snapshot->l1_size : (uint32_t)entries;
        s.trees[s.ntrees].tree = s.next;
        s.trees[s.ntrees++].weight = 1;
        s.trees[s.ntrees].tree = active_tree(q);
        s.trees[s.ntrees++].weight = -1;
        s.gains = true;
        full_switch_give_up_l1(q, &s, q->header.l1_offset, q->header.l1_size);
        snapshot_as_parent(snapshot, &parent);
        lineage_set(q, &parent);
        r = full_switch(q, &s, err);
    }
    free(t.bytes);
    return r;
}

/* ---- delete ---- */

static int delete_switch(struct qcow2 *q, const struct qcow2_snapshot *snapshot, const struct table *t, bool lowered,
                         struct img_error *err) {
    struct full_switch s = begin(q, t, q->header.nb_snapshots - !lowered);
    s.trees[s.ntrees].tree = (struct tree){snapshot->l1_offset, snapshot->l1_size};
    s.trees[s.ntrees++].weight = -1;
    s.lowered = lowered;
    full_switch_give_up_l1(q, &s, q->header.l1_offset, q->header.l1_size);
    full_switch_give_up_l1(q, &s, snapshot->l1_offset, snapshot->l1_size);
    return full_switch(q, &s, err);
}

/* The table is made shorter where it lies if that is possible, else written to a place of its own. */
static int drop_entry(struct qcow2 *q, const struct qcow2_snapshot *snapshot, const struct table *t,
                      struct img_error *err) {
    struct qcow2_header *h = &q->header;
    uint32_t n = h->nb_snapshots;
    uint64_t place = h->snapshots_offset, first, clusters = (t->length + q->cluster_size - 1) >> q->cluster_bits;
    bool last = snapshot == &q->snapshots.list[q->snapshots.count - 1];
    struct freed_run taken = {0};
    int r = 0;
    if (!last && (r = alloc_anywhere(q, clusters, &first, err)) == 0) {
        taken = (struct freed_run){first, clusters};
        h->snapshots_offset = first << q->cluster_bits;
        r = storage_write(q->file, t->bytes, t->length, h->snapshots_offset);
        if (r < 0)
            metadata_write_failed(q, r, "the host could not write a snapshot table");
        else
            r = refcounts_write(q);
        if (r < 0)
            img_fail_errno(err, r, "could not write the snapshot table of '%s'", q->image->path);
    }
    if (r == 0) {
        h->nb_snapshots--;
        r = header_switch(q, err);
    }
    if (r < 0) {
        h->nb_snapshots = n;
        h->snapshots_offset = place;
        (void)refcount_release(q, &taken, false, NULL); /* else a leak */
    }
    return r;
}

/* Without room for a switch. What is named by nobody afterwards and still counted is a leak. */
static int delete_light(struct qcow2 *q, const struct qcow2_snapshot *snapshot, const struct table *t,
                        struct img_error *err) {
    struct qcow2_snapshot gone = *snapshot;
    uint64_t old_table = cluster_index(q, q->header.snapshots_offset), place = q->header.snapshots_offset;
    uint64_t old_clusters = (q->snapshots.bytes + q->cluster_size - 1) >> q->cluster_bits;
    int r = drop_entry(q, snapshot, t, err);
    if (r < 0)
        return r;
    uint64_t kept = q->header.snapshots_offset == place && q->header.nb_snapshots
                        ? (t->length + q->cluster_size - 1) >> q->cluster_bits
                        : 0;
    struct full_switch s = {
        .trees = {{{gone.l1_offset, gone.l1_size}, -1}},
        .ntrees = 1,
        .refcount_order = q->header.refcount_order,
        .lowered = true,
    };
    full_switch_give_up_l1(q, &s, gone.l1_offset, gone.l1_size);
    if (kept < old_clusters)
        s.gone[s.ngone++] = (struct freed_run){old_table + kept, old_clusters - kept};
    r = full_switch_lower(q, &s, err);
    if (r < 0)
        return r;
    struct table rest = {0};
    r = read_table(q, 0, &rest, err);
    if (r == 0)
        r = delete_switch(q, &gone, &rest, true, NULL);
    free(rest.bytes);
    return r == -ENOSPC || r == -EDQUOT ? 0 : r < 0 ? failed_error(q, err) : 0;
}

static bool is_out_of_room(int r) {
    return r == -ENOSPC || r == -EDQUOT;
}

/* What descends from it descends from its parent now. */
static void give_children_away(struct qcow2 *q, const struct qcow2_snapshot *snapshot, struct qcow2_parent *active,
                               struct table *t) {
    struct qcow2_disk_lineage disk;
    parent_encode(&snapshot->parent, &disk);
    for (size_t i = 0; i < q->snapshots.count; i++) {
        const struct qcow2_snapshot *s = &q->snapshots.list[i];
        if (s->parent_at && snapshots_parent(&q->snapshots, &s->parent) == snapshot)
            memcpy(t->bytes + s->at + s->parent_at, &disk, sizeof disk);
    }
    if (snapshots_parent(&q->snapshots, active) == snapshot)
        *active = snapshot->parent;
    lineage_set(q, active);
}

static int give_up(struct qcow2 *q, const struct qcow2_snapshot *snapshot, struct img_error *err) {
    struct table t = {0};
    struct qcow2_parent active;
    int r = lineage_active(q, &active, err);
    if (r == 0)
        r = read_table(q, 0, &t, err);
    if (r == 0) {
        give_children_away(q, snapshot, &active, &t);
        cut_entry(&t, snapshot);
        r = delete_switch(q, snapshot, &t, false, err);
        if (is_out_of_room(r) && !atomic_load(&q->failed))
            r = delete_light(q, snapshot, &t, err);
    }
    free(t.bytes);
    return r;
}

/* ---- all of them ---- */

static int change(struct qcow2 *q, const struct img_snapshot_change *c, struct img_error *err) {
    const struct qcow2_snapshot *snapshot = NULL;
    if (c->op != IMG_SNAPSHOT_CREATE) {
        snapshot = snapshots_find(&q->snapshots, c->name);
        if (!snapshot)
            return img_fail(err, -ENOENT, "'%s' has no snapshot '%s'", q->image->path, c->name);
    }
    /* what others keep in this image they must look at again */
    struct qcow2_header *h = &q->header, before = *h;
    q->header.autoclear &= QCOW2_AUTOCLEAR_KNOWN;
    int r = c->op == IMG_SNAPSHOT_CREATE  ? create(q, c, err)
            : c->op == IMG_SNAPSHOT_APPLY ? apply(q, snapshot, err)
                                          : give_up(q, snapshot, err);
    if (r < 0 && !atomic_load(&q->failed)) {
        h->autoclear = before.autoclear;
        h->lineage_length = before.lineage_length;
        memcpy(h->lineage, before.lineage, sizeof h->lineage);
    }
    return r;
}

int qcow2_snapshot(struct img *image, const struct img_snapshot_change *c, struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    SCOPED_MUTEX(&q->role);
    int r = writes_allowed(q, err);
    if (r == 0 && q->external)
        r = img_fail(err, -ENOTSUP, "'%s' keeps its data in an external file and can have no snapshots", image->path);
    if (r == 0)
        r = qcow2_rest(q, err); /* file = memory, nothing reserved */
    return r < 0 ? r : change(q, c, err);
}
