/* SPDX-License-Identifier: GPL-3.0-or-later */
/* super.c - the superblock: read once, checked once, and what follows from it for every address.
 *
 * After xfs_super_read: block_size, inode_size, sector_size and dir_size are powers of two in the ranges of format.h,
 * 2^ag_block_log >= ag_blocks > 0, and all groups but the last are full, so that an address that xfs_fsblock_ok lets
 * pass never overflows. Whether it is inside the device is device_read's to say.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../error.h"
#include "xfs.h"

struct feature {
    uint32_t bit;
    const char *name;
};

/* What changes how things are to be read, and is not read here. */
static const struct feature refused[] = {
    {XFS_INCOMPAT_NEEDS_REPAIR, "needsrepair (xfs_repair must be run)"},
    {XFS_INCOMPAT_ZONED, "zoned"},
    {XFS_INCOMPAT_ZONE_GAPS, "zone_gaps"},
};
enum {
    READ_HERE = XFS_INCOMPAT_FTYPE | XFS_INCOMPAT_SPARSE_INODES | XFS_INCOMPAT_META_UUID | XFS_INCOMPAT_BIGTIME |
                XFS_INCOMPAT_LARGE_EXTENT_COUNTS | XFS_INCOMPAT_EXCHANGE_RANGE | XFS_INCOMPAT_PARENT_POINTERS |
                XFS_INCOMPAT_METADATA_TREE,
};

static int check_features(const struct xfs_disk_sb *sb, bool v5, struct img_error *err) {
    uint16_t version = get16(sb->version);
    if ((version & XFS_SB_VERSION) != 4 && !v5)
        return fail(err, -ENOTSUP, "XFS of version %u is not read, only 4 and 5", version & XFS_SB_VERSION);
    if (!(version & XFS_SB_DIR_V2))
        return fail(err, -ENOTSUP, "XFS with directories of version 1 is not read");
    if (!v5)
        return 0;
    uint32_t incompat = get32(sb->incompat);
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (incompat & refused[i].bit)
            return fail(err, -ENOTSUP, "XFS with the feature %s is not read", refused[i].name);
    if (incompat & ~(uint32_t)READ_HERE)
        return fail(err, -ENOTSUP, "XFS with the unknown incompatible features 0x%x is not read",
                    incompat & ~(uint32_t)READ_HERE);
    return 0;
}

static int bad_field(struct img_error *err, const char *field, uint64_t value) {
    return fail(err, -EUCLEAN, "The XFS superblock's %s is %" PRIu64, field, value);
}

static int check_sizes(const struct xfs_disk_sb *sb, struct img_error *err) {
    if (sb->block_log < XFS_MIN_BLOCK_LOG || sb->block_log > XFS_MAX_BLOCK_LOG)
        return bad_field(err, "blocklog", sb->block_log);
    if (get32(sb->block_size) != 1u << sb->block_log)
        return bad_field(err, "blocksize", get32(sb->block_size));
    if (sb->sector_log < XFS_DADDR_SHIFT || sb->sector_log > XFS_MAX_SECTOR_LOG)
        return bad_field(err, "sectlog", sb->sector_log);
    if (get16(sb->sector_size) != 1u << sb->sector_log)
        return bad_field(err, "sectsize", get16(sb->sector_size));
    if (sb->inode_log < XFS_MIN_INODE_LOG || sb->inode_log > XFS_MAX_INODE_LOG || sb->inode_log > sb->block_log)
        return bad_field(err, "inodelog", sb->inode_log);
    if (get16(sb->inode_size) != 1u << sb->inode_log)
        return bad_field(err, "inodesize", get16(sb->inode_size));
    if (sb->inodes_per_block_log != sb->block_log - sb->inode_log)
        return bad_field(err, "inopblog", sb->inodes_per_block_log);
    if (sb->dir_block_log > XFS_MAX_BLOCK_LOG || sb->block_log + sb->dir_block_log > XFS_MAX_BLOCK_LOG)
        return bad_field(err, "dirblklog", sb->dir_block_log);
    if (sb->max_inode_percent > 100)
        return bad_field(err, "imax_pct", sb->max_inode_percent);
    return 0;
}

static int check_groups(const struct xfs_disk_sb *sb, struct img_error *err) {
    uint64_t blocks = get64(sb->blocks), most;
    uint32_t ag_blocks = get32(sb->ag_blocks), ag_count = get32(sb->ag_count);
    if (ag_blocks < XFS_MIN_AG_BLOCKS)
        return bad_field(err, "agblocks", ag_blocks);
    if (sb->ag_block_log > 32 || ag_blocks > 1ull << sb->ag_block_log || ag_blocks <= 1ull << sb->ag_block_log >> 1)
        return bad_field(err, "agblklog", sb->ag_block_log);
    most = (uint64_t)ag_blocks * ag_count;
    if (ag_count == 0 || blocks > most || blocks <= most - ag_blocks)
        return bad_field(err, "agcount", ag_count);
    if (blocks > (uint64_t)INT64_MAX >> sb->block_log)
        return bad_field(err, "dblocks", blocks);
    return 0;
}

