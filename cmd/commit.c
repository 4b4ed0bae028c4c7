/* SPDX-License-Identifier: GPL-3.0-or-later */
/* commit.c - `img commit`: what an overlay holds goes down into its base.
 *
 * Into the layer below it, and the overlay is emptied then; or with -b into one further down, and it is kept.
 */
#include <stdlib.h>

#include "change.h"
#include "names.h"
#include "report.h"
#include "secret.h"
#include "sources.h"
#include "target.h"
#include "throttle.h"

struct commit {
    struct change change;
    const char *base;
    bool keep;
    struct throttle throttle;
};

static const struct option long_opts[] = {
    {"base", required_argument, NULL, 'b'},
    {"drop", no_argument, NULL, 'd'},
    {"rate-limit", required_argument, NULL, 'r'},
    CHANGE_OPTIONS,
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

static bool take(struct commit *c, int opt) {
    switch (opt) {
    case 'b':
        c->base = optarg;
        c->keep = true; /* the layers between would hide what lies in the base */
        return true;
    case 'd':
        return c->keep = true;
    case 'r':
        return throttle_parse(&c->throttle, optarg);
    default:
        return change_option(&c->change, opt);
    }
}

/* How many layers are committed; 0 after reporting. */
static unsigned layers_above_base(const struct commit *c) {
    if (!img_backing(c->change.image)) {
        report("Image does not have a backing file");
        return 0;
    }
    if (!c->base)
        return 1;
    int layer = layer_of_file(c->change.image, path_of(c->base));
    if (layer < 0) {
        char *beside = path_beside(path_of(c->change.file), c->base);
        layer = layer_of_file(c->change.image, beside);
        free(beside);
    }
    if (layer <= 0) {
        report("Did not find '%s' in the backing chain of '%s'", c->base, c->change.file);
        return 0;
    }
    return (unsigned)layer;
}

static int on_moved(void *opaque, uint64_t bytes) {
    struct commit *c = opaque;
    throttle_wait(&c->throttle, bytes);
    return interrupted();
}

static int on_progress(void *opaque, uint64_t done, uint64_t total) {
    struct commit *c = opaque;
    return change_progress(&c->change, done, total);
}

static bool commit(struct commit *c) {
    struct img_error err = {0};
    if (!change_open(&c->change, 0))
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
    throttle_start(&c->throttle);
    change_start(&c->change);
    int ret = img_commit(c->change.image, &options, &err);
    return change_finish(&c->change, ret, "Could not commit", &err);
}

static int run(int argc, char **argv) {
    struct commit c = {0};
    int opt;
    while ((opt = next_option(&commit_command, argc, argv)) != -1)
        if (!take(&c, opt))
            return EXIT_FAILURE;
    if (argc - optind != 1)
        usage_error("Expecting one image file name");
    c.change.file = argv[optind];
    bool good = commit(&c);
    change_end(&c.change);
    if (!good)
        return EXIT_FAILURE;
    if (!c.change.common.quiet && c.change.common.output == OUTPUT_HUMAN)
        printf("Image committed.\n");
    return change_result(&c.change);
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
