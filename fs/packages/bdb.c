/* SPDX-License-Identifier: GPL-3.0-or-later */
/* bdb.c - Packages, up to RHEL 8: a hash table of Berkeley DB, whose values are headers.
 *
 * The hash is of no interest to who wants all: every page of the file is looked at, and those that hold entries of the
 * table are gone through. Entries lie from the end of the page to its front, a key and a value in turn; a long value is
 * a chain of overflow pages. Numbers are in the byte order of the machine that made the file.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "rpm.h"

#define HASH_MAGIC 0x00061561u
#define PAGE_HEAD 26
#define PAGE_MAX 65536

enum { PAGE_HASH_UNSORTED = 2, PAGE_OVERFLOW = 7, PAGE_HASH_META = 8, PAGE_HASH = 13 };
enum { ITEM_KEYDATA = 1, ITEM_OFFPAGE = 3 };

struct bdb {
    struct rpm_file *file;
    bool big_endian;
    uint32_t page_size, pages;
    struct rpm_blob value;
    rpm_blob_call call;
    void *opaque;
};

static uint32_t number16(const struct bdb *db, const uint8_t *p) {
    return db->big_endian ? big16(p) : little16(p);
}

static uint32_t number32(const struct bdb *db, const uint8_t *p) {
    return db->big_endian ? big32(p) : little32(p);
}

static int read_page(struct bdb *db, uint32_t number, uint8_t *page, struct img_error *err) {
    if (number >= db->pages)
        return fail(err, -EUCLEAN, "%s: page %u of %u is asked for", db->file->path, number, db->pages);
    return rpm_file_read(db->file, page, db->page_size, (uint64_t)number * db->page_size, err);
}

static int read_meta(struct bdb *db, struct img_error *err) {
    uint8_t meta[72] = {0};
    int ret = rpm_file_read(db->file, meta, sizeof(meta), 0, err);
    if (ret < 0)
        return ret;
    db->big_endian = big32(meta + 12) == HASH_MAGIC;
    if (number32(db, meta + 12) != HASH_MAGIC || meta[25] != PAGE_HASH_META)
        return fail(err, -EUCLEAN, "%s: not a hash table of Berkeley DB", db->file->path);
    db->page_size = number32(db, meta + 20);
    if (db->page_size < 512 || db->page_size > PAGE_MAX || (db->page_size & (db->page_size - 1)) != 0)
        return fail(err, -EUCLEAN, "%s: pages of %u bytes", db->file->path, db->page_size);
    if (meta[24] != 0)
        return fail(err, -ENOTSUP, "%s: the database is encrypted", db->file->path);
    db->pages = (uint32_t)(db->file->size / db->page_size);
    return 0;
}

/* A chain of overflow pages; each says how many bytes it holds. */
static int read_overflow(struct bdb *db, uint32_t number, uint32_t total, struct img_error *err) {
    uint8_t *page = calloc(1, PAGE_MAX);
    int ret = page ? 0 : fail_no_memory(err);
    db->value.length = 0;
    while (ret == 0 && db->value.length < total) {
        if ((ret = read_page(db, number, page, err)) < 0)
            break;
        uint32_t count = number16(db, page + 22);
        if (page[25] != PAGE_OVERFLOW || count == 0 || count > db->page_size - PAGE_HEAD) {
            ret = fail(err, -EUCLEAN, "%s: page %u, of type %u and %u bytes, is no overflow page", db->file->path,
                       number, page[25], count);
            break;
        }
        if (count > total - db->value.length)
            count = (uint32_t)(total - db->value.length);
        uint8_t *room;
        ret = rpm_blob_grow(&db->value, count, &room, err);
        if (ret == 0)
            memcpy(room, page + PAGE_HEAD, count);
        number = number32(db, page + 16);
    }
    free(page);
    return ret;
}

/* The value between `start` and `end` of a page. */
static int read_value(struct bdb *db, const uint8_t *page, size_t start, size_t end, struct img_error *err) {
    size_t length = end - start;
    const uint8_t *item = page + start;
    if (item[0] == ITEM_OFFPAGE && length >= 12) {
        int ret = read_overflow(db, number32(db, item + 4), number32(db, item + 8), err);
        return ret == 0 ? db->call(db->opaque, db->value.bytes, db->value.length, err) : ret;
    }
    /* The record 0 has the number of the next package alone. */
    return item[0] == ITEM_KEYDATA && length > 16 ? db->call(db->opaque, item + 1, length - 1, err) : 0;
}

static int read_entries(struct bdb *db, uint32_t number, const uint8_t *page, struct img_error *err) {
    unsigned entries = number16(db, page + 20);
    size_t end = db->page_size;
    int ret = 0;
    if (PAGE_HEAD + 2 * (size_t)entries > db->page_size)
        return fail(err, -EUCLEAN, "%s: page %u claims %u entries", db->file->path, number, entries);
    for (unsigned i = 0; i < entries && ret == 0; i++) {
        size_t start = number16(db, page + PAGE_HEAD + 2 * (size_t)i);
        if (start < PAGE_HEAD + 2 * (size_t)entries || start >= end)
            return fail(err, -EUCLEAN, "%s: page %u has an entry at %zu", db->file->path, number, start);
        if (i % 2 == 1)
            ret = read_value(db, page, start, end, err);
        end = start;
    }
    return ret;
}

static int each(struct rpm_file *file, struct rpm_file *log, rpm_blob_call call, void *opaque, struct img_error *err) {
    struct bdb db = {.file = file, .call = call, .opaque = opaque};
    (void)log;
    int ret = read_meta(&db, err);
    uint8_t *page = ret == 0 ? calloc(1, PAGE_MAX) : NULL;
    if (ret == 0 && !page)
        ret = fail_no_memory(err);
    for (uint32_t i = 1; ret == 0 && i < db.pages; i++) {
        ret = read_page(&db, i, page, err);
        if (ret == 0 && (page[25] == PAGE_HASH || page[25] == PAGE_HASH_UNSORTED))
            ret = read_entries(&db, i, page, err);
    }
    free(page);
    free(db.value.bytes);
    return ret;
}

const struct rpm_store rpm_bdb = {.name = "Packages", .each = each};
