/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sources.c - see sources.h. */
#include "sources.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "names.h"
#include "option_list.h"
#include "report.h"

/* A snapshot as -l names it. */
struct snapshot_name {
    char *id, *name;
    const char *any; /* either of them; NULL: id and name say it */
};

static void name_free(struct snapshot_name *n) {
    free(n->id);
    free(n->name);
}

/* "snapshot.id=..,snapshot.name=.." or simply an id or name. False after reporting. */
static bool name_parse(const char *text, struct snapshot_name *n) {
    bool good = true;
    *n = (struct snapshot_name){0};
    if (strncmp(text, "snapshot.", 9) != 0) {
        n->any = text;
        return true;
    }
    for (const char *rest = text; *rest && good;) {
        char *key, *value;
        rest = option_list_next(rest, &key, &value);
        char **slot = strcmp(key, "snapshot.id") == 0 ? &n->id : strcmp(key, "snapshot.name") == 0 ? &n->name : NULL;
        good = slot && value;
        if (good) {
            free(*slot);
            *slot = value;
        } else {
            report("Invalid parameter '%s'", key);
            report("Failed in parsing snapshot param '%s'", text);
            free(value);
        }
        free(key);
    }
    return good;
}

/* An id is preferred to a name. */
static const struct img_snapshot_info *find_snapshot(const struct img_info *info, const struct snapshot_name *n) {
    for (size_t i = 0; i < info->nsnapshots; i++) {
        const struct img_snapshot_info *s = &info->snapshots[i];
        if (n->any ? strcmp(s->id, n->any) == 0
                   : (!n->id || strcmp(s->id, n->id) == 0) && (!n->name || strcmp(s->name, n->name) == 0))
            return s;
    }
    for (size_t i = 0; n->any && i < info->nsnapshots; i++)
        if (strcmp(info->snapshots[i].name, n->any) == 0)
            return &info->snapshots[i];
    return NULL;
}

/* The id of the snapshot that -l means, malloc'ed; NULL after reporting. */
static char *resolve_snapshot(const char *file, const struct img_open_options *options, const char *text) {
    struct img_open_options info_options = *options;
    struct img_error err = {0};
    struct img_info info;
    struct snapshot_name name;
    char *id = NULL;

    info_options.flags |= IMG_OPEN_INFO;
    struct img *image = open_image(file, &info_options);
    if (!image)
        return NULL;
    if (!name_parse(text, &name)) {
        /* reported */
    } else if (img_info(image, &info, &err) < 0) {
        report_image_error(&err, "Failed to load snapshot");
    } else if (strcmp(info.format, "raw") == 0) {
        report("Failed to load snapshot: Block format 'raw' used by device '' does not support temporarily loading "
               "internal snapshots");
    } else {
        const struct img_snapshot_info *found = find_snapshot(&info, &name);
        if (found)
            id = text_copy(found->id);
        else
            report("Failed to load snapshot: Can't find snapshot");
    }
    name_free(&name);
    img_close(image, NULL);
    return id;
}

static struct img *open_source(const char *file, const struct source_options *options) {
    struct img_open_options open_options = {
        .flags = options->force_share ? IMG_OPEN_FORCE_SHARE : 0,
        .cache = options->cache,
        .format = options->format,
    };
    char *id = NULL;
    if (options->snapshot) {
        id = resolve_snapshot(file, &open_options, options->snapshot);
        if (!id)
            return NULL;
        open_options.snapshot = id;
    }
    struct img *image = open_image(file, &open_options);
    free(id);
    return image;
}

bool sources_open(struct sources *s, char *const *files, size_t count, const struct source_options *options) {
    *s = (struct sources){.list = memory(count, sizeof(*s->list))};
    for (size_t i = 0; i < count; i++) {
        struct source *source = &s->list[i];
        source->file = files[i];
        source->image = open_source(files[i], options);
        if (!source->image)
            return false;
        s->count++;
        source->start = s->size;
        source->size = img_size(source->image);
        if (__builtin_add_overflow(s->size, source->size, &s->size) || s->size > INT64_MAX) {
            report("The sources together are larger than 2^63 - 1 bytes");
            return false;
        }
    }
    return true;
}

void sources_close(struct sources *s) {
    for (size_t i = 0; i < s->count; i++)
        img_close(s->list[i].image, NULL);
    free(s->list);
    *s = (struct sources){0};
}

int layer_of_file(struct img *image, const char *path) {
    for (int layer = 0; image; layer++, image = img_backing(image)) {
        struct img_info info;
        if (img_info(image, &info, NULL) == 0 && names_same(info.path, path))
            return layer;
    }
    return -1;
}

/* The data file may lie beside the image or in the working directory. */
static bool keeps_data_in(struct img *image, const char *path) {
    struct img_info info;
    if (img_info(image, &info, NULL) < 0 || !info.data_file)
        return false;
    char *beside = path_beside(info.path, info.data_file);
    bool same = names_same(beside, path) || names_same(info.data_file, path);
    free(beside);
    return same;
}

bool sources_include(const struct sources *s, const char *path) {
    for (size_t i = 0; i < s->count; i++) {
        if (layer_of_file(s->list[i].image, path) >= 0)
            return true;
        for (struct img *layer = s->list[i].image; layer; layer = img_backing(layer))
            if (keeps_data_in(layer, path))
                return true;
    }
    return false;
}

bool sources_include_data_of(const struct sources *s, struct img *image) {
    struct img_info info;
    if (img_info(image, &info, NULL) < 0 || !info.data_file)
        return false;
    char *beside = path_beside(info.path, info.data_file);
    bool found = sources_include(s, beside) || sources_include(s, info.data_file);
    free(beside);
    return found;
}
