/* SPDX-License-Identifier: GPL-3.0-or-later */
/* log.c - the log as a ring of records: where it ends, where what counts begins, and the records between.
 *
 * The head (where the next record would go) is found by the cycle numbers in the blocks: up to it they are one higher
 * than behind it. The last records before it may have been on their way to the disk when it stopped, in any order, so
 * the head is where the first of them is not whole: by cycle numbers, and in v5 by its checksum. The last whole record
 * says where the tail is. If it is the one that an unmount writes there is nothing to replay.
 *
 * Positions are in blocks of 512 bytes from the front of the log, always below log->blocks.
 */
#include "log.h"

#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "../overlay.h"

enum {
    MAX_HEADERS = XLOG_MAX_RECORD / (XLOG_CYCLES * XLOG_BLOCK),
    MAX_BLOCKS = MAX_HEADERS + XLOG_MAX_RECORD / XLOG_BLOCK, /* of one record */
    MAX_OPEN_BLOCKS = XLOG_MAX_OPEN / XLOG_BLOCK,
};

struct log {
    struct xfs *xfs;
    uint64_t address; /* byte of the device */
    uint32_t blocks;
    uint8_t buffer[MAX_BLOCKS * XLOG_BLOCK]; /* the record that was read last */
};

struct record {
    uint32_t at;
    uint32_t headers, data; /* blocks */
    uint32_t length;        /* bytes of data */
    uint32_t operations;
    uint64_t lsn;
    uint32_t tail;
};

static uint32_t around(const struct log *log, uint64_t position) {
    return (uint32_t)(position % log->blocks);
}

static uint32_t distance(const struct log *log, uint32_t from, uint32_t to) {
    return to >= from ? to - from : to + (log->blocks - from);
}

static int read_blocks(struct log *log, uint32_t at, uint32_t count, uint8_t *to, struct img_error *err) {
    uint32_t first = count < log->blocks - at ? count : log->blocks - at;
    int ret =
        device_read(log->xfs->device, to, (size_t)first * XLOG_BLOCK, log->address + (uint64_t)at * XLOG_BLOCK, err);
    if (ret == 0 && first < count)
        ret = device_read(log->xfs->device, to + (size_t)first * XLOG_BLOCK, (size_t)(count - first) * XLOG_BLOCK,
                          log->address, err);
    return ret;
}

static uint32_t cycle_of(const uint8_t *block) {
    const struct xlog_disk_record *head = (const struct xlog_disk_record *)block;
    return get32(head->magic) == XLOG_MAGIC ? get32(head->cycle) : get32(head->magic);
}

static int read_cycle(struct log *log, uint32_t at, uint32_t *cycle, struct img_error *err) {
    uint8_t block[XLOG_BLOCK];
    int ret = read_blocks(log, at, 1, block, err);
    *cycle = ret == 0 ? cycle_of(block) : 0;
    return ret;
}

/* ---- records ---- */

/* Is the header that was read to `head` one that can be? */
static int check_header(struct log *log, const struct xlog_disk_record *head, uint32_t at, struct record *record,
                        struct img_error *err) {
    uint32_t version = get32(head->version), size = get32(head->size);
    *record = (struct record){.at = at,
                              .headers = 1,
                              .length = get32(head->length),
                              .operations = get32(head->operations),
                              .lsn = get64(head->lsn)};
    if (get32(head->magic) != XLOG_MAGIC || version == 0 || version > 3)
        return fail(err, -EUCLEAN, "The XFS log has no record at block %u", at);
    if (get32(head->format) != XLOG_FORMAT_LITTLE)
        return fail(err, -ENOTSUP, "The XFS log was written by a machine of another kind (format %u)",
                    get32(head->format));
    if (memcmp(&head->uuid, &log->xfs->geo.log_uuid, sizeof(xfs_uuid)) != 0)
        return fail(err, -EUCLEAN, "The XFS log's record at block %u has another filesystem's UUID", at);
    if (version & 2 && size > XLOG_CYCLES * XLOG_BLOCK)
        record->headers = size / (XLOG_CYCLES * XLOG_BLOCK) + (size % (XLOG_CYCLES * XLOG_BLOCK) != 0);
    if (record->headers > MAX_HEADERS || record->length == 0 || record->length > XLOG_MAX_RECORD)
        return fail(err, -EUCLEAN, "The XFS log's record at block %u has %u bytes, in a buffer of %u", at,
                    record->length, size);
    record->data = (record->length + XLOG_BLOCK - 1) / XLOG_BLOCK;
    if (record->headers + record->data > log->blocks)
        return fail(err, -EUCLEAN, "The XFS log's record at block %u is longer than the log", at);
    record->tail = (uint32_t)get64(head->tail_lsn);
    return 0;
}

