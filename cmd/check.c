/* SPDX-License-Identifier: GPL-3.0-or-later */
/* check.c - `img check`: are an image's tables in order, and what of the disk is hit if not.
 *
 * Findings go to stderr as they come, the summary to stdout. A repair is followed by a second check, whose result is
 * what the exit status tells: 0 good, 1 could not be checked, 2 corrupt, 3 only leaks, 63 nothing to check in this
 * format.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "json.h"
#include "progress.h"
#include "report.h"
#include "size.h"

enum { STATUS_CORRUPT = 2, STATUS_LEAKS = 3, STATUS_NO_CHECK = 63 };

/* More damaged ranges than this are counted but not listed in JSON. */
#define MAX_RANGES 65536

struct range {
    uint64_t start, length;
};

struct check {
    const char *file, *format;
    struct common_options common;
    uint32_t repair; /* enum img_check_flags */

    struct progress progress;
    struct range *ranges;
    size_t nranges, capacity;
    bool truncated;
};

static const struct option long_opts[] = {
    {"format", required_argument, NULL, 'f'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    {"repair", required_argument, NULL, 'r'},
    {"cache", required_argument, NULL, 'T'},
    {"force-share", no_argument, NULL, 'U'},
    {"quiet", no_argument, NULL, 'q'},
    {"progress", optional_argument, NULL, OPT_PROGRESS},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

static void note_range(struct check *c, uint64_t start, uint64_t length) {
    struct range *last = c->nranges ? &c->ranges[c->nranges - 1] : NULL;
    if (last && start >= last->start && start <= last->start + last->length) {
        if (start + length > last->start + last->length)
            last->length = start + length - last->start;
        return;
    }
    if (c->nranges == MAX_RANGES) {
        c->truncated = true;
        return;
    }
    if (c->nranges == c->capacity) {
        c->capacity = c->capacity ? c->capacity * 2 : 64;
        c->ranges = reallocarray(c->ranges, c->capacity, sizeof(*c->ranges));
        if (!c->ranges)
            out_of_memory();
    }
    c->ranges[c->nranges++] = (struct range){start, length};
}

static void on_finding(void *opaque, const struct img_finding *finding) {
    struct check *c = opaque;
    char size[HUMAN_SIZE_MAX];

    print_text(stderr, finding->text);
    fputc('\n', stderr);
    if (!finding->has_guest || finding->guest_length == 0)
        return;
    if (c->common.output == OUTPUT_JSON)
        note_range(c, finding->guest_start, finding->guest_length);
    else
        fprintf(stderr, "  guest range 0x%" PRIx64 "-0x%" PRIx64 " (%s) is hit\n", finding->guest_start,
                finding->guest_start + (finding->guest_length - 1), human_size(finding->guest_length, size));
}

static void on_progress(void *opaque, uint64_t done, uint64_t total) {
    struct check *c = opaque;
    c->progress.total = total;
    progress_update(&c->progress, done);
}

static int check_once(struct check *c, struct img *image, uint32_t flags, struct img_check_result *result,
                      struct img_error *err) {
    struct img_check_options options = {.flags = flags, .report = on_finding, .progress = on_progress, .opaque = c};
    enum progress_style style = c->common.quiet ? PROGRESS_NONE : c->common.progress;
    *result = (struct img_check_result){0};
    progress_start(&c->progress, style, 0, 1, c->common.output == OUTPUT_JSON ? stderr : stdout);
    int ret = img_check(image, &options, result, err);
    progress_finish(&c->progress, ret == 0);
    return ret;
}

static void print_human(const struct img_check_result *r) {
    if (!r->corruptions && !r->leaks && !r->check_errors)
        printf("No errors were found on the image.\n");
    if (r->corruptions)
        printf("\n%" PRIu64 " errors were found on the image.\n"
               "Data may be corrupted, or further writes to the image may corrupt it.\n",
               r->corruptions);
    if (r->leaks)
        printf("\n%" PRIu64 " leaked clusters were found on the image.\n"
               "This means waste of disk space, but no harm to data.\n",
               r->leaks);
    if (r->check_errors)
        printf("\n%" PRIu64 " internal errors have occurred during the check.\n", r->check_errors);
    if (r->total_clusters && r->allocated_clusters)
        printf("%" PRIu64 "/%" PRIu64 " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed clusters\n",
               r->allocated_clusters, r->total_clusters,
               (double)r->allocated_clusters * 100 / (double)r->total_clusters,
               (double)r->fragmented_clusters * 100 / (double)r->allocated_clusters,
               (double)r->compressed_clusters * 100 / (double)r->allocated_clusters);
    if (r->image_end_offset)
        printf("Image end offset: %" PRIu64 "\n", r->image_end_offset);
}

static void put_if(json_t *o, const char *key, uint64_t number) {
    if (number)
        json_put_number(o, key, number);
}

static int by_start(const void *a, const void *b) {
    const struct range *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

/* The damaged ranges in order, joined where they touch. */
static json_t *ranges_json(struct check *c) {
    json_t *list = json_new_array();
    size_t found = c->nranges;
    qsort(c->ranges, found, sizeof(*c->ranges), by_start);
    c->nranges = 0;
    for (size_t i = 0; i < found; i++)
        note_range(c, c->ranges[i].start, c->ranges[i].length);
    for (size_t i = 0; i < c->nranges; i++) {
        json_t *range = json_new_object();
        json_put_number(range, "start", c->ranges[i].start);
        json_put_number(range, "length", c->ranges[i].length);
        json_add(list, range);
    }
    return list;
}

static void print_json(struct check *c, const char *format, const struct img_check_result *r) {
    json_t *o = json_new_object();
    put_if(o, "image-end-offset", r->image_end_offset);
    put_if(o, "compressed-clusters", r->compressed_clusters);
    put_if(o, "total-clusters", r->total_clusters);
    put_if(o, "corruptions", r->corruptions);
    put_if(o, "corruptions-fixed", r->corruptions_fixed);
    json_put_number(o, "check-errors", r->check_errors);
    put_if(o, "leaks", r->leaks);
    put_if(o, "leaks-fixed", r->leaks_fixed);
    put_if(o, "allocated-clusters", r->allocated_clusters);
    json_put_text(o, "filename", c->file);
    json_put_text(o, "format", format);
    put_if(o, "fragmented-clusters", r->fragmented_clusters);
    if (c->nranges)
        json_put(o, "damaged-ranges", ranges_json(c));
    if (c->truncated)
        json_put_bool(o, "damaged-ranges-truncated", true);
    json_print(o);
}

/* The repair is done: says so and looks once more. */
static int check_again(struct check *c, struct img *image, struct img_check_result *result, struct img_error *err) {
    uint64_t leaks = result->leaks_fixed, corruptions = result->corruptions_fixed;
    if (c->common.output == OUTPUT_HUMAN && !c->common.quiet)
        printf("The following inconsistencies were found and repaired:\n\n"
               "    %" PRIu64 " leaked clusters\n"
               "    %" PRIu64 " corruptions\n\n"
               "Double checking the fixed image now...\n",
               leaks, corruptions);
    fflush(stdout);
    int ret = check_once(c, image, 0, result, err);
    result->leaks_fixed = leaks;
    result->corruptions_fixed = corruptions;
    return ret;
}

static int check_image(struct check *c, struct img *image) {
    struct img_check_result result;
    struct img_error err = {0};

    int ret = check_once(c, image, c->repair, &result, &err);
    if (ret == -ENOTSUP) {
        report("This image format does not support checks");
        return STATUS_NO_CHECK;
    }
    if (ret == 0 && (result.corruptions_fixed || result.leaks_fixed))
        ret = check_again(c, image, &result, &err);
    if (ret < 0) {
        report_image_error(&err, "Check failed");
        return EXIT_FAILURE;
    }
    if (!c->common.quiet && c->common.output == OUTPUT_JSON)
        print_json(c, img_format(image), &result);
    else if (!c->common.quiet)
        print_human(&result);
    if (result.check_errors) {
        report("Check failed");
        return EXIT_FAILURE;
    }
    return result.corruptions ? STATUS_CORRUPT : result.leaks ? STATUS_LEAKS : EXIT_SUCCESS;
}

/* False after reporting. */
static bool parse(int argc, char **argv, struct check *c) {
    int opt;
    while ((opt = next_option(&check_command, argc, argv)) != -1) {
        if (!common_option(opt, &c->common))
            return false;
        switch (opt) {
        case 'f':
            c->format = optarg;
            break;
        case 'r':
            if (strcmp(optarg, "leaks") == 0)
                c->repair = IMG_CHECK_REPAIR_LEAKS;
            else if (strcmp(optarg, "all") == 0)
                c->repair = IMG_CHECK_REPAIR_LEAKS | IMG_CHECK_REPAIR_ALL;
            else
                usage_error("Unknown option value for -r (expecting 'leaks' or 'all'): %s", optarg);
            break;
        }
    }
    if (optind != argc - 1)
        usage_error("Expecting one image file name");
    c->file = argv[optind];
    return true;
}

static int run(int argc, char **argv) {
    struct check c = {0};
    struct img_error err = {0};

    if (!parse(argc, argv, &c))
        return EXIT_FAILURE;
    struct img_open_options options = {
        .flags = IMG_OPEN_CHECK | IMG_OPEN_NO_BACKING | (c.repair ? IMG_OPEN_WRITE : 0) |
                 (c.common.force_share ? IMG_OPEN_FORCE_SHARE : 0),
        .cache = c.common.source_cache,
        .format = c.format,
    };
    struct img *image = open_image(c.file, &options);
    if (!image)
        return EXIT_FAILURE;
    int status = check_image(&c, image);
    if (img_close(image, &err) < 0) {
        report_image_error(&err, "Could not close '%s'", c.file);
        status = EXIT_FAILURE;
    }
    free(c.ranges);
    return status;
}

const struct command check_command = {
    .name = "check",
    .summary = "look for errors in an image and repair them",
    .usage = "[-f FORMAT] [--output=human|json] [-r leaks|all] [-T CACHE] [-p] [-q] [-U] [--image-opts] "
             "[--object=SECRET] [--key=ID] "
             "[--key-file=PATH] FILE",
    .options = "  -f, --format=FORMAT     the image's format, probed if not given\n"
               "      --output=human|json how to print\n"
               "  -r, --repair=leaks|all  give back leaked space, or repair everything\n"
               "  -T, --cache=CACHE       cache mode to read with [writeback]\n"
               "  -p, --progress[=auto|bar|percent|json]\n"
               "                          show how far it is\n"
               "  -q, --quiet             print nothing but findings and errors\n"
               "  -U, --force-share       read although another program writes to it\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "f:r:T:Uqp",
    .long_opts = long_opts,
    .run = run,
};
