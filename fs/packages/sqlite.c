/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sqlite.c - rpmdb.sqlite, from rpm 4.16 on: the rows of the table Packages, whose only blob is a header.
 *
 * Of SQLite's format this needs one thing: a walk over the B-tree of a table. Page 1 begins with the file's header and
 * is the root of the table of tables, which has the root page of ours. An interior page has pointers to its children, a
 * leaf has rows; what does not fit into a leaf goes on in a chain of overflow pages. Pages are taken from the log
 * (sqlite_wal.c) where it has a newer one, for rpm leaves its last changes there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "rpm.h"

#define DEPTH_MAX 20 /* a tree of two-way branches over 2^31 pages is not deeper than 31; real ones are 4 */
#define COLUMNS_MAX 16

struct sqlite {
    struct rpm_file *file;
    struct wal wal;
    uint32_t page_size, usable, pages;
    struct rpm_blob row;
    uint32_t root; /* of the table Packages; 0: not found */
    rpm_blob_call call;
    void *opaque;
};

static int read_page(struct sqlite *db, uint32_t number, uint8_t *page, struct img_error *err) {
    if (number == 0 || number > db->pages)
        return fail(err, -EUCLEAN, "%s: page %u of %u is asked for", db->file->path, number, db->pages);
    const struct wal_page *newer = wal_find(&db->wal, number);
    if (newer)
        return rpm_file_read(db->wal.file, page, db->page_size, newer->offset, err);
    return rpm_file_read(db->file, page, db->page_size, (uint64_t)(number - 1) * db->page_size, err);
}

/* A number of 1 to 9 bytes, the highest bits first. False: it goes over the end. */
static bool read_varint(const uint8_t *bytes, size_t length, size_t *at, uint64_t *value) {
    *value = 0;
    for (unsigned i = 0; i < 9 && *at < length; i++) {
        uint8_t byte = bytes[(*at)++];
        if (i == 8) {
            *value = *value << 8 | byte;
            return true;
        }
        *value = *value << 7 | (byte & 0x7f);
        if (!(byte & 0x80))
            return true;
    }
    return false;
}

/* ---- rows ---- */

struct column {
    uint64_t type; /* even from 12 on: a blob, odd: a text, of (type - 12) / 2 bytes; below: a number */
    size_t at, length;
};

static size_t column_length(uint64_t type) {
    static const uint8_t numbers[] = {0, 1, 2, 3, 4, 6, 8, 8, 0, 0, 0, 0};
    return type < 12 ? numbers[type] : (size_t)((type - 12) / 2);
}

/* The row's first columns; 0: it is damaged. */
static size_t read_columns(const struct rpm_blob *row, struct column columns[COLUMNS_MAX]) {
    size_t at = 0, count = 0;
    uint64_t header, type;
    if (!read_varint(row->bytes, row->length, &at, &header) || header > row->length)
        return 0;
    size_t data = (size_t)header;
    while (at < header && count < COLUMNS_MAX) {
        if (!read_varint(row->bytes, (size_t)header, &at, &type) || type > 2ull * RPM_HEADER_MAX)
            return 0;
        size_t length = column_length(type);
        if (length > row->length - data)
            return 0;
        columns[count++] = (struct column){type, data, length};
        data += length;
    }
    return count;
}

static bool is_text(const struct rpm_blob *row, const struct column *column, const char *text) {
    return column->type >= 13 && column->type % 2 == 1 && column->length == strlen(text) &&
           memcmp(row->bytes + column->at, text, column->length) == 0;
}

/* A row of the table of tables: type, name, tbl_name, rootpage, sql. */
static int row_of_schema(struct sqlite *db, struct img_error *err) {
    struct column columns[COLUMNS_MAX];
    (void)err;
    if (read_columns(&db->row, columns) < 4 || !is_text(&db->row, &columns[0], "table") ||
        !is_text(&db->row, &columns[1], "Packages") || columns[3].type < 1 || columns[3].type > 4)
        return 0;
    uint32_t root = 0;
    for (size_t i = 0; i < columns[3].length; i++)
        root = root << 8 | db->row.bytes[columns[3].at + i];
    db->root = root;
    return 0;
}

static int row_of_packages(struct sqlite *db, struct img_error *err) {
    struct column columns[COLUMNS_MAX];
    size_t count = read_columns(&db->row, columns);
    for (size_t i = 0; i < count; i++)
        if (columns[i].type >= 12 && columns[i].type % 2 == 0)
            return db->call(db->opaque, db->row.bytes + columns[i].at, columns[i].length, err);
    return 0;
}

/* ---- pages ---- */

typedef int (*row_call)(struct sqlite *db, struct img_error *err);

/* How much of a row of `total` bytes lies in the leaf itself. */
static size_t bytes_in_leaf(const struct sqlite *db, uint64_t total) {
    uint64_t most = db->usable - 35, least = (db->usable - 12) * 32 / 255 - 23;
    if (total <= most)
        return (size_t)total;
    uint64_t with_full_pages = least + (total - least) % (db->usable - 4);
    return (size_t)(with_full_pages <= most ? with_full_pages : least);
}

