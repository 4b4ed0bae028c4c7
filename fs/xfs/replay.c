/* SPDX-License-Identifier: GPL-3.0-or-later */
/* replay.c - does what the transactions of the log say, on the overlay: changes of buffers and new chunks of inodes
 * here, changes of single inodes in replay_inode.c, what was left undone in intents.c. All else (other intents, quotas,
 * the chain of unlinked inodes) changes nothing that a reader of files sees.
 *
 * Two rules keep old changes from spoiling what is newer. A buffer that was given up ("cancelled") further on in the
 * log is not changed until there: its blocks may be something else by now. And in v5 a block whose own sequence number
 * (LSN) is not below the transaction's was written later. A block takes on the LSN and a new checksum only when the
 * next transaction has another LSN: those of one checkpoint share it, and each of them counts.
 */
#include "replay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"

struct cancelled {
    struct cancelled *next;
    struct xlog_buffer_place place;
    unsigned times;
};

enum { CANCEL_HASH = 4096, MAX_BUFFER = 128 << 10 /* bytes: more than any that is logged */ };

struct xlog_replay {
    struct xfs *xfs;
    struct cancelled *cancelled[CANCEL_HASH];
    struct xlog_buffer_place *changed; /* that have not got their LSN and checksum */
    size_t changed_count, changed_room;
    uint64_t lsn; /* of the transactions that changed them */
    uint8_t buffer[MAX_BUFFER];
};

int xlog_replay_new(struct xfs *xfs, struct xlog_replay **result, struct img_error *err) {
    struct xlog_replay *replay = calloc(1, sizeof(*replay));
    if (!replay)
        return fail_no_memory(err);
    replay->xfs = xfs;
    *result = replay;
    return 0;
}

void xlog_replay_free(struct xlog_replay *replay) {
    for (size_t i = 0; i < CANCEL_HASH; i++) {
        while (replay->cancelled[i]) {
            struct cancelled *gone = replay->cancelled[i];
            replay->cancelled[i] = gone->next;
            free(gone);
        }
    }
    free(replay->changed);
    free(replay);
}

/* ---- what was given up ---- */

static struct cancelled **find_cancelled(struct xlog_replay *replay, struct xlog_buffer_place place) {
    struct cancelled **link = &replay->cancelled[place.daddr * 0x9e3779b97f4a7c15ull >> 52];
    while (*link && ((*link)->place.daddr != place.daddr || (*link)->place.sectors != place.sectors))
        link = &(*link)->next;
    return link;
}

bool xlog_is_cancelled(struct xlog_replay *replay, struct xlog_buffer_place place) {
    return *find_cancelled(replay, place);
}

/* The place that a buffer item names; -EUCLEAN: it is not inside the device, or the item is cut off. */
static int buffer_place(const struct xlog_replay *replay, const struct xlog_item *item, struct xlog_buffer_place *place,
                        struct img_error *err) {
    const struct xlog_disk_buffer *disk = (const struct xlog_disk_buffer *)item->regions[0].bytes;
    uint32_t length = item->regions[0].length;
    if (length < sizeof(*disk) || get_le32(disk->map_words) > (length - sizeof(*disk)) / sizeof(le32))
        return fail(err, -EUCLEAN, "A buffer in the XFS log is described by %u bytes", length);
    *place = (struct xlog_buffer_place){get_le64(disk->daddr), get_le16(disk->length)};
    uint64_t sectors = replay->xfs->device->size >> XFS_DADDR_SHIFT;
    if (place->sectors == 0 || place->daddr > sectors || place->sectors > sectors - place->daddr)
        return fail(err, -EUCLEAN, "A buffer in the XFS log is said to have %u sectors from sector %" PRIu64,
                    place->sectors, place->daddr);
    return 0;
}

