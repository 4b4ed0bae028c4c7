/* SPDX-License-Identifier: GPL-3.0-or-later */
/* args.c - the parts of a command line that all commands read alike (cmd.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "names.h"
#include "report.h"
#include "secret.h"

int next_option(const struct command *command, int argc, char **argv) {
    char short_opts[64];
    snprintf(short_opts, sizeof(short_opts), ":h%s", command->short_opts);

    int c = getopt_long(argc, argv, short_opts, command->long_opts, NULL);
    const char *given = argv[optind - 1];
    char letter[3] = {'-', (char)optopt, '\0'};
    if (strncmp(given, "--", 2) != 0 && optopt > 0 && optopt < 256)
        given = letter;
    switch (c) {
    case ':':
        usage_error("missing argument for option '%s'", given);
    case '?':
        usage_error("unrecognized option '%s'", given);
    case 'h':
        print_command_help(command);
        exit(EXIT_SUCCESS);
    default:
        return c;
    }
}

static bool parse_output(const char *text, enum output *output) {
    if (strcmp(text, "human") == 0)
        *output = OUTPUT_HUMAN;
    else if (strcmp(text, "json") == 0)
        *output = OUTPUT_JSON;
    else {
        report("--output must be used with human or json as argument.");
        return false;
    }
    return true;
}

bool parse_cache(const char *text, enum img_cache *cache) {
    static const char *const names[] = {
        [IMG_CACHE_WRITEBACK] = "writeback", [IMG_CACHE_WRITETHROUGH] = "writethrough",
        [IMG_CACHE_NONE] = "none",           [IMG_CACHE_DIRECTSYNC] = "directsync",
        [IMG_CACHE_UNSAFE] = "unsafe",
    };
    if (strcmp(text, "off") == 0)
        text = "none";
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(text, names[i]) == 0) {
            *cache = (enum img_cache)i;
            return true;
        }
    return false;
}

bool common_option(int opt, struct common_options *common) {
    switch (opt) {
    case 'T':
        if (parse_cache(optarg, &common->source_cache))
            return true;
        report("Invalid source cache option: %s", optarg);
        return false;
    case 'U':
        common->force_share = true;
        return true;
    case 'q':
        common->quiet = true;
        return true;
    case 'p':
        common->progress = PROGRESS_AUTO;
        return true;
    case OPT_PROGRESS:
        return progress_parse(optarg, &common->progress);
    case OPT_SNAPSHOT:
        common->snapshot = optarg;
        return true;
    case OPT_OUTPUT:
        return parse_output(optarg, &common->output);
    case OPT_OBJECT:
        return secret_add(optarg);
    case OPT_KEY:
        return secret_use(optarg);
    case OPT_KEY_FILE:
        return secret_use_file(optarg);
    default:
        return true;
    }
}

bool known_format(const char *name) {
    return strcmp(name, "raw") == 0 || strcmp(name, "qcow2") == 0 || strcmp(name, "luks") == 0;
}

void warn_probed_raw(const char *path, struct img *image) {
    if (strcmp(img_format(image), "raw") != 0)
        return;
    fflush(stdout);
    fputs("WARNING: Image format was not specified for '", stderr);
    print_text(stderr, path_of(path));
    fputs(
        "' and probing guessed raw.\n"
        "         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be "
        "restricted.\n"
        "         Specify the 'raw' format explicitly to remove the restrictions.\n",
        stderr);
}

struct img *open_image(const char *path, const struct img_open_options *options) {
    struct img_error err = {0};
    struct img *image;

    if (options->format && !known_format(options->format)) {
        report("Could not open '%s': Unknown driver '%s'", path, options->format);
        return NULL;
    }
    if ((options->flags & IMG_OPEN_WRITE) && (options->flags & IMG_OPEN_FORCE_SHARE)) {
        report("Could not open '%s': force-share=on can only be used with read-only images", path);
        return NULL;
    }
    struct img_open_options with_key = *options;
    if (!with_key.ask_key)
        with_key.ask_key = secret_ask;
    if (img_open(path_of(path), &with_key, &image, &err) < 0) {
        report_open_error(&err, path);
        return NULL;
    }
    if ((options->flags & IMG_OPEN_WRITE) && !options->format)
        warn_probed_raw(path, image);
    return image;
}
