/* SPDX-License-Identifier: GPL-3.0-or-later */
/* transaction.c - puts the operations of log records together to transactions. Records hold parts of several
 * transactions side by side, and a region may begin in one record and end in the next; what is kept is never more than
 * what was read.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "log.h"

static void free_transaction(struct xlog_transaction *transaction) {
    while (transaction->first) {
        struct xlog_item *item = transaction->first;
        transaction->first = item->next;
        for (unsigned i = 0; i < item->count; i++)
            free(item->regions[i].bytes);
        free(item);
    }
    free(transaction);
}

static struct xlog_transaction **find(struct xlog_parser *parser, uint32_t id) {
    struct xlog_transaction **link = &parser->open[id % XLOG_HASH];
    while (*link && (*link)->id != id)
        link = &(*link)->next;
    return link;
}

static void end(struct xlog_transaction **link) {
    struct xlog_transaction *transaction = *link;
    *link = transaction->next;
    free_transaction(transaction);
}

void xlog_parser_clear(struct xlog_parser *parser) {
    for (size_t i = 0; i < XLOG_HASH; i++)
        while (parser->open[i])
            end(&parser->open[i]);
}

static int begin(struct xlog_parser *parser, uint32_t id, uint64_t lsn, struct img_error *err) {
    struct xlog_transaction **link = find(parser, id);
    if (*link)
        return fail(err, -EUCLEAN, "The transaction %08x in the XFS log begins twice", id);
    struct xlog_transaction *transaction = calloc(1, sizeof(*transaction));
    if (!transaction)
        return fail_no_memory(err);
    transaction->id = id;
    transaction->lsn = lsn;
    *link = transaction;
    return 0;
}

/* The header comes before all items, and may be cut by the end of a record as they may be. */
static int take_head(struct xlog_transaction *transaction, const uint8_t *bytes, uint32_t length,
                     struct img_error *err) {
    if (length > sizeof(transaction->head) - transaction->head_done)
        return fail(err, -EUCLEAN, "A transaction in the XFS log has a header of %u bytes", length);
    memcpy(transaction->head + transaction->head_done, bytes, length);
    transaction->head_done += length;
    if (transaction->head_done < sizeof(transaction->head))
        return 0;
    uint32_t magic = get_le32(((const struct xlog_disk_transaction *)transaction->head)->magic);
    if (magic != XLOG_TRANSACTION_MAGIC)
        return fail(err, -EUCLEAN, "A transaction in the XFS log has the magic number 0x%08x", magic);
    return 0;
}

static int add_item(struct xlog_transaction *transaction, const uint8_t *bytes, uint32_t length,
                    struct img_error *err) {
    const struct xlog_disk_item *head = (const struct xlog_disk_item *)bytes;
    unsigned regions = length >= sizeof(*head) ? get_le16(head->regions) : 0;
    if (regions == 0 || regions > XLOG_MAX_REGIONS)
        return fail(err, -EUCLEAN, "An item in the XFS log has %u regions", regions);
    struct xlog_item *item = calloc(1, sizeof(*item) + regions * sizeof(item->regions[0]));
    if (!item)
        return fail_no_memory(err);
    item->wanted = regions;
    if (transaction->last)
        transaction->last->next = item;
    else
        transaction->first = item;
    transaction->last = item;
    return 0;
}

static int add_region(struct xlog_transaction *transaction, const uint8_t *bytes, uint32_t length,
                      struct img_error *err) {
    if (transaction->head_done < sizeof(transaction->head))
        return take_head(transaction, bytes, length, err);
    struct xlog_item *item = transaction->last;
    if (!item || item->count == item->wanted) {
        int ret = add_item(transaction, bytes, length, err);
        if (ret < 0)
            return ret;
        item = transaction->last;
    }
    uint8_t *copy = malloc(length);
    if (!copy)
        return fail_no_memory(err);
    memcpy(copy, bytes, length);
    item->regions[item->count++] = (struct xlog_region){copy, length};
    return 0;
}

static int continue_region(struct xlog_transaction *transaction, const uint8_t *bytes, uint32_t length,
                           struct img_error *err) {
    struct xlog_item *item = transaction->last;
    if (!item)
        return take_head(transaction, bytes, length, err);
    struct xlog_region *region = &item->regions[item->count - 1];
    if (length > UINT32_MAX / 2 - region->length)
        return fail(err, -EUCLEAN, "A region in the XFS log goes on for more than %u bytes", region->length);
    uint8_t *longer = realloc(region->bytes, region->length + length);
    if (!longer)
        return fail_no_memory(err);
    memcpy(longer + region->length, bytes, length);
    region->bytes = longer;
    region->length += length;
    return 0;
}

static int commit(struct xlog_parser *parser, struct xlog_transaction **link, struct img_error *err) {
    const struct xlog_transaction *transaction = *link;
    int ret = 0;
    if (transaction->last && transaction->last->count != transaction->last->wanted)
        ret = fail(err, -EUCLEAN, "The transaction %08x in the XFS log ends within an item", transaction->id);
    else
        ret = parser->commit(parser->opaque, transaction, err);
    end(link);
    return ret;
}

static int take_operation(struct xlog_parser *parser, const struct xlog_disk_operation *operation, const uint8_t *bytes,
                          uint32_t length, uint64_t lsn, struct img_error *err) {
    uint32_t id = get32(operation->transaction);
    if (operation->flags & XLOG_START)
        return begin(parser, id, lsn, err);
    struct xlog_transaction **link = find(parser, id);
    if (!*link) /* it began before the tail of the log, and is on the disk; or it is the unmount's */
        return 0;
    if (operation->flags & XLOG_COMMIT)
        return commit(parser, link, err);
    if (operation->flags & XLOG_UNMOUNT || length == 0)
        return 0;
    if (operation->flags & XLOG_CONTINUED)
        return continue_region(*link, bytes, length, err);
    return add_region(*link, bytes, length, err);
}

int xlog_parse(struct xlog_parser *parser, const uint8_t *data, size_t length, uint32_t operations, uint64_t lsn,
               struct img_error *err) {
    for (; operations > 0 && length > 0; operations--) {
        const struct xlog_disk_operation *operation = (const struct xlog_disk_operation *)data;
        size_t size = sizeof(*operation);
        if (length < size || get32(operation->length) > length - size)
            return fail(err, -EUCLEAN, "An operation in the XFS log does not fit into the last %zu bytes of its record",
                        length);
        uint32_t bytes = get32(operation->length);
        int ret = take_operation(parser, operation, data + size, bytes, lsn, err);
        if (ret < 0)
            return ret;
        data += size + bytes;
        length -= size + bytes;
    }
    return 0;
}
