/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dpkg.c - packages of Debian and what descends from it: paragraphs of "Field: value", in one file for all of them or,
 * in images without a package manager, one file each. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "packages.h"

#define STATUS "/var/lib/dpkg/status"
#define STATUS_D "/var/lib/dpkg/status.d"

struct paragraph {
    struct package_draft draft;
    struct span description; /* as it is in the file: lines that begin with a space */
    bool installed, bad_version;
};

static const struct {
    const char *name;
    enum package_field field;
} plain_fields[] = {
    {"Package:", PACKAGE_NAME},
    {"Architecture:", PACKAGE_ARCH},
    {"Homepage:", PACKAGE_URL},
    {"Description:", PACKAGE_SUMMARY},
};

static void read_field(struct paragraph *p, struct span line) {
    struct span value = line, word;
    for (size_t i = 0; i < sizeof(plain_fields) / sizeof(plain_fields[0]); i++)
        if (span_skip(&value, plain_fields[i].name))
            p->draft.fields[plain_fields[i].field] = span_trim(value);
    if (span_skip(&value, "Version:"))
        p->bad_version = !package_set_version(&p->draft, span_trim(value));
    else if (span_skip(&value, "Source:") && span_word(&value, &word))
        p->draft.fields[PACKAGE_SOURCE] = word; /* a version in parentheses may follow */
    else if (span_skip(&value, "Status:"))
        p->installed =
            span_is(span_trim(value), "install ok installed") || span_is(span_trim(value), "hold ok installed");
}

/* The lines of a description without the space that each begins with. */
static int copy_description(struct paragraph *p, char **copy, struct img_error *err) {
    struct span text = p->description, line;
    if (text.length == 0)
        return 0;
    char *out = *copy = malloc(text.length + 1);
    if (!out)
        return fail_no_memory(err);
    while (span_line(&text, &line)) {
        if (line.length > 0)
            line.at++, line.length--;
        if (out != *copy)
            *out++ = '\n';
        memcpy(out, line.at, line.length);
        out += line.length;
    }
    p->draft.fields[PACKAGE_DESCRIPTION] = (struct span){*copy, (size_t)(out - *copy)};
    return 0;
}

static int end_paragraph(struct paragraph *p, bool all, struct packages *packages, struct img_error *err) {
    int ret = 0;
    if ((p->installed || all) && !p->bad_version && p->draft.fields[PACKAGE_NAME].length > 0 &&
        p->draft.fields[PACKAGE_VERSION].length > 0) {
        char *description = NULL;
        ret = copy_description(p, &description, err);
        if (ret == 0)
            ret = packages_add(packages, &p->draft, err);
        free(description);
    }
    *p = (struct paragraph){0};
    return ret;
}

int dpkg_read_status(struct span text, bool all, struct packages *packages, struct img_error *err) {
    struct paragraph p = {0};
    struct span line;
    bool in_description = false;
    int ret = 0;
    while (ret == 0 && span_line(&text, &line)) {
        bool goes_on = line.length > 0 && (line.at[0] == ' ' || line.at[0] == '\t');
        if (line.length == 0)
            ret = end_paragraph(&p, all, packages, err);
        else if (goes_on && in_description) {
            if (p.description.length == 0)
                p.description.at = line.at;
            p.description.length = (size_t)(line.at + line.length - p.description.at);
        } else if (!goes_on) {
            in_description = span_begins(line, "Description:");
            if (in_description)
                p.description = (struct span){0};
            read_field(&p, line);
        }
    }
    return ret == 0 ? end_paragraph(&p, all, packages, err) : ret;
}

static int read_file(struct guest *guest, const char *path, bool all, struct packages *packages,
                     struct img_error *err) {
    char *content;
    size_t length;
    int ret = guest_read_small(guest, path, PACKAGES_TEXT_MAX, &content, &length, err);
    if (ret < 0)
        return ret;
    ret = dpkg_read_status((struct span){content, length}, all, packages, err);
    free(content);
    return ret;
}

static int read_folder(struct guest *guest, struct packages *packages, struct img_error *err) {
    struct guest_node folder;
    struct guest_names names = {0};
    int ret = guest_resolve(guest, STATUS_D, true, &folder, NULL);
    if (ret < 0)
        return 0;
    ret = guest_list(&folder, &names, err);
    for (size_t i = 0; i < names.count && ret == 0; i++) {
        char path[sizeof(STATUS_D) + FS_NAME_MAX + 2];
        size_t length = strlen(names.list[i].name);
        if (length > FS_NAME_MAX || (length > 8 && strcmp(names.list[i].name + length - 8, ".md5sums") == 0))
            continue;
        stpcpy(stpcpy(path, STATUS_D "/"), names.list[i].name);
        ret = read_file(guest, path, true, packages, err);
    }
    guest_names_free(&names);
    return ret;
}

static int list(struct guest *guest, struct packages *packages, struct img_error *err) {
    int ret = read_file(guest, STATUS, false, packages, err), folder = read_folder(guest, packages, err);
    if (ret == -ENOENT && packages->count > 0)
        ret = 0;
    return folder < 0 ? folder : ret;
}

const struct package_format dpkg_format = {.name = "deb", .list = list};