/* What the kernel reads and writes as one: larger inodes make it larger where chunks are aligned for that. */
static uint32_t inode_buffer(const struct xfs_disk_sb *sb, bool v5) {
    uint32_t small = 8192, large = small * (get16(sb->inode_size) >> XFS_MIN_INODE_LOG);
    if (v5 && (uint64_t)get32(sb->inode_alignment) << sb->block_log >= large)
        small = large;
    return small > get32(sb->block_size) ? small : get32(sb->block_size);
}

static void take(const struct xfs_disk_sb *sb, bool v5, struct xfs_geometry *geo) {
    uint16_t version = get16(sb->version);
    uint32_t features2 = version & XFS_SB_MORE ? get32(sb->features2) | get32(sb->bad_features2) : 0;
    uint32_t incompat = v5 ? get32(sb->incompat) : 0;
    *geo = (struct xfs_geometry){
        .v5 = v5,
        .ftype = v5 ? incompat & XFS_INCOMPAT_FTYPE : features2 & XFS_SB2_FTYPE,
        .lazy_count = v5 || (features2 & XFS_SB2_LAZY_COUNT),
        .caseless = version & XFS_SB_CASELESS,
        .block_log = sb->block_log,
        .block_size = 1u << sb->block_log,
        .blocks = get64(sb->blocks),
        .ag_blocks = get32(sb->ag_blocks),
        .ag_count = get32(sb->ag_count),
        .ag_block_log = sb->ag_block_log,
        .inode_log = sb->inode_log,
        .inode_size = 1u << sb->inode_log,
        .inodes_per_block_log = sb->inodes_per_block_log,
        .sector_size = 1u << sb->sector_log,
        .dir_size = 1u << (sb->block_log + sb->dir_block_log),
        .inode_buffer = inode_buffer(sb, v5),
        .root = get64(sb->root_ino),
        .log_start = get64(sb->log_start),
        .log_blocks = get32(sb->log_blocks),
        .log_version = version & XFS_SB_LOG_V2 ? 2 : 1,
        .max_inode_percent = sb->max_inode_percent,
        .inode_count = get64(sb->inode_count),
        .inodes_free = get64(sb->inodes_free),
        .blocks_free = get64(sb->blocks_free),
        .uuid = incompat & XFS_INCOMPAT_META_UUID ? sb->meta_uuid : sb->uuid,
        .log_uuid = sb->uuid,
    };
}

int xfs_super_read(struct device *device, struct xfs_geometry *geo, struct img_error *err) {
    uint8_t sector[1u << XFS_MAX_SECTOR_LOG];
    const struct xfs_disk_sb *sb = (const struct xfs_disk_sb *)sector;
    int ret = device_read(device, sector, sizeof(*sb), 0, err);
    if (ret < 0)
        return ret;
    if (get32(sb->magic) != XFS_SB_MAGIC)
        return fail(err, -EUCLEAN, "There is no XFS superblock");
    bool v5 = (get16(sb->version) & XFS_SB_VERSION) == 5;
    if ((ret = check_features(sb, v5, err)) < 0 || (ret = check_sizes(sb, err)) < 0 ||
        (ret = check_groups(sb, err)) < 0)
        return ret;
    if (sb->in_progress)
        return fail(err, -EUCLEAN, "The XFS was never made to the end: its superblock says that mkfs is in progress");
    if (v5) {
        if ((ret = device_read(device, sector, 1u << sb->sector_log, 0, err)) < 0)
            return ret;
        if (!xfs_crc_ok(sector, get16(sb->sector_size), offsetof(struct xfs_disk_sb, crc)))
            return fail(err, -EUCLEAN, "The XFS superblock's checksum is wrong");
    }
    take(sb, v5, geo);
    return 0;
}