int xlog_replay_note(void *opaque, const struct xlog_transaction *transaction, struct img_error *err) {
    struct xlog_replay *replay = opaque;
    for (const struct xlog_item *item = transaction->first; item; item = item->next) {
        unsigned type = xlog_item_type(item);
        struct xlog_buffer_place place = {0};
        if (type < XLOG_ITEM_FIRST || type > XLOG_ITEM_LAST)
            return fail(err, -EUCLEAN, "An item in the XFS log has the type 0x%x", type);
        if (type != XLOG_ITEM_BUFFER)
            continue;
        int ret = buffer_place(replay, item, &place, err);
        if (ret < 0)
            return ret;
        if (!(get_le16(((const struct xlog_disk_buffer *)item->regions[0].bytes)->flags) & XLOG_BUFFER_CANCEL))
            continue;
        struct cancelled **link = find_cancelled(replay, place);
        if (!*link && !(*link = calloc(1, sizeof(**link))))
            return fail_no_memory(err);
        (*link)->place = place;
        (*link)->times++;
    }
    return 0;
}

static void reach_cancel(struct xlog_replay *replay, struct xlog_buffer_place place) {
    struct cancelled **link = find_cancelled(replay, place), *gone = *link;
    if (gone && --gone->times == 0) {
        *link = gone->next;
        free(gone);
    }
}

/* ---- LSNs and checksums ---- */

static int note_changed(struct xlog_replay *replay, struct xlog_buffer_place place, struct img_error *err) {
    if (!replay->xfs->geo.v5)
        return 0;
    if (replay->changed_count == replay->changed_room) {
        size_t room = replay->changed_room ? 2 * replay->changed_room : 256;
        struct xlog_buffer_place *more = realloc(replay->changed, room * sizeof(*more));
        if (!more)
            return fail_no_memory(err);
        replay->changed = more;
        replay->changed_room = room;
    }
    replay->changed[replay->changed_count++] = place;
    return 0;
}

static int read_buffer(struct xlog_replay *replay, struct xlog_buffer_place place, size_t *length,
                       struct img_error *err) {
    *length = (size_t)place.sectors << XFS_DADDR_SHIFT;
    if (*length > sizeof(replay->buffer))
        return fail(err, -EUCLEAN, "A buffer in the XFS log has %u sectors", place.sectors);
    return device_read(replay->xfs->device, replay->buffer, *length, place.daddr << XFS_DADDR_SHIFT, err);
}

/* A buffer of inodes: each has a checksum of its own, and an LSN that is not the buffer's. */
static void seal_inodes(const struct xlog_replay *replay, uint8_t *buffer, size_t length) {
    uint32_t size = replay->xfs->geo.inode_size;
    for (size_t at = 0; at + size <= length; at += size)
        if (get16(*(const be16 *)(buffer + at)) == XFS_INODE_MAGIC)
            xfs_crc_set(buffer + at, size, offsetof(struct xfs_disk_inode, crc));
}

static int seal(struct xlog_replay *replay, struct xlog_buffer_place place, struct img_error *err) {
    uint8_t *buffer = replay->buffer;
    size_t length = 0;
    int ret = read_buffer(replay, place, &length, err);
    if (ret < 0)
        return ret;
    const struct xfs_shape *shape = xfs_shape_of(buffer, length);
    if (get16(*(const be16 *)buffer) == XFS_INODE_MAGIC) {
        seal_inodes(replay, buffer, length);
    } else if (shape && shape->v5) {
        *(be64 *)(buffer + shape->lsn) = put64(replay->lsn);
        xfs_crc_set(buffer, length, shape->crc);
    } else {
        return 0;
    }
    return device_write(replay->xfs->overlay, buffer, length, place.daddr << XFS_DADDR_SHIFT, err);
}

static int seal_changed(struct xlog_replay *replay, struct img_error *err) {
    int ret = 0;
    for (size_t i = 0; i < replay->changed_count && ret == 0; i++)
        ret = seal(replay, replay->changed[i], err);
    replay->changed_count = 0;
    return ret;
}

/* ---- buffers ---- */

