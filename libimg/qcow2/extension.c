/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* extension.c - reading the variable part of the first cluster: header extensions and the backing file's name.
 *
 * The first cluster is in memory before anything here runs, so a walk over the extensions costs no I/O, and it is
 * bounded twice: each extension must end before the backing name (or the cluster) does, and there may be only so many.
 * An extension that nobody knows is stepped over; it stays in `first`.
 *
 * A name ends at its first NUL and is never empty: an empty name in an image would mean "the folder of the image" to
 * whoever joins paths.
 *
 * Specification: "Header extensions", "Feature name table", "Bitmaps extension", "Full disk encryption header pointer".
 */
#include "extension.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

static const struct qcow2_disk_header *disk_of(const struct qcow2_header *h) {
    return (const struct qcow2_disk_header *)h->first;
}

/* Extensions end where the backing name begins; header.c made sure that this is inside the cluster. */
static size_t extensions_end(const struct qcow2_header *h) {
    uint64_t backing = get64(disk_of(h)->backing_file_offset);
    return backing != 0 ? (size_t)backing : h->first_size;
}

int extension_next(const struct qcow2_header *h, size_t *offset, struct qcow2_extension *e, struct img_error *err) {
    size_t end = extensions_end(h);
    struct qcow2_disk_extension head;
    if (*offset > end || end - *offset < sizeof head)
        return 0;
    memcpy(&head, h->first + *offset, sizeof head);
    *e = (struct qcow2_extension){get32(head.type), get32(head.length), h->first + *offset + sizeof head};
    if (e->type == QCOW2_EXT_END)
        return 0;
    size_t room = end - *offset - sizeof head;
    if (e->length > room)
        return img_fail(err, -EINVAL,
                        "Header extension too large (type = 0x%08" PRIx32 ", length = %" PRIu32
                        ", only %zu bytes left)",
                        e->type, e->length, room);
    *offset += sizeof head + (((size_t)e->length + 7) & ~(size_t)7);
    return 1;
}

/* A name of `count` bytes from the image as a string of its own. */
static int take_name(const uint8_t *bytes, size_t count, const char *what, char **out, struct img_error *err) {
    size_t length = strnlen((const char *)bytes, count);
    if (length == 0)
        return img_fail(err, -EINVAL, "%s is empty (length = %zu)", what, count);
    *out = malloc(length + 1);
    if (*out == NULL)
        return img_fail_errno(err, -ENOMEM, "Could not read the %s", what);
    memcpy(*out, bytes, length);
    (*out)[length] = '\0';
    return 0;
}

static int read_backing_format(struct qcow2_header *h, const struct qcow2_extension *e, struct img_error *err) {
    if (e->length > QCOW2_MAX_BACKING_FORMAT)
        return img_fail(err, -EINVAL, "ERROR: ext_backing_format: len=%" PRIu32 " too large (>=%d)", e->length,
                        QCOW2_MAX_BACKING_FORMAT + 1);
    return take_name(e->data, e->length, "Backing file format", &h->backing_format, err);
}

/* Without the feature bit the name means nothing, and nobody shall follow it. */
static int read_data_file(struct qcow2_header *h, const struct qcow2_extension *e, struct img_error *err) {
    if (!(h->incompatible & QCOW2_INCOMPAT_DATA_FILE))
        return 0;
    if (e->length > QCOW2_MAX_BACKING_NAME)
        return img_fail(err, -EINVAL, "Data file name too long (length = %" PRIu32 ", at most %d)", e->length,
                        QCOW2_MAX_BACKING_NAME);
    return take_name(e->data, e->length, "Data file name", &h->data_file, err);
}

