/* SPDX-License-Identifier: GPL-3.0-or-later */
/* replay_inode.c - the change of one inode: its head, which the log always has whole but in the order of the machine,
 * and what the inode keeps in its forks, which is in the order of the disk.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "../error.h"
#include "replay.h"

struct change {
    uint32_t fields;
    uint64_t address; /* byte of the device */
    struct xlog_buffer_place place;
    uint32_t device;
};

static int take_change(const struct xfs *xfs, const struct xlog_region *region, struct change *change,
                       struct img_error *err) {
    struct xlog_disk_inode disk;
    uint8_t *bytes = (uint8_t *)&disk;
    if (region->length == XLOG_INODE_SIZE) {
        memcpy(bytes, region->bytes, XLOG_INODE_SIZE);
    } else if (region->length == XLOG_INODE32_SIZE) {
        memcpy(bytes, region->bytes, XLOG_INODE_PAD);
        memcpy(bytes + offsetof(struct xlog_disk_inode, ino), region->bytes + XLOG_INODE_PAD,
               XLOG_INODE32_SIZE - XLOG_INODE_PAD);
    } else {
        return fail(err, -EUCLEAN, "An inode in the XFS log is described by %u bytes", region->length);
    }
    uint64_t sectors = xfs->device->size >> XFS_DADDR_SHIFT;
    uint32_t offset = get_le32(disk.offset);
    le32 device;
    memcpy(&device, disk.device, sizeof(device));
    *change = (struct change){.fields = get_le32(disk.fields),
                              .place = {get_le64(disk.daddr), get_le32(disk.length)},
                              .device = get_le32(device)};
    if (change->place.daddr >= sectors || offset > INT32_MAX || offset % xfs->geo.inode_size)
        return fail(err, -EUCLEAN, "The inode %" PRIu64 " in the XFS log is said to be at byte %u of sector %" PRIu64,
                    get_le64(disk.ino), offset, change->place.daddr);
    change->address = (change->place.daddr << XFS_DADDR_SHIFT) + offset;
    return 0;
}

static void reverse(uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count / 2; i++) {
        uint8_t byte = bytes[i];
        bytes[i] = bytes[count - 1 - i];
        bytes[count - 1 - i] = byte;
    }
}

/* Bytes of each number in the head, up to the chain of unlinked inodes; and of those of version 3 behind it. A time is
 * one number with bigtime, and two without; so is what counts extents. */
static void to_disk_order(uint8_t *head, bool v5) {
    static const uint8_t before[] = {2, 2, 1, 1, 2, 4, 4, 4, 2, 2};
    static const uint8_t behind[] = {8, 8, 4, 4, 2, 1, 1, 4, 2, 2, 4};
    static const uint8_t version3[] = {4, 8, 8, 8, 4};
    uint8_t *at = head;
    for (size_t i = 0; i < sizeof(before); at += before[i++])
        reverse(at, before[i]);
    uint64_t flags2 = v5 ? get_le64(*(const le64 *)(head + offsetof(struct xfs_disk_inode, flags2))) : 0;
    if (v5)
        reverse(at, sizeof(uint64_t));
    else
        reverse(at + 6, sizeof(uint16_t)); /* the counter of flushes */
    bool bigtime = flags2 & XFS_INODE2_BIGTIME;
    for (unsigned i = 0; i < 4; i++) {
        size_t place = i < 3 ? offsetof(struct xfs_disk_inode, atime) + 8 * i : offsetof(struct xfs_disk_inode, crtime);
        if (i == 3 && !v5)
            break;
        reverse(head + place, bigtime ? 8 : 4);
        if (!bigtime)
            reverse(head + place + 4, 4);
    }
    at = head + offsetof(struct xfs_disk_inode, size);
    for (size_t i = 0; i < sizeof(behind); at += behind[i++])
        reverse(at, behind[i]);
    if (!v5)
        return;
    at = head + offsetof(struct xfs_disk_inode, crc);
    for (size_t i = 0; i < sizeof(version3); at += version3[i++])
        reverse(at, version3[i]);
    reverse(head + offsetof(struct xfs_disk_inode, ino), sizeof(uint64_t));
}

static int change_head(const struct xfs *xfs, struct xfs_disk_inode *disk, const struct xlog_region *region,
                       uint64_t lsn, struct img_error *err) {
    size_t size = xfs->geo.v5 ? sizeof(*disk) : offsetof(struct xfs_disk_inode, next_unlinked);
    struct xfs_disk_inode head = *disk;
    if (region->length < size)
        return fail(err, -EUCLEAN, "An inode in the XFS log has a head of %u bytes", region->length);
    memcpy(&head, region->bytes, size);
    to_disk_order((uint8_t *)&head, xfs->geo.v5);
    if (get16(head.magic) != XFS_INODE_MAGIC)
        return fail(err, -EUCLEAN, "An inode in the XFS log has the magic number 0x%04x", get16(head.magic));
    head.next_unlinked = disk->next_unlinked;
    if (xfs->geo.v5)
        head.lsn = put64(lsn);
    memcpy(disk, &head, size);
    return 0;
}

