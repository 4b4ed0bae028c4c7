/* SPDX-License-Identifier: GPL-3.0-or-later */
/* rebase.c - `img rebase`: another backing file below an image, which shows the same disk as before; or with -u only
 * another name.
 */
#include <errno.h>
#include <stdlib.h>

#include "cmd.h"
#include "describe.h"
#include "report.h"
#include "secret.h"
#include "target.h"

struct rebase {
    const char *file, *format, *backing, *backing_format;
    enum img_cache cache;
    bool unsafe;
    struct common_options common;
    struct progress progress;
    struct img *image;
};

static const struct option long_opts[] = {
    {"format", required_argument, NULL, 'f'},
    {"cache", required_argument, NULL, 't'},
    {"backing-cache", required_argument, NULL, 'T'},
    {"backing", required_argument, NULL, 'b'},
    {"backing-format", required_argument, NULL, 'F'},
    {"backing-unsafe", no_argument, NULL, 'u'},
    {"force-share", no_argument, NULL, 'U'},
    {"progress", optional_argument, NULL, OPT_PROGRESS},
    {"quiet", no_argument, NULL, 'q'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

static bool take(struct rebase *r, int opt) {
    switch (opt) {
    case 'f':
        r->format = optarg;
        return true;
    case 'b':
        r->backing = optarg;
        return true;
    case 'F':
    case 'B':
        r->backing_format = optarg;
        return true;
    case 'u':
        return r->unsafe = true;
    case 't':
        return cache_option(optarg, &r->cache);
    default:
        return common_option(opt, &r->common);
    }
}

static int on_progress(void *opaque, uint64_t done, uint64_t total) {
    struct rebase *r = opaque;
    (void)total;
    progress_update(&r->progress, done);
    return interrupted();
}

static int rebase_image(struct rebase *r, struct img_error *err) {
    struct found_nodes found = {0};
    struct img_rebase_options options = {
        .backing_file = r->backing,
        .backing_format = r->backing_format,
        .unsafe = r->unsafe,
        .force_share = r->common.force_share,
        .cache = r->common.source_cache,
        .progress = on_progress,
        .opaque = r,
        .ask_key = secret_ask,
        .find_node = find_node,
        .key_opaque = &found,
    };
    int ret = img_rebase(r->image, &options, err);
    found_nodes_free(&found);
    return ret;
}

static bool rebase(struct rebase *r) {
    struct img_open_options open = {
        .flags = IMG_OPEN_WRITE | (r->unsafe ? IMG_OPEN_INFO : 0), .cache = r->cache, .format = r->format};
    struct img_error err = {0};
    r->image = open_image(r->file, &open);
    if (!r->image)
        return false;
    if (r->backing_format && !known_format(r->backing_format)) {
        report("Invalid format name: '%s'", r->backing_format);
        return false;
    }
    enum progress_style style = r->common.quiet ? PROGRESS_NONE : r->common.progress;
    catch_signals();
    progress_start(&r->progress, style, img_size(r->image), 1, r->common.output == OUTPUT_JSON ? stderr : stdout);
    int ret = rebase_image(r, &err);
    progress_finish(&r->progress, ret == 0);
    if (ret == 0) {
        ret = img_close(r->image, &err);
        r->image = NULL;
    }
    if (ret < 0 && !(ret == -ECANCELED && interrupted()))
        report_sentence(&err);
    return ret == 0;
}

static int run(int argc, char **argv) {
    struct rebase r = {0};
    int opt;
    while ((opt = next_option(&rebase_command, argc, argv)) != -1)
        if (!take(&r, opt))
            return EXIT_FAILURE;
    if (argc - optind != 1)
        usage_error("Expecting one image file name");
    if (!r.unsafe && !r.backing)
        usage_error("Must specify backing file (-b) or use unsafe mode (-u)");
    r.file = argv[optind];
    bool good = rebase(&r);
    img_close(r.image, NULL);
    die_if_interrupted();
    if (!good)
        return EXIT_FAILURE;
    return r.common.output == OUTPUT_JSON && !r.common.quiet ? describe_result(r.file, r.format) : EXIT_SUCCESS;
}

const struct command rebase_command = {
    .name = "rebase",
    .summary = "put another backing file below an image",
    .usage = "[-f FORMAT] [-t CACHE] [-T CACHE] -b BACKING [-F FORMAT] [-u] [-U] [-p] [-q]\n"
             "           [--output=human|json] FILE",
    .options = "  -f, --format=FORMAT     the image's format, probed if not given\n"
               "  -t, --cache=CACHE       cache mode of the image [writeback]\n"
               "  -T, --backing-cache=CACHE\n"
               "                          cache mode of the new backing chain [writeback]\n"
               "  -b, --backing=FILE      the new backing file; \"\" for none\n"
               "  -F, -B, --backing-format=FORMAT\n"
               "                          its format\n"
               "  -u, --backing-unsafe    change the name only: the disk becomes what the new file makes of it\n"
               "  -U, --force-share       read the new chain although another program writes to it\n"
               "  -p, --progress[=auto|bar|percent|json]\n"
               "                          show how far it is\n"
               "  -q, --quiet             print nothing but errors\n"
               "      --output=human|json how to print the result\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "f:t:T:b:F:B:uUpq",
    .long_opts = long_opts,
    .run = run,
};