static bool is_newer(const struct xlog_replay *replay, size_t length, uint64_t lsn) {
    const struct xfs_shape *shape = xfs_shape_of(replay->buffer, length);
    if (!replay->xfs->geo.v5 || !shape || !shape->v5 || shape->kind == XFS_KIND_ATTR_REMOTE)
        return false;
    if (shape->magic != XFS_SB_MAGIC &&
        memcmp(replay->buffer + shape->uuid, &replay->xfs->geo.uuid, sizeof(xfs_uuid)) != 0)
        return false; /* left from another filesystem */
    uint64_t its = get64(*(const be64 *)(replay->buffer + shape->lsn));
    return its != 0 && its != UINT64_MAX && its >= lsn;
}

static bool chunk_dirty(const struct xlog_disk_buffer *disk, uint32_t chunk) {
    return chunk / 32 < get_le32(disk->map_words) && get_le32(disk->map[chunk / 32]) >> chunk % 32 & 1;
}

/* Each region is a run of dirty chunks, or the front of a run that goes on in the next. */
static int copy_chunks(const struct xlog_replay *replay, const struct xlog_item *item, struct xlog_buffer_place place,
                       struct img_error *err) {
    const struct xlog_disk_buffer *disk = (const struct xlog_disk_buffer *)item->regions[0].bytes;
    uint32_t chunks = place.sectors * (512 / XLOG_CHUNK), chunk = 0;
    uint64_t address = place.daddr << XFS_DADDR_SHIFT;
    for (unsigned i = 1; i < item->count; i++) {
        uint32_t run = 0, most = item->regions[i].length / XLOG_CHUNK;
        while (chunk < chunks && !chunk_dirty(disk, chunk))
            chunk++;
        while (run < most && chunk + run < chunks && chunk_dirty(disk, chunk + run))
            run++;
        if (run == 0)
            return fail(err, -EUCLEAN, "Region %u of a buffer in the XFS log has no place in it", i);
        int ret = device_write(replay->xfs->overlay, item->regions[i].bytes, (size_t)run * XLOG_CHUNK,
                               address + (uint64_t)chunk * XLOG_CHUNK, err);
        if (ret < 0)
            return ret;
        chunk += run;
    }
    return 0;
}

static int replay_buffer(struct xlog_replay *replay, const struct xlog_item *item, uint64_t lsn,
                         struct img_error *err) {
    unsigned flags = get_le16(((const struct xlog_disk_buffer *)item->regions[0].bytes)->flags);
    struct xlog_buffer_place place = {0};
    size_t length = 0;
    int ret = buffer_place(replay, item, &place, err);
    if (ret < 0)
        return ret;
    if (flags & XLOG_BUFFER_CANCEL) {
        reach_cancel(replay, place);
        return 0;
    }
    if (flags & (XLOG_BUFFER_INODES | XLOG_BUFFER_QUOTA) || xlog_is_cancelled(replay, place))
        return 0;
    if ((ret = read_buffer(replay, place, &length, err)) < 0 || is_newer(replay, length, lsn))
        return ret;
    if ((ret = copy_chunks(replay, item, place, err)) == 0)
        ret = note_changed(replay, place, err);
    return ret;
}

/* ---- new inodes ---- */

