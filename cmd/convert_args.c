/* SPDX-License-Identifier: GPL-3.0-or-later */
/* convert_args.c - see convert.h. */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>

#include "convert.h"
#include "option_list.h"
#include "options.h"
#include "report.h"
#include "size.h"

#define MAX_THREADS 16
#define MAX_SPARSE_SIZE (UINT64_C(16) << 20)
#define SECTOR 512

const struct option convert_long_options[] = {
    {"format", required_argument, NULL, 'f'},
    {"source-format", required_argument, NULL, 'f'},
    {"target-format", required_argument, NULL, 'O'},
    {"options", required_argument, NULL, 'o'},
    {"target-format-options", required_argument, NULL, 'o'},
    {"backing", required_argument, NULL, 'B'},
    {"backing-format", required_argument, NULL, 'F'},
    {"snapshot", required_argument, NULL, 'l'},
    {"sparse-size", required_argument, NULL, 'S'},
    {"source-cache", required_argument, NULL, 'T'},
    {"target-cache", required_argument, NULL, 't'},
    {"no-create", no_argument, NULL, 'n'},
    {"target-is-zero", no_argument, NULL, OPT_TARGET_IS_ZERO},
    {"compress", no_argument, NULL, 'c'},
    {"compression-level", required_argument, NULL, OPT_COMPRESSION_LEVEL},
    {"rate-limit", required_argument, NULL, 'r'},
    {"parallel", required_argument, NULL, 'm'},
    {"oob-writes", no_argument, NULL, 'W'},
    {"copy-range-offloading", no_argument, NULL, 'C'},
    {"target-image-opts", no_argument, NULL, OPT_TARGET_IMAGE_OPTS},
    {"salvage", no_argument, NULL, OPT_SALVAGE},
    {"bitmaps", no_argument, NULL, OPT_BITMAPS},
    {"skip-broken-bitmaps", no_argument, NULL, OPT_SKIP_BROKEN_BITMAPS},
    {"force-share", no_argument, NULL, 'U'},
    {"progress", optional_argument, NULL, OPT_PROGRESS},
    {"quiet", no_argument, NULL, 'q'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

static bool set_sparse_size(struct convert_args *a, const char *text) {
    if (!parse_size_argument("buffer size for sparse output", text, INT64_MAX, &a->sparse_size))
        return false;
    if (a->sparse_size % SECTOR || a->sparse_size > MAX_SPARSE_SIZE) {
        report("Invalid buffer size for sparse output specified. Valid sizes are multiples of %d up to %" PRIu64
               ". Select 0 to disable sparse detection (fully allocates output).",
               SECTOR, MAX_SPARSE_SIZE);
        return false;
    }
    a->sparse_given = true;
    return true;
}

static bool set_threads(struct convert_args *a, const char *text) {
    char *end;
    unsigned long threads = strtoul(text, &end, 0);
    if (end == text || *end || threads < 1 || threads > MAX_THREADS) {
        report("Invalid number of coroutines. Allowed number of coroutines is between 1 and %d", MAX_THREADS);
        return false;
    }
    a->threads = (unsigned)threads;
    return true;
}

/* Which levels there are is known when the target is. */
static bool set_level(struct convert_args *a, const char *text) {
    char *end;
    long level = strtol(text, &end, 10);
    if (end == text || *end || level < 1 || level > INT_MAX) {
        report("Invalid compression level '%s': it is a number from 1 on", text);
        return false;
    }
    a->level = (int)level;
    return true;
}

/* Options with an argument; false after reporting. */
static bool set_value(struct convert_args *a, int opt, const char *text) {
    switch (opt) {
    case 'f':
        a->source_format = text;
        return true;
    case 'O':
        a->target_format = text;
        a->target_format_given = true;
        return true;
    case 'b':
    case 'B':
        a->backing_file = text;
        return true;
    case 'F':
        a->backing_format = text;
        return true;
    case 'l':
        a->snapshot = text;
        return true;
    case 'o':
        return option_list_append(&a->options, text);
    case 'S':
        return set_sparse_size(a, text);
    case 't':
        return cache_option(text, &a->target_cache);
    case 'm':
        return set_threads(a, text);
    case OPT_COMPRESSION_LEVEL:
        return set_level(a, text);
    case 'r':
        return throttle_parse(&a->throttle, text);
    default:
        return common_option(opt, &a->common);
    }
}

static void set_flag(struct convert_args *a, int opt) {
    switch (opt) {
    case 'c':
        a->compress = true;
        break;
    case 'C':
        a->offload = true;
        break;
    case 'n':
        a->no_create = true;
        break;
    case 'W':
        a->out_of_order = true;
        break;
    case OPT_TARGET_IMAGE_OPTS:
        a->target_image_opts = true;
        break;
    case OPT_SALVAGE:
        a->salvage = true;
        break;
    case OPT_TARGET_IS_ZERO:
        a->target_is_zero = true;
        break;
    case OPT_BITMAPS:
        a->bitmaps = true;
        break;
    case OPT_SKIP_BROKEN_BITMAPS:
        a->skip_broken_bitmaps = true;
        break;
    }
}

/* What the options say together; NULL when nothing is wrong with it. */
static const char *contradiction(const struct convert_args *a) {
    if (a->skip_broken_bitmaps && !a->bitmaps)
        return "Use of --skip-broken-bitmaps requires --bitmaps";
    if (a->offload && a->compress)
        return "Cannot enable copy offloading when -c is used";
    if (a->offload && a->sparse_given)
        return "Cannot enable copy offloading when -S is used";
    if (a->offload && a->salvage)
        return "Cannot use copy offloading in salvaging mode";
    if (a->level && !a->compress)
        return "--compression-level requires use of -c flag";
    if (a->target_image_opts && !a->no_create)
        return "--target-image-opts requires use of -n flag";
    if (a->no_create && a->options)
        return "-o has no effect when skipping image creation";
    if (a->target_is_zero && !a->no_create)
        return "--target-is-zero requires use of -n flag";
    if (a->nsources == 0)
        return "Must specify image file name";
    if (a->bitmaps && a->nsources > 1)
        return "Copying bitmaps only possible with single source";
    if (a->snapshot && a->nsources > 1)
        return "No support for concatenating multiple snapshot";
    return NULL;
}

static int parse(struct convert_args *a, int argc, char **argv) {
    int opt;
    while ((opt = next_option(&convert_command, argc, argv)) != -1) {
        set_flag(a, opt);
        if (!set_value(a, opt, optarg))
            return EXIT_FAILURE;
    }
    int left = argc - optind;
    a->nsources = left > 1 ? (size_t)left - 1 : 0;
    a->sources = argv + optind;
    a->target = left > 1 ? argv[argc - 1] : NULL;

    if (option_list_wants_help(a->options))
        return options_print_help(a->target_format, a->target != NULL) ? EXIT_SUCCESS : EXIT_FAILURE;
    const char *wrong = contradiction(a);
    if (wrong) {
        report("%s", wrong);
        return EXIT_FAILURE;
    }
    return -1;
}

int convert_parse(struct convert_args *a, int argc, char **argv) {
    *a = (struct convert_args){
        .target_format = "raw", .target_cache = IMG_CACHE_UNSAFE, .sparse_size = IMG_SPARSE_SIZE_DEFAULT};
    int status = parse(a, argc, argv);
    if (status >= 0)
        convert_args_free(a);
    return status;
}

void convert_args_free(struct convert_args *a) {
    free(a->options);
    a->options = NULL;
}