static uint32_t record_crc(const struct log *log, const struct record *record, size_t header_bytes) {
    const uint8_t *block = log->buffer;
    struct xlog_disk_record head = *(const struct xlog_disk_record *)block;
    head.crc = put_le32(0);
    uint32_t sum = ext2fs_crc32c_le(~0u, (const uint8_t *)&head, header_bytes);
    for (uint32_t i = 1; i < record->headers; i++)
        sum = ext2fs_crc32c_le(sum, block + (size_t)i * XLOG_BLOCK, XLOG_MORE_CRC_BYTES);
    return ~ext2fs_crc32c_le(sum, block + (size_t)record->headers * XLOG_BLOCK, record->length);
}

static bool crc_ok(const struct log *log, const struct record *record) {
    uint32_t crc = get_le32(((const struct xlog_disk_record *)log->buffer)->crc);
    if (!log->xfs->geo.v5 || crc == 0) /* mkfs writes no checksum */
        return true;
    return crc == record_crc(log, record, XLOG_CRC_BYTES) || crc == record_crc(log, record, XLOG_I386_CRC_BYTES);
}

/* Reads the record to log->buffer, as it is on the disk. */
static int read_record(struct log *log, uint32_t at, struct record *record, struct img_error *err) {
    int ret = read_blocks(log, at, 1, log->buffer, err);
    if (ret == 0)
        ret = check_header(log, (const struct xlog_disk_record *)log->buffer, at, record, err);
    if (ret == 0)
        ret = read_blocks(log, at, record->headers + record->data, log->buffer, err);
    return ret;
}

/* Puts back the bytes that cycle numbers took the place of. */
static int restore_data(struct log *log, const struct record *record, struct img_error *err) {
    if (record->data > record->headers * XLOG_CYCLES)
        return fail(err, -EUCLEAN, "The XFS log's record at block %u has %u blocks and %u headers", record->at,
                    record->data, record->headers);
    for (uint32_t i = 0; i < record->data; i++) {
        const uint8_t *header = log->buffer + (size_t)(i / XLOG_CYCLES) * XLOG_BLOCK;
        be32 word = i < XLOG_CYCLES ? ((const struct xlog_disk_record *)header)->cycle_data[i]
                                    : ((const struct xlog_disk_more *)header)->cycle_data[i % XLOG_CYCLES];
        memcpy(log->buffer + (size_t)(record->headers + i) * XLOG_BLOCK, &word, sizeof(word));
    }
    return 0;
}

/* The last header before `at`, which must be as near as a record is long. */
static int find_before(struct log *log, uint32_t at, uint32_t *found, struct img_error *err) {
    uint32_t count = log->blocks < MAX_BLOCKS ? log->blocks : MAX_BLOCKS;
    uint32_t first = around(log, (uint64_t)at + log->blocks - count);
    int ret = read_blocks(log, first, count, log->buffer, err);
    if (ret < 0)
        return ret;
    for (uint32_t i = count; i-- > 0;) {
        const struct xlog_disk_record *head = (const struct xlog_disk_record *)(log->buffer + (size_t)i * XLOG_BLOCK);
        if (get32(head->magic) == XLOG_MAGIC) {
            *found = around(log, (uint64_t)first + i);
            return 0;
        }
    }
    return fail(err, -EUCLEAN, "The XFS log has no record before block %u", at);
}

