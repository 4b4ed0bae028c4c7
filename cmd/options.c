/* SPDX-License-Identifier: GPL-3.0-or-later */
/* options.c - see options.h. */
#include "options.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "option_list.h"
#include "report.h"
#include "size.h"

enum kind { STRING, BOOLEAN, NUMBER, SIZE };

struct description {
    const char *name;
    enum kind kind;
    const char *initial; /* NULL: not set */
    const char *help;
    bool of_file; /* belongs to the file under the image: shown when that is named */
};

struct value {
    char *text; /* NULL: not set */
    uint64_t number;
};

struct options {
    const char *format;
    const struct description *table;
    struct value *values;
};

static const struct description raw_table[] = {
    {"size", SIZE, NULL, "Virtual disk size", false},
    {"preallocation", STRING, NULL, "Preallocation mode (allowed values: off, falloc, full)", true},
    {"nocow", BOOLEAN, NULL, "Turn off copy-on-write (valid only on btrfs)", true},
    {"extent_size_hint", SIZE, NULL, "Extent size hint for the image file, 0 to disable", true},
    {0},
};

#define LUKS_OPTIONS(prefix)                                                                                           \
    {prefix "cipher-alg", STRING, NULL, "Name of encryption cipher algorithm", false},                                 \
        {prefix "cipher-mode", STRING, NULL, "Name of encryption cipher mode", false},                                 \
        {prefix "ivgen-alg", STRING, NULL, "Name of IV generator algorithm", false},                                   \
        {prefix "ivgen-hash-alg", STRING, NULL, "Name of IV generator hash algorithm", false},                         \
        {prefix "hash-alg", STRING, NULL, "Name of encryption hash algorithm", false}, {                               \
        prefix "iter-time", NUMBER, NULL, "Time to spend in PBKDF in milliseconds", false                              \
    }

static const struct description luks_table[] = {
    {"size", SIZE, NULL, "Virtual disk size", false},
    {"key-secret", STRING, NULL, "ID of the secret that provides the keyslot passphrase", false},
    LUKS_OPTIONS(""),
    {"preallocation", STRING, NULL, "Preallocation mode (allowed values: off, falloc, full)", true},
    {"nocow", BOOLEAN, NULL, "Turn off copy-on-write (valid only on btrfs)", true},
    {"extent_size_hint", SIZE, NULL, "Extent size hint for the image file, 0 to disable", true},
    {0},
};

static const struct description qcow2_table[] = {
    {"encryption", BOOLEAN, NULL, "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
     false},
    {"encrypt.format", STRING, NULL, "Encrypt the image, format choices: 'aes', 'luks'", false},
    {"encrypt.key-secret", STRING, NULL, "ID of secret providing qcow AES key or LUKS passphrase", false},
    LUKS_OPTIONS("encrypt."),
    {"cluster_size", SIZE, "65536", "qcow2 cluster size", false},
    {"extended_l2", BOOLEAN, "off", "Extended L2 tables", false},
    {"preallocation", STRING, NULL, "Preallocation mode (allowed values: off, metadata, falloc, full)", false},
    {"compression_type", STRING, "zlib", "Compression method used for image cluster compression", false},
    {"size", SIZE, NULL, "Virtual disk size", false},
    {"compat", STRING, NULL, "Compatibility level (v2 [0.10] or v3 [1.1])", false},
    {"backing_file", STRING, NULL, "File name of a base image", false},
    {"backing_fmt", STRING, NULL, "Image format of the base image", false},
    {"data_file", STRING, NULL, "File name of an external data file", false},
    {"data_file_raw", BOOLEAN, NULL, "The external data file must stay valid as a raw image", false},
    {"lazy_refcounts", BOOLEAN, "off", "Postpone refcount updates", false},
    {"refcount_bits", NUMBER, "16", "Width of a reference count entry in bits", false},
    {"nocow", BOOLEAN, NULL, "Turn off copy-on-write (valid only on btrfs)", true},
    {"extent_size_hint", SIZE, NULL, "Extent size hint for the image file, 0 to disable", true},
    {0},
};

static const struct description *find_table(const char *format) {
    if (strcmp(format, "raw") == 0)
        return raw_table;
    if (strcmp(format, "luks") == 0)
        return luks_table;
    return strcmp(format, "qcow2") == 0 ? qcow2_table : NULL;
}

static size_t table_length(const struct description *table) {
    size_t n = 0;
    while (table[n].name)
        n++;
    return n;
}

/* The place of `name` in the table, -1 for none. */
static int find_option(const struct options *options, const char *name) {
    for (int i = 0; options->table[i].name; i++)
        if (strcmp(options->table[i].name, name) == 0)
            return i;
    return -1;
}

struct options *options_new(const char *format) {
    const struct description *table = find_table(format);
    if (!table)
        return NULL;
    struct options *options = memory(1, sizeof(*options));
    options->format = format;
    options->table = table;
    options->values = memory(table_length(table), sizeof(*options->values));
    for (size_t i = 0; table[i].name; i++)
        if (table[i].initial)
            options_set(options, table[i].name, table[i].initial);
    return options;
}

