/* SPDX-License-Identifier: GPL-3.0-or-later */
/* compare.c - `img compare`: do two images show the same disk?
 *
 * Both are walked by extents, and what reads as zeroes on both sides is not read. Sizes may differ when what is beyond
 * the shorter one is zero; --strict forbids that, and also the same bytes stored in another way. The exit status: 0
 * equal, 1 different, 2 could not be opened, 3 could not be mapped, 4 could not be read.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "json.h"
#include "progress.h"
#include "report.h"

#define CHUNK ((uint64_t)2 << 20)
#define SECTOR 512

enum { SAME = 0, DIFFERENT = 1, OPEN_FAILED = 2, MAP_FAILED = 3, READ_FAILED = 4 };

struct side {
    const char *file, *format, *snapshot;
    struct img *image;
    uint64_t size;
    uint8_t *buffer; /* CHUNK bytes */
};

struct compare {
    struct side a, b;
    struct common_options common;
    bool strict;
    struct progress progress;

    const char *reason; /* of a difference: "size", "block-status", "content" */
    uint64_t offset;
};

static const struct option long_opts[] = {
    {"a-format", required_argument, NULL, 'f'},
    {"b-format", required_argument, NULL, 'F'},
    {"format", required_argument, NULL, 'f'},
    {"strict", no_argument, NULL, 's'},
    {"cache", required_argument, NULL, 'T'},
    {"snapshot", required_argument, NULL, OPT_SNAPSHOT},
    {"a-snapshot", required_argument, NULL, OPT_SNAPSHOT},
    {"b-snapshot", required_argument, NULL, OPT_B_SNAPSHOT},
    {"progress", optional_argument, NULL, OPT_PROGRESS},
    {"quiet", no_argument, NULL, 'q'},
    {"force-share", no_argument, NULL, 'U'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

static int differ(struct compare *c, const char *reason, uint64_t offset) {
    c->reason = reason;
    c->offset = offset;
    return DIFFERENT;
}

static int map_side(const struct side *side, uint64_t offset, uint64_t length, struct img_extent *extent) {
    struct img_error err = {0};
    if (img_map(side->image, offset, length, false, extent, &err) < 0) {
        report_image_error(&err, "Sector allocation test failed for %s", side->file);
        return MAP_FAILED;
    }
    return SAME;
}

static int read_side(const struct side *side, uint64_t offset, uint64_t length) {
    struct img_error err = {0};
    if (img_pread(side->image, side->buffer, length, offset, &err) < 0) {
        report_image_error(&err, "Error while reading offset %" PRIu64 " of %s", offset, side->file);
        return READ_FAILED;
    }
    return SAME;
}

static bool reads_as_zero(const struct img_extent *e) {
    return (e->flags & IMG_EXTENT_ZERO) || !(e->flags & IMG_EXTENT_PRESENT);
}

static uint64_t sector_at(uint64_t position, uint64_t length) {
    return length - position < SECTOR ? length - position : SECTOR;
}

/* Is there a byte on `side` that is not zero? `length` is at most CHUNK. */
static int expect_zeroes(struct compare *c, const struct side *side, uint64_t offset, uint64_t length) {
    int status = read_side(side, offset, length);
    if (status != SAME || img_is_zero(side->buffer, length))
        return status;
    uint64_t at = 0;
    while (img_is_zero(side->buffer + at, sector_at(at, length)))
        at += SECTOR;
    return differ(c, "content", offset + at);
}

static int compare_data(struct compare *c, uint64_t offset, uint64_t length) {
    int status = read_side(&c->a, offset, length);
    if (status == SAME)
        status = read_side(&c->b, offset, length);
    if (status != SAME || memcmp(c->a.buffer, c->b.buffer, length) == 0)
        return status;
    uint64_t at = 0;
    while (memcmp(c->a.buffer + at, c->b.buffer + at, sector_at(at, length)) == 0)
        at += SECTOR;
    return differ(c, "content", offset + at);
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static int compare_common(struct compare *c, uint64_t length) {
    const uint32_t strict_flags = IMG_EXTENT_PRESENT | IMG_EXTENT_DATA | IMG_EXTENT_ZERO | IMG_EXTENT_OFFSET;
    struct img_extent a, b;
    for (uint64_t at = 0, step; at < length; at += step) {
        int status = map_side(&c->a, at, length - at, &a);
        if (status == SAME)
            status = map_side(&c->b, at, length - at, &b);
        if (status != SAME)
            return status;
        if (c->strict && ((a.flags ^ b.flags) & strict_flags))
            return differ(c, "block-status", at);
        step = smaller(a.length, b.length);
        bool zero_a = reads_as_zero(&a), zero_b = reads_as_zero(&b);
        if (!zero_a || !zero_b) {
            step = smaller(step, CHUNK);
            if (!zero_a && !zero_b)
                status = compare_data(c, at, step);
            else
                status = expect_zeroes(c, zero_a ? &c->b : &c->a, at, step);
        }
        if (status != SAME)
            return status;
        progress_update(&c->progress, at + step);
    }
    return SAME;
}

/* What one side has beyond the other's end must be zero. */
static int compare_tail(struct compare *c, const struct side *longer, uint64_t from) {
    struct img_extent extent;
    for (uint64_t at = from, step; at < longer->size; at += step) {
        int status = map_side(longer, at, longer->size - at, &extent);
        if (status != SAME)
            return status;
        step = extent.length;
        if (!reads_as_zero(&extent)) {
            step = smaller(step, CHUNK);
            status = expect_zeroes(c, longer, at, step);
        }
        if (status != SAME)
            return status;
        progress_update(&c->progress, at + step);
    }
    return SAME;
}

static int compare_images(struct compare *c) {
    bool say = !c->common.quiet && c->common.output == OUTPUT_HUMAN;
    uint64_t common = smaller(c->a.size, c->b.size);

    if (c->strict && c->a.size != c->b.size)
        return differ(c, "size", common);
    int status = compare_common(c, common);
    if (status != SAME || c->a.size == c->b.size)
        return status;
    if (say)
        printf("Warning: Image size mismatch!\n");
    return compare_tail(c, c->a.size > c->b.size ? &c->a : &c->b, common);
}

static void print_human(const struct compare *c, int status) {
    if (status == SAME)
        printf("Images are identical.\n");
    else if (strcmp(c->reason, "size") == 0)
        printf("Strict mode: Image size mismatch!\n");
    else if (strcmp(c->reason, "block-status") == 0)
        printf("Strict mode: Offset %" PRIu64 " block status mismatch!\n", c->offset);
    else
        printf("Content mismatch at offset %" PRIu64 "!\n", c->offset);
}

static void print_json(const struct compare *c, int status) {
    json_t *o = json_new_object();
    json_put_text(o, "filename-a", c->a.file);
    json_put_text(o, "filename-b", c->b.file);
    json_put_number(o, "virtual-size-a", c->a.size);
    json_put_number(o, "virtual-size-b", c->b.size);
    json_put_bool(o, "identical", status == SAME);
    if (status != SAME) {
        json_put_text(o, "mismatch", c->reason);
        json_put_number(o, "offset", c->offset);
    }
    json_print(o);
}

static bool open_side(const struct compare *c, struct side *side) {
    struct img_open_options options = {.flags = c->common.force_share ? IMG_OPEN_FORCE_SHARE : 0,
                                       .cache = c->common.source_cache,
                                       .format = side->format,
                                       .snapshot = side->snapshot};
    side->image = open_image(side->file, &options);
    if (!side->image)
        return false;
    side->size = img_size(side->image);
    if (posix_memalign((void **)&side->buffer, 4096, CHUNK) != 0)
        out_of_memory();
    return true;
}

static void close_side(struct side *side) {
    img_close(side->image, NULL);
    free(side->buffer);
}

/* SAME, or the exit status after reporting. */
static int parse(int argc, char **argv, struct compare *c) {
    int opt;
    while ((opt = next_option(&compare_command, argc, argv)) != -1) {
        if (!common_option(opt, &c->common))
            return OPEN_FAILED;
        switch (opt) {
        case 'f':
            c->a.format = optarg;
            break;
        case 'F':
            c->b.format = optarg;
            break;
        case OPT_B_SNAPSHOT:
            c->b.snapshot = optarg;
            break;
        case 's':
            c->strict = true;
            break;
        }
    }
    if (optind != argc - 2)
        usage_error("Expecting two image file names");
    c->a.snapshot = c->common.snapshot;
    c->a.file = argv[optind];
    c->b.file = argv[optind + 1];
    return SAME;
}

static int run(int argc, char **argv) {
    struct compare c = {0};

    int status = parse(argc, argv, &c);
    if (status != SAME)
        return status;
    status = OPEN_FAILED;
    if (open_side(&c, &c.a) && open_side(&c, &c.b)) {
        uint64_t total = c.a.size > c.b.size ? c.a.size : c.b.size;
        enum progress_style style = c.common.quiet ? PROGRESS_NONE : c.common.progress;
        progress_start(&c.progress, style, total, 2, c.common.output == OUTPUT_JSON ? stderr : stdout);
        status = compare_images(&c);
        progress_finish(&c.progress, status == SAME);
        if (status <= DIFFERENT && c.common.output == OUTPUT_JSON && !c.common.quiet)
            print_json(&c, status);
        else if (status <= DIFFERENT && !c.common.quiet)
            print_human(&c, status);
    }
    close_side(&c.a);
    close_side(&c.b);
    return status;
}

const struct command compare_command = {
    .name = "compare",
    .summary = "tell whether two images show the same disk",
    .usage = "[-f FORMAT] [-F FORMAT] [-s] [-T CACHE] [--snapshot=SNAPSHOT] [--b-snapshot=SNAPSHOT] [-p] [-q] [-U] "
             "[--image-opts] "
             "[--output=human|json]\n           "
             "[--object=SECRET] [--key=ID] [--key-file=PATH] FILE1 FILE2",
    .options = "  -f, --a-format=FORMAT   the first image's format, probed if not given\n"
               "  -F, --b-format=FORMAT   the second image's format, probed if not given\n"
               "  -s, --strict            sizes and the way of storing must be the same too\n"
               "  -T, --cache=CACHE       cache mode to read with [writeback]\n"
               "      --snapshot=SNAPSHOT look at this internal snapshot of the first image, by its id or name\n"
               "      --a-snapshot=SNAPSHOT\n"
               "                          the same\n"
               "      --b-snapshot=SNAPSHOT\n"
               "                          look at this one of the second image\n"
               "  -p, --progress[=auto|bar|percent|json]\n"
               "                          show how far it is\n"
               "  -q, --quiet             print nothing but errors\n"
               "  -U, --force-share       read although another program writes to them\n"
               "      --output=human|json how to print\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "f:F:T:sqUp",
    .long_opts = long_opts,
    .run = run,
};
