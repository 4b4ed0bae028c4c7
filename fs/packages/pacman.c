/* SPDX-License-Identifier: GPL-3.0-or-later */
/* pacman.c - packages of Arch Linux: a folder for each, with a file `desc` in which a line %NAME% is followed by lines
 * of its value and an empty one. */
#include <stdlib.h>
#include <string.h>

#include "packages.h"

#define LOCAL "/var/lib/pacman/local"
#define DESC_MAX (1u << 20)

static const struct {
    const char *name;
    enum package_field field;
} fields[] = {
    {"%NAME%", PACKAGE_NAME}, {"%VERSION%", PACKAGE_VERSION}, {"%DESC%", PACKAGE_DESCRIPTION},
    {"%URL%", PACKAGE_URL},   {"%ARCH%", PACKAGE_ARCH},
};

int pacman_read_desc(struct span text, struct packages *packages, struct img_error *err) {
    struct package_draft draft = {0};
    struct span line;
    while (span_line(&text, &line))
        for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
            if (span_is(line, fields[i].name)) {
                struct span value;
                if (span_line(&text, &value))
                    draft.fields[fields[i].field] = value;
                break;
            }
    if (draft.fields[PACKAGE_NAME].length == 0 || draft.fields[PACKAGE_VERSION].length == 0 ||
        !package_set_version(&draft, draft.fields[PACKAGE_VERSION]))
        return 0;
    return packages_add(packages, &draft, err);
}

static int list(struct guest *guest, struct packages *packages, struct img_error *err) {
    struct guest_node folder;
    struct guest_names names = {0};
    int ret = guest_resolve(guest, LOCAL, true, &folder, err);
    if (ret == 0)
        ret = guest_list(&folder, &names, err);
    for (size_t i = 0; i < names.count && ret == 0; i++) {
        char path[sizeof(LOCAL) + FS_NAME_MAX + 8], *content;
        size_t length;
        if (strlen(names.list[i].name) > FS_NAME_MAX)
            continue;
        stpcpy(stpcpy(stpcpy(path, LOCAL "/"), names.list[i].name), "/desc");
        if (guest_read_small(guest, path, DESC_MAX, &content, &length, NULL) < 0)
            continue; /* ALPM_DB_VERSION, or damage to this one */
        ret = pacman_read_desc((struct span){content, length}, packages, err);
        free(content);
    }
    guest_names_free(&names);
    return ret;
}

const struct package_format pacman_format = {.name = "pacman", .list = list};
