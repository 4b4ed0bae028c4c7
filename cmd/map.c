/* SPDX-License-Identifier: GPL-3.0-or-later */
/* map.c - `img map`: which layer of a chain holds what, and where in its file.
 *
 * Extents come from img_map in whatever pieces the engine finds convenient; neighbours that say the same are joined
 * here, so the lines do not depend on the pieces. JSON is printed extent by extent and never held in memory.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "report.h"
#include "size.h"

struct map {
    const char *file, *format;
    struct common_options common;
    uint64_t start, max_length;
};

static const struct option long_opts[] = {
    {"format", required_argument, NULL, 'f'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    {"start-offset", required_argument, NULL, 's'},
    {"max-length", required_argument, NULL, 'l'},
    {"force-share", no_argument, NULL, 'U'},
    {"cache", required_argument, NULL, 'T'},
    {"snapshot", required_argument, NULL, OPT_SNAPSHOT},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

#define SHOWN_FLAGS (IMG_EXTENT_PRESENT | IMG_EXTENT_DATA | IMG_EXTENT_ZERO | IMG_EXTENT_OFFSET)

/* Does `next` go on where `extent` ends, in the same way? */
static bool continues(const struct img_extent *extent, const struct img_extent *next) {
    if (extent->length == 0 || extent->depth != next->depth || extent->flags != next->flags)
        return false;
    if (!(extent->flags & IMG_EXTENT_OFFSET))
        return true;
    return extent->host_offset + extent->length == next->host_offset && strcmp(extent->file, next->file) == 0;
}

/* Human lines are for what a reader of the file could find: stored data. False: there is some that has no place. */
static bool print_human(const struct img_extent *e) {
    bool data = e->flags & IMG_EXTENT_DATA;
    if (data && !(e->flags & IMG_EXTENT_OFFSET)) {
        report("File contains external, encrypted or compressed clusters.");
        return false;
    }
    if (data && !(e->flags & IMG_EXTENT_ZERO)) {
        printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64, e->start, e->length, e->host_offset);
        print_text(stdout, e->file);
        putchar('\n');
    }
    return true;
}

static const char *yes_no(uint32_t flag) {
    return flag ? "true" : "false";
}

static void print_json(const struct img_extent *e) {
    printf("{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 ", \"depth\": %" PRIu32
           ", \"present\": %s, \"zero\": %s, \"data\": %s",
           e->start, e->length, e->depth, yes_no(e->flags & IMG_EXTENT_PRESENT), yes_no(e->flags & IMG_EXTENT_ZERO),
           yes_no(e->flags & IMG_EXTENT_DATA));
    if (e->flags & IMG_EXTENT_OFFSET)
        printf(", \"offset\": %" PRIu64, e->host_offset);
    putchar('}');
}

static bool print_extent(const struct map *m, const struct img_extent *extent, bool last) {
    if (m->common.output == OUTPUT_HUMAN)
        return print_human(extent);
    print_json(extent);
    if (!last)
        printf(",\n");
    return true;
}

/* What lies behind the end of a short layer is told as the layer above it sees it: that has nothing there, and nobody
 * below is asked. */
static void see_from_above(struct img *image, struct img_extent *extent) {
    for (uint32_t depth = 0; depth < extent->depth; depth++)
        image = img_backing(image);
    if (extent->depth == 0 || extent->start < img_size(image))
        return;
    extent->depth--;
    extent->flags = IMG_EXTENT_ZERO;
}

static int map_image(const struct map *m, struct img *image) {
    uint64_t end = img_size(image);
    struct img_extent extent = {.start = m->start}, next;
    struct img_error err = {0};

    if (m->max_length < end && m->start < end - m->max_length)
        end = m->start + m->max_length;
    if (m->common.output == OUTPUT_HUMAN)
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    else
        putchar('[');
    for (uint64_t at = m->start; at < end; at = next.start + next.length) {
        if (img_map(image, at, end - at, false, &next, &err) < 0) {
            report_image_error(&err, "Could not read file metadata");
            return EXIT_FAILURE;
        }
        next.flags &= SHOWN_FLAGS;
        see_from_above(image, &next);
        if (continues(&extent, &next)) {
            extent.length += next.length;
            continue;
        }
        if (extent.length > 0 && !print_extent(m, &extent, false))
            return EXIT_FAILURE;
        extent = next;
    }
    if (!print_extent(m, &extent, true))
        return EXIT_FAILURE;
    if (m->common.output == OUTPUT_JSON)
        printf("]\n");
    return EXIT_SUCCESS;
}

/* False after reporting. */
static bool parse(int argc, char **argv, struct map *m) {
    int opt;
    while ((opt = next_option(&map_command, argc, argv)) != -1) {
        if (!common_option(opt, &m->common))
            return false;
        switch (opt) {
        case 'f':
            m->format = optarg;
            break;
        case 's':
            if (!parse_size_argument("start offset", optarg, INT64_MAX, &m->start))
                return false;
            break;
        case 'l':
            if (!parse_size_argument("max length", optarg, INT64_MAX, &m->max_length))
                return false;
            break;
        }
    }
    if (optind != argc - 1)
        usage_error("Expecting one image file name");
    m->file = argv[optind];
    return true;
}

static int run(int argc, char **argv) {
    struct map m = {.max_length = UINT64_MAX};

    if (!parse(argc, argv, &m))
        return EXIT_FAILURE;
    struct img_open_options options = {.flags = m.common.force_share ? IMG_OPEN_FORCE_SHARE : 0,
                                       .cache = m.common.source_cache,
                                       .format = m.format,
                                       .snapshot = m.common.snapshot};
    struct img *image = open_image(m.file, &options);
    if (!image)
        return EXIT_FAILURE;
    int status = map_image(&m, image);
    img_close(image, NULL);
    return status;
}

const struct command map_command = {
    .name = "map",
    .summary = "show where an image's data is stored",
    .usage = "[-f FORMAT] [--output=human|json] [-s OFFSET] [-l LENGTH] [-T CACHE] [--snapshot=SNAPSHOT] [-U] "
             "[--image-opts] "
             "[--object=SECRET] [--key=ID] "
             "[--key-file=PATH] FILE",
    .options = "  -f, --format=FORMAT     the image's format, probed if not given\n"
               "      --output=human|json how to print\n"
               "  -s, --start-offset=OFFSET\n"
               "                          where to begin [0]\n"
               "  -l, --max-length=LENGTH where to end, counted from there [the end]\n"
               "  -T, --cache=CACHE       cache mode to read with [writeback]\n"
               "      --snapshot=SNAPSHOT show this internal snapshot, by its id or name\n"
               "  -U, --force-share       read although another program writes to it\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "f:s:l:T:U",
    .long_opts = long_opts,
    .run = run,
};
