/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dd.c - `img dd`: a part of an image's contents as a new image, with the operands of dd(1).
 *
 * As in qemu-img the output is always a new image that is fully allocated, and count= is counted from the beginning of
 * the input, not from where skip= leads: it says where the input ends. The bytes go through the copy engine in
 * blocks of its own choice, so bs= is a unit and nothing else. The output appears under its name when it is complete.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "describe.h"
#include "names.h"
#include "report.h"
#include "secret.h"
#include "size.h"
#include "sources.h"
#include "target.h"

struct dd {
    const char *format, *target_format;
    char *input;
    const char *output;
    uint64_t block, count, skip; /* count UINT64_MAX: all */
    struct common_options common;

    struct sources sources; /* one */
    struct target file;
    struct img *target;
    uint64_t start, length; /* of the input, bytes */
    struct progress progress;
};

static const struct option long_opts[] = {
    {"format", required_argument, NULL, 'f'},
    {"target-format", required_argument, NULL, 'O'},
    {"force-share", no_argument, NULL, 'U'},
    {"progress", optional_argument, NULL, OPT_PROGRESS},
    {"output", required_argument, NULL, OPT_OUTPUT},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

/* ---- operands --------------------------------------------------------------------------------- */

/* parse_size_argument with a least value. */
static bool set_block(struct dd *d, const char *text) {
    uint64_t size;
    int ret = parse_size(text, &size);
    if (ret == -ERANGE || (ret == 0 && (size < 1 || size > INT_MAX))) {
        report("Invalid bs specified. Must be between 1 and %d.", INT_MAX);
        return false;
    }
    return parse_size_argument("bs", text, INT_MAX, &d->block);
}

static bool set_operand(struct dd *d, const char *operand) {
    const char *equals = strchr(operand, '='), *value = equals ? equals + 1 : "";
    size_t length = equals ? (size_t)(equals - operand) : strlen(operand);

    if (equals && length == 2 && strncmp(operand, "if", 2) == 0)
        d->input = (char *)value;
    else if (equals && length == 2 && strncmp(operand, "of", 2) == 0)
        d->output = value;
    else if (equals && length == 2 && strncmp(operand, "bs", 2) == 0)
        return set_block(d, value);
    else if (equals && length == 5 && strncmp(operand, "count", 5) == 0)
        return parse_size_argument("count", value, INT64_MAX, &d->count);
    else if (equals && length == 4 && strncmp(operand, "skip", 4) == 0)
        return parse_size_argument("skip", value, INT64_MAX, &d->skip);
    else {
        report("unrecognized operand %.*s", (int)length, operand);
        return false;
    }
    return true;
}

static bool parse(int argc, char **argv, struct dd *d) {
    int opt;
    while ((opt = next_option(&dd_command, argc, argv)) != -1) {
        if (!common_option(opt, &d->common))
            return false;
        if (opt == 'f')
            d->format = optarg;
        else if (opt == 'O')
            d->target_format = optarg;
    }
    for (int i = optind; i < argc; i++)
        if (!set_operand(d, argv[i]))
            return false;
    if (d->input && d->output)
        return true;
    report("Must specify both input and output files");
    return false;
}

/* ---- work ------------------------------------------------------------------------------------- */

/* Settles which bytes of the input are meant. */
static void choose_range(struct dd *d) {
    uint64_t end = d->sources.size, limit;
    if (d->count != UINT64_MAX && !__builtin_mul_overflow(d->count, d->block, &limit) && limit < end)
        end = limit;
    if (__builtin_mul_overflow(d->skip, d->block, &d->start) || d->start > end) {
        d->start = end;
        report("%s: cannot skip to specified offset", d->input);
    }
    d->length = end - d->start;
}

static bool report_target(const struct dd *d, const struct img_error *err, const char *doing) {
    struct img_error shown = *err;
    if (interrupted())
        return false;
    target_show_name(&d->file, &shown);
    report_image_error(&shown, "%s: error while %s output image", d->output, doing);
    return false;
}

static bool create_target(struct dd *d) {
    struct img_create_options create = {.format = d->target_format, .size = d->length, .interrupted = ask_interrupted};
    struct img_open_options options = {.flags = IMG_OPEN_WRITE, .format = d->target_format, .ask_key = secret_ask};
    struct img_error err = {0};

    if (!known_format(d->target_format)) {
        report("Unknown file format");
        return false;
    }
    if (!can_be_created(d->output))
        return false;
    if (sources_include(&d->sources, path_of(d->output))) {
        report("%s: error while creating output image: it is the input or belongs to its chain", d->output);
        return false;
    }
    if (target_begin(&d->file, d->output, &err) < 0)
        return report_target(d, &err, "creating");
    if (strcmp(d->target_format, "luks") == 0)
        (void)secret_ask_new(d->output, &create.encryption.key);
    create.write_to = target_write_to(&d->file);
    options.key = create.encryption.key;
    if (img_create(d->file.path, &create, &err) < 0)
        return report_target(d, &err, "creating");
    target_adopt(&d->file);
    if (img_open(target_path(&d->file), &options, &d->target, &err) < 0) {
        d->target = NULL;
        return report_target(d, &err, "opening");
    }
    return true;
}

static int on_progress(void *opaque, uint64_t done, uint64_t total) {
    struct dd *d = opaque;
    (void)total;
    progress_update(&d->progress, done);
    return interrupted();
}

static bool fill_target(struct dd *d) {
    struct img_copy_options options = {
        .source_offset = d->start, .source_length = d->length, .progress = on_progress, .opaque = d};
    struct img_error err = {0}, close_err = {0};
    int ret = d->length > 0 ? img_copy(d->sources.list[0].image, d->target, &options, &err) : 0;
    if (ret == 0)
        ret = img_flush(d->target, &err);
    int closed = img_close(d->target, &close_err);
    d->target = NULL;
    if (ret == 0 && closed < 0) {
        ret = closed;
        err = close_err;
    }
    if (ret == 0)
        ret = target_commit(&d->file, true, &err);
    return ret == 0 ? !interrupted() : report_target(d, &err, "writing");
}

static bool copy(struct dd *d) {
    struct source_options options = {.format = d->format, .force_share = d->common.force_share};
    if (!sources_open(&d->sources, &d->input, 1, &options))
        return false;
    choose_range(d);
    if (!create_target(d))
        return false;
    progress_start(&d->progress, d->common.progress, d->length, 1, d->common.output == OUTPUT_JSON ? stderr : stdout);
    bool good = fill_target(d);
    progress_finish(&d->progress, good);
    return good;
}

static int run(int argc, char **argv) {
    struct dd d = {.target_format = "raw", .block = 512, .count = UINT64_MAX};
    if (!parse(argc, argv, &d))
        return EXIT_FAILURE;
    bool good = copy(&d);
    if (d.target)
        img_close(d.target, NULL);
    target_abort(&d.file);
    sources_close(&d.sources);
    die_if_interrupted();
    if (good && d.common.output == OUTPUT_JSON)
        return describe_result(d.output, d.target_format);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct command dd_command = {
    .name = "dd",
    .summary = "copy a part of an image into a new one, as dd does",
    .usage = "[-f FORMAT] [-O FORMAT] [-U] [-p] [--output=human|json] [--image-opts] [--object=SECRET] [--key=ID] "
             "[--key-file=PATH]\n "
             "          [bs=SIZE] [count=N] [skip=N] if=FILE of=FILE",
    .options = "  if=FILE                 the image to read\n"
               "  of=FILE                 the image to make\n"
               "  bs=SIZE                 what count and skip are multiples of [512]\n"
               "  count=N                 the input ends behind so many blocks, those that are skipped included\n"
               "  skip=N                  where to begin in the input, in blocks [0]\n"
               "  -f, --format=FORMAT     the input's format, probed if not given\n"
               "  -O, --target-format=FORMAT\n"
               "                          the output's format: raw or qcow2 [raw]\n"
               "  -U, --force-share       read although another program writes to the input\n"
               "  -p, --progress[=auto|bar|percent|json]\n"
               "                          show how far it is\n"
               "      --output=human|json how to print the result\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "f:O:Up",
    .long_opts = long_opts,
    .run = run,
};
