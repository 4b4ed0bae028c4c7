/* SPDX-License-Identifier: GPL-3.0-or-later */
/* log.h - the three steps of a replay: log.c finds the records that count and reads them, transaction.c puts what they
 * hold together to transactions, replay.c does what these say.
 */
#ifndef FS_XFS_LOG_H
#define FS_XFS_LOG_H

#include "log_format.h"
#include "xfs.h"

/* ---- transaction.c ---- */

struct xlog_region {
    uint8_t *bytes;
    uint32_t length;
};

/* One change, its regions all there. The first begins with struct xlog_disk_item. */
struct xlog_item {
    struct xlog_item *next;
    unsigned wanted, count; /* regions */
    struct xlog_region regions[];
};

struct xlog_transaction {
    struct xlog_transaction *next;
    uint32_t id;
    uint64_t lsn; /* of the record in which it begins */
    uint8_t head[sizeof(struct xlog_disk_transaction)];
    size_t head_done;
    struct xlog_item *first, *last;
};

enum { XLOG_HASH = 64 };

struct xlog_parser {
    int (*commit)(void *opaque, const struct xlog_transaction *transaction, struct img_error *err);
    void *opaque;
    struct xlog_transaction *open[XLOG_HASH];
};

static inline unsigned xlog_item_type(const struct xlog_item *item) {
    return get_le16(((const struct xlog_disk_item *)item->regions[0].bytes)->type);
}

/* The operations of one record, behind which there may be anything; `commit` is called with each transaction that ends.
 */
int xlog_parse(struct xlog_parser *parser, const uint8_t *data, size_t length, uint32_t operations, uint64_t lsn,
               struct img_error *err);
/* Forgets transactions that never end. */
void xlog_parser_clear(struct xlog_parser *parser);

/* ---- replay.c ---- */

struct xlog_replay;

int xlog_replay_new(struct xfs *xfs, struct xlog_replay **result, struct img_error *err);
void xlog_replay_free(struct xlog_replay *replay);
/* The first pass notes which buffers were given up, the second makes the changes. */
int xlog_replay_note(void *opaque, const struct xlog_transaction *transaction, struct img_error *err);
int xlog_replay_make(void *opaque, const struct xlog_transaction *transaction, struct img_error *err);
/* Behind the last transaction. */
int xlog_replay_end(struct xlog_replay *replay, struct img_error *err);

#endif
