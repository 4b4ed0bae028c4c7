/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tar_entry.c - see tar_entry.h. What a ustar field cannot hold is a pax record; files with holes have GNU's format 1.0
 * for them: a map in front of the data. Numbers of devices, for which pax has no record, are written as GNU does. */
#include "tar_entry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "report.h"

#define RECORD_SIZE 10240 /* an archive's length is a multiple of it */

struct ustar {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, target[100];
    char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct ustar) == TAR_BLOCK, "a header is a block");

void tar_text_add(struct tar_text *text, const void *bytes, size_t length) {
    if (length == 0)
        return;
    if (text->room - text->length < length) {
        text->room = 2 * (text->length + length);
        text->bytes = realloc(text->bytes, text->room);
        if (!text->bytes)
            out_of_memory();
    }
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
}

void tar_record(struct tar_text *records, const char *key, const void *value, size_t length) {
    size_t all = strlen(key) + length + 3, digits = 1;
    for (size_t limit = 10; all + digits >= limit; limit *= 10)
        digits++;
    char *head = text_format("%zu %s=", all + digits, key);
    tar_text_add(records, head, strlen(head));
    tar_text_add(records, value, length);
    tar_text_add(records, "\n", 1);
    free(head);
}

static void text_record(struct tar_text *records, const char *key, const char *value) {
    tar_record(records, key, value, strlen(value));
}

static void number_record(struct tar_text *records, const char *key, uint64_t number) {
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, number);
    text_record(records, key, text);
}

/* Octal digits in all of the field but its last byte. False: the number does not fit, and the field says 0. */
static bool put_octal(char *field, size_t size, uint64_t number) {
    bool fits = number >> (3 * (size - 1)) == 0;
    for (size_t i = size - 1; i-- > 0; number >>= 3)
        field[i] = fits ? (char)('0' + (number & 7)) : '0';
    return fits;
}

static void put_device(char *field, uint32_t number) {
    if (put_octal(field, 8, number))
        return;
    memset(field, 0, 8);
    field[0] = (char)0x80;
    for (size_t i = 7; number > 0; number >>= 8)
        field[i--] = (char)(number & 0xff);
}

static bool put_text(char *field, size_t size, const char *text) {
    size_t length = strlen(text);
    memcpy(field, text, length < size ? length : size);
    return length <= size;
}

static void seal(struct ustar *h) {
    unsigned sum = 0;
    memcpy(h->magic, "ustar", 6);
    memcpy(h->version, "00", 2);
    memset(h->checksum, ' ', sizeof(h->checksum));
    for (size_t i = 0; i < sizeof(*h); i++)
        sum += ((const unsigned char *)h)[i];
    put_octal(h->checksum, 7, sum);
    h->checksum[6] = '\0';
}

static char type_of(const struct tar_entry *e) {
    if (e->hardlink)
        return '1';
    switch (e->stat.mode & S_IFMT) {
    case S_IFLNK:
        return '2';
    case S_IFCHR:
        return '3';
    case S_IFBLK:
        return '4';
    case S_IFDIR:
        return '5';
    case S_IFIFO:
        return '6';
    default:
        return '0';
    }
}

static void put_time(const struct tar_entry *e, struct ustar *h, struct tar_text *records) {
    const struct fs_time *time = &e->stat.mtime;
    bool part = e->nanoseconds && time->nanoseconds > 0;
    if (time->seconds >= 0 && put_octal(h->mtime, 12, (uint64_t)time->seconds) && !part)
        return;
    if (time->seconds < 0)
        put_octal(h->mtime, 12, 0);
    char text[48];
    /* a time before 1970 has its part of a second counted on from the second before it */
    int64_t seconds = time->seconds;
    uint32_t rest = part ? time->nanoseconds : 0;
    bool negative = seconds < 0;
    if (negative && rest > 0) {
        seconds++;
        rest = 1000000000 - rest;
    }
    uint64_t whole = negative ? (uint64_t)0 - (uint64_t)seconds : (uint64_t)seconds;
    int length = snprintf(text, sizeof(text), "%s%" PRIu64, negative ? "-" : "", whole);
    if (rest > 0)
        snprintf(text + length, sizeof(text) - (size_t)length, ".%09" PRIu32, rest);
    text_record(records, "mtime", text);
}

