/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* compose.c - how the variable part of the first cluster is laid out: for a new image, and anew in the life of one.
 *
 * An image in use changes by one write of sector 0, so extensions go into it, those that change most in front, the
 * feature names last: they are for people and are left out when there is no room. The backing file's name may lie
 * outside; then it lies where the header on the disk keeps nothing, and is durable before sector 0 names it.
 *
 * Where the extensions do not fit into sector 0 (long names, extensions of others), version 3 lets them begin anywhere
 * in the first cluster: header_length is made longer, and the fields in between are zero, which means absent.
 *
 * Specification: "Header extensions", "Feature name table", "Additional fields".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "extension.h"

#define SECTOR 512

static const struct qcow2_disk_feature_name feature_names[] = {
    {0, 0, "dirty bit"},        {0, 1, "corrupt bit"},         {0, 2, "external data file"},
    {0, 3, "compression type"}, {0, 4, "extended L2 entries"}, {1, 0, "lazy refcounts"},
    {2, 0, "bitmaps"},          {2, 1, "raw external data"},
};
#define NFEATURES (sizeof feature_names / sizeof feature_names[0])

/* Where the next part goes. Once something did not fit, `full` stays. */
struct layout {
    uint8_t *bytes;
    size_t used, size;
    bool full;
};

static void add_bytes(struct layout *l, const void *bytes, size_t count) {
    if (l->full || count > l->size - l->used) {
        l->full = true;
        return;
    }
    if (count > 0)
        memcpy(l->bytes + l->used, bytes, count);
    l->used += count;
}

static void add_extension(struct layout *l, uint32_t type, const void *data, size_t length) {
    static const uint8_t padding[8];
    struct qcow2_disk_extension head = {put32(type), put32((uint32_t)length)};
    add_bytes(l, &head, sizeof head);
    add_bytes(l, data, length);
    add_bytes(l, padding, -length & 7);
}

/* What the fields of the header say, but for the feature names. */
static void add_known(struct layout *l, const struct qcow2_header *h) {
    if (h->has_bitmaps) {
        struct qcow2_disk_bitmaps_extension b = {put32(h->nb_bitmaps), put32(0), put64(h->bitmap_directory_size),
                                                 put64(h->bitmap_directory_offset)};
        add_extension(l, QCOW2_EXT_BITMAPS, &b, sizeof b);
    }
    if (h->lineage_length)
        add_extension(l, QCOW2_EXT_LINEAGE, h->lineage, h->lineage_length);
    if (h->has_crypto) {
        struct qcow2_disk_crypto_extension c = {put64(h->crypto_offset), put64(h->crypto_length)};
        add_extension(l, QCOW2_EXT_CRYPTO, &c, sizeof c);
    }
    if (h->backing_format != NULL)
        add_extension(l, QCOW2_EXT_BACKING_FORMAT, h->backing_format, strlen(h->backing_format));
    if (h->data_file != NULL)
        add_extension(l, QCOW2_EXT_DATA_FILE, h->data_file, strlen(h->data_file));
}

static int check_names(const struct qcow2_header *h, struct img_error *err) {
    if (h->backing_file != NULL && strlen(h->backing_file) > QCOW2_MAX_BACKING_NAME)
        return img_fail(err, -EINVAL, "Backing file name too long (%zu bytes, at most %d)", strlen(h->backing_file),
                        QCOW2_MAX_BACKING_NAME);
    if (h->backing_format != NULL && strlen(h->backing_format) > QCOW2_MAX_BACKING_FORMAT)
        return img_fail(err, -EINVAL, "Backing file format too long (%zu bytes, at most %d)", strlen(h->backing_format),
                        QCOW2_MAX_BACKING_FORMAT);
    if (h->data_file != NULL && strlen(h->data_file) > QCOW2_MAX_BACKING_NAME)
        return img_fail(err, -EINVAL, "Data file name too long (%zu bytes, at most %d)", strlen(h->data_file),
                        QCOW2_MAX_BACKING_NAME);
    return 0;
}

