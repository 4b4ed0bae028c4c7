/* SPDX-License-Identifier: GPL-3.0-or-later */
/* amend.c - `img amend`: features of an image's format that can be changed afterwards.
 *
 * The -o list is read into `struct wishes` by a table; what can only be chosen when an image is created, and what other
 * commands change, is refused with a pointer to them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "describe.h"
#include "options.h"
#include "report.h"
#include "size.h"
#include "target.h"

struct amend {
    const char *file, *format;
    char *list; /* of all -o */
    enum img_cache cache;
    struct common_options common;
    struct progress progress;
    struct img_amend_options options;
    char *data_file;
    struct img *image;
};

enum { OPT_FORCE = 700 };

static const struct option long_opts[] = {
    {"format", required_argument, NULL, 'f'},
    {"cache", required_argument, NULL, 't'},
    {"options", required_argument, NULL, 'o'},
    {"force", no_argument, NULL, OPT_FORCE},
    {"progress", optional_argument, NULL, OPT_PROGRESS},
    {"quiet", no_argument, NULL, 'q'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

static bool take(struct amend *a, int opt) {
    switch (opt) {
    case 'f':
        a->format = optarg;
        return true;
    case 'o':
        return options_append(&a->list, optarg);
    case 't':
        if (parse_cache(optarg, &a->cache))
            return true;
        report("Invalid cache option: %s", optarg);
        return false;
    case OPT_FORCE: /* for what could lock a user out of an image: nothing of it is here */
        return true;
    default:
        return common_option(opt, &a->common);
    }
}

/* ---- the list ---- */

static bool set_compat(struct amend *a, const char *name, const char *value) {
    (void)name;
    if (strcmp(value, "0.10") == 0 || strcmp(value, "v2") == 0)
        a->options.version = 2;
    else if (strcmp(value, "1.1") == 0 || strcmp(value, "v3") == 0)
        a->options.version = 3;
    else
        report("Unknown compatibility level %s", value);
    return a->options.version != 0;
}

static bool set_flag(const char *name, const char *value, enum img_amend_flag *flag) {
    *flag = strcmp(value, "on") == 0 ? IMG_AMEND_ON : IMG_AMEND_OFF;
    if (*flag == IMG_AMEND_ON || strcmp(value, "off") == 0)
        return true;
    report("Parameter '%s' expects 'on' or 'off'", name);
    return false;
}

static bool set_lazy_refcounts(struct amend *a, const char *name, const char *value) {
    return set_flag(name, value, &a->options.lazy_refcounts);
}

static bool set_data_file_raw(struct amend *a, const char *name, const char *value) {
    return set_flag(name, value, &a->options.data_file_raw);
}

static bool set_data_file(struct amend *a, const char *name, const char *value) {
    (void)name;
    free(a->data_file);
    a->options.data_file = a->data_file = text_copy(value);
    return true;
}

static bool set_refcount_bits(struct amend *a, const char *name, const char *value) {
    char *end;
    errno = 0;
    unsigned long bits = strtoul(value, &end, 0);
    if (end == value || *end || errno) {
        report("Parameter '%s' expects a number", name);
        return false;
    }
    if (!bits || bits > 64 || bits & (bits - 1)) {
        report("Refcount width must be a power of two and may not exceed 64 bits");
        return false;
    }
    a->options.refcount_bits = (unsigned)bits;
    return true;
}

static bool set_size(struct amend *a, const char *name, const char *value) {
    if (parse_size(value, &a->options.size) < 0) {
        report("Parameter '%s' expects a non-negative number below 2^64", name);
        fprintf(stderr, "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                        "and exabytes, respectively.\n");
        return false;
    }
    if (a->options.size % 512) {
        report("The new size must be a multiple of 512");
        return false;
    }
    return a->options.resize = true;
}

static bool refuse_backing(struct amend *a, const char *name, const char *value) {
    (void)a, (void)name, (void)value;
    report("Cannot amend the backing file");
    fprintf(stderr, "You can use '%s rebase' instead.\n", report_program());
    return false;
}

/* Key slots of encrypted images. */
static bool refuse_keys(struct amend *a, const char *name, const char *value) {
    struct img_info info;
    (void)value;
    if (img_info(a->image, &info, NULL) == 0 && info.encrypted)
        report("Option '%s' is not supported yet", name);
    else
        report("Can't amend encryption options - encryption not present");
    return false;
}

struct amendment {
    const char *name, *kind, *help;
    bool (*set)(struct amend *, const char *name, const char *value);
};

static const struct amendment amendments[] = {
    {"backing_file", "<str>", "File name of a base image", refuse_backing},
    {"backing_fmt", "<str>", "Image format of the base image", refuse_backing},
    {"compat", "<str>", "Compatibility level (v2 [0.10] or v3 [1.1])", set_compat},
    {"data_file", "<str>", "File name of an external data file", set_data_file},
    {"data_file_raw", "<bool (on/off)>", "The external data file must stay valid as a raw image", set_data_file_raw},
    {"encrypt.iter-time", "<num>", "Time to spend in PBKDF in milliseconds", refuse_keys},
    {"encrypt.keyslot", "<num>", "Select a single keyslot to modify explicitly", refuse_keys},
    {"encrypt.new-secret", "<str>", "New secret to set in the matching keyslots. Empty string to erase", refuse_keys},
    {"encrypt.old-secret", "<str>", "Select all keyslots that match this password", refuse_keys},
    {"encrypt.state", "<str>", "Select new state of affected keyslots (active/inactive)", refuse_keys},
    {"lazy_refcounts", "<bool (on/off)>", "Postpone refcount updates", set_lazy_refcounts},
    {"refcount_bits", "<num>", "Width of a reference count entry in bits", set_refcount_bits},
    {"size", "<size>", "Virtual disk size", set_size},
};
#define AMENDMENTS (sizeof(amendments) / sizeof(amendments[0]))

/* Options of `create` alone. */
static const char *const only_created[] = {
    "cluster_size",           "compression_type",  "encrypt.cipher-alg", "encrypt.format", "encrypt.hash-alg",
    "encrypt.ivgen-alg",      "encryption",        "extended_l2",        "preallocation",  "encrypt.cipher-mode",
    "encrypt.ivgen-hash-alg", "encrypt.key-secret"};

static bool refuse_name(const char *name) {
    report("Invalid parameter '%s'", name);
    for (size_t i = 0; i < sizeof(only_created) / sizeof(only_created[0]); i++)
        if (strcmp(name, only_created[i]) == 0)
            fprintf(stderr, "This option is only supported for image creation\n");
    return false;
}

static bool take_one(struct amend *a, const char *name, const char *value) {
    for (size_t i = 0; i < AMENDMENTS; i++)
        if (strcmp(name, amendments[i].name) == 0)
            return amendments[i].set(a, name, value ? value : "on");
    return refuse_name(name);
}

/* A name that is not known is wrong whatever the values of the others are. */
static bool names_are_known(const char *list) {
    bool known = true;
    while (known && list && *list) {
        char *name, *value;
        size_t i = 0;
        list = options_next(list, &name, &value);
        while (i < AMENDMENTS && strcmp(name, amendments[i].name) != 0)
            i++;
        known = i < AMENDMENTS || refuse_name(name);
        free(name);
        free(value);
    }
    return known;
}

static bool take_list(struct amend *a) {
    const char *list = a->list;
    bool good = names_are_known(list);
    while (good && list && *list) {
        char *name, *value;
        list = options_next(list, &name, &value);
        good = take_one(a, name, value);
        free(name);
        free(value);
    }
    return good;
}

static void print_amendment(const struct amendment *a) {
    char *what = text_format("%s=%s", a->name, a->kind);
    printf("  %-22s - %s\n", what, a->help);
    free(what);
}

static int print_amendments(const char *format) {
    if (!known_format(format)) {
        report("Unknown file format '%s'", format);
        return EXIT_FAILURE;
    }
    if (strcmp(format, "qcow2") != 0) {
        report("Format driver '%s' does not support option amendment", format);
        return EXIT_FAILURE;
    }
    printf("Amend options for 'qcow2':\n");
    for (size_t i = 0; i < AMENDMENTS; i++)
        print_amendment(&amendments[i]);
    return EXIT_SUCCESS;
}

/* ---- the whole ---- */

static int on_progress(void *opaque, uint64_t done, uint64_t total) {
    struct amend *a = opaque;
    (void)total;
    progress_update(&a->progress, done);
    return interrupted();
}

static bool change(struct amend *a) {
    struct img_error err = {0};
    enum progress_style style = a->common.quiet ? PROGRESS_NONE : a->common.progress;
    a->options.progress = on_progress;
    a->options.opaque = a;
    catch_signals();
    progress_start(&a->progress, style, img_size(a->image), 1, a->common.output == OUTPUT_JSON ? stderr : stdout);
    int ret = img_amend(a->image, &a->options, &err);
    progress_finish(&a->progress, ret == 0);
    if (ret == 0) {
        ret = img_close(a->image, &err);
        a->image = NULL;
    }
    if (ret < 0 && !(ret == -ECANCELED && interrupted()))
        report("%s", err.text);
    return ret == 0;
}

static int amend(struct amend *a) {
    struct img_open_options open = {.flags = IMG_OPEN_WRITE, .cache = a->cache, .format = a->format};
    a->image = open_image(a->file, &open);
    if (!a->image)
        return EXIT_FAILURE;
    if (strcmp(img_format(a->image), "qcow2") != 0) {
        report("Format driver '%s' does not support option amendment", img_format(a->image));
        return EXIT_FAILURE;
    }
    if (options_want_help(a->list))
        return print_amendments(img_format(a->image));
    if (!take_list(a) || !change(a))
        return EXIT_FAILURE;
    return a->common.output == OUTPUT_JSON && !a->common.quiet ? describe_result(a->file, a->format) : EXIT_SUCCESS;
}

static int run(int argc, char **argv) {
    struct amend a = {0};
    int opt;
    while ((opt = next_option(&amend_command, argc, argv)) != -1)
        if (!take(&a, opt))
            return EXIT_FAILURE;
    if (!a.list)
        usage_error("Must specify options (-o)");
    if (a.format && options_want_help(a.list))
        return print_amendments(a.format);
    if (argc - optind != 1) {
        report("Expecting one image file name");
        return EXIT_FAILURE;
    }
    a.file = argv[optind];
    int status = amend(&a);
    img_close(a.image, NULL);
    die_if_interrupted();
    free(a.list);
    free(a.data_file);
    return status;
}

const struct command amend_command = {
    .name = "amend",
    .summary = "change features of an image's format",
    .usage = "[-f FORMAT] [-t CACHE] [--force] -o OPTIONS [-p] [-q] [--output=human|json] FILE",
    .options = "  -f, --format=FORMAT     the image's format, probed if not given\n"
               "  -t, --cache=CACHE       cache mode [writeback]\n"
               "  -o, --options=LIST      name=value,...; -o help lists them\n"
               "      --force             taken as qemu-img takes it\n"
               "  -p, --progress[=auto|bar|percent|json]\n"
               "                          show how far it is\n"
               "  -q, --quiet             print nothing but errors\n"
               "      --output=human|json how to print the result\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "f:t:o:pq",
    .long_opts = long_opts,
    .run = run,
};