void options_free(struct options *options) {
    if (!options)
        return;
    for (size_t i = 0; options->table[i].name; i++)
        free(options->values[i].text);
    free(options->values);
    free(options);
}

static int by_name(const void *a, const void *b) {
    const struct description *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

bool options_print_help(const char *format, bool with_file) {
    static const char *const kinds[] = {
        [STRING] = "<str>", [BOOLEAN] = "<bool (on/off)>", [NUMBER] = "<num>", [SIZE] = "<size>"};
    const struct description *table = find_table(format);
    if (!table) {
        report("Unknown file format '%s'", format);
        return false;
    }
    size_t n = table_length(table);
    const struct description **sorted = memory(n, sizeof(*sorted));
    for (size_t i = 0; i < n; i++)
        sorted[i] = &table[i];
    qsort(sorted, n, sizeof(*sorted), by_name);

    if (with_file)
        printf("Supported options:\n");
    else
        printf("Supported %s options:\n", format);
    for (size_t i = 0; i < n; i++) {
        if (sorted[i]->of_file && !with_file)
            continue;
        char *left = text_format("%s=%s", sorted[i]->name, kinds[sorted[i]->kind]);
        printf("  %-22s - %s\n", left, sorted[i]->help);
        free(left);
    }
    if (!with_file)
        printf("\nThe protocol level may support further options.\n"
               "Specify the target filename to include those options.\n");
    free(sorted);
    return true;
}

static bool parse_bool(const char *text, bool *value) {
    static const char *const yes[] = {"on", "yes", "true", "y"}, *const no[] = {"off", "no", "false", "n"};
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *value = strcmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
}

/* Is `text` a value of this kind? Its number goes to *number. */
static int check_value(const struct description *d, const char *text, uint64_t *number, struct img_error *err) {
    char *end;
    bool flag;

    switch (d->kind) {
    case BOOLEAN:
        if (!parse_bool(text, &flag))
            return set_error(err, -EINVAL, "Parameter '%s' expects 'on' or 'off'", d->name);
        *number = flag;
        return 0;
    case NUMBER:
        errno = 0;
        *number = strtoull(text, &end, 0);
        if (*text < '0' || *text > '9' || *end || errno)
            return set_error(err, -EINVAL, "Parameter '%s' expects a number", d->name);
        return 0;
    case SIZE:
        if (parse_size(text, number) < 0)
            return set_error(err, -EINVAL,
                             "Parameter '%s' expects a non-negative number below 2^64\n"
                             "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                             "and exabytes, respectively.",
                             d->name);
        return 0;
    case STRING:
        return 0;
    }
    return 0;
}

static int set_checked(struct options *options, const char *name, const char *text, struct img_error *err) {
    int i = find_option(options, name);
    uint64_t number = 0;
    if (i < 0)
        return set_error(err, -EINVAL, "Invalid parameter '%s'", name);
    if (!text)
        text = "on";
    int ret = check_value(&options->table[i], text, &number, err);
    if (ret < 0)
        return ret;
    options_set(options, name, text);
    return 0;
}

int options_parse(struct options *options, const char *list, struct img_error *err) {
    int ret = 0;
    while (list && *list && ret == 0) {
        char *name, *value;
        list = option_list_next(list, &name, &value);
        ret = set_checked(options, name, value, err);
        free(name);
        free(value);
    }
    return ret;
}

void options_set(struct options *options, const char *name, const char *text) {
    struct img_error ignored;
    int i = find_option(options, name);
    char *copy = text_copy(text);
    free(options->values[i].text);
    options->values[i].text = copy;
    check_value(&options->table[i], copy, &options->values[i].number, &ignored);
}

const char *options_get(const struct options *options, const char *name) {
    int i = find_option(options, name);
    return i < 0 ? NULL : options->values[i].text;
}

bool options_is_set(const struct options *options, const char *name) {
    int i = find_option(options, name);
    return i >= 0 && options->values[i].text && options->values[i].number;
}

const char *options_format(const struct options *options) {
    return options->format;
}

bool options_known(const struct options *options, const char *name) {
    return find_option(options, name) >= 0;
}

uint64_t options_get_size(const struct options *options, const char *name) {
    int i = find_option(options, name);
    return i < 0 || !options->values[i].text ? UINT64_MAX : options->values[i].number;
}

void options_set_size(struct options *options, const char *name, uint64_t size) {
    char text[32];
    snprintf(text, sizeof(text), "%" PRIu64, size);
    options_set(options, name, text);
}

static void print_value(const char *value) {
    char *safe = text_printable(value);
    for (const char *c = safe; *c; c++) {
        if (*c == ',')
            putchar(',');
        putchar(*c);
    }
    free(safe);
}

void options_print(const struct options *options) {
    for (size_t i = 0; options->table[i].name; i++) {
        const struct description *d = &options->table[i];
        const struct value *value = &options->values[i];
        if (!value->text)
            continue;
        printf(" %s=", d->name);
        if (d->kind == SIZE || d->kind == NUMBER)
            printf("%" PRIu64, value->number);
        else
            print_value(value->text);
    }
}