static struct qcow2_disk_header *disk_of(uint8_t *first) {
    return (struct qcow2_disk_header *)first;
}

/* ---- a new image --------------------------------------------------------------------------------- */

int header_compose(struct qcow2_header *h, struct img_error *err) {
    int r = check_names(h, err);
    if (r < 0)
        return r;
    h->first_size = (size_t)1 << h->cluster_bits;
    h->header_length = h->version >= 3 ? sizeof(struct qcow2_disk_header) : QCOW2_V2_HEADER_SIZE;
    free(h->first);
    h->first = calloc(1, h->first_size);
    if (h->first == NULL)
        return img_fail_errno(err, -ENOMEM, "Could not lay out the header");

    struct qcow2_disk_header *disk = disk_of(h->first);
    disk->magic = put32(QCOW2_MAGIC);
    disk->cluster_bits = put32(h->cluster_bits);
    disk->crypt_method = put32(h->crypt_method);
    struct layout l = {h->first, h->header_length, h->first_size, false};
    add_known(&l, h);
    size_t length = h->backing_file != NULL ? strlen(h->backing_file) : 0;
    size_t names = 2 * sizeof(struct qcow2_disk_extension) + sizeof feature_names;
    if (h->version >= 3 && !l.full && h->first_size - l.used >= names + length)
        add_extension(&l, QCOW2_EXT_FEATURE_NAMES, feature_names, sizeof feature_names);
    add_extension(&l, QCOW2_EXT_END, NULL, 0);
    if (length > 0) {
        disk->backing_file_offset = put64(l.used);
        disk->backing_file_size = put32((uint32_t)length);
        add_bytes(&l, h->backing_file, length);
    }
    if (l.full)
        return img_fail(err, -EINVAL,
                        "The names of backing and data file do not fit into the header (cluster_size = %zu)",
                        h->first_size);
    header_encode(h);
    return 0;
}

/* ---- anew ------------------------------------------------------------------------------------------ */

struct span {
    size_t start, end; /* bytes of the first cluster */
};

/* What stands on the disk, and where. */
struct old_layout {
    struct qcow2_header seen; /* what its variable part says, read by the new feature bits; owned names */
    struct span extensions, name;
};

static int read_old(const struct qcow2_header *h, struct old_layout *old, struct img_error *err) {
    const struct qcow2_disk_header *disk = disk_of(h->first);
    bool v3 = get32(disk->version) >= 3;
    *old = (struct old_layout){.seen = {
                                   .version = get32(disk->version),
                                   .crypt_method = h->crypt_method,
                                   .incompatible = h->incompatible,
                                   /* as it was: bitmaps that go, go with their extension */
                                   .autoclear = v3 ? get64(disk->autoclear_features) : 0,
                                   .header_length = v3 ? get32(disk->header_length) : QCOW2_V2_HEADER_SIZE,
                                   .first = h->first,
                                   .first_size = h->first_size,
                               }};
    int r = extensions_read(&old->seen, err);
    if (r < 0)
        return r;
    size_t at = old->seen.header_length;
    struct qcow2_extension e;
    while (extension_next(&old->seen, &at, &e, NULL) == 1)
        ;
    old->extensions = (struct span){old->seen.header_length, at + sizeof(struct qcow2_disk_extension)};
    old->name.start = get64(disk->backing_file_offset);
    old->name.end = old->name.start + get32(disk->backing_file_size);
    return 0;
}

static void free_old(struct old_layout *old) {
    old->seen.first = NULL; /* the header's */
    header_free(&old->seen);
}

