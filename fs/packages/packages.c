/* SPDX-License-Identifier: GPL-3.0-or-later */
/* packages.c - the table of package formats, and the list that they fill (packages.h). */
#include "packages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"

extern const struct package_format dpkg_format, rpm_format, apk_format, pacman_format;

static const struct package_format *const formats[] = {&dpkg_format, &rpm_format, &apk_format, &pacman_format};

static int by_name(const void *a, const void *b) {
    const struct package *x = a, *y = b;
    return strcmp(x->fields[PACKAGE_NAME], y->fields[PACKAGE_NAME]);
}

/* qsort does not promise to keep the order of equals, so their place breaks the tie. */
struct place {
    struct package package;
    size_t index;
};

static int by_name_and_place(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    int order = by_name(&x->package, &y->package);
    return order ? order : x->index < y->index ? -1 : 1;
}

static int sort(struct packages *packages, struct img_error *err) {
    struct place *places = calloc(packages->count + 1, sizeof(places[0]));
    if (!places)
        return fail_no_memory(err);
    for (size_t i = 0; i < packages->count; i++)
        places[i] = (struct place){packages->list[i], i};
    qsort(places, packages->count, sizeof(places[0]), by_name_and_place);
    for (size_t i = 0; i < packages->count; i++)
        packages->list[i] = places[i].package;
    free(places);
    return 0;
}

int packages_list(struct guest *guest, const char *format, struct packages *packages, struct img_error *err) {
    memset(packages, 0, sizeof(*packages));
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (strcmp(formats[i]->name, format) != 0)
            continue;
        int ret = formats[i]->list(guest, packages, err);
        int sorted = sort(packages, ret == 0 ? err : NULL);
        return ret < 0 ? ret : sorted;
    }
    return fail(err, -ENOTSUP, "The package format %s is not read", format);
}

static void free_package(struct package *package) {
    for (size_t i = 0; i < PACKAGE_FIELDS; i++)
        free(package->fields[i]);
}

void packages_free(struct packages *packages) {
    for (size_t i = 0; i < packages->count; i++)
        free_package(&packages->list[i]);
    free(packages->list);
    memset(packages, 0, sizeof(*packages));
}

bool package_set_version(struct package_draft *draft, struct span text) {
    struct span rest = text;
    unsigned epoch = 0;
    if (text.length > 0 && memchr(text.at, ':', text.length)) {
        if (!span_number(&rest, &epoch) || !span_skip(&rest, ":"))
            return false;
        text = rest;
    }
    draft->epoch = epoch;
    draft->fields[PACKAGE_VERSION] = text;
    draft->fields[PACKAGE_RELEASE] = (struct span){0};
    const char *dash = text.length > 0 ? memrchr(text.at, '-', text.length) : NULL;
    if (dash) {
        size_t length = (size_t)(dash - text.at);
        draft->fields[PACKAGE_VERSION].length = length;
        draft->fields[PACKAGE_RELEASE] = (struct span){dash + 1, text.length - length - 1};
    }
    return true;
}

static int make_room(struct packages *packages, const struct package_draft *draft, struct img_error *err) {
    size_t bytes = 0;
    for (size_t i = 0; i < PACKAGE_FIELDS; i++)
        bytes += draft->fields[i].length; /* pieces of what is in memory */
    if (packages->count == PACKAGES_MAX)
        return fail(err, -E2BIG, "There are more than %u packages", PACKAGES_MAX);
    if (bytes > PACKAGES_BYTES_MAX - packages->bytes)
        return fail(err, -E2BIG, "The texts of the packages are longer than %u bytes", PACKAGES_BYTES_MAX);
    packages->bytes += bytes;
    if (packages->count < packages->room)
        return 0;
    size_t room = packages->room ? 2 * packages->room : 64;
    struct package *list = realloc(packages->list, room * sizeof(list[0]));
    if (!list)
        return fail_no_memory(err);
    packages->list = list;
    packages->room = room;
    return 0;
}

int packages_add(struct packages *packages, const struct package_draft *draft, struct img_error *err) {
    struct package package = {.epoch = draft->epoch};
    int ret = make_room(packages, draft, err);
    for (size_t i = 0; i < PACKAGE_FIELDS && ret == 0; i++)
        if ((draft->fields[i].length > 0 || i == PACKAGE_NAME) && !(package.fields[i] = span_copy(draft->fields[i])))
            ret = fail_no_memory(err);
    if (ret == 0)
        packages->list[packages->count++] = package;
    else
        free_package(&package);
    return ret;
}
