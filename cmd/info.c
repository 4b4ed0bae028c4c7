/* SPDX-License-Identifier: GPL-3.0-or-later */
/* info.c - `img info`: what an image is.
 *
 * Opens metadata only, so neither a backing file nor a data file is touched on the say-so of an image; only
 * --backing-chain follows the names, one layer at a time. What is printed is collected first: a chain that breaks off
 * prints nothing but why.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd.h"
#include "describe.h"
#include "json.h"
#include "names.h"
#include "report.h"

/* A chain that is longer than this cannot be opened by the engine either. */
#define MAX_LAYERS 64

/* Where the description goes. */
struct sink {
    json_t *list; /* NULL: for people */
    FILE *text;
};

struct info_options {
    const char *format;
    struct common_options common;
    enum img_cache cache;
    bool chain;
};

static const struct option long_opts[] = {
    {"format", required_argument, NULL, 'f'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    {"backing-chain", no_argument, NULL, OPT_BACKING_CHAIN},
    {"force-share", no_argument, NULL, 'U'},
    {"cache", required_argument, NULL, 't'},
    {"snapshot", required_argument, NULL, OPT_SNAPSHOT},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

/* Prints one layer and names the next in *path and *format (owned by the caller, NULL at the end). */
static bool show_layer(const struct info_options *o, const struct sink *sink, bool first, char **path, char **format) {
    struct img_open_options options = {
        .flags = IMG_OPEN_INFO | (o->common.force_share ? IMG_OPEN_FORCE_SHARE : 0),
        .cache = o->cache,
        .format = *format,
        .snapshot = first ? o->common.snapshot : NULL,
    };
    struct img_error err = {0};
    struct img_info info;
    bool image_opts = first && image_opts_given();
    struct img *image = open_image_as(*path, image_opts, &options);

    if (!image)
        return false;
    if (img_info(image, &info, &err) < 0) {
        report_image_error(&err, "Could not describe '%s'", *path);
        img_close(image, NULL);
        return false;
    }
    char *shown = image_name(*path, image_opts, image);
    if (sink->list) {
        json_add(sink->list, describe_json(shown, &info));
    } else {
        if (!first)
            fputc('\n', sink->text);
        describe_print(sink->text, shown, &info);
    }
    free(shown);
    char *next = NULL, *next_format = NULL;
    if (o->chain && info.backing_file) {
        next = text_copy(info.full_backing_file ? info.full_backing_file : info.backing_file);
        next_format = info.backing_format ? text_copy(info.backing_format) : NULL;
    }
    img_close(image, NULL);
    free(*path);
    free(*format);
    *path = next;
    *format = next_format;
    return true;
}

/* Remembers the file in seen[count]; false when it has been there already. */
static bool note_layer(const char *path, struct stat *seen, size_t count) {
    if (stat(path_of(path), &seen[count]) < 0)
        return true; /* the open says why */
    for (size_t i = 0; i < count; i++)
        if (seen[i].st_dev == seen[count].st_dev && seen[i].st_ino == seen[count].st_ino)
            return false;
    return true;
}

static bool show_layers(const struct info_options *o, const struct sink *sink, const char *name) {
    struct stat seen[MAX_LAYERS] = {0};
    char *path = text_copy(name), *format = o->format ? text_copy(o->format) : NULL;
    bool good = true;

    for (size_t depth = 0; good && path; depth++) {
        if (depth == MAX_LAYERS) {
            report("The backing chain of '%s' has more than %d layers", name, MAX_LAYERS);
            good = false;
        } else if (!note_layer(path, seen, depth)) {
            report("Backing file '%s' creates an infinite loop.", path);
            good = false;
        } else {
            good = show_layer(o, sink, depth == 0, &path, &format);
        }
    }
    free(path);
    free(format);
    return good;
}

static int print_json(const struct info_options *o, const char *name) {
    struct sink sink = {.list = json_new_array()};
    bool good = show_layers(o, &sink, name);
    if (good)
        json_print(json_incref(o->chain ? sink.list : json_array_get(sink.list, 0)));
    json_decref(sink.list);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int print_human(const struct info_options *o, const char *name) {
    char *text = NULL;
    size_t length = 0;
    if (!o->chain) { /* there is nothing that could break off behind it */
        struct sink direct = {.text = stdout};
        return show_layers(o, &direct, name) ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    struct sink sink = {.text = open_memstream(&text, &length)};
    if (!sink.text)
        out_of_memory();
    bool good = show_layers(o, &sink, name);
    if (fclose(sink.text) != 0)
        out_of_memory();
    if (good)
        fwrite(text, 1, length, stdout);
    free(text);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int run(int argc, char **argv) {
    struct info_options o = {0};
    int c;

    while ((c = next_option(&info_command, argc, argv)) != -1) {
        if (!common_option(c, &o.common))
            return EXIT_FAILURE;
        switch (c) {
        case 'f':
            o.format = optarg;
            break;
        case 't':
            if (!cache_option(optarg, &o.cache))
                return EXIT_FAILURE;
            break;
        case OPT_BACKING_CHAIN:
            o.chain = true;
            break;
        }
    }
    if (optind != argc - 1)
        usage_error("Expecting one image file name");

    return o.common.output == OUTPUT_JSON ? print_json(&o, argv[optind]) : print_human(&o, argv[optind]);
}

const struct command info_command = {
    .name = "info",
    .summary = "show what an image is",
    .usage = "[-f FORMAT] [--output=human|json] [--backing-chain] [-t CACHE] [--snapshot=SNAPSHOT] [-U] [--image-opts] "
             "[--object=SECRET] FILE",
    .options = "  -f, --format=FORMAT     the image's format, probed if not given\n"
               "      --output=human|json how to print\n"
               "      --backing-chain     show every layer below as well\n"
               "  -t, --cache=CACHE       cache mode to read with [writeback]\n"
               "      --snapshot=SNAPSHOT show the size of this internal snapshot, by its id or name\n"
               "  -U, --force-share       read although another program writes to it\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "f:t:U",
    .long_opts = long_opts,
    .run = run,
};