static bool same_name(const char *a, const char *b) {
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool says_the_same(const struct qcow2_header *a, const struct qcow2_header *b) {
    return a->version == b->version && same_name(a->backing_file, b->backing_file) &&
           same_name(a->backing_format, b->backing_format) && same_name(a->data_file, b->data_file) &&
           a->has_bitmaps == b->has_bitmaps && a->has_crypto == b->has_crypto &&
           (!a->has_bitmaps ||
            (a->nb_bitmaps == b->nb_bitmaps && a->bitmap_directory_offset == b->bitmap_directory_offset &&
             a->bitmap_directory_size == b->bitmap_directory_size)) &&
           (!a->has_crypto || (a->crypto_offset == b->crypto_offset && a->crypto_length == b->crypto_length)) &&
           a->lineage_length == b->lineage_length && memcmp(a->lineage, b->lineage, a->lineage_length) == 0;
}

/* Bytes of the fixed part that must stay: what it holds that nobody here knows is kept. */
static size_t fixed_length(const struct qcow2_header *h, const struct qcow2_header *seen) {
    if (h->version < 3)
        return QCOW2_V2_HEADER_SIZE;
    if (seen->version < 3)
        return sizeof(struct qcow2_disk_header);
    size_t length = seen->header_length;
    while (length > sizeof(struct qcow2_disk_header) && seen->first[length - 1] == 0)
        length--;
    return (length + 7) & ~(size_t)7;
}

static void add_others(struct layout *l, const struct qcow2_header *seen) {
    size_t at = seen->header_length;
    struct qcow2_extension e;
    while (extension_next(seen, &at, &e, NULL) == 1)
        if (e.type != QCOW2_EXT_BITMAPS && e.type != QCOW2_EXT_CRYPTO && e.type != QCOW2_EXT_BACKING_FORMAT &&
            e.type != QCOW2_EXT_DATA_FILE && e.type != QCOW2_EXT_FEATURE_NAMES && e.type != QCOW2_EXT_LINEAGE)
            add_extension(l, e.type, e.data, e.length);
}

/* The names of features, as many as wanted: what the image does not use can be spared. */
enum wanted_names { ALL_NAMES, USED_NAMES, NO_NAMES };

static void add_feature_names(struct layout *l, const struct qcow2_header *h, enum wanted_names wanted) {
    const uint64_t used[] = {h->incompatible, h->compatible, h->autoclear};
    struct qcow2_disk_feature_name names[NFEATURES];
    size_t n = 0;
    for (size_t i = 0; i < NFEATURES; i++)
        if (wanted == ALL_NAMES || (wanted == USED_NAMES && used[feature_names[i].type] >> feature_names[i].bit & 1))
            names[n++] = feature_names[i];
    if (n > 0 && h->version >= 3)
        add_extension(l, QCOW2_EXT_FEATURE_NAMES, names, n * sizeof names[0]);
}

/* The first place of `length` bytes from `from` on that meets none of the spans; SIZE_MAX: there is none. */
static size_t free_place(const struct span *taken, size_t n, size_t from, size_t length, size_t size) {
    for (size_t i = 0; i < n;) {
        if (from < taken[i].end && taken[i].start < from + length) {
            from = (taken[i].end + 7) & ~(size_t)7;
            i = 0;
        } else {
            i++;
        }
    }
    return from <= size && length <= size - from ? from : SIZE_MAX;
}

struct places {
    struct span extensions, name;
};

/* Where `extensions` bytes of extensions and the name can go beside the old ones. False: nowhere. */
static bool find_places(const struct qcow2_header *h, const struct old_layout *old, size_t fixed, size_t extensions,
                        struct places *p) {
    struct span taken[3] = {old->extensions, old->name};
    size_t at = fixed;
    if (fixed + extensions > SECTOR) { /* elsewhere, which only version 3 can say */
        at = free_place(taken, 2, fixed > SECTOR ? fixed : SECTOR, extensions, h->first_size);
        if (h->version < 3 || at == SIZE_MAX)
            return false;
    }
    p->extensions = taken[2] = (struct span){at, at + extensions};
    p->name = (struct span){0, 0};
    if (h->backing_file == NULL)
        return true;
    size_t length = strlen(h->backing_file), end = p->extensions.end;
    if (end + length <= SECTOR)
        at = end;
    else if (same_name(h->backing_file, old->seen.backing_file) && old->name.start >= end && old->name.start >= SECTOR)
        at = old->name.start;
    else
        at = free_place(taken, 3, end > SECTOR ? end : SECTOR, length, h->first_size);
    p->name = (struct span){at, at + length};
    return at != SIZE_MAX;
}

/* As many names of features as there is room for. */
static bool arrange(const struct qcow2_header *h, const struct old_layout *old, size_t fixed, struct layout *l,
                    struct places *p) {
    for (enum wanted_names wanted = ALL_NAMES; wanted <= NO_NAMES; wanted++) {
        l->used = 0;
        l->full = false;
        add_known(l, h);
        add_others(l, &old->seen);
        add_feature_names(l, h, wanted);
        add_extension(l, QCOW2_EXT_END, NULL, 0);
        if (!l->full && (wanted == NO_NAMES || fixed + l->used <= SECTOR) && find_places(h, old, fixed, l->used, p))
            return true;
    }
    return false;
}

static void note_outside(struct header_outside *outside, struct span s) {
    if (s.end <= SECTOR)
        return;
    if (s.start < SECTOR)
        s.start = SECTOR;
    size_t start = outside->length && outside->offset < s.start ? outside->offset : s.start;
    size_t last = outside->offset + outside->length, end = last > s.end ? last : s.end;
    outside->offset = start;
    outside->length = end - start;
}

static void put_parts(struct qcow2_header *h, uint8_t *first, size_t fixed, const struct layout *l,
                      const struct places *p) {
    struct qcow2_disk_header *disk = disk_of(first);
    if (fixed < SECTOR)
        memset(first + fixed, 0, SECTOR - fixed);
    if (h->version >= 3 && get32(disk->version) < 3) /* extensions of version 2 lay there */
        memset(first + QCOW2_V2_HEADER_SIZE, 0, fixed - QCOW2_V2_HEADER_SIZE);
    memcpy(first + p->extensions.start, l->bytes, l->used);
    if (h->backing_file != NULL)
        memcpy(first + p->name.start, h->backing_file, p->name.end - p->name.start);
    disk->backing_file_offset = put64(p->name.start);
    disk->backing_file_size = put32((uint32_t)(p->name.end - p->name.start));
    h->header_length = (uint32_t)p->extensions.start;
}

int header_relayout(struct qcow2_header *h, struct header_outside *outside, struct img_error *err) {
    struct old_layout old;
    uint8_t *first = NULL, *bytes = NULL;
    *outside = (struct header_outside){0};
    int r = check_names(h, err);
    if (r < 0)
        return r;
    r = read_old(h, &old, err);
    if (r < 0 || says_the_same(h, &old.seen))
        goto out;
    first = malloc(h->first_size);
    bytes = malloc(h->first_size);
    if (first == NULL || bytes == NULL) {
        r = img_fail_errno(err, -ENOMEM, "Could not lay out the header");
        goto out;
    }
    size_t fixed = fixed_length(h, &old.seen);
    struct layout l = {.bytes = bytes, .size = h->first_size};
    struct places p;
    if (!arrange(h, &old, fixed, &l, &p)) {
        r = img_fail(err, -ENOSPC,
                     "The first cluster (%zu bytes) has no room for the new names and extensions beside the old ones",
                     h->first_size);
        goto out;
    }
    memcpy(first, h->first, h->first_size);
    put_parts(h, first, fixed, &l, &p);
    note_outside(outside, p.extensions);
    note_outside(outside, p.name);
    if (p.extensions.start > SECTOR && fixed < p.extensions.start) {
        outside->stale = fixed < SECTOR ? SECTOR : fixed;
        outside->stale_length = p.extensions.start - outside->stale;
    }
    free(h->first);
    h->first = first;
    first = NULL;
    header_encode(h);
out:
    free(first);
    free(bytes);
    free_old(&old);
    return r;
}
