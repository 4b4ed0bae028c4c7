/* SPDX-License-Identifier: GPL-3.0-or-later */
/* measure.c - `img measure`: how much room a new image takes, before it is made.
 *
 * Either of a given size, or for the contents of an image. Options that make no difference to the size are accepted
 * with any value, as in qemu-img; those that do are checked.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "json.h"
#include "option_list.h"
#include "options.h"
#include "report.h"
#include "size.h"
#include "sources.h"

struct measure {
    char *file; /* NULL: `size` counts */
    uint64_t size;
    const char *format, *target_format, *snapshot;
    char *list; /* all -o arguments */
    struct common_options common;
};

static const struct option long_opts[] = {
    {"format", required_argument, NULL, 'f'},
    {"target-format", required_argument, NULL, 'O'},
    {"options", required_argument, NULL, 'o'},
    {"size", required_argument, NULL, 's'},
    {"snapshot", required_argument, NULL, 'l'},
    {"force-share", no_argument, NULL, 'U'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

static bool set_preallocation(const char *text, struct img_create_options *create) {
    static const char *const names[] = {
        [IMG_PREALLOCATION_OFF] = "off",
        [IMG_PREALLOCATION_METADATA] = "metadata",
        [IMG_PREALLOCATION_FALLOC] = "falloc",
        [IMG_PREALLOCATION_FULL] = "full",
    };
    for (size_t i = 0; text && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            create->preallocation = (enum img_preallocation)i;
            return true;
        }
    }
    if (text && *text)
        report("invalid parameter value: %s", text);
    return !text || !*text;
}

static bool set_version(const char *text, struct img_create_options *create) {
    create->version = 3;
    if (!text || strcmp(text, "1.1") == 0 || strcmp(text, "v3") == 0)
        return true;
    create->version = 2;
    if (strcmp(text, "0.10") == 0 || strcmp(text, "v2") == 0)
        return true;
    report("Invalid compatibility level: '%s'", text);
    return false;
}

/* What has a say in the size; false after reporting. 0 means the default to the library, so it never gets one. */
static bool apply_qcow2(const struct options *options, struct img_create_options *create) {
    const char *extended = options_get(options, "extended_l2");
    uint64_t cluster_size = options_get_size(options, "cluster_size");
    uint64_t refcount_bits = options_get_size(options, "refcount_bits");

    create->cluster_size = cluster_size ? cluster_size : 1;
    create->refcount_bits = refcount_bits && refcount_bits <= UINT32_MAX ? (unsigned)refcount_bits : 3;
    create->extended_l2 = extended && options_get_size(options, "extended_l2") == 1;
    create->backing_file = options_get(options, "backing_file");
    create->encryption.format = options_get(options, "encrypt.format");
    create->encryption.cipher = options_get(options, "encrypt.cipher-alg");
    create->encryption.mode = options_get(options, "encrypt.cipher-mode");
    return set_preallocation(options_get(options, "preallocation"), create) &&
           set_version(options_get(options, "compat"), create);
}

static int print(const struct measure *m, const struct img_measure *result) {
    if (m->common.output == OUTPUT_HUMAN) {
        printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n", result->required,
               result->fully_allocated);
        if (result->has_bitmaps)
            printf("bitmaps size: %" PRIu64 "\n", result->bitmaps);
        return EXIT_SUCCESS;
    }
    json_t *o = json_new_object();
    if (result->has_bitmaps)
        json_put_number(o, "bitmaps", result->bitmaps);
    json_put_number(o, "required", result->required);
    json_put_number(o, "fully-allocated", result->fully_allocated);
    json_print(o);
    return EXIT_SUCCESS;
}

static int measure_with(const struct measure *m, const struct options *options, struct img *source) {
    struct img_create_options create = {.format = m->target_format, .size = m->size};
    struct img_measure result;
    struct img_error err = {0};

    if (strcmp(m->target_format, "qcow2") == 0 && !apply_qcow2(options, &create))
        return EXIT_FAILURE;
    if (strcmp(m->target_format, "luks") == 0) {
        create.encryption.cipher = options_get(options, "cipher-alg");
        create.encryption.mode = options_get(options, "cipher-mode");
    }
    if (img_measure(&create, source, &result, &err) < 0) {
        report_sentence(&err);
        return EXIT_FAILURE;
    }
    return print(m, &result);
}

