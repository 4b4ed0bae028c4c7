/* SPDX-License-Identifier: GPL-3.0-or-later */
/* change.c - see change.h. */
#include "change.h"

#include <errno.h>
#include <stdlib.h>

#include "describe.h"
#include "report.h"
#include "sources.h"
#include "target.h"

bool change_option(struct change *c, int opt) {
    switch (opt) {
    case 'f':
        c->format = optarg;
        return true;
    case 't':
        return cache_option(optarg, &c->cache);
    default:
        return common_option(opt, &c->common);
    }
}

bool change_open(struct change *c, unsigned flags) {
    struct img_open_options open = {.flags = IMG_OPEN_WRITE | flags, .cache = c->cache, .format = c->format};
    c->image = open_image(c->file, &open);
    return c->image;
}

void change_start(struct change *c) {
    enum progress_style style = c->common.quiet ? PROGRESS_NONE : c->common.progress;
    catch_signals();
    progress_start(&c->progress, style, img_size(c->image), 1, c->common.output == OUTPUT_JSON ? stderr : stdout);
}

int change_progress(void *change, uint64_t done, uint64_t total) {
    struct change *c = change;
    (void)total;
    progress_update(&c->progress, done);
    return interrupted();
}

bool change_finish(struct change *c, int ret, const char *prefix, struct img_error *err) {
    progress_finish(&c->progress, ret == 0);
    if (ret == 0) {
        ret = img_close(c->image, err);
        c->image = NULL;
    }
    if (ret == 0 || (ret == -ECANCELED && interrupted()))
        return ret == 0;
    if (prefix)
        report_image_error(err, "%s '%s'", prefix, c->file);
    else
        report_sentence(err);
    return false;
}

void change_end(struct change *c) {
    img_close(c->image, NULL);
    c->image = NULL;
    die_if_interrupted();
}

int change_result(const struct change *c) {
    return c->common.output == OUTPUT_JSON && !c->common.quiet ? describe_result(c->file, c->format) : EXIT_SUCCESS;
}