/* The root of a tree as it is in memory: the header of a block, and room for no more than what it has. */
static int change_root(const struct xfs *xfs, uint8_t *fork, size_t room, const struct xlog_region *region,
                       struct img_error *err) {
    const struct xfs_disk_long_btree *from = (const struct xfs_disk_long_btree *)region->bytes;
    struct xfs_disk_bmbt_root *to = (struct xfs_disk_bmbt_root *)fork;
    size_t header = xfs->geo.v5 ? sizeof(*from) : XFS_BTREE_V4_HEADER;
    size_t from_most = region->length > header ? (region->length - header) / 16 : 0,
           to_most = (room - sizeof(*to)) / 16;
    size_t count = from_most ? get16(from->records) : 0;
    if (count == 0 || count > from_most || count > to_most)
        return fail(err, -EUCLEAN, "The root of an extent tree in the XFS log has %zu entries in %u bytes", count,
                    region->length);
    to->level = from->level;
    to->records = from->records;
    memcpy(fork + sizeof(*to), region->bytes + header, 8 * count);
    memcpy(fork + sizeof(*to) + 8 * to_most, region->bytes + header + 8 * from_most, 8 * count);
    return 0;
}

static int change_fork(const struct xfs *xfs, uint8_t *fork, size_t room, bool root, const struct xlog_region *region,
                       struct img_error *err) {
    if (root && room > sizeof(struct xfs_disk_bmbt_root))
        return change_root(xfs, fork, room, region, err);
    memcpy(fork, region->bytes, region->length < room ? region->length : room);
    return 0;
}

/* The regions behind the head: the data fork's, then the attribute fork's, of which each may be missing. */
static int change_forks(const struct xfs *xfs, uint8_t *inode, const struct change *change,
                        const struct xlog_item *item, struct img_error *err) {
    size_t start = xfs->geo.v5 ? sizeof(struct xfs_disk_inode) : XFS_INODE_V2_SIZE, room = xfs->geo.inode_size - start;
    size_t attr = 8u * ((const struct xfs_disk_inode *)inode)->fork_offset;
    unsigned next = 2;
    int ret = 0;
    if (attr >= room)
        return fail(err, -EUCLEAN, "An inode in the XFS log has its attributes at byte %zu of %zu", attr, room);
    if (change->fields & XLOG_INODE_DEVICE)
        *(be32 *)(inode + start) = put32(change->device);
    if (change->fields & XLOG_INODE_DATA && next < item->count)
        ret = change_fork(xfs, inode + start, attr ? attr : room, change->fields & XLOG_INODE_DATA_ROOT,
                          &item->regions[next++], err);
    if (ret == 0 && change->fields & XLOG_INODE_ATTR && next < item->count && attr)
        ret = change_fork(xfs, inode + start + attr, room - attr, change->fields & XLOG_INODE_ATTR_ROOT,
                          &item->regions[next], err);
    return ret;
}

/* Was what is on the disk written later? v4 counts how often an inode was written, up to a number and from 0 again. */
static bool is_newer(const struct xfs *xfs, const struct xfs_disk_inode *disk, const struct xlog_region *head,
                     uint64_t lsn) {
    enum { MOST = 0xffff };
    if (xfs->geo.v5) {
        uint64_t its = get64(disk->lsn);
        return its != 0 && its != UINT64_MAX && its > lsn;
    }
    unsigned its = get64(disk->extents64) & MOST;
    unsigned logged = head->length >= 32 ? get_le16(*(const le16 *)(head->bytes + 30)) : 0;
    return logged < its && !(its == MOST && logged < MOST / 2);
}

int xlog_replay_inode(struct xlog_replay *replay, struct xfs *xfs, const struct xlog_item *item, uint64_t lsn,
                      struct img_error *err) {
    uint8_t inode[XFS_MAX_INODE_SIZE];
    struct xfs_disk_inode *disk = (struct xfs_disk_inode *)inode;
    struct change change = {0};
    int ret = take_change(xfs, &item->regions[0], &change, err);
    if (ret < 0 || xlog_is_cancelled(replay, change.place))
        return ret;
    if (change.fields & (XLOG_INODE_DATA_OWNER | XLOG_INODE_ATTR_OWNER))
        xfs->owners_vary = true;
    if ((ret = device_read(xfs->device, inode, xfs->geo.inode_size, change.address, err)) < 0)
        return ret;
    if (get16(disk->magic) != XFS_INODE_MAGIC || item->count < 2)
        return fail(err, -EUCLEAN, "The XFS log changes an inode at byte %" PRIu64 " where there is none",
                    change.address);
    if (is_newer(xfs, disk, &item->regions[1], lsn))
        return 0;
    if ((ret = change_head(xfs, disk, &item->regions[1], lsn, err)) < 0 ||
        (ret = change_forks(xfs, inode, &change, item, err)) < 0)
        return ret;
    if (xfs->geo.v5)
        xfs_crc_set(inode, xfs->geo.inode_size, offsetof(struct xfs_disk_inode, crc));
    return device_write(xfs->overlay, inode, xfs->geo.inode_size, change.address, err);
}