static int measure_source(const struct measure *m, struct img *source) {
    struct options *options = options_new(m->target_format);
    struct img_error err = {0};
    int status = EXIT_FAILURE;

    if (!options) {
        report("Unknown file format '%s'", m->target_format);
        return EXIT_FAILURE;
    }
    if (options_parse(options, m->list, &err) < 0) {
        report_sentence(&err);
        report("Invalid options for file format '%s'", m->target_format);
    } else {
        status = measure_with(m, options, source);
    }
    options_free(options);
    return status;
}

static int measure(const struct measure *m) {
    struct source_options options = {
        .format = m->format, .snapshot = m->snapshot, .force_share = m->common.force_share};
    struct sources sources = {0};
    int status = EXIT_FAILURE;

    if (!m->file)
        return measure_source(m, NULL);
    if (sources_open(&sources, &m->file, 1, &options))
        status = measure_source(m, sources.list[0].image);
    sources_close(&sources);
    return status;
}

/* False after reporting. */
static bool parse_options(int argc, char **argv, struct measure *m) {
    int opt;
    while ((opt = next_option(&measure_command, argc, argv)) != -1) {
        if (!common_option(opt, &m->common))
            return false;
        switch (opt) {
        case 'f':
            m->format = optarg;
            break;
        case 'O':
            m->target_format = optarg;
            break;
        case 'l':
            m->snapshot = optarg;
            break;
        case 'o':
            if (!option_list_append(&m->list, optarg))
                return false;
            break;
        case 's':
            if (!parse_size_argument("image size", optarg, INT64_MAX, &m->size))
                return false;
            break;
        }
    }
    return true;
}

static bool parse(int argc, char **argv, struct measure *m) {
    const char *wrong = NULL;
    if (!parse_options(argc, argv, m))
        return false;
    m->file = optind < argc ? argv[optind] : NULL;
    if (argc - optind > 1)
        wrong = "At most one filename argument is allowed.";
    else if (!m->file && (m->format || m->snapshot || image_opts_given()))
        wrong = "--image-opts, -f, and -l require a filename argument.";
    else if (!m->file && m->size == UINT64_MAX)
        wrong = "Either --size N or one filename must be specified.";
    else if (m->file && m->size != UINT64_MAX)
        wrong = "--size N cannot be used together with a filename.";
    if (wrong)
        report("%s", wrong);
    return !wrong;
}

static int run(int argc, char **argv) {
    struct measure m = {.target_format = "raw", .size = UINT64_MAX};
    int status = parse(argc, argv, &m) ? measure(&m) : EXIT_FAILURE;
    free(m.list);
    return status;
}

const struct command measure_command = {
    .name = "measure",
    .summary = "tell how much room a new image takes",
    .usage = "[-O FORMAT] [-o OPTIONS] [--output=human|json] --size=SIZE\n"
             "       or  [-O FORMAT] [-o OPTIONS] [--output=human|json] [-f FORMAT] [-l SNAPSHOT] [-U]\n           "
             "[--image-opts] [--object=SECRET] [--key=ID] [--key-file=PATH] FILE",
    .options = "  -O, --target-format=FORMAT\n"
               "                          the new image's format: raw, qcow2 or luks [raw]\n"
               "  -o, --options=LIST      name=value,... of that format\n"
               "  -s, --size=SIZE         the new image is empty and has this size\n"
               "  -f, --format=FORMAT     the format of FILE, whose contents it gets, probed if not given\n"
               "  -l, --snapshot=SNAPSHOT it gets those of an internal snapshot: its id or name, or\n"
               "                          snapshot.id=ID,snapshot.name=NAME\n"
               "  -U, --force-share       read although another program writes to FILE\n"
               "      --output=human|json how to print\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "f:l:O:o:s:U",
    .long_opts = long_opts,
    .run = run,
};