/* GNU's map: the number of ranges, then for each its start and length, a line each. */
static void make_map(const struct tar_entry *e, struct tar_text *map) {
    char line[64];
    uint64_t end = e->nranges ? e->ranges[e->nranges - 1].start + e->ranges[e->nranges - 1].length : 0;
    bool hole_at_end = end < e->stat.size;
    tar_text_add(map, line, (size_t)snprintf(line, sizeof(line), "%zu\n", e->nranges + hole_at_end));
    for (size_t i = 0; i < e->nranges; i++) {
        int n = snprintf(line, sizeof(line), "%" PRIu64 "\n%" PRIu64 "\n", e->ranges[i].start, e->ranges[i].length);
        tar_text_add(map, line, (size_t)n);
    }
    if (hole_at_end)
        tar_text_add(map, line, (size_t)snprintf(line, sizeof(line), "%" PRIu64 "\n0\n", e->stat.size));
    static const char zeroes[TAR_BLOCK];
    tar_text_add(map, zeroes, (TAR_BLOCK - map->length % TAR_BLOCK) % TAR_BLOCK);
}

static void add_sparse_records(const struct tar_entry *e, struct ustar *h, struct tar_text *records) {
    const char *slash = strrchr(e->name, '/');
    char *stand_in = text_format("./GNUSparseFile.0/%.60s", slash ? slash + 1 : e->name);
    text_record(records, "GNU.sparse.major", "1");
    text_record(records, "GNU.sparse.minor", "0");
    text_record(records, "GNU.sparse.name", e->name);
    number_record(records, "GNU.sparse.realsize", e->stat.size);
    put_text(h->name, sizeof(h->name), stand_in);
    free(stand_in);
}

static void fill(const struct tar_entry *e, struct ustar *h, struct tar_text *records, uint64_t size) {
    const struct fs_stat *s = &e->stat;
    if (e->ranges)
        add_sparse_records(e, h, records);
    else if (!put_text(h->name, sizeof(h->name), e->name))
        text_record(records, "path", e->name);
    put_octal(h->mode, 8, s->mode & 07777);
    if (!put_octal(h->uid, 8, s->uid))
        number_record(records, "uid", s->uid);
    if (!put_octal(h->gid, 8, s->gid))
        number_record(records, "gid", s->gid);
    if (!put_octal(h->size, 12, size))
        number_record(records, "size", size);
    put_time(e, h, records);
    h->type = type_of(e);
    if (e->target && !put_text(h->target, sizeof(h->target), e->target))
        text_record(records, "linkpath", e->target);
    if (e->user && strlen(e->user) < sizeof(h->user))
        put_text(h->user, sizeof(h->user), e->user);
    if (e->group && strlen(e->group) < sizeof(h->group))
        put_text(h->group, sizeof(h->group), e->group);
    bool node = h->type == '3' || h->type == '4';
    put_device(h->major, node ? s->rdev_major : 0);
    put_device(h->minor, node ? s->rdev_minor : 0);
}

static bool write_padded(struct sink *sink, const char *bytes, size_t length) {
    static const char zeroes[TAR_BLOCK];
    return sink_write(sink, bytes, length) && sink_write(sink, zeroes, (TAR_BLOCK - length % TAR_BLOCK) % TAR_BLOCK);
}

static bool write_pax(struct sink *sink, const struct tar_entry *e, const struct tar_text *records) {
    struct ustar h = {.type = 'x'};
    const char *slash = strrchr(e->name, '/');
    char *name = text_format("./PaxHeaders/%.60s", slash && slash[1] ? slash + 1 : "directory");
    put_text(h.name, sizeof(h.name), name);
    put_octal(h.mode, 8, 0644);
    put_octal(h.uid, 8, 0);
    put_octal(h.gid, 8, 0);
    put_octal(h.size, 12, records->length);
    put_octal(h.mtime, 12, 0);
    seal(&h);
    free(name);
    return sink_write(sink, &h, sizeof(h)) && write_padded(sink, records->bytes, records->length);
}

bool tar_write_head(struct sink *sink, const struct tar_entry *e, uint64_t *data) {
    struct ustar h = {0};
    struct tar_text records = {0}, map = {0};
    *data = 0;
    if (!e->hardlink && S_ISREG(e->stat.mode))
        *data = e->stat.size;
    if (e->ranges) {
        make_map(e, &map);
        *data = 0;
        for (size_t i = 0; i < e->nranges; i++)
            *data += e->ranges[i].length;
    }
    fill(e, &h, &records, *data + map.length);
    if (e->more)
        tar_text_add(&records, e->more->bytes, e->more->length);
    seal(&h);
    bool good = (records.length == 0 || write_pax(sink, e, &records)) && sink_write(sink, &h, sizeof(h)) &&
                (map.length == 0 || sink_write(sink, map.bytes, map.length));
    free(records.bytes);
    free(map.bytes);
    return good;
}

bool tar_write_end(struct sink *sink) {
    static const char zeroes[TAR_BLOCK];
    uint64_t written = sink_total(sink);
    uint64_t end = (written + 2 * TAR_BLOCK + RECORD_SIZE - 1) / RECORD_SIZE * RECORD_SIZE;
    bool good = true;
    for (; good && written < end; written += TAR_BLOCK)
        good = sink_write(sink, zeroes, TAR_BLOCK);
    return good;
}
