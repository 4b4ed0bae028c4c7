/* SPDX-License-Identifier: GPL-3.0-or-later */
/* rebase.c - `img rebase`: another backing file below an image, which shows the same disk as before; or with -u only
 * another name.
 */
#include <stdlib.h>

#include "change.h"
#include "report.h"
#include "secret.h"

struct rebase {
    struct change change;
    const char *backing, *backing_format;
    bool unsafe;
};

static const struct option long_opts[] = {
    {"backing-cache", required_argument, NULL, 'T'},
    {"backing", required_argument, NULL, 'b'},
    {"backing-format", required_argument, NULL, 'F'},
    {"backing-unsafe", no_argument, NULL, 'u'},
    {"force-share", no_argument, NULL, 'U'},
    CHANGE_OPTIONS,
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

static bool take(struct rebase *r, int opt) {
    switch (opt) {
    case 'b':
        r->backing = optarg;
        return true;
    case 'F':
    case 'B':
        r->backing_format = optarg;
        return true;
    case 'u':
        return r->unsafe = true;
    default:
        return change_option(&r->change, opt);
    }
}

static int rebase_image(struct rebase *r, struct img_error *err) {
    struct found_nodes found = {0};
    struct img_rebase_options options = {
        .backing_file = r->backing,
        .backing_format = r->backing_format,
        .unsafe = r->unsafe,
        .force_share = r->change.common.force_share,
        .cache = r->change.common.source_cache,
        .progress = change_progress,
        .opaque = &r->change,
        .ask_key = secret_ask,
        .find_node = find_node,
        .key_opaque = &found,
    };
    int ret = img_rebase(r->change.image, &options, err);
    found_nodes_free(&found);
    return ret;
}

static bool rebase(struct rebase *r) {
    struct img_error err = {0};
    if (!change_open(&r->change, r->unsafe ? IMG_OPEN_INFO : 0))
        return false;
    if (r->backing_format && !known_format(r->backing_format)) {
        report("Invalid format name: '%s'", r->backing_format);
        return false;
    }
    change_start(&r->change);
    return change_finish(&r->change, rebase_image(r, &err), NULL, &err);
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
    r.change.file = argv[optind];
    bool good = rebase(&r);
    change_end(&r.change);
    return good ? change_result(&r.change) : EXIT_FAILURE;
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
