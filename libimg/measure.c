/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* measure.c - img_measure: how much room an image takes before it is made.
 *
 * The metadata of a qcow2 image is counted as for one that is full, on the same paper on which a new image is laid out
 * (qcow2/layout.h), so the two cannot disagree. From that, what the source does not store is taken off; the tables for
 * it stay counted, as nobody knows yet where the data will lie. A source's data is counted in clusters of the new
 * image. All numbers are those of qemu-img.
 */
#include "crypto/keyslot.h"
#include "error.h"
#include "image.h"
#include "qcow2/layout.h"

#include <errno.h>
#include <string.h>

#define SECTOR 512u
/* of an entry of the bitmap directory, without the name */
#define BITMAP_ENTRY 24u

static int too_large(struct img_error *err) {
    return img_fail(err, -EFBIG, "The image size is too large (try using a larger cluster size)");
}

static uint64_t round_up(uint64_t n, uint64_t to) {
    return (n + to - 1) / to * to;
}

/* Bytes of the source that are stored, in whole clusters of the new image. */
static int count_data(struct img *source, uint64_t cluster, uint64_t *bytes, struct img_error *err) {
    const uint32_t stored = IMG_EXTENT_PRESENT | IMG_EXTENT_DATA;
    uint64_t size = img_size(source), next;
    *bytes = 0;
    for (uint64_t at = 0; at < size; at = next) {
        struct img_extent x;
        int r = img_map(source, at, size - at, false, &x, err);
        if (r < 0)
            return img_prefix(err, r, "Unable to get block status: ");
        next = at + x.length;
        if (x.flags & IMG_EXTENT_ZERO || (x.flags & stored) != stored)
            continue;
        next = round_up(next, cluster);
        *bytes += next - at / cluster * cluster;
    }
    return 0;
}

/* What copies of the source's bitmaps would take: all of their bits stored, tables, directory. Those that are in use
 * are not copied. */
static int count_bitmaps(struct img *source, uint64_t cluster, struct img_measure *m, struct img_error *err) {
    struct img_info info;
    uint64_t directory = 0;
    int r = img_info(source, &info, err);
    if (r < 0 || strcmp(info.format, "qcow2") != 0 || info.version < 3)
        return r;
    m->has_bitmaps = true;
    for (size_t i = 0; i < info.nbitmaps; i++) {
        const struct img_bitmap_info *b = &info.bitmaps[i];
        if (b->in_use)
            continue;
        uint64_t bits = (img_size(source) + b->granularity - 1) / b->granularity;
        uint64_t clusters = (round_up(bits, 8) / 8 + cluster - 1) / cluster;
        m->bitmaps += clusters * cluster + round_up(clusters * 8, cluster);
        directory += round_up(BITMAP_ENTRY + strlen(b->name), 8);
    }
    m->bitmaps += round_up(directory, cluster);
    return 0;
}

static int measure_qcow2(const struct img_create_options *o, struct img *source, struct img_measure *m,
                         struct img_error *err) {
    uint64_t size = source ? img_size(source) : o->size, cluster, full, data = 0, crypto = 0;
    int r = layout_measure(o, size, &cluster, &full, err);
    if (r < 0)
        return r == -EFBIG ? too_large(err) : r;
    if (o->encryption.format && strcmp(o->encryption.format, "luks") == 0)
        r = luks_measure(&o->encryption, &crypto, err);
    if (r < 0)
        return r;
    full += round_up(crypto, cluster);
    size = round_up(size, cluster);
    if (o->preallocation == IMG_PREALLOCATION_FALLOC || o->preallocation == IMG_PREALLOCATION_FULL ||
        (source && o->backing_file)) /* nobody knows how much the two chains share */
        data = size;
    else if (source)
        r = count_data(source, cluster, &data, err);
    if (r < 0)
        return r;
    m->fully_allocated = full;
    m->required = full - size + data;
    return source && o->version != 2 ? count_bitmaps(source, cluster, m, err) : 0;
}

int img_measure(const struct img_create_options *options, struct img *source, struct img_measure *measure,
                struct img_error *err) {
    memset(measure, 0, sizeof *measure);
    if (!source && options->size > INT64_MAX)
        return too_large(err);
    if (strcmp(options->format, "qcow2") == 0)
        return measure_qcow2(options, source, measure, err);
    uint64_t header = 0;
    if (strcmp(options->format, "luks") == 0) {
        int r = luks_measure(&options->encryption, &header, err);
        if (r < 0)
            return r;
    } else if (strcmp(options->format, "raw") != 0) {
        return img_fail(err, -ENOTSUP, "Unknown file format '%s'", options->format);
    }
    measure->required = measure->fully_allocated =
        header + (source ? img_size(source) : round_up(options->size, SECTOR));
    return 0;
}
