/* SPDX-License-Identifier: GPL-3.0-or-later */
/* args.c - the parts of a command line that all commands read alike (cmd.h). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "names.h"
#include "nodes.h"
#include "report.h"
#include "secret.h"

static bool image_opts; /* --image-opts */

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
    case OPT_HELP:
        print_command_help(command);
        exit(EXIT_SUCCESS);
    case 'V':
        if (!strchr(command->short_opts, 'V'))
            return c;
        print_version();
        exit(EXIT_SUCCESS);
    case 'h':
        /* in the tools that look inside a disk it means sizes for people */
        if (strchr(command->short_opts, 'h'))
            return c;
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

bool cache_option(const char *text, enum img_cache *cache) {
    if (parse_cache(text, cache))
        return true;
    report("Invalid cache option: %s", text);
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
    case OPT_IMAGE_OPTS:
        image_opts = true;
        return true;
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

int find_node(void *opaque, const char *name, const struct img_node **node, struct img_error *err) {
    struct found_nodes *found = opaque;
    char *wrong = NULL;
    if (found->count == FOUND_NODES_MAX)
        return -ELOOP;
    struct nodes *n = nodes_is_name(name) ? nodes_parse(name, false, NULL, secret_find, &wrong) : NULL;
    if (!n) {
        snprintf(err->text, sizeof(err->text), "Could not open '%s': %s", name,
                 wrong ? wrong : "only plain paths of local files are followed");
        free(wrong);
        return err->code = -ENOTSUP;
    }
    found->list[found->count++] = n;
    *node = nodes_root(n);
    return 0;
}

void found_nodes_free(struct found_nodes *found) {
    while (found->count > 0)
        nodes_free(found->list[--found->count]);
}

/* The sentence names the file that is to blame; who named a tree is told of the tree. */
static void report_node_error(const struct img_error *err, const char *argument) {
    static const char open_words[] = "Could not open '";
    struct img_error shown = *err;
    const char *reason = strstr(err->text, "': ");
    if (strncmp(err->text, open_words, sizeof(open_words) - 1) == 0 && reason &&
        strcmp(reason + 3, strerror(-err->code)) != 0)
        memmove(shown.text, shown.text + (reason + 3 - err->text), strlen(reason + 3) + 1);
    report_image_error(&shown, "%s%s'", open_words, argument);
}

static struct img *open_nodes(const char *argument, bool as_options, struct img_open_options options) {
    struct img_error err = {0};
    struct img *image = NULL;
    char *wrong;
    struct nodes *n = nodes_parse(argument, as_options, options.format, secret_find, &wrong);
    if (!n) {
        snprintf(err.text, sizeof(err.text), "%s", wrong);
        report_image_error(&err, "Could not open '%s'", argument);
        free(wrong);
        return NULL;
    }
    const struct node_flags *flags = nodes_flags(n);
    options.format = NULL;
    options.cache = nodes_cache(n, options.cache);
    options.flags |= (flags->force_share ? IMG_OPEN_FORCE_SHARE : 0) | (flags->unlocked ? IMG_OPEN_UNLOCKED : 0);
    if (flags->read_only && (options.flags & IMG_OPEN_WRITE))
        report("Could not open '%s': Block node is read-only", argument);
    else if (img_open_node(nodes_root(n), &options, &image, &err) < 0)
        report_node_error(&err, argument);
    nodes_free(n);
    return image;
}

static struct img *open_plain(const char *path, const struct img_open_options *options) {
    struct img_error err = {0};
    struct img *image;
    if (img_open(path_of(path), options, &image, &err) < 0) {
        report_open_error(&err, path);
        return NULL;
    }
    if ((options->flags & IMG_OPEN_WRITE) && !options->format)
        warn_probed_raw(path, image);
    return image;
}

struct img *open_image_as(const char *path, bool as_options, const struct img_open_options *options) {
    struct img_open_options with_key = *options;
    struct found_nodes found = {0};

    if (as_options && options->format) {
        report("--image-opts and --format are mutually exclusive");
        return NULL;
    }
    if (options->format && !known_format(options->format)) {
        report("Could not open '%s': Unknown driver '%s'", path, options->format);
        return NULL;
    }
    if ((options->flags & IMG_OPEN_WRITE) && (options->flags & IMG_OPEN_FORCE_SHARE)) {
        report("Could not open '%s': force-share=on can only be used with read-only images", path);
        return NULL;
    }
    if (!with_key.ask_key || with_key.ask_key == secret_ask) {
        with_key.ask_key = secret_ask;
        with_key.find_node = find_node;
        with_key.opaque = &found;
    }
    struct img *image =
        as_options || nodes_is_name(path) ? open_nodes(path, as_options, with_key) : open_plain(path, &with_key);
    found_nodes_free(&found);
    return image;
}

struct img *open_image(const char *path, const struct img_open_options *options) {
    return open_image_as(path, image_opts, options);
}

bool image_opts_given(void) {
    return image_opts;
}

char *image_name(const char *path, bool as_options, struct img *image) {
    char *wrong = NULL, *name;
    if (!as_options && !nodes_is_name(path))
        return text_copy(path_of(path));
    struct nodes *n = nodes_parse(path, as_options, NULL, NULL, &wrong);
    name = n ? nodes_name(n, img_format(image)) : text_copy(path);
    nodes_free(n);
    free(wrong);
    return name;
}

bool can_be_created(const char *path) {
    if (!nodes_is_name(path))
        return true;
    if (strncmp(path, "json:", 5) == 0)
        report("Unknown protocol 'json'");
    else
        report("Protocol driver 'null-co' does not support image creation");
    return false;
}
