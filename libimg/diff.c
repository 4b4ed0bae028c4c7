/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* diff.c - where two open images may read differently, from their tables alone.
 *
 * Two chains that lead to one file show the same bytes wherever no layer above that file has any. So what is told is
 * what the layers above have, where the file's two states differ if they are not the same, and what lies behind the
 * end of any layer above, which hides what is below it there.
 */
#include <errno.h>
#include <string.h>

#include "error.h"
#include "image.h"

struct teller {
    img_snapshot_differs differs;
    void *opaque;
    uint64_t end; /* what is behind it was told already */
};

/* Not 0: give up. */
static int tell(void *opaque, uint64_t start, uint64_t length) {
    const struct teller *teller = opaque;
    if (start >= teller->end)
        return 0;
    return teller->differs(teller->opaque, start, length < teller->end - start ? length : teller->end - start);
}

static int given_up(const struct img *image, struct img_error *err) {
    return img_fail(err, -ECANCELED, "the comparison of '%s' was given up", image->path);
}

/* ---- which file they share ---- */

static bool same_file(const struct img *a, const struct img *b) {
    return a->driver == b->driver && a->file->device_id && a->file->device_id == b->file->device_id &&
           a->file->inode == b->file->inode;
}

/* Does the chain consist of what its files say? */
static bool is_plain(const struct img *image) {
    for (; image; image = image->backing)
        if (image->assembled || (image->has_backing && !image->backing) ||
            image->flags & (IMG_OPEN_INFO | IMG_OPEN_CHECK))
            return false;
    return true;
}

/* The first layer of a's chain that b's has too. */
static const struct img *find_shared(const struct img *a, struct img *b, struct img **in_b) {
    for (; a; a = a->backing)
        for (*in_b = b; *in_b; *in_b = (*in_b)->backing)
            if (same_file(a, *in_b))
                return a;
    return NULL;
}

static bool same_state(const struct img *a, const struct img *b) {
    return a->snapshot && b->snapshot ? strcmp(a->snapshot, b->snapshot) == 0 : a->snapshot == b->snapshot;
}

/* ---- what is told ---- */

static int tell_layer(struct teller *teller, struct img *layer, struct img_error *err) {
    uint64_t size = img_size(layer), end = size < teller->end ? size : teller->end;
    struct img_extent extent;
    for (uint64_t at = 0; at < end; at += extent.length) {
        int r = img_map(layer, at, end - at, true, &extent, err);
        if (r < 0)
            return r;
        if (extent.flags & IMG_EXTENT_PRESENT && tell(teller, extent.start, extent.length))
            return given_up(layer, err);
    }
    return 0;
}

static int tell_layers(struct teller *teller, struct img *top, const struct img *shared, struct img_error *err) {
    int r = 0;
    for (struct img *layer = top; layer != shared && r == 0; layer = layer->backing)
        r = tell_layer(teller, layer, err);
    return r;
}

/* No layer down to the shared one, if it is not below others, ends before this. */
static uint64_t least_size(const struct img *top, const struct img *shared, uint64_t least) {
    const struct img *layer = top;
    do {
        least = img_size(layer) < least ? img_size(layer) : least;
        layer = layer->backing;
    } while (layer && layer != shared && top != shared);
    return least;
}

int img_diff(struct img *a, struct img *b, img_snapshot_differs differs, void *opaque, struct img_error *err) {
    struct img *below_b = NULL;
    const struct img *below_a = is_plain(a) && is_plain(b) ? find_shared(a, b, &below_b) : NULL;
    if (!below_a || (!same_state(below_a, below_b) && !below_b->driver->diff))
        return img_fail(err, -ENOTSUP, "'%s' and '%s' share no file", a->path, b->path);
    uint64_t most = img_size(a) > img_size(b) ? img_size(a) : img_size(b);
    struct teller teller = {.differs = differs, .opaque = opaque, .end = UINT64_MAX};
    uint64_t end = least_size(b, below_b, least_size(a, below_a, UINT64_MAX));
    int r = end < most && tell(&teller, end, most - end) ? given_up(a, err) : 0;
    teller.end = end;
    if (r == 0)
        r = tell_layers(&teller, a, below_a, err);
    if (r == 0)
        r = tell_layers(&teller, b, below_b, err);
    if (r == 0 && !same_state(below_a, below_b))
        r = img_snapshot_diff(below_b, below_a->snapshot, below_b->snapshot, tell, &teller, err);
    return r;
}