static int create_inodes(struct xlog_replay *replay, uint64_t fsblock, uint32_t count, uint32_t generation,
                         struct img_error *err) {
    const struct xfs_geometry *geo = &replay->xfs->geo;
    uint8_t inode[XFS_MAX_INODE_SIZE] = {0};
    struct xfs_disk_inode *disk = (struct xfs_disk_inode *)inode;
    uint64_t address = xfs_fsblock_address(geo, fsblock);
    disk->magic = put16(XFS_INODE_MAGIC);
    disk->version = geo->v5 ? 3 : 2;
    disk->generation = put32(generation);
    disk->next_unlinked = put32(UINT32_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (geo->v5) {
            disk->ino = put64((fsblock << geo->inodes_per_block_log) + i);
            disk->uuid = geo->uuid;
            xfs_crc_set(inode, geo->inode_size, offsetof(struct xfs_disk_inode, crc));
        }
        int ret =
            device_write(replay->xfs->overlay, inode, geo->inode_size, address + ((uint64_t)i << geo->inode_log), err);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int replay_icreate(struct xlog_replay *replay, const struct xlog_item *item, struct img_error *err) {
    const struct xfs_geometry *geo = &replay->xfs->geo;
    const struct xlog_disk_icreate *disk = (const struct xlog_disk_icreate *)item->regions[0].bytes;
    if (item->regions[0].length < sizeof(*disk))
        return fail(err, -EUCLEAN, "A chunk of inodes in the XFS log is described by %u bytes",
                    item->regions[0].length);
    uint32_t group = get32(disk->group), block = get32(disk->block), blocks = get32(disk->length);
    uint32_t count = get32(disk->count), step = geo->inode_buffer >> geo->block_log;
    uint64_t fsblock = (uint64_t)group << geo->ag_block_log | block;
    bool inside = group < geo->ag_count && block < geo->ag_blocks && blocks > 0 && blocks <= XFS_INODES_PER_CHUNK &&
                  xfs_fsblock_ok(geo, fsblock, blocks);
    if (!inside || count != blocks << geo->inodes_per_block_log || get32(disk->inode_size) != geo->inode_size)
        return fail(err, -EUCLEAN, "The XFS log makes %u inodes of %u bytes in %u blocks of group %u", count,
                    get32(disk->inode_size), blocks, group);
    for (uint32_t i = 0; i < blocks; i += step) {
        struct xlog_buffer_place place = {xfs_fsblock_address(geo, fsblock + i) >> XFS_DADDR_SHIFT,
                                          geo->inode_buffer >> XFS_DADDR_SHIFT};
        if (xlog_is_cancelled(replay, place))
            return 0;
    }
    return create_inodes(replay, fsblock, count, get32(disk->generation), err);
}

/* ---- a transaction ---- */

enum stage { STAGE_BUFFERS, STAGE_INODES, STAGE_CANCEL, STAGES };

/* Buffers come first, so that an inode finds the chunk that it is in; what is given up comes last. */
static enum stage stage_of(const struct xlog_item *item) {
    unsigned type = xlog_item_type(item);
    if (type == XLOG_ITEM_BUFFER &&
        get_le16(((const struct xlog_disk_buffer *)item->regions[0].bytes)->flags) & XLOG_BUFFER_CANCEL)
        return STAGE_CANCEL;
    return type == XLOG_ITEM_BUFFER || type == XLOG_ITEM_ICREATE ? STAGE_BUFFERS : STAGE_INODES;
}

static int replay_item(struct xlog_replay *replay, const struct xlog_item *item, uint64_t lsn, struct img_error *err) {
    switch (xlog_item_type(item)) {
    case XLOG_ITEM_BUFFER:
        return replay_buffer(replay, item, lsn, err);
    case XLOG_ITEM_ICREATE:
        return replay_icreate(replay, item, err);
    case XLOG_ITEM_INODE:
        return xlog_replay_inode(replay, replay->xfs, item, lsn, err);
    case XLOG_ITEM_MAP:
        return xlog_replay_map(replay->xfs, item, err);
    case XLOG_ITEM_MAP_DONE:
        return xlog_replay_map_done(replay->xfs, item, err);
    default:
        return 0;
    }
}

int xlog_replay_make(void *opaque, const struct xlog_transaction *transaction, struct img_error *err) {
    struct xlog_replay *replay = opaque;
    int ret = 0;
    if (transaction->lsn != replay->lsn)
        ret = seal_changed(replay, err);
    replay->lsn = transaction->lsn;
    for (int stage = 0; stage < STAGES && ret == 0; stage++)
        for (const struct xlog_item *item = transaction->first; item && ret == 0; item = item->next)
            if (stage_of(item) == (enum stage)stage)
                ret = replay_item(replay, item, transaction->lsn, err);
    return ret;
}

int xlog_replay_end(struct xlog_replay *replay, struct img_error *err) {
    return seal_changed(replay, err);
}