static int read_overflow(struct sqlite *db, uint32_t number, uint64_t left, struct img_error *err) {
    uint8_t *page = calloc(1, db->page_size), *room;
    int ret = page ? 0 : fail_no_memory(err);
    while (ret == 0 && left > 0) {
        size_t count = left < db->usable - 4 ? (size_t)left : db->usable - 4;
        ret = read_page(db, number, page, err);
        if (ret == 0)
            ret = rpm_blob_grow(&db->row, count, &room, err);
        if (ret == 0) {
            memcpy(room, page + 4, count);
            number = big32(page);
            left -= count;
        }
    }
    free(page);
    return ret;
}

static int read_row(struct sqlite *db, const uint8_t *page, size_t at, row_call call, struct img_error *err) {
    uint64_t total, id;
    if (!read_varint(page, db->usable, &at, &total) || !read_varint(page, db->usable, &at, &id) ||
        total > RPM_HEADER_MAX)
        return fail(err, -EUCLEAN, "%s: a row is damaged", db->file->path);
    size_t here = bytes_in_leaf(db, total);
    if (here > db->usable - at || (here < total && db->usable - at - here < 4))
        return fail(err, -EUCLEAN, "%s: a row of %llu bytes does not fit into its page", db->file->path,
                    (unsigned long long)total);
    db->row.length = 0;
    uint8_t *room;
    int ret = rpm_blob_grow(&db->row, here, &room, err);
    if (ret < 0)
        return ret;
    memcpy(room, page + at, here);
    ret = here < total ? read_overflow(db, big32(page + at + here), total - here, err) : 0;
    return ret == 0 ? call(db, err) : ret;
}

enum { INTERIOR = 0x05, LEAF = 0x0d };

static int walk(struct sqlite *db, uint32_t number, unsigned depth, row_call call, struct img_error *err);

static int walk_page(struct sqlite *db, uint32_t number, const uint8_t *page, unsigned depth, row_call call,
                     struct img_error *err) {
    size_t start = number == 1 ? 100 : 0, head = page[start] == INTERIOR ? 12 : 8;
    unsigned cells = big16(page + start + 3);
    int ret = 0;
    if (page[start] != INTERIOR && page[start] != LEAF)
        return fail(err, -EUCLEAN, "%s: page %u has type %u", db->file->path, number, page[start]);
    if (start + head + 2 * (size_t)cells > db->usable)
        return fail(err, -EUCLEAN, "%s: page %u claims %u cells", db->file->path, number, cells);
    for (unsigned i = 0; i < cells && ret == 0; i++) {
        size_t at = big16(page + start + head + 2 * (size_t)i);
        if (at + 4 > db->usable)
            return fail(err, -EUCLEAN, "%s: page %u has a cell at %zu", db->file->path, number, at);
        if (page[start] == INTERIOR)
            ret = walk(db, big32(page + at), depth + 1, call, err);
        else
            ret = read_row(db, page, at, call, err);
    }
    if (ret == 0 && page[start] == INTERIOR)
        ret = walk(db, big32(page + start + 8), depth + 1, call, err);
    return ret;
}

static int walk(struct sqlite *db, uint32_t number, unsigned depth, row_call call, struct img_error *err) {
    if (depth > DEPTH_MAX)
        return fail(err, -EUCLEAN, "%s: a table is more than %d pages deep", db->file->path, DEPTH_MAX);
    uint8_t *page = calloc(1, db->page_size);
    int ret = page ? read_page(db, number, page, err) : fail_no_memory(err);
    if (ret == 0)
        ret = walk_page(db, number, page, depth, call, err);
    free(page);
    return ret;
}

static int read_file_header(struct sqlite *db, struct img_error *err) {
    uint8_t head[100] = {0};
    int ret = rpm_file_read(db->file, head, sizeof(head), 0, err);
    if (ret < 0)
        return ret;
    if (memcmp(head, "SQLite format 3", 16) != 0)
        return fail(err, -EUCLEAN, "%s: not a database of SQLite", db->file->path);
    uint32_t size = big16(head + 16) == 1 ? 65536 : big16(head + 16);
    if (size < 512 || (size & (size - 1)) != 0 || head[20] > 32)
        return fail(err, -EUCLEAN, "%s: pages of %u bytes, %u of them reserved", db->file->path, size, head[20]);
    db->page_size = size;
    db->usable = size - head[20];
    db->pages = (uint32_t)(db->file->size / size);
    return 0;
}

static int each(struct rpm_file *file, struct rpm_file *log, rpm_blob_call call, void *opaque, struct img_error *err) {
    struct sqlite db = {.file = file, .call = call, .opaque = opaque};
    int ret = read_file_header(&db, err);
    if (ret == 0)
        ret = wal_open(log, db.page_size, &db.wal, err);
    if (ret == 0 && db.wal.database_pages > 0)
        db.pages = db.wal.database_pages;
    if (ret == 0)
        ret = walk(&db, 1, 0, row_of_schema, err);
    if (ret == 0 && db.root == 0)
        ret = fail(err, -EUCLEAN, "%s: there is no table Packages", file->path);
    if (ret == 0)
        ret = walk(&db, db.root, 0, row_of_packages, err);
    free(db.row.bytes);
    free(db.wal.pages);
    return ret;
}

const struct rpm_store rpm_sqlite = {.name = "rpmdb.sqlite", .log = "rpmdb.sqlite-wal", .each = each};