/* ---- the head ---- */

/* The first block whose cycle is not that of block 0; log->blocks if all are the same. */
static int find_boundary(struct log *log, uint32_t first_cycle, uint32_t last_cycle, uint32_t *boundary,
                         struct img_error *err) {
    uint32_t low = 0, high = log->blocks - 1; /* of these low has the cycle, high has not */
    if (first_cycle == last_cycle) {
        *boundary = log->blocks;
        return 0;
    }
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2, cycle = 0;
        int ret = read_cycle(log, middle, &cycle, err);
        if (ret < 0)
            return ret;
        if (cycle == first_cycle)
            low = middle;
        else
            high = middle;
    }
    *boundary = high;
    return 0;
}

/* Moves *head back to the first block, of those that may have been on their way, that was not written. */
static int find_hole(struct log *log, uint32_t boundary, uint32_t first_cycle, uint32_t last_cycle, uint32_t *head,
                     struct img_error *err) {
    uint32_t count = log->blocks < MAX_OPEN_BLOCKS ? log->blocks : MAX_OPEN_BLOCKS, part;
    uint32_t before = count > boundary ? count - boundary : 0; /* of these, at the end of the log */
    *head = around(log, boundary);
    for (uint32_t done = 0; done < count; done += part) {
        uint32_t at = around(log, (uint64_t)boundary + log->blocks - count + done);
        part = count - done < MAX_BLOCKS ? count - done : MAX_BLOCKS;
        int ret = read_blocks(log, at, part, log->buffer, err);
        if (ret < 0)
            return ret;
        for (uint32_t i = 0; i < part; i++) {
            uint32_t expected = done + i < before ? last_cycle : first_cycle;
            if (cycle_of(log->buffer + (size_t)i * XLOG_BLOCK) != expected) {
                *head = around(log, (uint64_t)at + i);
                return 0;
            }
        }
    }
    return 0;
}

/* Moves *head back to the front of the record before it, if that is not whole. */
static int cut_part(struct log *log, uint32_t *head, struct img_error *err) {
    struct record record = {0};
    uint32_t at = 0;
    int ret = find_before(log, *head, &at, err);
    if (ret == 0)
        ret = read_record(log, at, &record, err);
    if (ret < 0)
        return ret;
    uint32_t there = distance(log, at, *head);
    if ((there ? there : log->blocks) != record.headers + record.data)
        *head = at;
    return 0;
}

/* Moves *head back to the first of the last records whose checksum is wrong. */
static int cut_torn(struct log *log, uint32_t *head, struct img_error *err) {
    uint32_t records[XLOG_MAX_OPEN_RECORDS], count = 0, at = *head, tail = 0;
    struct record record = {0};
    int ret;
    do {
        if ((ret = find_before(log, at, &at, err)) < 0)
            return ret;
        records[count++] = at;
        if (count == 1) {
            if ((ret = read_record(log, at, &record, err)) < 0)
                return ret;
            tail = record.tail;
        }
    } while (count < XLOG_MAX_OPEN_RECORDS && at != tail);
    while (count-- > 0) {
        if ((ret = read_record(log, records[count], &record, err)) < 0)
            return ret;
        if (!crc_ok(log, &record)) {
            *head = records[count];
            return 0;
        }
    }
    return 0;
}

/* *head, and the last record before it. -ENOENT: nothing was ever written. */
static int find_head(struct log *log, uint32_t *head, struct record *last, struct img_error *err) {
    uint32_t first_cycle = 0, last_cycle = 0, boundary = 0, at = 0;
    int ret = read_cycle(log, 0, &first_cycle, err);
    if (ret == 0)
        ret = read_cycle(log, log->blocks - 1, &last_cycle, err);
    if (ret < 0)
        return ret;
    if (first_cycle == 0)
        return -ENOENT;
    if ((ret = find_boundary(log, first_cycle, last_cycle, &boundary, err)) == 0 &&
        (ret = find_hole(log, boundary, first_cycle, last_cycle, head, err)) == 0 &&
        (ret = cut_part(log, head, err)) == 0 && (ret = cut_torn(log, head, err)) == 0 &&
        (ret = find_before(log, *head, &at, err)) == 0)
        ret = read_record(log, at, last, err);
    return ret;
}

