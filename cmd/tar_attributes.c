/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tar_attributes.c - see tar_attributes.h. */
#include "tar_attributes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

#define NAMES_FILE_MAX (4u << 20)
#define NAMES_MAX 65536

/* ---- ACLs: a version, then entries of a tag, permissions and an id, all little-endian ---- */

#define ACL_VERSION 2
#define ACL_ENTRY 8

static uint32_t little(const unsigned char *bytes, size_t size) {
    uint32_t number = 0;
    while (size-- > 0)
        number = number << 8 | bytes[size];
    return number;
}

/* "user::rwx,user:1000:r-x,..."; nothing if it is no ACL. */
static void acl_text(const unsigned char *value, size_t length, struct tar_text *text) {
    static const struct {
        unsigned tag;
        const char *name;
        bool has_id;
    } tags[] = {{0x01, "user", false}, {0x02, "user", true},  {0x04, "group", false},
                {0x08, "group", true}, {0x10, "mask", false}, {0x20, "other", false}};
    if (length < 4 || little(value, 4) != ACL_VERSION)
        return;
    for (size_t at = 4; at + ACL_ENTRY <= length; at += ACL_ENTRY) {
        unsigned tag = little(value + at, 2), bits = little(value + at + 2, 2);
        char id[16] = "", line[48];
        for (size_t i = 0; i < sizeof(tags) / sizeof(tags[0]); i++) {
            if (tags[i].tag != tag)
                continue;
            if (tags[i].has_id)
                snprintf(id, sizeof(id), "%" PRIu32, little(value + at + 4, 4));
            int n = snprintf(line, sizeof(line), "%s%s:%s:%c%c%c", text->length ? "," : "", tags[i].name, id,
                             bits & 4 ? 'r' : '-', bits & 2 ? 'w' : '-', bits & 1 ? 'x' : '-');
            tar_text_add(text, line, (size_t)n);
        }
    }
}

/* ---- attributes ---- */

struct adding {
    const struct tar_attributes *wanted;
    struct tar_text *records;
};

/* A '=' ends a record's key, so GNU tar writes it in the name as %3D. */
static char *key_of(const char *name) {
    char *key = memory(3 * strlen(name) + 16, 1), *p = stpcpy(key, "SCHILY.xattr.");
    for (; *name; name++) {
        if (*name == '=' || *name == '%')
            p = stpcpy(p, *name == '=' ? "%3D" : "%25");
        else
            *p++ = *name;
    }
    return key;
}

static int add_attribute(void *opaque, const char *name, const void *value, size_t length) {
    const struct adding *a = opaque;
    bool acl = strncmp(name, "system.posix_acl_", 17) == 0;
    if (a->wanted->selinux && strcmp(name, "security.selinux") == 0) {
        size_t text = strnlen(value, length); /* some labels end in a NUL, which is not a part of them */
        tar_record(a->records, "RHT.security.selinux", value, text);
    }
    if (a->wanted->acls && acl) {
        struct tar_text text = {0};
        acl_text(value, length, &text);
        if (text.length > 0)
            tar_record(a->records, strcmp(name + 17, "default") == 0 ? "SCHILY.acl.default" : "SCHILY.acl.access",
                       text.bytes, text.length);
        free(text.bytes);
    }
    if (a->wanted->xattrs) {
        char *key = key_of(name);
        tar_record(a->records, key, value, length);
        free(key);
    }
    return 0;
}

int tar_add_attributes(const struct guest_node *node, const struct tar_attributes *wanted, struct tar_text *records,
                       struct img_error *err) {
    struct adding adding = {wanted, records};
    if (!node->fs->ops->xattrs || !(wanted->xattrs || wanted->acls || wanted->selinux))
        return 0;
    return node->fs->ops->xattrs(node->fs, node->ino, add_attribute, &adding, err);
}

/* ---- names: NAME:PASSWORD:ID:... in each line ---- */

static int by_id(const void *a, const void *b) {
    uint32_t x = ((const struct tar_name *)a)->id, y = ((const struct tar_name *)b)->id;
    return (x > y) - (x < y);
}

static void take_line(struct tar_names *names, char *line) {
    char *password = strchr(line, ':'), *id = password ? strchr(password + 1, ':') : NULL, *end;
    if (!id || password == line || names->count == NAMES_MAX)
        return;
    *password = '\0';
    errno = 0;
    unsigned long number = strtoul(id + 1, &end, 10);
    if (end == id + 1 || *end != ':' || errno || number > UINT32_MAX)
        return;
    names->list[names->count++] = (struct tar_name){.id = (uint32_t)number, .name = text_copy(line)};
}

void tar_read_names(struct guest *guest, const char *path, struct tar_names *names) {
    char *content, *rest, *line;
    size_t length, lines = 1;
    *names = (struct tar_names){0};
    if (guest_read_small(guest, path, NAMES_FILE_MAX, &content, &length, NULL) < 0)
        return;
    for (size_t i = 0; i < length; i++)
        lines += content[i] == '\n';
    names->list = memory(lines < NAMES_MAX ? lines : NAMES_MAX, sizeof(names->list[0]));
    for (line = strtok_r(content, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        take_line(names, line);
    qsort(names->list, names->count, sizeof(names->list[0]), by_id);
    free(content);
}

const char *tar_name_of(const struct tar_names *names, uint32_t id) {
    const struct tar_name wanted = {.id = id};
    const struct tar_name *found =
        names->count ? bsearch(&wanted, names->list, names->count, sizeof(wanted), by_id) : NULL;
    return found ? found->name : NULL;
}

void tar_free_names(struct tar_names *names) {
    for (size_t i = 0; i < names->count; i++)
        free(names->list[i].name);
    free(names->list);
}