int xfs_probe(struct device *device, struct probe *probe) {
    struct xfs_disk_sb sb;
    const uint8_t *u = sb.uuid.bytes;
    if (device_read(device, &sb, sizeof(sb), 0, NULL) < 0 || get32(sb.magic) != XFS_SB_MAGIC)
        return -ENOENT;
    probe->kind = PROBE_FILESYSTEM;
    probe->type = "xfs";
    memcpy(probe->label, sb.label, sizeof(sb.label));
    snprintf(probe->uuid, sizeof(probe->uuid), "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
             u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
    return 0;
}

uint32_t xfs_ag_size(const struct xfs_geometry *geo, uint32_t group) {
    if (group + 1 < geo->ag_count)
        return geo->ag_blocks;
    return (uint32_t)(geo->blocks - (uint64_t)group * geo->ag_blocks);
}

bool xfs_fsblock_ok(const struct xfs_geometry *geo, uint64_t fsblock, uint64_t count) {
    uint64_t group = fsblock >> geo->ag_block_log, block = fsblock & ((1ull << geo->ag_block_log) - 1);
    if (group >= geo->ag_count || block == 0)
        return false;
    uint32_t size = xfs_ag_size(geo, (uint32_t)group);
    return block < size && count <= size - block;
}

uint64_t xfs_fsblock_address(const struct xfs_geometry *geo, uint64_t fsblock) {
    uint64_t group = fsblock >> geo->ag_block_log, block = fsblock & ((1ull << geo->ag_block_log) - 1);
    return (group * geo->ag_blocks + block) << geo->block_log;
}

/* ---- space ---- */

/* The counters of a filesystem that was not unmounted are in its groups. */
static int sum_groups(struct xfs *xfs, uint64_t *blocks_free, uint64_t *inodes, uint64_t *inodes_free,
                      struct img_error *err) {
    const struct xfs_geometry *geo = &xfs->geo;
    *blocks_free = *inodes = *inodes_free = 0;
    for (uint32_t group = 0; group < geo->ag_count; group++) {
        struct xfs_disk_agf agf = {0};
        struct xfs_disk_agi agi = {0};
        uint64_t at = ((uint64_t)group * geo->ag_blocks) << geo->block_log;
        int ret = device_read(xfs->device, &agf, sizeof(agf), at + geo->sector_size, err);
        if (ret == 0)
            ret = device_read(xfs->device, &agi, sizeof(agi), at + 2 * (uint64_t)geo->sector_size, err);
        if (ret < 0)
            return ret;
        if (get32(agf.magic) != XFS_AGF_MAGIC || get32(agi.magic) != XFS_AGI_MAGIC)
            return fail(err, -EUCLEAN, "The allocation group %u of the XFS has no header", group);
        *blocks_free += (uint64_t)get32(agf.blocks_free) + get32(agf.list_count) + get32(agf.btree_blocks);
        *inodes += get32(agi.count);
        *inodes_free += get32(agi.free);
    }
    return 0;
}

/* Inodes that there may be at most; 0: as many as there is room for. */
static uint64_t most_inodes(const struct xfs_geometry *geo) {
    uint32_t per_block = 1u << geo->inodes_per_block_log;
    uint32_t chunk = per_block > XFS_INODES_PER_CHUNK ? 1 : XFS_INODES_PER_CHUNK / per_block; /* blocks */
    uint64_t blocks = geo->blocks / 100 * geo->max_inode_percent + geo->blocks % 100 * geo->max_inode_percent / 100;
    return blocks / chunk * chunk << geo->inodes_per_block_log;
}

int xfs_space(struct fs *fs, struct fs_space *space, struct img_error *err) {
    struct xfs *xfs = (struct xfs *)fs;
    const struct xfs_geometry *geo = &xfs->geo;
    uint64_t free = geo->blocks_free, inodes = geo->inode_count, inodes_free = geo->inodes_free;
    if (fs->replayed && geo->lazy_count) {
        int ret = sum_groups(xfs, &free, &inodes, &inodes_free, err);
        if (ret < 0)
            return ret;
    }
    uint64_t held_back = 8 * (uint64_t)geo->ag_count; /* so that a group's trees can always grow */
    uint64_t log = geo->log_start && geo->log_blocks < geo->blocks ? geo->log_blocks : 0;
    if (free > geo->blocks)
        return fail(err, -EUCLEAN, "%" PRIu64 " of the XFS's %" PRIu64 " blocks are said to be free", free,
                    geo->blocks);
    free = free > held_back ? free - held_back : 0;
    uint64_t total = inodes + (free << geo->inodes_per_block_log), most = most_inodes(geo);
    if (most && total > most)
        total = most;
    if (total < inodes)
        total = inodes;
    uint64_t used = inodes > inodes_free ? inodes - inodes_free : 0;
    *space = (struct fs_space){.block_size = geo->block_size,
                               .blocks = geo->blocks - log,
                               .blocks_free = free,
                               .blocks_available = free,
                               .inodes = total,
                               .inodes_free = total > used ? total - used : 0};
    return 0;
}
