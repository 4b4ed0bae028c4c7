/* SPDX-License-Identifier: GPL-3.0-or-later */
/* resize.c - `img resize`: another size of an image's disk.
 *
 * The size is the last argument, whatever it looks like: "-1G" is no option. It is relative when it begins with a sign.
 * What would throw data away must be asked for with --shrink.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "describe.h"
#include "report.h"
#include "size.h"

struct resize {
    const char *file, *format;
    char sign; /* of the size; 0: it is absolute */
    uint64_t size;
    enum img_preallocation preallocation;
    struct common_options common;
    bool shrink;
};

enum { OPT_PREALLOCATION = 512, OPT_SHRINK };

static const struct option long_opts[] = {
    {"format", required_argument, NULL, 'f'},
    {"preallocation", required_argument, NULL, OPT_PREALLOCATION},
    {"shrink", no_argument, NULL, OPT_SHRINK},
    {"quiet", no_argument, NULL, 'q'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

/* ---- the command line ------------------------------------------------------------------------- */

static bool parse_preallocation(const char *text, enum img_preallocation *mode) {
    static const char *const names[] = {[IMG_PREALLOCATION_OFF] = "off",
                                        [IMG_PREALLOCATION_METADATA] = "metadata",
                                        [IMG_PREALLOCATION_FALLOC] = "falloc",
                                        [IMG_PREALLOCATION_FULL] = "full"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(text, names[i]) == 0) {
            *mode = (enum img_preallocation)i;
            return true;
        }
    report("Invalid preallocation mode '%s'", text);
    return false;
}

static bool parse_new_size(struct resize *r, const char *text) {
    if (*text == '+' || *text == '-')
        r->sign = *text++;
    if (*text != '+' && *text != '-' && parse_size(text, &r->size) == 0)
        return true;
    report("Parameter 'size' expects a non-negative number below 2^64");
    fprintf(stderr, "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                    "and exabytes, respectively.\n");
    return false;
}

static bool asks_for_help(int argc, char **argv) {
    return argc == 2 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0);
}

/* False after reporting. */
static bool parse(int argc, char **argv, struct resize *r) {
    int opt;
    if (asks_for_help(argc, argv)) {
        print_command_help(&resize_command);
        exit(EXIT_SUCCESS);
    }
    if (argc < 3)
        usage_error("Not enough arguments");
    const char *size = argv[--argc];
    while ((opt = next_option(&resize_command, argc, argv)) != -1) {
        if (!common_option(opt, &r->common))
            return false;
        switch (opt) {
        case 'f':
            r->format = optarg;
            break;
        case OPT_PREALLOCATION:
            if (!parse_preallocation(optarg, &r->preallocation))
                return false;
            break;
        case OPT_SHRINK:
            r->shrink = true;
            break;
        }
    }
    if (optind != argc - 1)
        usage_error("Expecting image file name and size");
    r->file = argv[optind];
    return parse_new_size(r, size);
}

/* ---- the size --------------------------------------------------------------------------------- */

/* What the disk will have; false after reporting. */
static bool settle_size(struct resize *r, const struct img *image) {
    uint64_t now = img_size(image), size = r->size;
    bool bad = false;
    if (r->sign == '+')
        bad = __builtin_add_overflow(now, size, &size);
    else if (r->sign == '-')
        bad = __builtin_sub_overflow(now, size, &size);
    if (bad || size == 0 || size > INT64_MAX) {
        report("New image size must be positive");
        return false;
    }
    if (size <= now && r->preallocation != IMG_PREALLOCATION_OFF) {
        report("Preallocation can only be used for growing images");
        return false;
    }
    if (size < now && !r->shrink) {
        report("Use the --shrink option to perform a shrink operation.");
        report(
            "warning: Shrinking an image will delete all data beyond the shrunken image's end. Before performing such "
            "an operation, make sure there is no important data there.");
        return false;
    }
    r->size = size;
    return true;
}

/* ---- the whole -------------------------------------------------------------------------------- */

static bool resize(struct resize *r, struct img *image) {
    struct img_error err = {0};
    uint32_t flags = r->shrink ? IMG_RESIZE_SHRINK : 0;
    bool has_clusters = img_cluster_size(image) > 0;
    if (!settle_size(r, image))
        return false;
    if (has_clusters && r->size % 512 != 0) {
        report("The new size must be a multiple of 512");
        return false;
    }
    if (!has_clusters && r->preallocation == IMG_PREALLOCATION_METADATA) {
        report("Unsupported preallocation mode: metadata");
        return false;
    }
    if (img_resize(image, r->size, r->preallocation, flags, &err) < 0) {
        report_sentence(&err);
        return false;
    }
    return true;
}

static int run(int argc, char **argv) {
    struct resize r = {0};
    struct img_error err = {0};
    if (!parse(argc, argv, &r))
        return EXIT_FAILURE;
    struct img_open_options options = {.flags = IMG_OPEN_WRITE, .format = r.format};
    struct img *image = open_image(r.file, &options);
    if (!image)
        return EXIT_FAILURE;
    bool good = resize(&r, image);
    if (img_close(image, &err) < 0 && good) {
        report_image_error(&err, "Could not close '%s'", r.file);
        good = false;
    }
    if (good && r.common.output == OUTPUT_JSON && !r.common.quiet)
        good = describe_result(r.file, r.format) == EXIT_SUCCESS;
    else if (good && !r.common.quiet)
        printf("Image resized.\n");
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct command resize_command = {
    .name = "resize",
    .summary = "change the size of an image's disk",
    .usage = "[-f FORMAT] [--preallocation=MODE] [--shrink] [-q] [--output=human|json]\n"
             "           [--object=SECRET] [--key=ID] [--key-file=PATH] FILE [+|-]SIZE",
    .options = "  -f, --format=FORMAT     the image's format, probed if not given\n"
               "      --preallocation=MODE\n"
               "                          of what is new: off, metadata (qcow2), falloc or full [off]\n"
               "      --shrink            let the size fall: what lies behind the new end is lost\n"
               "  -q, --quiet             print nothing but errors\n"
               "      --output=human|json how to print the result\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "f:q",
    .long_opts = long_opts,
    .run = run,
};
