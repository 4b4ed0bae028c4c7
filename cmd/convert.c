/* SPDX-License-Identifier: GPL-3.0-or-later */
/* convert.c - `img convert`: the same disk in another file or format.
 *
 * The order of things: read the command line (convert_args.c), open the sources, settle what the target will be, begin
 * it under a temporary name, copy, close it, and only then give it its name. Whatever fails, and a signal, leaves no
 * trace; a target that is not new (-n) or a block device is written in place. The target's data file goes the same way:
 * the image names the temporary file until both are complete, and gets its name last.
 */
#include "convert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bitmaps.h"
#include "create_options.h"
#include "describe.h"
#include "names.h"
#include "options.h"
#include "progress.h"
#include "report.h"
#include "secret.h"
#include "sources.h"
#include "target.h"
#include "throttle.h"

/* One run of the command. */
struct convert {
    struct convert_args args;
    struct sources sources;
    struct options *options;          /* NULL with -n */
    struct img_create_options create; /* of the new target */
    struct target file, data;         /* `data`: its data file, zeroes when it has none */
    struct img *target;
    char *backing_path; /* the target's backing file, as it is reached from here; NULL: none */

    struct progress progress;
    uint64_t base;                /* where the source that is being copied begins */
    uint64_t moved, moved_before; /* bytes of data written; by the sources before this one */
    struct throttle throttle;
};

/* ---- what the target will be ---------------------------------------------------------------- */

/* All that can be wrong with the target's options; false after reporting. */
static bool check_options(const struct convert *c) {
    const struct convert_args *a = &c->args;
    const char *backing = options_get(c->options, "backing_file");
    const char *preallocation = options_get(c->options, "preallocation");

    if (backing && !*path_of(backing)) {
        report("%s: Expected backing file name, got empty string", a->target);
        return false;
    }
    if (backing && c->sources.count > 1) {
        report("Having a backing file for the target makes no sense when concatenating multiple input images");
        return false;
    }
    if (backing && !options_get(c->options, "backing_fmt")) {
        report("Use of backing file requires explicit backing format");
        return false;
    }
    if (a->compress && strcmp(a->target_format, "qcow2") != 0) {
        report("Compression not supported for this file format");
        return false;
    }
    if (a->compress && preallocation && strcmp(preallocation, "off") != 0) {
        report("Compression and preallocation not supported at the same time");
        return false;
    }
    if (a->compress && (options_get_size(c->options, "encryption") == 1 || options_get(c->options, "encrypt.format"))) {
        report("Compression and encryption not supported at the same time");
        return false;
    }
    if (a->compress && options_get(c->options, "data_file")) {
        report("Compression and an external data file not supported at the same time");
        return false;
    }
    return true;
}

/* Reads -o, -B and -F into c->options; false after reporting. */
static bool collect_options(struct convert *c) {
    const struct convert_args *a = &c->args;
    struct img_error err = {0};

    c->options = options_new(a->target_format);
    if (!c->options) {
        report("Unknown file format '%s'", a->target_format);
        return false;
    }
    if (options_parse(c->options, a->options, &err) < 0) {
        report_sentence(&err);
        return false;
    }
    options_set_size(c->options, "size", c->sources.size);
    if ((a->backing_file || a->backing_format) && !options_known(c->options, "backing_file")) {
        report("Backing file not supported for file format '%s'", a->target_format);
        return false;
    }
    if (a->backing_file)
        options_set(c->options, "backing_file", a->backing_file);
    if (a->backing_format)
        options_set(c->options, "backing_fmt", a->backing_format);
    return check_options(c);
}

/* ---- making and opening it ------------------------------------------------------------------- */

static bool report_target(const struct convert *c, const struct img_error *err) {
    struct img_error shown = *err;
    if (interrupted())
        return false;
    target_show_name(&c->file, &shown);
    target_show_name(&c->data, &shown);
    report_image_error(&shown, "%s: error while converting %s", c->args.target, c->args.target_format);
    return false;
}

static bool refuse_source(const struct convert *c, const char *what) {
    report("%s: error while converting %s: the %s is a source or belongs to the chain of one", c->args.target,
           c->args.target_format, what);
    return false;
}

