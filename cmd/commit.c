/* SPDX-License-Identifier: GPL-3.0-or-later */
/* commit.c - `img commit`: what an overlay holds goes down into its base.
 *
 * Into the layer below it, and the overlay is emptied then; or with -b into one further down, and it is kept.
 */
#include <errno.h>
#include <stdlib.h>

#include "cmd.h"
#include "describe.h"
#include "names.h"
#include "report.h"
#include "secret.h"
#include "sources.h"
#include "target.h"
#include "throttle.h"

struct commit {
    const char *file, *format, *base;
    enum img_cache cache;
    bool keep;
    struct common_options common;
    struct throttle throttle;
    struct progress progress;
    struct img *image;
};

static const struct option long_opts[] = {
    {"format", required_argument, NULL, 'f'},
    {"cache", required_argument, NULL, 't'},
    {"base", required_argument, NULL, 'b'},
    {"drop", no_argument, NULL, 'd'},
    {"rate-limit", required_argument, NULL, 'r'},
    {"progress", optional_argument, NULL, OPT_PROGRESS},
    {"quiet", no_argument, NULL, 'q'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

static bool take(struct commit *c, int opt) {
    switch (opt) {
    case 'f':
        c->format = optarg;
        return true;
    case 'b':
        c->base = optarg;
        c->keep = true; /* the layers between would hide what lies in the base */
        return true;
    case 'd':
        return c->keep = true;
    case 'r':
        return throttle_parse(&c->throttle, optarg);
    case 't':
        return cache_option(optarg, &c->cache);
    default:
        return common_option(opt, &c->common);
    }
}

/* How many layers are committed; 0 after reporting. */
static unsigned layers_above_base(const struct commit *c) {
    if (!img_backing(c->image)) {
        report("Image does not have a backing file");
        return 0;
    }
    if (!c->base)
        return 1;
    int layer = layer_of_file(c->image, path_of(c->base));
    if (layer < 0) {
        char *beside = path_beside(path_of(c->file), c->base);
        layer = layer_of_file(c->image, beside);
        free(beside);
    }
    if (layer <= 0) {
        report("Did not find '%s' in the backing chain of '%s'", c->base, c->file);
        return 0;
    }
    return (unsigned)layer;
}

static int on_progress(void *opaque, uint64_t done, uint64_t total) {
    struct commit *c = opaque;
    (void)total;
    progress_update(&c->progress, done);
    return interrupted();
}

static int on_moved(void *opaque, uint64_t bytes) {
    struct commit *c = opaque;
    throttle_wait(&c->throttle, bytes);
    return interrupted();
}

static bool commit(struct commit *c) {
    struct img_open_options open = {.flags = IMG_OPEN_WRITE, .cache = c->cache, .format = c->format};
    struct img_error err = {0};
    c->image = open_image(c->file, &open);
    if (!c->image)
        return false;
    unsigned layers = layers_above_base(c);
    if (!layers)
        return false;
    struct img_commit_options options = {.layers = layers,
                                         .keep = c->keep,
                                         .progress = on_progress,
                                         .moved = on_moved,
                                         .opaque = c,
                                         .ask_key = secret_ask};
    enum progress_style style = c->common.quiet ? PROGRESS_NONE : c->common.progress;
    catch_signals();
    throttle_start(&c->throttle);
    progress_start(&c->progress, style, img_size(c->image), 1, c->common.output == OUTPUT_JSON ? stderr : stdout);
    int ret = img_commit(c->image, &options, &err);
    progress_finish(&c->progress, ret == 0);
    if (ret == 0) {
        ret = img_close(c->image, &err);
        c->image = NULL;
    }
    if (ret < 0 && !(ret == -ECANCELED && interrupted()))
        report_image_error(&err, "Could not commit '%s'", c->file);
    return ret == 0;
}

static int run(int argc, char **argv) {
    struct commit c = {0};
    int opt;
    while ((opt = next_option(&commit_command, argc, argv)) != -1)
        if (!take(&c, opt))
            return EXIT_FAILURE;
    if (argc - optind != 1)
        usage_error("Expecting one image file name");
    c.file = argv[optind];
    bool good = commit(&c);
    img_close(c.image, NULL);
    die_if_interrupted();
    if (!good)
        return EXIT_FAILURE;
    if (c.common.quiet)
        return EXIT_SUCCESS;
    if (c.common.output == OUTPUT_JSON)
        return describe_result(c.file, c.format);
    printf("Image committed.\n");
    return EXIT_SUCCESS;
}

const struct command commit_command = {
    .name = "commit",
    .summary = "move an overlay's data into its backing file",
    .usage = "[-f FORMAT] [-t CACHE] [-b BASE] [-d] [-r RATE] [-p] [-q] [--output=human|json] FILE",
    .options = "  -f, --format=FORMAT     the image's format, probed if not given\n"
               "  -t, --cache=CACHE       cache mode [writeback]\n"
               "  -b, --base=BASE         commit into this layer of the chain, and keep the overlay\n"
               "                          [the layer below it, and empty the overlay]\n"
               "  -d, --drop              do not empty the overlay\n"
               "  -r, --rate-limit=RATE   bytes a second\n"
               "  -p, --progress[=auto|bar|percent|json]\n"
               "                          show how far it is\n"
               "  -q, --quiet             print nothing but errors\n"
               "      --output=human|json how to print the result\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "f:t:b:dr:pq",
    .long_opts = long_opts,
    .run = run,
};
