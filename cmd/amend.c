/* SPDX-License-Identifier: GPL-3.0-or-later */
/* amend.c - `img amend`: features of an image's format that can be changed afterwards.
 *
 * The -o list is read into `struct wishes` by a table; what can only be chosen when an image is created, and what other
 * commands change, is refused with a pointer to them.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "change.h"
#include "option_list.h"
#include "report.h"
#include "secret.h"
#include "size.h"

/* What encrypt.* says of the key slots. */
struct slots {
    char *state, *new_secret, *old_secret;
    int slot; /* -1: none given */
    unsigned iter_time;
    bool given, iter_time_given, force;
};

struct amend {
    struct change change;
    char *list; /* of all -o */
    struct img_amend_options options;
    char *data_file;
    struct slots slots;
};

enum { OPT_FORCE = 700 };

static const struct option long_opts[] = {
    {"options", required_argument, NULL, 'o'},
    {"force", no_argument, NULL, OPT_FORCE},
    CHANGE_OPTIONS,
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

static bool take(struct amend *a, int opt) {
    switch (opt) {
    case 'o':
        return option_list_append(&a->list, optarg);
    case OPT_FORCE:
        return a->slots.force = true;
    default:
        return change_option(&a->change, opt);
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

/* ---- key slots ---- */

static bool take_text(struct amend *a, char **text, const char *value) {
    free(*text);
    *text = text_copy(value);
    return a->slots.given = true;
}

static bool set_state(struct amend *a, const char *name, const char *value) {
    (void)name;
    return take_text(a, &a->slots.state, value);
}

static bool set_new_secret(struct amend *a, const char *name, const char *value) {
    (void)name;
    return take_text(a, &a->slots.new_secret, value);
}

static bool set_old_secret(struct amend *a, const char *name, const char *value) {
    (void)name;
    return take_text(a, &a->slots.old_secret, value);
}

static bool parse_number(const char *name, const char *value, unsigned long *number) {
    char *end;
    errno = 0;
    *number = strtoul(value, &end, 0);
    if (*value >= '0' && *value <= '9' && !*end && !errno && *number <= INT_MAX)
        return true;
    report("Parameter '%s' expects a number", name);
    return false;
}

static bool set_iter_time(struct amend *a, const char *name, const char *value) {
    unsigned long number;
    if (!parse_number(name, value, &number))
        return false;
    a->slots.iter_time = (unsigned)number;
    return a->slots.given = a->slots.iter_time_given = true;
}

static bool set_keyslot(struct amend *a, const char *name, const char *value) {
    unsigned long number;
    if (!parse_number(name, value, &number))
        return false;
    if (number > 7) {
        report("Invalid keyslot %lu specified, must be between 0 and 7", number);
        return false;
    }
    a->slots.slot = (int)number;
    return a->slots.given = true;
}

/* What goes together; NULL when nothing is wrong with it. */
static const char *slots_contradiction(const struct slots *s) {
    if (!s->state)
        return "Parameter 'state' is missing";
    if (strcmp(s->state, "active") == 0) {
        if (!s->new_secret)
            return "'new-secret' is required to activate a keyslot";
        return s->old_secret ? "'old-secret' must not be given when activating keyslots" : NULL;
    }
    if (s->new_secret)
        return "'new-secret' must not be given when erasing keyslots";
    if (s->iter_time_given)
        return "'iter-time' must not be given when erasing keyslots";
    if (s->slot < 0 && !s->old_secret)
        return "To erase keyslot(s), either explicit keyslot index or the password currently contained in them must be "
               "given";
    return NULL;
}

static bool check_slots(const struct amend *a) {
    const struct slots *s = &a->slots;
    struct img_info info;
    if (img_info(a->change.image, &info, NULL) < 0 || !info.encrypted) {
        report("Can't amend encryption options - encryption not present");
        return false;
    }
    if (s->state && strcmp(s->state, "active") != 0 && strcmp(s->state, "inactive") != 0) {
        report("Parameter 'state' does not accept value '%s'", s->state);
        return false;
    }
    const char *wrong = slots_contradiction(s);
    if (wrong)
        report("%s", wrong);
    return !wrong;
}

static int change_slots(const struct amend *a, struct img_error *err) {
    const struct slots *s = &a->slots;
    const char *id = s->new_secret ? s->new_secret : s->old_secret;
    const struct img_key *key = id ? secret_find(id) : NULL;
    if (id && !key)
        return set_error(err, -ENOKEY, "No secret with id '%s'", id);
    int ret = s->new_secret ? img_key_add(a->change.image, key, s->slot, s->iter_time, err)
                            : img_key_remove(a->change.image, key, s->slot, s->force, err);
    return ret < 0 ? ret : 0;
}

/* ---- the table ---- */

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
    {"encrypt.iter-time", "<num>", "Time to spend in PBKDF in milliseconds", set_iter_time},
    {"encrypt.keyslot", "<num>", "Select a single keyslot to modify explicitly", set_keyslot},
    {"encrypt.new-secret", "<str>", "New secret to set in the matching keyslots. Empty string to erase",
     set_new_secret},
    {"encrypt.old-secret", "<str>", "Select all keyslots that match this password", set_old_secret},
    {"encrypt.state", "<str>", "Select new state of affected keyslots (active/inactive)", set_state},
    {"lazy_refcounts", "<bool (on/off)>", "Postpone refcount updates", set_lazy_refcounts},
    {"refcount_bits", "<num>", "Width of a reference count entry in bits", set_refcount_bits},
    {"size", "<size>", "Virtual disk size", set_size},
};
#define AMENDMENTS (sizeof(amendments) / sizeof(amendments[0]))

/* Options of `create` alone. */
static const char *const only_created[] = {"cluster_size",
                                           "compression_type",
                                           "encrypt.cipher-alg",
                                           "encrypt.format",
                                           "encrypt.hash-alg",
                                           "encrypt.ivgen-alg",
                                           "encryption",
                                           "extended_l2",
                                           "preallocation",
                                           "encrypt.cipher-mode",
                                           "encrypt.ivgen-hash-alg",
                                           "encrypt.key-secret",
                                           "size",
                                           "cipher-alg",
                                           "cipher-mode",
                                           "hash-alg",
                                           "ivgen-alg",
                                           "ivgen-hash-alg",
                                           "key-secret"};

static bool refuse_name(const char *name) {
    report("Invalid parameter '%s'", name);
    for (size_t i = 0; i < sizeof(only_created) / sizeof(only_created[0]); i++)
        if (strcmp(name, only_created[i]) == 0)
            fprintf(stderr, "This option is only supported for image creation\n");
    return false;
}

/* What a format calls it; NULL: it has no such thing. A LUKS image has nothing but key slots. */
static const char *name_in(const struct amendment *a, const char *format) {
    static const char prefix[] = "encrypt.";
    if (strcmp(format, "luks") != 0)
        return a->name;
    return strncmp(a->name, prefix, sizeof(prefix) - 1) == 0 ? a->name + sizeof(prefix) - 1 : NULL;
}

static const struct amendment *find_amendment(const char *name, const char *format) {
    for (size_t i = 0; i < AMENDMENTS; i++) {
        const char *known = name_in(&amendments[i], format);
        if (known && strcmp(name, known) == 0)
            return &amendments[i];
    }
    return NULL;
}

/* A name that is not known is wrong whatever the values of the others are. */
static bool names_are_known(const char *list, const char *format) {
    bool known = true;
    while (known && list && *list) {
        char *name, *value;
        list = option_list_next(list, &name, &value);
        known = find_amendment(name, format) || refuse_name(name);
        free(name);
        free(value);
    }
    return known;
}

static bool take_list(struct amend *a) {
    const char *list = a->list;
    bool good = names_are_known(list, img_format(a->change.image));
    while (good && list && *list) {
        char *name, *value;
        list = option_list_next(list, &name, &value);
        good = find_amendment(name, img_format(a->change.image))->set(a, name, value ? value : "on");
        free(name);
        free(value);
    }
    return good;
}

static bool can_be_amended(const char *format) {
    if (strcmp(format, "qcow2") == 0 || strcmp(format, "luks") == 0)
        return true;
    report("Format driver '%s' does not support option amendment", format);
    return false;
}

static void print_amendment(const struct amendment *a, const char *format) {
    if (!name_in(a, format))
        return;
    char *what = text_format("%s=%s", name_in(a, format), a->kind);
    printf("  %-22s - %s\n", what, a->help);
    free(what);
}

static int print_amendments(const char *format) {
    if (!known_format(format)) {
        report("Unknown file format '%s'", format);
        return EXIT_FAILURE;
    }
    if (!can_be_amended(format))
        return EXIT_FAILURE;
    printf("Amend options for '%s':\n", format);
    for (size_t i = 0; i < AMENDMENTS; i++)
        print_amendment(&amendments[i], format);
    return EXIT_SUCCESS;
}

/* ---- the whole ---- */

static bool change(struct amend *a) {
    struct img *image = a->change.image;
    struct img_error err = {0};
    a->options.progress = change_progress;
    a->options.opaque = &a->change;
    change_start(&a->change);
    int ret = strcmp(img_format(image), "qcow2") == 0 ? img_amend(image, &a->options, &err) : 0;
    if (ret == 0 && a->slots.given)
        ret = change_slots(a, &err);
    return change_finish(&a->change, ret, NULL, &err);
}

static int amend(struct amend *a) {
    if (!change_open(&a->change, 0))
        return EXIT_FAILURE;
    if (!can_be_amended(img_format(a->change.image)))
        return EXIT_FAILURE;
    if (option_list_wants_help(a->list))
        return print_amendments(img_format(a->change.image));
    if (!take_list(a) || (a->slots.given && !check_slots(a)) || !change(a))
        return EXIT_FAILURE;
    return change_result(&a->change);
}

static int amend_what_is_named(struct amend *a, int argc, char **argv) {
    if (!a->list)
        usage_error("Must specify options (-o)");
    if (a->change.format && option_list_wants_help(a->list))
        return print_amendments(a->change.format);
    if (argc - optind != 1) {
        report("Expecting one image file name");
        return EXIT_FAILURE;
    }
    a->change.file = argv[optind];
    return amend(a);
}

static int run(int argc, char **argv) {
    struct amend a = {.slots.slot = -1};
    bool good = true;
    int opt;
    while (good && (opt = next_option(&amend_command, argc, argv)) != -1)
        good = take(&a, opt);
    int status = good ? amend_what_is_named(&a, argc, argv) : EXIT_FAILURE;
    change_end(&a.change);
    free(a.list);
    free(a.data_file);
    free(a.slots.state);
    free(a.slots.new_secret);
    free(a.slots.old_secret);
    return status;
}

const struct command amend_command = {
    .name = "amend",
    .summary = "change features of an image's format",
    .usage = "[-f FORMAT] [-t CACHE] [--force] -o OPTIONS [-p] [-q] [--output=human|json] FILE",
    .options = "  -f, --format=FORMAT     the image's format, probed if not given\n"
               "  -t, --cache=CACHE       cache mode [writeback]\n"
               "  -o, --options=LIST      name=value,...; -o help lists them\n"
               "      --force             erase the last key slot too\n"
               "  -p, --progress[=auto|bar|percent|json]\n"
               "                          show how far it is\n"
               "  -q, --quiet             print nothing but errors\n"
               "      --output=human|json how to print the result\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "f:t:o:pq",
    .long_opts = long_opts,
    .run = run,
};
