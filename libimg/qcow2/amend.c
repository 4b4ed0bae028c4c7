/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* amend.c - features of the format turned on and off: the version, lazy refcounts, the data file's name, the width of
 * the counts.
 *
 * What only the header says is one switch of it. Version 3 wants more in each entry of the snapshot table, and another
 * width wants every refcount block anew: these are full switches. So a power cut leaves the image as it was or as it is
 * to be, or, of several wishes, with the first ones granted.
 *
 * Version 2 cannot say "zeroes". Whoever asks for it (img_amend) has turned such entries of the active state into data;
 * here it is made sure that none is left, and those of snapshots are turned (expand.c).
 */
#include "fullswitch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- may it be? ---- */

static unsigned order_of(unsigned bits) {
    return (unsigned)__builtin_ctz(bits);
}

static int check_down(const struct qcow2 *q, unsigned bits, struct img_error *err) {
    const struct qcow2_header *h = &q->header;
    if (bits != 16)
        return img_fail(err, -ENOTSUP, "compat=0.10 requires refcount_bits=16");
    if (q->external)
        return img_fail(err, -ENOTSUP, "Cannot downgrade an image with a data file");
    if (h->incompatible & ~(QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT))
        return img_fail(err, -ENOTSUP, "Cannot downgrade an image with incompatible features 0x%llx set",
                        (unsigned long long)h->incompatible);
    if (q->bitmaps.count)
        return img_fail(err, -ENOTSUP, "Cannot downgrade an image with bitmaps");
    for (size_t i = 0; i < q->snapshots.count; i++) {
        const struct qcow2_snapshot *s = &q->snapshots.list[i];
        if (s->vm_state_size > UINT32_MAX || (s->disk_size != UINT64_MAX && s->disk_size != h->size))
            return img_fail(err, -ENOTSUP, "Internal snapshots prevent downgrade of image");
    }
    return 0;
}

static int check_wishes(const struct qcow2 *q, const struct img_amend_options *o, struct img_error *err) {
    bool v3 = o->version ? o->version == 3 : q->v3;
    unsigned bits = o->refcount_bits ? o->refcount_bits : 1u << q->header.refcount_order;
    if (o->version && o->version != 2 && o->version != 3)
        return img_fail(err, -EINVAL, "Unknown compatibility level %u", o->version);
    if (bits & (bits - 1) || bits > 64)
        return img_fail(err, -EINVAL, "Refcount width must be a power of two and may not exceed 64 bits");
    if (o->data_file && !q->external)
        return img_fail(err, -EINVAL, "data-file can only be set for images that use an external data file");
    if (o->data_file_raw == IMG_AMEND_ON && !q->raw_external)
        return img_fail(err, -EINVAL, "data-file-raw cannot be set on existing images");
    if (o->lazy_refcounts == IMG_AMEND_ON && !v3)
        return img_fail(err, -EINVAL,
                        "Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or "
                        "greater)");
    if (!v3 && !q->v3 && bits != 16)
        return img_fail(err, -EINVAL,
                        "Different refcount widths than 16 bits require compatibility level 1.1 or above (use "
                        "compat=1.1 or greater)");
    return q->v3 && !v3 ? check_down(q, bits, err) : 0;
}

/* ---- zeroes that version 2 cannot say ---- */

static int find_zero(void *opaque, uint64_t l1_index, uint64_t l1_entry, be64 *table) {
    const struct qcow2 *q = opaque;
    (void)l1_index, (void)l1_entry;
    for (uint64_t i = 0; i < 1ull << q->l2_bits; i++) {
        uint64_t word = get64(table[i]);
        if (!(word & QCOW2_COMPRESSED) && word & QCOW2_ZERO)
            return -EEXIST;
    }
    return 0;
}

/* None in the active state: it has been written anew. */
static int check_no_zeroes(struct qcow2 *q, struct img_error *err) {
    struct tree active = {q->header.l1_offset, q->header.l1_size};
    int r = tree_walk(q, &active, find_zero, q, err);
    if (r == -EEXIST)
        return img_fail(err, -EBUSY, "'%s' has zero clusters, which version 2 cannot say", q->image->path);
    return r;
}

/* ---- switches ---- */

/* The snapshot table as it is, or with what version 3 wants in each entry. *bytes is the caller's. */
static int snapshot_table(struct qcow2 *q, bool complete, uint8_t **bytes, size_t *length, struct img_error *err) {
    struct qcow2_disk_snapshot_extra extra = {.disk_size = put64(q->header.size)};
    size_t least = offsetof(struct qcow2_disk_snapshot_extra, icount), used = 0;
    size_t old_bytes = q->snapshots.count ? q->snapshots.bytes : 0;
    uint8_t *old = calloc(1, old_bytes + 8), *new = calloc(1, old_bytes + q->snapshots.count * (least + 8) + 8);
    int r = old && new ? 0 : img_fail(err, -ENOMEM, "no memory for a snapshot table");
    if (r == 0 && old_bytes && (r = storage_read(q->file, old, old_bytes, q->header.snapshots_offset)) < 0)
        img_fail_errno(err, r, "could not read the snapshot table of '%s'", q->image->path);
    for (size_t i = 0; r == 0 && i < q->snapshots.count; i++) {
        const struct qcow2_snapshot *s = &q->snapshots.list[i];
        struct qcow2_disk_snapshot disk;
        size_t fixed = sizeof disk, more = complete && s->extra_size < least ? least - s->extra_size : 0;
        memcpy(&disk, old + s->at, fixed);
        disk.extra_data_size = put32((uint32_t)(s->extra_size + more));
        extra.vm_state_size_large = put64(s->vm_state_size);
        memcpy(new + used, &disk, fixed);
        memcpy(new + used + fixed, old + s->at + fixed, s->extra_size);
        memcpy(new + used + fixed + s->extra_size, (uint8_t *)&extra + s->extra_size % least, more);
        memcpy(new + used + fixed + s->extra_size + more, old + s->at + fixed + s->extra_size,
               s->length - fixed - s->extra_size);
        used = (used + s->length + more + 7) & ~(size_t)7;
    }
    free(old);
    if (r < 0) {
        free(new);
        return r;
    }
    *bytes = new;
    *length = used;
    return 0;
}

