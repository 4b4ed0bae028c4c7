/* SPDX-License-Identifier: GPL-3.0-or-later */
/* create.c - `img create`: a new image.
 *
 * What can be refused without touching anything is refused first; then the line "Formatting ..." says what is going to
 * be made, and img_create makes it in files that target.h gives their names when they are complete and durable.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "create_options.h"
#include "describe.h"
#include "names.h"
#include "nodes.h"
#include "option_list.h"
#include "options.h"
#include "report.h"
#include "size.h"
#include "target.h"

struct create {
    const char *file, *format, *backing_file, *backing_format;
    char *list; /* all -o arguments */
    uint64_t size;
    struct common_options common;
    bool unchecked, help;
};

static const struct option long_opts[] = {
    {"format", required_argument, NULL, 'f'},
    {"options", required_argument, NULL, 'o'},
    {"backing", required_argument, NULL, 'b'},
    {"backing-format", required_argument, NULL, 'F'},
    {"backing-unsafe", no_argument, NULL, 'u'},
    {"quiet", no_argument, NULL, 'q'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    OPTIONS_KEYS,
    OPTIONS_END,
};

/* The options of the list and those with letters of their own, in one set. */
static int collect_options(const struct create *c, struct options *options, struct img_error *err) {
    int ret = options_parse(options, c->list, err);
    if (ret < 0)
        return ret;
    if (c->size != UINT64_MAX) {
        if (options_get(options, "size"))
            return set_error(err, -EINVAL, "The image size must be specified only once");
        options_set_size(options, "size", c->size);
    }
    if ((c->backing_file || c->backing_format) && !options_known(options, "backing_file"))
        return set_error(err, -ENOTSUP, "Backing file not supported for file format '%s'", c->format);
    if (c->backing_file)
        options_set(options, "backing_file", c->backing_file);
    if (c->backing_format)
        options_set(options, "backing_fmt", c->backing_format);
    return 0;
}

/* A path, or a name that stands for a tree. */
static int open_backing(const char *name, const struct img_open_options *options, struct img **image,
                        struct img_error *err) {
    const struct img_node *node;
    if (!nodes_is_name(name))
        return img_open(name, options, image, err);
    int ret = options->find_node(options->opaque, name, &node, err);
    return ret < 0 ? ret : img_open_node(node, options, image, err);
}

/* Opens the backing file as it will be found from the new image: it must be one, and it has the size if none is
 * given. False after reporting. */
static bool consult_backing(const struct create *c, struct options *options) {
    const char *backing = options_get(options, "backing_file"), *format = options_get(options, "backing_fmt");
    struct found_nodes found = {0};
    struct img_open_options open_options = {
        .flags = IMG_OPEN_FORCE_SHARE, .format = format, .find_node = find_node, .opaque = &found};
    struct img_error err = {0};
    struct img *image;

    char *path = nodes_is_name(backing) ? text_copy(backing) : path_beside(path_of(c->file), backing);
    if (format && !known_format(format)) {
        report("%s: Unknown driver '%s'", c->file, format);
        fprintf(stderr, "Could not open backing image.\n");
        free(path);
        return false;
    }
    int ret = open_backing(path, &open_options, &image, &err);
    if (ret == -ENOKEY) { /* its size needs no key */
        open_options.flags |= IMG_OPEN_INFO;
        ret = open_backing(path, &open_options, &image, &err);
    }
    found_nodes_free(&found);
    free(path);
    if (ret < 0) {
        report_image_error(&err, "%s", c->file);
        fprintf(stderr, "Could not open backing image.\n");
        return false;
    }
    bool good = format != NULL;
    if (!good) {
        report("%s: Backing file specified without backing format", c->file);
        fprintf(stderr, "Detected format of %s.\n", img_format(image));
    } else if (options_get_size(options, "size") == UINT64_MAX) {
        options_set_size(options, "size", img_size(image));
    }
    img_close(image, NULL);
    return good;
}

/* Settles backing file and size; false after reporting. */
static bool settle_backing(const struct create *c, struct options *options) {
    const char *backing = options_get(options, "backing_file");
    if (backing && !*path_of(backing)) {
        report("%s: Expected backing file name, got empty string", c->file);
        return false;
    }
    if (backing && strcmp(path_of(backing), path_of(c->file)) == 0) {
        report("%s: Error: Trying to create an image with the same filename as the backing file", c->file);
        return false;
    }
    if (backing && !c->unchecked) {
        if (!consult_backing(c, options))
            return false;
    } else if (backing && !options_get(options, "backing_fmt")) {
        report("%s: Backing file specified without backing format", c->file);
        return false;
    }
    if (options_get_size(options, "size") == UINT64_MAX) {
        report("%s: Image creation needs a size parameter", c->file);
        return false;
    }
    return true;
}

static void print_formatting(const struct create *c, const struct options *options) {
    printf("Formatting '");
    print_text(stdout, c->file);
    printf("', fmt=%s", c->format);
    options_print(options);
    putchar('\n');
    fflush(stdout);
}

static int make_files(const struct create *c, struct target *file, struct target *data,
                      struct img_create_options *create, struct img_error *err) {
    int ret = target_begin(file, c->file, err);
    if (ret == 0 && create->data_file)
        ret = target_begin_data(data, file, create->data_file, err);
    if (ret < 0)
        return ret;
    create->write_to = target_write_to(file);
    create->data_write_to = target_write_to(data);
    create->interrupted = ask_interrupted;
    ret = img_create(path_of(c->file), create, err);
    if (ret < 0)
        return ret;
    target_adopt(data);
    target_adopt(file);
    ret = target_commit(data, true, err);
    return ret < 0 ? ret : target_commit(file, true, err);
}

static int create_image(const struct create *c, struct options *options) {
    struct img_create_options create;
    struct img_error err = {0};
    struct target file = {0}, data = {0};
    struct found_nodes found = {0};

    if (!settle_backing(c, options))
        return EXIT_FAILURE;
    if (!c->common.quiet && c->common.output == OUTPUT_HUMAN)
        print_formatting(c, options);
    int ret = create_options_from(options, c->file, &create, &err);
    create.backing_unchecked = c->unchecked;
    create.find_node = find_node;
    create.node_opaque = &found;
    if (ret == 0 && create.size > INT64_MAX) {
        snprintf(err.text, sizeof(err.text), "Image size %" PRIu64 " is above 2^63 - 1", create.size);
        ret = -EFBIG;
    }
    if (ret == 0)
        ret = make_files(c, &file, &data, &create, &err);
    found_nodes_free(&found);
    target_abort(&file);
    target_abort(&data);
    die_if_interrupted();
    if (ret < 0) {
        report_image_error(&err, "%s", c->file);
        return EXIT_FAILURE;
    }
    return c->common.output == OUTPUT_JSON && !c->common.quiet ? describe_result(c->file, c->format) : EXIT_SUCCESS;
}

/* False after reporting. */
static bool parse(int argc, char **argv, struct create *c) {
    int opt;
    while ((opt = next_option(&create_command, argc, argv)) != -1) {
        if (!common_option(opt, &c->common))
            return false;
        switch (opt) {
        case 'f':
            c->format = optarg;
            break;
        case 'o':
            if (!option_list_append(&c->list, optarg))
                return false;
            break;
        case 'b':
            c->backing_file = optarg;
            break;
        case 'B':
        case 'F':
            c->backing_format = optarg;
            break;
        case 'u':
            c->unchecked = true;
            break;
        }
    }
    c->file = optind < argc ? argv[optind] : NULL;
    c->help = option_list_wants_help(c->list);
    if (c->help)
        return true;
    if (!c->file)
        usage_error("Expecting image file name");
    if (optind + 1 < argc && !parse_size_argument("image size", argv[optind + 1], INT64_MAX, &c->size))
        return false;
    if (optind + 2 < argc)
        usage_error("Unexpected argument: %s", argv[optind + 2]);
    return true;
}

static int run(int argc, char **argv) {
    struct create c = {.format = "raw", .size = UINT64_MAX};
    struct options *options = NULL;
    struct img_error err = {0};
    int status = EXIT_FAILURE;

    if (!parse(argc, argv, &c))
        goto out;
    if (c.help) {
        status = options_print_help(c.format, c.file != NULL) ? EXIT_SUCCESS : EXIT_FAILURE;
        goto out;
    }
    options = options_new(c.format);
    if (!options) {
        report("%s: Unknown file format '%s'", c.file, c.format);
        goto out;
    }
    if (collect_options(&c, options, &err) < 0)
        report_image_error(&err, "%s", c.file);
    else
        status = create_image(&c, options);
out:
    options_free(options);
    free(c.list);
    return status;
}

const struct command create_command = {
    .name = "create",
    .summary = "make a new image",
    .usage = "[-f FORMAT] [-o OPTIONS] [-b BACKING -F FORMAT] [-u] [-q] [--output=human|json] [--object=SECRET]\n"
             "           [--key=ID] [--key-file=PATH] FILE [SIZE]",
    .options = "  -f, --format=FORMAT     raw, qcow2 or luks [raw]\n"
               "  -o, --options=LIST      name=value,... of the format; -o help lists them\n"
               "  -b, --backing=FILE      what the image shows where it holds nothing itself\n"
               "  -F, -B, --backing-format=FORMAT\n"
               "                          the backing file's format\n"
               "  -u, --backing-unsafe    do not open the backing file\n"
               "  -q, --quiet             print nothing but errors\n"
               "      --output=human|json how to print the result\n" HELP_KEYS,
    .short_opts = "f:o:b:B:F:uq",
    .long_opts = long_opts,
    .run = run,
};
