/* SPDX-License-Identifier: GPL-3.0-or-later */
/* bitmap.c - `img bitmap`: persistent dirty bitmaps are added, removed, cleared, enabled, disabled, merged and listed.
 *
 * The actions of a command line are done one after the other, in their order, each as a whole: when one fails, those
 * before it stand, as in qemu-img. Listing is not known there.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cmd.h"
#include "describe.h"
#include "names.h"
#include "report.h"
#include "size.h"

enum action_kind { ADD, REMOVE, CLEAR, ENABLE, DISABLE, MERGE, LIST };

static const char *const action_names[] = {"add", "remove", "clear", "enable", "disable", "merge", "list"};

struct action {
    enum action_kind kind;
    const char *source; /* MERGE: the other bitmap */
};

struct bitmap {
    const char *file, *name, *format, *source_file, *source_format;
    struct action *actions; /* owned */
    size_t nactions;
    bool given[LIST + 1];
    uint64_t granularity; /* 0: the default */
    bool granularity_given;
    struct common_options common;
    struct img *image, *source;
};

enum { OPT_ACTION = 512 }; /* the first of them */

static const struct option long_opts[] = {
    {"add", no_argument, NULL, OPT_ACTION + ADD},
    {"remove", no_argument, NULL, OPT_ACTION + REMOVE},
    {"clear", no_argument, NULL, OPT_ACTION + CLEAR},
    {"enable", no_argument, NULL, OPT_ACTION + ENABLE},
    {"disable", no_argument, NULL, OPT_ACTION + DISABLE},
    {"merge", required_argument, NULL, OPT_ACTION + MERGE},
    {"list", no_argument, NULL, OPT_ACTION + LIST},
    {"source-file", required_argument, NULL, 'b'},
    {"source-format", required_argument, NULL, 'F'},
    {"granularity", required_argument, NULL, 'g'},
    {"format", required_argument, NULL, 'f'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

/* ---- listing ---------------------------------------------------------------------------------- */

static void print_range(const struct bitmap *b, uint64_t start, uint64_t length, bool first) {
    if (b->common.output == OUTPUT_JSON)
        printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 "}", first ? "" : ",\n", start, length);
    else
        printf("%#-16" PRIx64 "%#-16" PRIx64 "\n", start, length);
}

/* Prints the dirty ranges, neighbours in one. */
static int list(const struct bitmap *b, struct img_error *err) {
    uint64_t start = 0, length = 0, next = 0, more = 1;
    bool first = true;
    if (b->common.output == OUTPUT_JSON)
        putchar('[');
    else
        printf("%-16s%s\n", "Offset", "Length");
    while (more > 0) {
        int ret = img_bitmap_next(b->image, b->name, start + length, &next, &more, err);
        if (ret < 0)
            return ret;
        if (more > 0 && next == start + length) {
            length += more;
            continue;
        }
        if (length > 0) {
            print_range(b, start, length, first);
            first = false;
        }
        start = next;
        length = more;
    }
    if (b->common.output == OUTPUT_JSON)
        printf("]\n");
    return 0;
}

/* ---- the actions ------------------------------------------------------------------------------ */

static int perform(const struct bitmap *b, const struct action *action, struct img_error *err) {
    switch (action->kind) {
    case ADD: /* one that is added disabled never records */
        return img_bitmap_add(b->image, b->name, b->granularity, true, err);
    case REMOVE:
        return img_bitmap_remove(b->image, b->name, err);
    case CLEAR:
        return img_bitmap_clear(b->image, b->name, err);
    case ENABLE:
    case DISABLE:
        return img_bitmap_set_enabled(b->image, b->name, action->kind == ENABLE, err);
    case MERGE:
        return img_bitmap_merge(b->image, b->name, b->source ? b->source : b->image, action->source, err);
    case LIST:
        return list(b, err);
    }
    return 0;
}

static bool perform_all(const struct bitmap *b) {
    char *shown = text_printable(b->name);
    bool good = true;
    for (size_t i = 0; good && i < b->nactions; i++) {
        struct img_error err = {0};
        good = perform(b, &b->actions[i], &err) == 0;
        if (!good)
            report_image_error(&err, "Operation %s on bitmap %s failed", action_names[b->actions[i].kind], shown);
    }
    free(shown);
    return good;
}

/* ---- the command line ------------------------------------------------------------------------- */

/* False after reporting. */
static bool check(const struct bitmap *b, int names) {
    if (b->nactions == 0) {
        report("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge");
        return false;
    }
    if (b->granularity_given && !b->given[ADD]) {
        report("granularity only supported with --add");
        return false;
    }
    if (b->source_format && !b->source_file) {
        report("-F only supported with -b");
        return false;
    }
    if (b->source_file && !b->given[MERGE]) {
        report("Merge bitmap source file only supported with --merge");
        return false;
    }
    if (names != 2) {
        report("Expecting filename and bitmap name");
        return false;
    }
    return true;
}

static bool parse(int argc, char **argv, struct bitmap *b) {
    int opt;
    b->actions = memory((size_t)argc, sizeof(*b->actions));
    while ((opt = next_option(&bitmap_command, argc, argv)) != -1) {
        if (!common_option(opt, &b->common))
            return false;
        switch (opt) {
        case 'b':
            b->source_file = optarg;
            break;
        case 'F':
            b->source_format = optarg;
            break;
        case 'f':
            b->format = optarg;
            break;
        case 'g':
            if (!parse_size_argument("granularity", optarg, INT64_MAX, &b->granularity))
                return false;
            b->granularity_given = true;
            break;
        default:
            if (opt < OPT_ACTION) /* a common one */
                break;
            b->given[opt - OPT_ACTION] = true;
            b->actions[b->nactions++] = (struct action){(enum action_kind)(opt - OPT_ACTION), optarg};
        }
    }
    if (!check(b, argc - optind))
        return false;
    b->file = argv[optind];
    b->name = argv[optind + 1];
    return true;
}

/* ---- the whole -------------------------------------------------------------------------------- */

static bool only_lists(const struct bitmap *b) {
    for (int kind = ADD; kind < LIST; kind++)
        if (b->given[kind])
            return false;
    return true;
}

static bool open_images(struct bitmap *b) {
    struct img_open_options options = {.flags = only_lists(b) ? IMG_OPEN_INFO : IMG_OPEN_WRITE, .format = b->format};
    struct img_open_options source_options = {.flags = IMG_OPEN_INFO, .format = b->source_format};
    b->image = open_image(b->file, &options);
    if (b->image && b->source_file)
        b->source = open_image_as(b->source_file, false, &source_options);
    return b->image && (b->source || !b->source_file);
}

static bool close_images(struct bitmap *b, bool good) {
    struct img_error err = {0};
    img_close(b->source, NULL);
    if (img_close(b->image, &err) < 0 && good) {
        report_image_error(&err, "Could not close '%s'", b->file);
        return false;
    }
    return good;
}

static int run(int argc, char **argv) {
    struct bitmap b = {0};
    bool good = parse(argc, argv, &b) && open_images(&b);
    good = close_images(&b, good && perform_all(&b));
    if (good && b.common.output == OUTPUT_JSON && !b.given[LIST])
        good = describe_result(b.file, b.format) == EXIT_SUCCESS;
    free(b.actions);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct command bitmap_command = {
    .name = "bitmap",
    .summary = "add, remove, clear, merge or list an image's dirty bitmaps",
    .usage = "(--add | --remove | --clear | --enable | --disable | --merge=BITMAP | --list)...\n"
             "           [-b FILE [-F FORMAT]] [-g GRANULARITY] [-f FORMAT] [--output=human|json]\n"
             "           [--object=SECRET] [--key=ID] [--key-file=PATH] FILE BITMAP",
    .options = "      --add               a new bitmap, which records from now on what the guest changes\n"
               "      --remove            remove the bitmap\n"
               "      --clear             forget what it recorded\n"
               "      --enable            record\n"
               "      --disable           record no more\n"
               "      --merge=BITMAP      what is dirty there becomes dirty here\n"
               "      --list              print what is dirty\n"
               "  -b, --source-file=FILE  the image that has the bitmap to be merged [FILE]\n"
               "  -F, --source-format=FORMAT\n"
               "                          its format, probed if not given\n"
               "  -g, --granularity=GRANULARITY\n"
               "                          with --add: bytes of the disk for each bit, 512 to 2G\n"
               "                          [a cluster, but 4k to 64k]\n"
               "  -f, --format=FORMAT     the image's format, probed if not given\n"
               "      --output=human|json how to print the list, or the image afterwards\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "b:F:f:g:",
    .long_opts = long_opts,
    .run = run,
};
