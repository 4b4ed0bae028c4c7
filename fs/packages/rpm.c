/* SPDX-License-Identifier: GPL-3.0-or-later */
/* rpm.c - packages of Red Hat, SUSE and what descends from them. A database has, besides indexes, one blob for each
 * package: the header of its rpm. Which file that is depends on rpm's age (rpm.h).
 *
 * A header: two big-endian numbers, how many index entries and how many bytes of data; then the entries of four numbers
 * (tag, type, offset in the data, count), then the data.
 */
#include "rpm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"

static const struct rpm_store *const stores[] = {&rpm_sqlite, &rpm_ndb, &rpm_bdb};
static const char *const folders[] = {"/usr/lib/sysimage/rpm", "/var/lib/rpm"};

/* ---- files ---- */

/* -ENOENT: there is no such file. */
static int open_file(struct guest *guest, const char *path, struct rpm_file *file, struct img_error *err) {
    struct fs_stat stat = {0};
    *file = (struct rpm_file){.path = path};
    int ret = guest_resolve(guest, path, true, &file->node, err);
    if (ret == 0)
        ret = guest_stat(&file->node, &stat, err);
    if (ret < 0)
        return ret;
    if ((stat.mode & 0170000) != 0100000)
        return fail(err, -EINVAL, "%s: not a regular file", path);
    if (stat.size > RPM_FILE_MAX)
        return fail(err, -EFBIG, "%s: a database of %llu bytes is too long", path, (unsigned long long)stat.size);
    file->size = stat.size;
    file->budget = 4 * stat.size + (1u << 20);
    return 0;
}

int rpm_file_read(struct rpm_file *file, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    size_t got = 0;
    if (offset > file->size || count > file->size - offset)
        return fail(err, -EUCLEAN, "%s: %zu bytes at %llu are behind its end", file->path, count,
                    (unsigned long long)offset);
    if (count > file->budget)
        return fail(err, -EUCLEAN, "%s: its pages refer to each other in circles", file->path);
    file->budget -= count;
    int ret = file->node.fs->ops->read(file->node.fs, file->node.ino, buffer, count, offset, &got, err);
    if (ret == 0 && got != count)
        ret = fail(err, -EUCLEAN, "%s: ends before byte %llu", file->path, (unsigned long long)(offset + count));
    return ret;
}

int rpm_blob_grow(struct rpm_blob *blob, size_t count, uint8_t **added, struct img_error *err) {
    if (count > RPM_HEADER_MAX - blob->length)
        return fail(err, -EUCLEAN, "A package's header is longer than %u bytes", RPM_HEADER_MAX);
    size_t length = blob->length + count;
    if (length > blob->room || !blob->bytes) {
        size_t room = 2 * blob->room > length ? 2 * blob->room : length + 1;
        uint8_t *bytes = realloc(blob->bytes, room);
        if (!bytes)
            return fail_no_memory(err);
        blob->bytes = bytes;
        blob->room = room;
    }
    *added = blob->bytes + blob->length;
    blob->length = length;
    return 0;
}

/* ---- headers ---- */

enum { TYPE_INT32 = 4, TYPE_STRING = 6, TYPE_STRING_ARRAY = 8, TYPE_I18NSTRING = 9 };

#define TAG_EPOCH 1003
#define ENTRIES_MAX 65536u

static const struct {
    unsigned tag;
    enum package_field field;
} tags[] = {
    {1000, PACKAGE_NAME},        {1001, PACKAGE_VERSION}, {1002, PACKAGE_RELEASE}, {1004, PACKAGE_SUMMARY},
    {1005, PACKAGE_DESCRIPTION}, {1020, PACKAGE_URL},     {1022, PACKAGE_ARCH},
};

struct header {
    const uint8_t *data;
    size_t length;
};