/* Begins the data file that the options name. */
static bool begin_data_file(struct convert *c) {
    struct img_error err = {0};
    char *path = path_beside(c->file.path, c->create.data_file);
    bool source = sources_include(&c->sources, path);
    free(path);
    if (source)
        return refuse_source(c, "data file");
    if (target_begin_data(&c->data, &c->file, c->create.data_file, &err) < 0)
        return report_target(c, &err);
    return true;
}

static bool create_files(struct convert *c) {
    struct img_create_options create = c->create;
    struct found_nodes found = {0};
    struct img_error err = {0};
    char *data_name = c->data.temporary ? target_data_name(&c->data, &c->file) : NULL;

    create.write_to = target_write_to(&c->file);
    create.data_write_to = target_write_to(&c->data);
    create.interrupted = ask_interrupted;
    create.find_node = find_node;
    create.node_opaque = &found;
    if (data_name)
        create.data_file = data_name;
    int ret = img_create(c->file.path, &create, &err);
    free(data_name);
    found_nodes_free(&found);
    if (ret < 0)
        return report_target(c, &err);
    target_adopt(&c->file);
    target_adopt(&c->data);
    return true;
}

static bool create_target(struct convert *c) {
    struct img_error err = {0};

    if (!can_be_created(c->args.target))
        return false;
    if (sources_include(&c->sources, path_of(c->args.target)))
        return refuse_source(c, "target");
    if (target_begin(&c->file, c->args.target, &err) < 0 ||
        create_options_from(c->options, c->args.target, &c->create, &err) < 0)
        return report_target(c, &err);
    if (c->create.backing_file)
        c->backing_path = path_beside(c->file.path, c->create.backing_file);
    return (!c->create.data_file || begin_data_file(c)) && create_files(c);
}

/* By the file that was opened, whatever its name was. */
static bool is_source(const struct convert *c) {
    struct img_info info;
    return img_info(c->target, &info, NULL) == 0 && sources_include(&c->sources, info.path);
}

static bool open_target(struct convert *c) {
    const struct convert_args *a = &c->args;
    struct img_open_options options = {.flags = IMG_OPEN_WRITE,
                                       .cache = a->target_cache,
                                       .format = a->target_format,
                                       .key = c->create.encryption.key,
                                       .ask_key = secret_ask};
    struct img_error err = {0};

    if (!a->no_create) {
        struct found_nodes found = {0};
        options.find_node = find_node;
        options.opaque = &found;
        int ret = img_open(target_path(&c->file), &options, &c->target, &err);
        found_nodes_free(&found);
        c->target = ret < 0 ? NULL : c->target;
        return ret == 0 || report_target(c, &err);
    }
    catch_signals();
    if (!a->target_image_opts && sources_include(&c->sources, path_of(a->target)))
        return refuse_source(c, "target");
    if (a->target_image_opts && !a->target_format_given)
        options.format = NULL;
    c->target = open_image_as(a->target, a->target_image_opts, &options);
    if (!c->target)
        return false;
    if (is_source(c))
        return refuse_source(c, "target");
    if (sources_include_data_of(&c->sources, c->target))
        return refuse_source(c, "target's data file");
    if (img_size(c->target) < c->sources.size) {
        report("output file is smaller than input file");
        return false;
    }
    if (a->compress && img_cluster_size(c->target) == 0) {
        report("Compression not supported for this file format");
        return false;
    }
    if (a->backing_file)
        c->backing_path = path_beside(path_of(a->target), a->backing_file);
    return true;
}

/* Does the target read as zeroes before anything is written? */
static bool target_is_zero(const struct convert *c) {
    if (c->args.no_create)
        return c->args.target_is_zero;
    if (c->backing_path || c->create.data_file_raw)
        return false;
    if (strcmp(c->args.target_format, "luks") == 0)
        return false;
    return c->file.empty || strcmp(c->args.target_format, "raw") != 0;
}

/* ---- copying ---------------------------------------------------------------------------------- */

static int on_progress(void *opaque, uint64_t done, uint64_t total) {
    struct convert *c = opaque;
    (void)total;
    progress_update(&c->progress, c->base + done);
    return interrupted();
}

static int on_moved(void *opaque, uint64_t bytes) {
    struct convert *c = opaque;
    c->moved = c->moved_before + bytes;
    throttle_wait(&c->throttle, c->moved);
    return interrupted();
}