static bool is_unmount(const struct log *log, const struct record *record) {
    const struct xlog_disk_operation *operation =
        (const struct xlog_disk_operation *)(log->buffer + (size_t)record->headers * XLOG_BLOCK);
    return record->operations == 1 && (operation->flags & XLOG_UNMOUNT);
}

/* ---- from tail to head ---- */

static int walk(struct log *log, uint32_t tail, uint32_t head, struct xlog_parser *parser, struct img_error *err) {
    uint32_t left = distance(log, tail, head);
    int ret = 0;
    for (uint32_t at = tail; left > 0 && ret == 0;) {
        struct record record = {0};
        if ((ret = read_record(log, at, &record, err)) < 0)
            break;
        uint32_t blocks = record.headers + record.data;
        if (!crc_ok(log, &record))
            ret = fail(err, -EUCLEAN, "The checksum of the XFS log's record at block %u is wrong", at);
        else if (blocks > left)
            ret = fail(err, -EUCLEAN, "The XFS log's record at block %u goes past the head at block %u", at, head);
        if (ret == 0)
            ret = restore_data(log, &record, err);
        if (ret == 0)
            ret = xlog_parse(parser, log->buffer + (size_t)record.headers * XLOG_BLOCK, record.length,
                             record.operations, record.lsn, err);
        at = around(log, (uint64_t)at + blocks);
        left -= ret == 0 ? blocks : 0;
    }
    xlog_parser_clear(parser);
    return ret;
}

static int replay_between(struct log *log, uint32_t tail, uint32_t head, struct img_error *err) {
    struct xlog_replay *replay = NULL;
    struct xfs *xfs = log->xfs;
    int ret = device_of_overlay(xfs->device, XLOG_BLOCK, &xfs->overlay, err);
    if (ret < 0)
        return ret;
    xfs->device = xfs->overlay;
    if ((ret = xlog_replay_new(xfs, &replay, err)) < 0)
        return ret;
    struct xlog_parser first = {.commit = xlog_replay_note, .opaque = replay};
    struct xlog_parser second = {.commit = xlog_replay_make, .opaque = replay};
    if ((ret = walk(log, tail, head, &first, err)) == 0 && (ret = walk(log, tail, head, &second, err)) == 0)
        ret = xlog_replay_end(replay, err);
    xlog_replay_free(replay);
    return ret;
}

static int replay_log(struct log *log, struct img_error *err) {
    struct record last = {0};
    uint32_t head = 0;
    int ret = find_head(log, &head, &last, err);
    if (ret == -ENOENT)
        return 0;
    if (ret < 0 || is_unmount(log, &last))
        return ret;
    if (last.tail >= log->blocks)
        return fail(err, -EUCLEAN, "The XFS log's tail is said to be block %u of %u", last.tail, log->blocks);
    log->xfs->fs.replayed = true;
    return replay_between(log, last.tail, head, err);
}

int xfs_log_replay(struct xfs *xfs, struct img_error *err) {
    const struct xfs_geometry *geo = &xfs->geo;
    uint64_t blocks = (uint64_t)geo->log_blocks << (geo->block_log - XFS_DADDR_SHIFT);
    if (!xfs_fsblock_ok(geo, geo->log_start, geo->log_blocks) || blocks < 2 || blocks > UINT32_MAX)
        return fail(err, -EUCLEAN, "The XFS log has %u blocks from block 0x%" PRIx64, geo->log_blocks, geo->log_start);
    struct log *log = malloc(sizeof(*log));
    if (!log)
        return fail_no_memory(err);
    log->xfs = xfs;
    log->address = xfs_fsblock_address(geo, geo->log_start);
    log->blocks = (uint32_t)blocks;
    int ret = replay_log(log, err);
    free(log);
    return ret;
}
