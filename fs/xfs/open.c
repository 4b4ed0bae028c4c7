/* SPDX-License-Identifier: GPL-3.0-or-later */
/* open.c - opening and closing an XFS, which is read only: the superblock, what the log holds, and the superblock again
 * as the log left it.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "../error.h"
#include "xfs.h"

static void close_xfs(struct fs *fs) {
    struct xfs *xfs = (struct xfs *)fs;
    xfs_cache_close(xfs);
    device_close(xfs->overlay);
    free(xfs->remaps);
    free(xfs);
}

static const struct fs_ops xfs_ops = {
    .close = close_xfs,
    .space = xfs_space,
    .stat = xfs_stat,
    .lookup = xfs_lookup,
    .list = xfs_list,
    .read = xfs_read,
    .next_data = xfs_next_data,
    .readlink = xfs_readlink,
    .xattrs = xfs_xattrs,
    .trace = xfs_trace,
    .alike = xfs_alike,
};

/* The disk as it is, for who reads it nevertheless. */
static void warn(struct xfs *xfs, const char *why) {
    snprintf(xfs->warning, sizeof(xfs->warning), "%s: files are shown as they are without what it holds", why);
    xfs->fs.warning = xfs->warning;
}

/* A damaged log keeps nobody from reading; one that is in order but too much for the memory does, since its files would
 * be shown in a state that is long past. */
static int replay(struct xfs *xfs, struct img_error *err) {
    struct img_error why = {0};
    if (!xfs->geo.log_start) {
        warn(xfs, "The log of the XFS is on another device");
        return 0;
    }
    int ret = xfs_log_replay(xfs, &why);
    if (ret == 0 && xfs->fs.replayed)
        ret = xfs_super_read(xfs->device, &xfs->geo, &why);
    if (ret == 0)
        return 0;
    if (ret != -EUCLEAN && ret != -ENOTSUP)
        return fail(err, ret, ret == -EFBIG ? "The log of the XFS cannot be replayed: %s" : "%s", why.text);
    device_close(xfs->overlay);
    xfs->overlay = NULL;
    xfs->device = xfs->fs.device;
    xfs->fs.replayed = xfs->owners_vary = false;
    xfs->remap_count = 0;
    warn(xfs, why.text);
    return xfs_super_read(xfs->device, &xfs->geo, err);
}

static int check_root(struct xfs *xfs, struct img_error *err) {
    struct xfs_inode root = {0};
    int ret = xfs_inode_get(xfs, xfs->geo.root, &root, err);
    if (ret == 0 && !S_ISDIR(root.mode))
        return fail(err, -EUCLEAN, "The root of the XFS, inode %" PRIu64 ", is not a directory", xfs->geo.root);
    return ret;
}

static int open_xfs(struct device *device, const struct probe *probe, const struct fs_open_options *options,
                    struct fs **fs, struct img_error *err) {
    if (options->write)
        return fail(err, -EROFS, "XFS can only be read, not written");
    struct xfs *xfs = calloc(1, sizeof(*xfs));
    if (!xfs)
        return fail_no_memory(err);
    xfs->fs = (struct fs){.ops = &xfs_ops, .type = probe->type, .device = device};
    xfs->device = device;
    int ret = xfs_super_read(device, &xfs->geo, err);
    if (ret == 0)
        ret = replay(xfs, err);
    if (ret == 0)
        ret = xfs_cache_open(xfs, err);
    if (ret == 0)
        ret = check_root(xfs, err);
    if (ret < 0) {
        close_xfs(&xfs->fs);
        return ret;
    }
    if (xfs->geo.blocks > device->size >> xfs->geo.block_log && !xfs->fs.warning) {
        snprintf(xfs->warning, sizeof(xfs->warning), "The XFS is larger than its device: its end is missing");
        xfs->fs.warning = xfs->warning;
    }
    xfs->fs.root = xfs->geo.root;
    xfs->fs.shown = xfs->device;
    *fs = &xfs->fs;
    return 0;
}

const struct fs_driver xfs_driver = {.name = "xfs", .probe = xfs_probe, .open = open_xfs};
