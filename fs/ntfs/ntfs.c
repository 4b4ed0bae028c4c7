/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ntfs.c - NTFS as a driver (vfs.h): opening, closing, space. Nothing is replayed from $LogFile, which nobody but
 * Windows can read; a volume that Windows did not leave in order says so in `warning`.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "../error.h"
#include "ntfs.h"

static void close_volume(struct ntfs *ntfs) {
    ntfs->budget = NTFS_BUDGET;
    ntfs_forget_file(ntfs);
    if (ntfs->volume)
        ntfs_umount(ntfs->volume, TRUE);
    free(ntfs);
}

static void ntfs_close(struct fs *fs) {
    close_volume(ntfs_of(fs));
}

static bool log_is_clean(struct ntfs *ntfs) {
    RESTART_PAGE_HEADER *page = NULL;
    ntfs_inode *inode = ntfs_inode_open(ntfs->volume, FILE_LogFile);
    ntfs_attr *data = inode ? ntfs_attr_open(inode, AT_DATA, AT_UNNAMED, 0) : NULL;
    bool clean = data && ntfs_check_logfile(data, &page) && ntfs_is_logfile_clean(data, page);
    free(page);
    if (data)
        ntfs_attr_close(data);
    if (inode)
        ntfs_inode_close(inode);
    return clean;
}

static const char *find_warning(struct ntfs *ntfs) {
    uint64_t saved = ntfs_begin(ntfs, NTFS_BUDGET);
    const char *warning = NULL;
    if (ntfs_volume_check_hiberfile(ntfs->volume, 0) < 0 && errno == EPERM)
        warning = "Windows is hibernated or was shut down in its fast way: what it holds in memory is not shown";
    else if ((ntfs->volume->flags & VOLUME_IS_DIRTY) || !log_is_clean(ntfs))
        warning = "Windows did not leave the volume in order: what its journal holds is not shown";
    ntfs_end(ntfs, saved);
    return warning;
}

/* What the library does not look at. */
static int check_volume(struct ntfs *ntfs, struct img_error *err) {
    const ntfs_volume *v = ntfs->volume;
    uint64_t size = ntfs->fs.device->size;
    if (v->nr_clusters < 0 || (uint64_t)v->nr_clusters > size >> v->cluster_size_bits)
        return fail(err, -EUCLEAN, "NTFS: %" PRId64 " clusters of %" PRIu32 " bytes on a device of %" PRIu64,
                    v->nr_clusters, v->cluster_size, size);
    if (v->lcnbmp_na->data_size < 0 || (uint64_t)v->lcnbmp_na->data_size > size || v->mftbmp_na->data_size < 0 ||
        (uint64_t)v->mftbmp_na->data_size > size)
        return fail(err, -EUCLEAN, "NTFS: $Bitmap has %" PRId64 " bytes, that of $MFT %" PRId64,
                    v->lcnbmp_na->data_size, v->mftbmp_na->data_size);
    return 0;
}

/* Free clusters and records are counted; as many records as the free clusters could hold are free as well. */
static int ntfs_space(struct fs *fs, struct fs_space *space, struct img_error *err) {
    struct ntfs *ntfs = ntfs_of(fs);
    ntfs_volume *v = ntfs->volume;
    uint64_t bitmaps = (uint64_t)v->lcnbmp_na->data_size + (uint64_t)v->mftbmp_na->data_size;
    uint64_t saved = ntfs_begin(ntfs, NTFS_BUDGET + bitmaps);
    int ret = NVolFreeSpaceKnown(v) || ntfs_volume_get_free_space(v) == 0 ? 0 : ntfs_error(ntfs, FILE_Bitmap, err);
    ntfs_end(ntfs, saved);
    if (ret < 0)
        return ret;
    /* bits of the bitmap behind the last cluster may be anything */
    uint64_t clusters = v->free_clusters > 0 ? (uint64_t)v->free_clusters : 0;
    if (clusters > (uint64_t)v->nr_clusters)
        clusters = (uint64_t)v->nr_clusters;
    uint64_t records = clusters << v->cluster_size_bits >> v->mft_record_size_bits;
    int64_t unused = (int64_t)records + v->free_mft_records;
    *space = (struct fs_space){.block_size = v->cluster_size,
                               .blocks = (uint64_t)v->nr_clusters,
                               .blocks_free = clusters,
                               .blocks_available = clusters,
                               .inodes = ((uint64_t)v->mftbmp_na->allocated_size << 3) + records,
                               .inodes_free = unused > 0 ? (uint64_t)unused : 0};
    return 0;
}

static const struct fs_ops ntfs_ops = {.close = ntfs_close,
                                       .space = ntfs_space,
                                       .stat = ntfs_stat,
                                       .lookup = ntfs_lookup,
                                       .list = ntfs_list,
                                       .read = ntfs_read,
                                       .next_data = ntfs_next_data,
                                       .readlink = ntfs_readlink,
                                       .xattrs = ntfs_xattrs};

static int mount_volume(struct ntfs *ntfs, struct img_error *err) {
    struct ntfs_device *device = ntfs_device_alloc("guest", 0, &ntfs_supply, ntfs);
    if (!device)
        return fail_no_memory(err);
    uint64_t saved = ntfs_begin(ntfs, NTFS_BUDGET);
    ntfs->volume = ntfs_device_mount(device, NTFS_MNT_RDONLY | NTFS_MNT_FORENSIC);
    int ret = 0;
    if (!ntfs->volume) {
        ret = ntfs_error(ntfs, NTFS_WHOLE, err);
        ntfs_device_free(device);
    } else {
        ntfs->volume->abs_mnt_point = ""; /* before targets of links that begin at a drive */
    }
    ntfs_end(ntfs, saved);
    return ret;
}

static int ntfs_open(struct device *device, const struct probe *probe, const struct fs_open_options *options,
                     struct fs **fs, struct img_error *err) {
    (void)probe;
    if (options->write)
        return fail(err, -EROFS, "NTFS is only read here");
    struct ntfs *ntfs = calloc(1, sizeof(*ntfs));
    if (!ntfs)
        return fail_no_memory(err);
    ntfs_log_set_handler(ntfs_log_handler_null);
    ntfs->fs = (struct fs){.ops = &ntfs_ops, .type = "ntfs", .device = device, .root = FILE_root};
    int ret = mount_volume(ntfs, err);
    if (ret == 0)
        ret = check_volume(ntfs, err);
    if (ret == 0 && ntfs_set_shown_files(ntfs->volume, FALSE, TRUE, FALSE) < 0)
        ret = ntfs_error(ntfs, NTFS_WHOLE, err);
    if (ret < 0) {
        close_volume(ntfs);
        return ret;
    }
    ntfs->fs.warning = find_warning(ntfs);
    *fs = &ntfs->fs;
    return 0;
}

const struct fs_driver ntfs_driver = {.name = "ntfs", .probe = ntfs_probe, .open = ntfs_open};