static int read_crypto(struct qcow2_header *h, const struct qcow2_extension *e, struct img_error *err) {
    struct qcow2_disk_crypto_extension c;
    if (h->crypt_method != QCOW2_CRYPT_LUKS)
        return img_fail(err, -EINVAL,
                        "CRYPTO header extension only expected with LUKS encryption method (crypt_method = %" PRIu32
                        ")",
                        h->crypt_method);
    if (e->length != sizeof c)
        return img_fail(err, -EINVAL, "CRYPTO header extension size %" PRIu32 ", but expected size %zu", e->length,
                        sizeof c);
    memcpy(&c, e->data, sizeof c);
    h->has_crypto = true;
    h->crypto_offset = get64(c.offset);
    h->crypto_length = get64(c.length);
    if (h->crypto_offset & (h->first_size - 1))
        return img_fail(err, -EINVAL, "Encryption header offset '%" PRIu64 "' is not a multiple of cluster size '%zu'",
                        h->crypto_offset, h->first_size);
    if (h->crypto_length == 0)
        return img_fail(err, -EINVAL, "Encryption header is empty (length = 0)");
    return 0;
}

/* Somebody who does not know bitmaps has written to the image when the autoclear bit is gone: they mean nothing then.
 */
static int read_bitmaps(struct qcow2_header *h, const struct qcow2_extension *e, struct img_error *err) {
    struct qcow2_disk_bitmaps_extension b;
    if (e->length != sizeof b)
        return img_fail(err, -EINVAL, "bitmaps_ext: Invalid extension length (length = %" PRIu32 ", expected %zu)",
                        e->length, sizeof b);
    if (!(h->autoclear & QCOW2_AUTOCLEAR_BITMAPS))
        return 0;
    memcpy(&b, e->data, sizeof b);
    h->has_bitmaps = true;
    h->nb_bitmaps = get32(b.nb_bitmaps);
    h->bitmap_directory_size = get64(b.directory_size);
    h->bitmap_directory_offset = get64(b.directory_offset);
    if (get32(b.reserved) != 0)
        return img_fail(err, -EINVAL, "bitmaps_ext: Reserved field is not zero (reserved = 0x%" PRIx32 ")",
                        get32(b.reserved));
    if (h->nb_bitmaps > QCOW2_MAX_BITMAPS)
        return img_fail(err, -EINVAL,
                        "bitmaps_ext: Image has %" PRIu32 " bitmaps, exceeding the supported maximum of %d",
                        h->nb_bitmaps, QCOW2_MAX_BITMAPS);
    if (h->nb_bitmaps == 0)
        return img_fail(err, -EINVAL, "found bitmaps extension with zero bitmaps (nb_bitmaps = 0)");
    if (h->bitmap_directory_size > QCOW2_MAX_BITMAP_DIRECTORY_BYTES)
        return img_fail(err, -EINVAL,
                        "bitmaps_ext: bitmap directory size (%" PRIu64 ") exceeds the maximum supported size (%d)",
                        h->bitmap_directory_size, QCOW2_MAX_BITMAP_DIRECTORY_BYTES);
    if (h->bitmap_directory_size / sizeof(struct qcow2_disk_bitmap) < h->nb_bitmaps)
        return img_fail(err, -EINVAL,
                        "bitmaps_ext: bitmap directory size (%" PRIu64 ") is too small for %" PRIu32 " bitmaps",
                        h->bitmap_directory_size, h->nb_bitmaps);
    return 0;
}

static int read_lineage(struct qcow2_header *h, const struct qcow2_extension *e, struct img_error *err) {
    if (e->length > QCOW2_MAX_LINEAGE)
        return 0; /* not ours, whatever its type says */
    (void)err;
    memcpy(h->lineage, e->data, e->length);
    h->lineage_length = e->length;
    return 0;
}

typedef int (*extension_reader)(struct qcow2_header *, const struct qcow2_extension *, struct img_error *);