/* Everything stays but the width of the counts and the snapshot table. */
static int switch_all(struct qcow2 *q, unsigned order, bool complete, struct img_error *err) {
    const struct qcow2_header *h = &q->header;
    uint8_t *table = NULL;
    size_t length = 0;
    int r = snapshot_table(q, complete, &table, &length, err);
    if (r < 0)
        return r;
    struct full_switch s = full_switch_unchanged(q, table, length, h->nb_snapshots);
    s.refcount_order = order;
    full_switch_give_up_l1(q, &s, h->l1_offset, h->l1_size);
    r = full_switch(q, &s, err);
    free(table);
    return r;
}

static bool snapshots_are_short(const struct qcow2 *q) {
    for (size_t i = 0; i < q->snapshots.count; i++)
        if (q->snapshots.list[i].extra_size < offsetof(struct qcow2_disk_snapshot_extra, icount))
            return true;
    return false;
}

static void set_flag(uint64_t *bits, uint64_t flag, enum img_amend_flag wish) {
    if (wish == IMG_AMEND_ON)
        *bits |= flag;
    else if (wish == IMG_AMEND_OFF)
        *bits &= ~flag;
}

static void take_back_features(struct qcow2_header *h, const struct qcow2_header *before) {
    h->version = before->version;
    h->incompatible = before->incompatible;
    h->compatible = before->compatible;
    h->autoclear = before->autoclear;
    h->refcount_order = before->refcount_order;
    h->header_length = before->header_length;
}

/* The header alone, and version 3. Fields that a failure leaves changed are the caller's to take back. */
static int change_header(struct qcow2 *q, const struct img_amend_options *o, struct img_error *err) {
    struct qcow2_header *h = &q->header;
    bool up = o->version == 3 && !q->v3;
    h->autoclear &= QCOW2_AUTOCLEAR_KNOWN;
    if (up) {
        h->version = 3;
        h->incompatible = h->compatible = h->autoclear = 0;
        h->refcount_order = 4;
        h->header_length = QCOW2_V3_MIN_HEADER_SIZE;
    }
    set_flag(&h->compatible, QCOW2_COMPAT_LAZY_REFCOUNTS, o->lazy_refcounts);
    set_flag(&h->autoclear, QCOW2_AUTOCLEAR_DATA_FILE_RAW, o->data_file_raw);
    return up && snapshots_are_short(q) ? switch_all(q, h->refcount_order, true, err) : header_switch(q, err);
}

static int set_data_file(struct qcow2 *q, const char *name, char **old, struct img_error *err) {
    char *copy = *name ? strdup(name) : NULL;
    if (*name && !copy)
        return img_fail(err, -ENOMEM, "no memory for the name '%s'", name);
    *old = q->header.data_file;
    q->header.data_file = copy;
    return 0;
}

/* One switch for all that the header says. */
static int amend_header(struct qcow2 *q, const struct img_amend_options *o, struct img_error *err) {
    struct qcow2_header *h = &q->header, before = *h;
    char *old = NULL;
    int r = o->data_file ? set_data_file(q, o->data_file, &old, err) : 0;
    if (r < 0)
        return r;
    r = change_header(q, o, err);
    if (r < 0) {
        if (o->data_file) {
            free(h->data_file);
            h->data_file = old;
        }
        take_back_features(h, &before);
        return r;
    }
    free(old);
    q->raw_external = q->external && h->autoclear & QCOW2_AUTOCLEAR_DATA_FILE_RAW;
    return before.version == h->version ? 0 : qcow2_reload(q, err);
}

static int go_down(struct qcow2 *q, struct img_error *err) {
    struct qcow2_header *h = &q->header, before = *h;
    int r = check_no_zeroes(q, err);
    if (r == 0)
        r = expand_snapshots(q, err);
    if (r == 0)
        r = qcow2_rest(q, err);
    if (r < 0)
        return r;
    h->version = 2;
    h->incompatible = h->compatible = h->autoclear = 0;
    h->header_length = QCOW2_V2_HEADER_SIZE;
    r = header_switch(q, err);
    if (r < 0) {
        take_back_features(h, &before);
        return r;
    }
    return qcow2_reload(q, err);
}

/* Not what there is to do by other means: the size, and zeroes in the way to version 2. */
static bool wants_header(const struct qcow2 *q, const struct img_amend_options *o) {
    return (o->version == 3 && !q->v3) || o->lazy_refcounts || o->data_file || o->data_file_raw;
}

int qcow2_amend(struct img *image, const struct img_amend_options *o, bool only_check, struct img_error *err) {
    struct qcow2 *q = qcow2_of(image);
    SCOPED_MUTEX(&q->role);
    int r = writes_allowed(q, err);
    if (r == 0)
        r = check_wishes(q, o, err);
    if (r < 0 || only_check)
        return r;
    r = qcow2_rest(q, err); /* file = memory, nothing reserved */
    if (r == 0 && wants_header(q, o))
        r = amend_header(q, o, err);
    if (r == 0 && o->refcount_bits && order_of(o->refcount_bits) != q->header.refcount_order)
        r = switch_all(q, order_of(o->refcount_bits), false, err);
    if (r == 0 && o->version == 2 && q->v3)
        r = go_down(q, err);
    return r;
}
