/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ndb.c - Packages.db of SUSE: rpm's own small database. A few pages of slots, each with the place of a blob in units
 * of 16 bytes; a blob begins with a head that says which package it is and how long. All numbers are little-endian. */
#include <errno.h>
#include <stdlib.h>

#include "../error.h"
#include "rpm.h"

#define MAGIC_FILE 0x506d7052u /* "RpmP" */
#define MAGIC_SLOT 0x746f6c53u /* "Slot" */
#define MAGIC_BLOB 0x53626c42u /* "BlbS" */
#define HEADER 32
#define PAGE 4096
#define SLOT 16
#define UNIT 16
#define BLOB_HEAD 16

struct ndb {
    struct rpm_file *file;
    struct rpm_blob blob;
    rpm_blob_call call;
    void *opaque;
};

static int read_blob(struct ndb *db, uint32_t package, uint32_t unit, struct img_error *err) {
    uint8_t head[BLOB_HEAD] = {0};
    uint64_t at = (uint64_t)unit * UNIT;
    int ret = rpm_file_read(db->file, head, sizeof(head), at, err);
    if (ret < 0)
        return ret;
    uint32_t length = little32(head + 12);
    if (little32(head) != MAGIC_BLOB || little32(head + 4) != package)
        return fail(err, -EUCLEAN, "%s: the blob of package %u is not at %llu", db->file->path, package,
                    (unsigned long long)at);
    if (length > db->file->size)
        return fail(err, -EUCLEAN, "%s: package %u claims a blob of %u bytes", db->file->path, package, length);
    db->blob.length = 0;
    uint8_t *room;
    ret = rpm_blob_grow(&db->blob, length, &room, err);
    if (ret == 0)
        ret = rpm_file_read(db->file, room, length, at + BLOB_HEAD, err);
    return ret == 0 ? db->call(db->opaque, room, length, err) : ret;
}

static int read_slots(struct ndb *db, uint64_t first, uint64_t end, struct img_error *err) {
    int ret = 0;
    for (uint64_t at = first; at < end && ret == 0; at += SLOT) {
        uint8_t slot[SLOT] = {0};
        ret = rpm_file_read(db->file, slot, sizeof(slot), at, err);
        if (ret < 0)
            return ret;
        if (little32(slot) != MAGIC_SLOT)
            return fail(err, -EUCLEAN, "%s: no slot at %llu", db->file->path, (unsigned long long)at);
        uint32_t package = little32(slot + 4), unit = little32(slot + 8);
        if (package != 0 && unit != 0)
            ret = read_blob(db, package, unit, err);
    }
    return ret;
}

static int each(struct rpm_file *file, struct rpm_file *log, rpm_blob_call call, void *opaque, struct img_error *err) {
    struct ndb db = {.file = file, .call = call, .opaque = opaque};
    uint8_t head[HEADER] = {0};
    (void)log;
    int ret = rpm_file_read(file, head, sizeof(head), 0, err);
    if (ret < 0)
        return ret;
    uint64_t end = (uint64_t)little32(head + 12) * PAGE;
    if (little32(head) != MAGIC_FILE || little32(head + 4) != 0)
        return fail(err, -EUCLEAN, "%s: not a package database of rpm", file->path);
    if (end == 0 || end > file->size)
        return fail(err, -EUCLEAN, "%s: claims %u pages of slots", file->path, little32(head + 12));
    ret = read_slots(&db, HEADER, end, err);
    free(db.blob.bytes);
    return ret;
}

const struct rpm_store rpm_ndb = {.name = "Packages.db", .each = each};