static const struct {
    uint32_t type;
    extension_reader read;
} readers[] = {
    {QCOW2_EXT_BACKING_FORMAT, read_backing_format},
    {QCOW2_EXT_DATA_FILE, read_data_file},
    {QCOW2_EXT_CRYPTO, read_crypto},
    {QCOW2_EXT_BITMAPS, read_bitmaps},
    {QCOW2_EXT_LINEAGE, read_lineage},
    {QCOW2_EXT_FEATURE_NAMES, NULL},
};
#define NREADERS (sizeof readers / sizeof readers[0])

static int read_extension(struct qcow2_header *h, const struct qcow2_extension *e, bool seen[NREADERS],
                          struct img_error *err) {
    for (size_t i = 0; i < NREADERS; i++) {
        if (readers[i].type != e->type)
            continue;
        if (seen[i])
            return img_fail(err, -EINVAL, "Header extension 0x%08" PRIx32 " is there twice", e->type);
        seen[i] = true;
        return readers[i].read != NULL ? readers[i].read(h, e, err) : 0;
    }
    return 0;
}

static int read_backing_name(struct qcow2_header *h, struct img_error *err) {
    uint64_t offset = get64(disk_of(h)->backing_file_offset);
    uint32_t length = get32(disk_of(h)->backing_file_size);
    if (offset == 0)
        return 0;
    size_t room = h->first_size - (size_t)offset;
    if (length > QCOW2_MAX_BACKING_NAME || length > room)
        return img_fail(err, -EINVAL, "Backing file name too long (backing_file_size = %" PRIu32 ", at most %zu)",
                        length, room < QCOW2_MAX_BACKING_NAME ? room : (size_t)QCOW2_MAX_BACKING_NAME);
    return take_name(h->first + offset, length, "Backing file name", &h->backing_file, err);
}

int extensions_read(struct qcow2_header *h, struct img_error *err) {
    size_t offset = h->header_length;
    bool seen[NREADERS] = {false};
    for (unsigned n = 0;; n++) {
        struct qcow2_extension e;
        int r = extension_next(h, &offset, &e, err);
        if (r < 0)
            return r;
        if (r == 0)
            break;
        if (n == QCOW2_MAX_EXTENSIONS)
            return img_fail(err, -EINVAL, "More than %d header extensions", QCOW2_MAX_EXTENSIONS);
        r = read_extension(h, &e, seen, err);
        if (r < 0)
            return r;
    }
    if (h->crypt_method == QCOW2_CRYPT_LUKS && !h->has_crypto)
        return img_fail(err, -EINVAL, "Missing CRYPTO header for crypt method %" PRIu32, h->crypt_method);
    return read_backing_name(h, err);
}

int extensions_name_features(const struct qcow2_header *h, struct img_error *err) {
    uint64_t unknown = h->incompatible & ~QCOW2_INCOMPAT_KNOWN, unnamed = unknown;
    size_t offset = h->header_length, used = 0;
    char names[512] = "";
    struct qcow2_extension e;
    for (unsigned n = 0; n < QCOW2_MAX_EXTENSIONS && extension_next(h, &offset, &e, NULL) == 1; n++) {
        if (e.type != QCOW2_EXT_FEATURE_NAMES)
            continue;
        for (size_t i = 0; i < e.length / sizeof(struct qcow2_disk_feature_name); i++) {
            struct qcow2_disk_feature_name f;
            memcpy(&f, e.data + i * sizeof f, sizeof f);
            size_t length = strnlen(f.name, sizeof f.name);
            if (f.type != 0 || f.bit > 63 || !(unnamed & 1ull << f.bit) || sizeof names - used < length + 3)
                continue;
            unnamed &= ~(1ull << f.bit);
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%.*s", used > 0 ? ", " : "", (int)length,
                                     f.name);
        }
        break;
    }
    if (unnamed != 0)
        snprintf(names + used, sizeof names - used, "%sUnknown incompatible feature: %" PRIx64, used > 0 ? ", " : "",
                 unnamed);
    return img_fail(err, -ENOTSUP, "Unsupported qcow2 feature(s): %s (incompatible_features = 0x%" PRIx64 ")", names,
                    h->incompatible);
}