/* One line for each sector, as qemu-img has it. What is wrong with an image is an error of reading it. */
static void on_lost(void *opaque, uint64_t offset, uint64_t length, int code) {
    const struct convert *c = opaque;
    if (c->args.common.quiet)
        return;
    for (uint64_t at = 0; at < length; at += 512)
        report("warning: error while reading offset %" PRIu64 ": %s", offset + at,
               strerror(code == -EUCLEAN || code == -EINVAL ? EIO : -code));
}

/* How many of the source's layers go into the target when it has a backing file: those above the layer that is that
 * file. 0: all, because it is none of them and may show anything. */
static unsigned layers_above_backing(const struct convert *c) {
    if (!c->backing_path || c->sources.count > 1)
        return 0;
    int layer = layer_of_file(c->sources.list[0].image, c->backing_path);
    return layer > 0 ? (unsigned)layer : 0;
}

/* Zeroes are looked for where somebody says how. */
static enum img_copy_offload offload_of(const struct convert_args *a) {
    if (a->offload)
        return IMG_OFFLOAD_COPY;
    return a->sparse_given ? IMG_OFFLOAD_NONE : IMG_OFFLOAD_SHARE;
}

static int copy_all(struct convert *c, struct img_error *err) {
    unsigned layers = layers_above_backing(c);
    int ret = 0;
    for (size_t i = 0; ret == 0 && i < c->sources.count; i++) {
        struct img_copy_options options = {
            .threads = c->args.threads,
            .compress = c->args.compress,
            .compression_level = c->args.level,
            .target_is_zero = target_is_zero(c),
            .sparse_size = c->args.sparse_size,
            .offload = offload_of(&c->args),
            .layers = layers,
            .target_offset = c->sources.list[i].start,
            .salvage = c->args.salvage,
            .lost = on_lost,
            .progress = on_progress,
            .moved = on_moved,
            .opaque = c,
        };
        c->base = c->sources.list[i].start;
        c->moved_before = c->moved;
        if (c->sources.list[i].size > 0)
            ret = img_copy(c->sources.list[i].image, c->target, &options, err);
    }
    return ret;
}

/* Copies, makes durable what is to be durable, and closes the target. */
static bool fill_target(struct convert *c) {
    struct img_error err = {0};

    c->throttle = c->args.throttle;
    throttle_start(&c->throttle);
    int ret = copy_all(c, &err);
    if (ret == 0 && c->args.bitmaps && !bitmaps_copy(c->sources.list[0].image, c->target))
        return false;
    if (ret == 0 && c->args.target_cache != IMG_CACHE_UNSAFE)
        ret = img_flush(c->target, &err);
    struct img_error close_err = {0};
    int closed = img_close(c->target, &close_err);
    c->target = NULL;
    if (ret == 0 && closed < 0) {
        ret = closed;
        err = close_err;
    }
    if (ret < 0)
        return report_target(c, &err);
    return !interrupted();
}

/* ---- the whole -------------------------------------------------------------------------------- */

/* The data file first: an image is never without it. */
static bool show_target(struct convert *c) {
    bool durable = c->args.target_cache != IMG_CACHE_UNSAFE;
    struct img_error err = {0};
    int ret = 0;

    if (c->data.temporary)
        ret = img_set_data_file(target_path(&c->file), c->create.data_file, &err);
    if (ret == 0)
        ret = target_commit(&c->data, durable, &err);
    if (ret == 0)
        ret = target_commit(&c->file, durable, &err);
    return ret == 0 || report_target(c, &err);
}

static bool make_target(struct convert *c) {

    if (!c->args.no_create && (!collect_options(c) || !create_target(c)))
        return false;
    return !interrupted() && open_target(c) && (!c->args.bitmaps || bitmaps_check_target(c->target)) &&
           fill_target(c) && show_target(c);
}

static void clean_up(struct convert *c) {
    if (c->target)
        img_close(c->target, NULL);
    target_abort(&c->file);
    target_abort(&c->data);
    sources_close(&c->sources);
    options_free(c->options);
    free(c->backing_path);
}

