/* SPDX-License-Identifier: GPL-3.0-or-later */
/* bitmaps.c - see bitmaps.h. The words are qemu-img's. */
#include "bitmaps.h"

#include <stdio.h>
#include <stdlib.h>

#include "report.h"

static bool get_info(struct img *image, struct img_info *info) {
    struct img_error err = {0};
    if (img_info(image, info, &err) == 0)
        return true;
    report_sentence(&err);
    return false;
}

bool bitmaps_check_source(struct img *source, bool skip_broken) {
    struct img_info info;
    if (!img_supports_bitmaps(source)) {
        report("Source lacks bitmap support");
        return false;
    }
    if (!get_info(source, &info))
        return false;
    for (size_t i = 0; !skip_broken && i < info.nbitmaps; i++) {
        if (!info.bitmaps[i].in_use)
            continue;
        char *shown = text_printable(info.bitmaps[i].name);
        report("Cannot copy inconsistent bitmap '%s'", shown);
        fprintf(stderr, "Try --skip-broken-bitmaps, or use '%s bitmap --remove' to delete it\n", report_program());
        free(shown);
        return false;
    }
    return true;
}

bool bitmaps_check_target(const struct img *target) {
    if (img_supports_bitmaps(target))
        return true;
    report("Format driver '%s' does not support bitmaps", img_format(target));
    return false;
}

static bool copy_one(struct img *source, struct img *target, const struct img_bitmap_info *b, const char *shown) {
    struct img_error err = {0};
    if (img_bitmap_add(target, b->name, b->granularity, b->enabled, &err) < 0) {
        report_image_error(&err, "Failed to create bitmap %s", shown);
        return false;
    }
    if (img_bitmap_merge(target, b->name, source, b->name, &err) < 0) {
        report_image_error(&err, "Failed to populate bitmap %s", shown);
        if (img_bitmap_remove(target, b->name, &err) < 0) /* one that is empty would not be true */
            report_sentence(&err);
        return false;
    }
    return true;
}

bool bitmaps_copy(struct img *source, struct img *target) {
    struct img_info info;
    bool good = get_info(source, &info);
    for (size_t i = 0; good && i < info.nbitmaps; i++) {
        char *shown = text_printable(info.bitmaps[i].name);
        if (info.bitmaps[i].in_use)
            report("warning: Skipping inconsistent bitmap '%s'", shown);
        else
            good = copy_one(source, target, &info.bitmaps[i], shown);
        free(shown);
    }
    return good;
}
