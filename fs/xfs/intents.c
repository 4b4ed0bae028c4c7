/* SPDX-License-Identifier: GPL-3.0-or-later */
/* intents.c - changes of maps that the log announces and does not say to be done.
 *
 * Where blocks are shared, a map changes in steps of a transaction each: the first announces them all (an intent for
 * each), and each of the others does one and says so. If the power fails between them, recovery does the rest. Here
 * nothing could be written that the tree of a map needs, so they are kept and laid over what the map says, in the order
 * in which they were announced. Intents of other kinds are about who uses which blocks, which a reader does not ask.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "replay.h"

enum { MOST = 1024 }; /* steps that are under way in all the system at a time are far fewer */

/* Puts the bytes of the item's only description to `disk`. */
static int take(const struct xlog_item *item, void *disk, size_t size, struct img_error *err) {
    if (item->regions[0].length < size)
        return fail(err, -EUCLEAN, "A change of a map in the XFS log is described by %u bytes",
                    item->regions[0].length);
    memcpy(disk, item->regions[0].bytes, size);
    return 0;
}

static int check(const struct xfs_geometry *geo, const struct xfs_remap *remap, uint32_t flags, struct img_error *err) {
    bool known = remap->extent.hole || (flags & XLOG_MAP_TYPE) == XLOG_MAP_ADD;
    if (known && !(flags & XLOG_MAP_REALTIME) && remap->extent.count > 0 && remap->extent.start < 1ull << 54 &&
        (remap->extent.hole || xfs_fsblock_ok(geo, remap->extent.fsblock, remap->extent.count)))
        return 0;
    return fail(err, flags & XLOG_MAP_REALTIME ? -ENOTSUP : -EUCLEAN,
                "The XFS log changes a map: %" PRIu64 " blocks from %" PRIu64 " of inode %" PRIu64
                " (0x%x), at block 0x%" PRIx64,
                remap->extent.count, remap->extent.start, remap->ino, flags, remap->extent.fsblock);
}

int xlog_replay_map(struct xfs *xfs, const struct xlog_item *item, struct img_error *err) {
    struct xlog_disk_map disk = {0};
    int ret = take(item, &disk, sizeof(disk), err);
    if (ret < 0)
        return ret;
    uint32_t flags = get_le32(disk.flags);
    struct xfs_remap remap = {.id = get_le64(disk.id),
                              .ino = get_le64(disk.ino),
                              .attr = flags & XLOG_MAP_ATTR,
                              .extent = {.start = get_le64(disk.start),
                                         .count = get_le32(disk.count),
                                         .fsblock = get_le64(disk.fsblock),
                                         .hole = (flags & XLOG_MAP_TYPE) == XLOG_MAP_REMOVE,
                                         .unwritten = flags & XLOG_MAP_UNWRITTEN}};
    if (get_le32(disk.extents) != 1)
        return fail(err, -EUCLEAN, "A change of a map in the XFS log has %u extents", get_le32(disk.extents));
    if ((ret = check(&xfs->geo, &remap, flags, err)) < 0)
        return ret;
    if (xfs->remap_count == MOST)
        return fail(err, -EFBIG, "The XFS log announces more than %u changes of maps that are not done", MOST);
    if (!xfs->remaps && !(xfs->remaps = calloc(MOST, sizeof(xfs->remaps[0]))))
        return fail_no_memory(err);
    xfs->remaps[xfs->remap_count++] = remap;
    return 0;
}

int xlog_replay_map_done(struct xfs *xfs, const struct xlog_item *item, struct img_error *err) {
    struct xlog_disk_map_done disk = {0};
    int ret = take(item, &disk, sizeof(disk), err);
    if (ret < 0)
        return ret;
    for (size_t i = 0; i < xfs->remap_count; i++) {
        if (xfs->remaps[i].id == get_le64(disk.id)) {
            xfs->remap_count--;
            memmove(&xfs->remaps[i], &xfs->remaps[i + 1], (xfs->remap_count - i) * sizeof(xfs->remaps[0]));
            break;
        }
    }
    return 0; /* or it was announced before the tail of the log */
}

/* What `block` lies in, of which `over` takes the place of a part. */
static void lay_over(const struct xfs_extent *over, uint64_t block, struct xfs_extent *extent) {
    uint64_t end = over->start + over->count;
    if (block >= over->start && block < end) {
        *extent = *over;
        if (over->hole)
            *extent = (struct xfs_extent){.start = block, .count = end - block, .hole = true};
    } else if (block < over->start && extent->count > over->start - extent->start) {
        extent->count = over->start - extent->start;
    } else if (block >= end && extent->start < end) {
        uint64_t cut = end - extent->start;
        extent->start += cut;
        extent->count -= cut;
        extent->fsblock += extent->hole ? 0 : cut;
    }
}

void xfs_remap(const struct xfs *xfs, uint64_t ino, bool attr, uint64_t block, struct xfs_extent *extent) {
    for (size_t i = 0; i < xfs->remap_count; i++)
        if (xfs->remaps[i].ino == ino && xfs->remaps[i].attr == attr)
            lay_over(&xfs->remaps[i].extent, block, extent);
}