static bool convert(struct convert *c) {
    const struct convert_args *a = &c->args;
    struct source_options source_options = {
        .format = a->source_format,
        .snapshot = a->snapshot,
        .cache = a->common.source_cache,
        .force_share = a->common.force_share,
    };
    if (!sources_open(&c->sources, a->sources, a->nsources, &source_options))
        return false;
    if (a->bitmaps && !bitmaps_check_source(c->sources.list[0].image, a->skip_broken_bitmaps))
        return false;
    enum progress_style style = a->common.quiet ? PROGRESS_NONE : a->common.progress;
    progress_start(&c->progress, style, c->sources.size, 1, a->common.output == OUTPUT_JSON ? stderr : stdout);
    bool good = make_target(c);
    progress_finish(&c->progress, good);
    return good;
}

static int run(int argc, char **argv) {
    struct convert c = {0};
    int status = convert_parse(&c.args, argc, argv);
    if (status >= 0)
        return status;
    bool good = convert(&c);
    clean_up(&c);
    die_if_interrupted();
    if (good && c.args.common.output == OUTPUT_JSON && !c.args.common.quiet)
        good = describe_result(c.args.target, c.args.target_format) == EXIT_SUCCESS;
    convert_args_free(&c.args);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct command convert_command = {
    .name = "convert",
    .summary = "copy images into a new one, in any format",
    .usage =
        "[-f FORMAT] [-O FORMAT] [-o OPTIONS] [-c [--compression-level=N]]\n"
        "           [-B BACKING -F FORMAT] [-l SNAPSHOT] [-S SIZE] [-m N] [-n [--target-is-zero]] [-t CACHE] [-T "
        "CACHE] [-r RATE]\n"
        "           [--salvage] [--bitmaps [--skip-broken-bitmaps]] [-C] [-p] [-q] [-U] [-W] [--output=human|json]\n"
        "           [--image-opts] [--target-image-opts] [--object=SECRET] [--key=ID] [--key-file=PATH] SOURCE... "
        "TARGET",
    .options = "  -f, --source-format=FORMAT\n"
               "                          the sources' format, probed if not given\n"
               "  -O, --target-format=FORMAT\n"
               "                          raw, qcow2 or luks [raw]\n"
               "  -o, --target-format-options=LIST\n"
               "                          name=value,... of the format; -o help lists them\n"
               "  -c, --compress          store compressed (qcow2)\n"
               "      --compression-level=N\n"
               "                          with -c: 1 (fast) to 9 (small), for zstd to 19 [a fast one]\n"
               "  -b, -B, --backing=FILE  the target's backing file: only what the layers above it hold\n"
               "                          is copied\n"
               "  -F, --backing-format=FORMAT\n"
               "                          the backing file's format\n"
               "  -l, --snapshot=SNAPSHOT read an internal snapshot: its id or name, or\n"
               "                          snapshot.id=ID,snapshot.name=NAME\n"
               "  -S, --sparse-size=SIZE  runs of zeroes this long become holes [4k]; 0: write every byte\n"
               "  -m, --parallel=N        threads, 1 to 16 [one per core]\n"
               "  -n, --no-create         write into a target that exists\n"
               "      --target-is-zero    with -n: the target reads as zeroes\n"
               "  -t, --target-cache=CACHE\n"
               "                          cache mode to write with [unsafe]; any other makes the target durable\n"
               "  -T, --source-cache=CACHE\n"
               "                          cache mode to read with [writeback]\n"
               "  -r, --rate-limit=RATE   bytes per second\n"
               "      --salvage           what cannot be read becomes zeroes, with a warning for each sector\n"
               "  -p, --progress[=auto|bar|percent|json]\n"
               "                          show how far it is\n"
               "  -q, --quiet             print nothing but errors\n"
               "      --bitmaps           copy the source's dirty bitmaps\n"
               "      --skip-broken-bitmaps\n"
               "                          with --bitmaps: leave inconsistent ones out\n"
               "  -U, --force-share       read although another program writes to the sources\n"
               "  -W, --oob-writes        accepted; the target's bytes never depend on the order of writes\n"
               "  -C, --copy-range-offloading\n"
               "                          let the host copy data (copy_file_range); zeroes in it are kept\n"
               "      --output=human|json how to print the result\n"
               "      --target-image-opts with -n: the target is named so, too\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = CONVERT_SHORT_OPTIONS,
    .long_opts = convert_long_options,
    .run = run,
};
