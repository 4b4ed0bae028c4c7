/* SPDX-License-Identifier: GPL-3.0-or-later */
/* look.c - small questions about a guest's files (parts.h). Errors are answers here: what cannot be read is not there,
 * for an inspection has to get by with what is left of a guest. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "parts.h"

static bool find(struct guest *guest, const char *path, struct guest_node *node, struct fs_stat *stat) {
    return guest_resolve(guest, path, true, node, NULL) == 0 && guest_stat(node, stat, NULL) == 0;
}

bool look_is_file(struct guest *guest, const char *path) {
    struct guest_node node;
    struct fs_stat stat;
    return find(guest, path, &node, &stat) && S_ISREG(stat.mode);
}

bool look_is_dir(struct guest *guest, const char *path) {
    struct guest_node node;
    struct fs_stat stat;
    return find(guest, path, &node, &stat) && S_ISDIR(stat.mode);
}

bool look_is_link_to(struct guest *guest, const char *path, const char *target) {
    struct guest_node node;
    struct fs_stat stat;
    char *text;
    if (guest_resolve(guest, path, false, &node, NULL) < 0 || guest_stat(&node, &stat, NULL) < 0 ||
        !S_ISLNK(stat.mode) || guest_readlink(&node, &text, NULL) < 0)
        return false;
    bool same = strcmp(text, target) == 0;
    free(text);
    return same;
}

char *look_text(struct guest *guest, const char *path, struct span *text) {
    char *content;
    *text = span_of("");
    if (guest_read_small(guest, path, INSPECT_TEXT_MAX, &content, &text->length, NULL) < 0)
        return NULL;
    text->at = content;
    return content;
}

size_t look_head(struct guest *guest, const char *path, void *buffer, size_t size) {
    struct guest_node node;
    struct fs_stat stat;
    size_t got;
    if (!find(guest, path, &node, &stat) || !S_ISREG(stat.mode) ||
        node.fs->ops->read(node.fs, node.ino, buffer, size, 0, &got, NULL) < 0)
        return 0;
    return got;
}

/* Which entry of `dir` is meant by `name`? One that is spelled the same goes before others. */
struct match {
    struct span name;
    char *found;
};

static int compare_name(void *opaque, const struct fs_entry *entry) {
    struct match *match = opaque;
    if (entry->length != match->name.length || strncasecmp(entry->name, match->name.at, entry->length) != 0)
        return 0;
    bool same = memcmp(entry->name, match->name.at, entry->length) == 0;
    if (!match->found || same) {
        free(match->found);
        match->found = span_copy((struct span){entry->name, entry->length});
    }
    return same || !match->found;
}

static char *join(char *path, char *name) {
    char *joined = NULL;
    if (path && name && (joined = malloc(strlen(path) + strlen(name) + 2)))
        stpcpy(stpcpy(stpcpy(joined, path), "/"), name);
    free(path);
    free(name);
    return joined;
}

char *look_without_case(struct guest *guest, const char *path) {
    char *found = strdup("");
    struct span rest = span_of(path);
    while (found && rest.length > 0) {
        struct match match = {.name = span_until(&rest, '/')};
        struct guest_node dir;
        if (match.name.length == 0)
            continue;
        if (guest_resolve(guest, found[0] ? found : "/", true, &dir, NULL) == 0)
            (void)dir.fs->ops->list(dir.fs, dir.ino, compare_name, &match, NULL);
        found = join(found, match.found);
    }
    return found;
}