/* A string's first, or in another language than the default one its only, form. */
static bool read_string(const struct header *header, uint32_t type, uint32_t offset, struct span *text) {
    if ((type != TYPE_STRING && type != TYPE_I18NSTRING && type != TYPE_STRING_ARRAY) || offset >= header->length)
        return false;
    const uint8_t *start = header->data + offset, *end = memchr(start, '\0', header->length - offset);
    if (!end)
        return false;
    *text = (struct span){(const char *)start, (size_t)(end - start)};
    return true;
}

static void read_entry(const struct header *header, const uint8_t *entry, struct package_draft *draft) {
    uint32_t tag = big32(entry), type = big32(entry + 4), offset = big32(entry + 8), count = big32(entry + 12);
    if (tag == TAG_EPOCH && type == TYPE_INT32 && count > 0 && header->length >= 4 && offset <= header->length - 4)
        draft->epoch = big32(header->data + offset);
    for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++)
        if (tags[i].tag == tag)
            (void)read_string(header, type, offset, &draft->fields[tags[i].field]);
}

int rpm_read_header(const uint8_t *blob, size_t length, struct packages *packages, struct img_error *err) {
    if (length < 8)
        return fail(err, -EUCLEAN, "A package's header of %zu bytes is too short", length);
    uint32_t entries = big32(blob), bytes = big32(blob + 4);
    if (entries == 0 || entries > ENTRIES_MAX || bytes > length - 8 || (size_t)entries * 16 > length - 8 - bytes)
        return fail(err, -EUCLEAN, "A package's header of %zu bytes claims %u entries and %u bytes of data", length,
                    entries, bytes);
    struct header header = {blob + 8 + (size_t)entries * 16, bytes};
    struct package_draft draft = {0};
    for (uint32_t i = 0; i < entries; i++)
        read_entry(&header, blob + 8 + (size_t)i * 16, &draft);
    if (draft.fields[PACKAGE_NAME].length == 0)
        return 0;
    return packages_add(packages, &draft, err);
}

/* ---- databases ---- */

struct reading {
    struct packages *packages;
    struct img_error *first; /* what was wrong with a header; the others are read nevertheless */
    int ret;
};

static int read_blob(void *opaque, const uint8_t *blob, size_t length, struct img_error *err) {
    struct reading *reading = opaque;
    int ret = rpm_read_header(blob, length, reading->packages, reading->ret == 0 ? reading->first : NULL);
    if (ret == -ENOMEM || ret == -E2BIG)
        return fail(err, ret, "The packages are too many or too long");
    if (ret < 0 && reading->ret == 0)
        reading->ret = ret;
    return 0;
}

static int read_store(struct guest *guest, const struct rpm_store *store, const char *folder, struct packages *packages,
                      struct img_error *err) {
    struct rpm_file file, log;
    struct reading reading = {.packages = packages, .first = err};
    char path[64], log_path[64];
    snprintf(path, sizeof(path), "%s/%s", folder, store->name);
    snprintf(log_path, sizeof(log_path), "%s/%s", folder, store->log ? store->log : "");
    int ret = open_file(guest, path, &file, err);
    if (ret == 0) {
        bool logged = store->log && open_file(guest, log_path, &log, NULL) == 0;
        ret = store->each(&file, logged ? &log : NULL, read_blob, &reading, err);
    }
    return ret == 0 ? reading.ret : ret;
}

static int list(struct guest *guest, struct packages *packages, struct img_error *err) {
    struct img_error inner = {0};
    int ret = -ENOENT;
    for (size_t f = 0; f < sizeof(folders) / sizeof(folders[0]) && ret == -ENOENT; f++)
        for (size_t s = 0; s < sizeof(stores) / sizeof(stores[0]) && ret == -ENOENT; s++)
            ret = read_store(guest, stores[s], folders[f], packages, &inner);
    if (ret == -ENOENT)
        return fail(err, ret, "There is no database of rpm in %s or %s", folders[0], folders[1]);
    return ret < 0 ? fail(err, ret, "%s", inner.text) : 0;
}

const struct package_format rpm_format = {.name = "rpm", .list = list};
