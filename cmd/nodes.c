/* SPDX-License-Identifier: GPL-3.0-or-later */
/* nodes.c - see nodes.h.
 *
 * The pairs are read from the root down. A node looks up the keys that it knows; when its children have done the same,
 * a key under its prefix that nobody looked up is unknown.
 */
#include "nodes.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "pairs.h"
#include "report.h"
#include "size.h"

#define MAX_NODES 64
#define NULL_SIZE (UINT64_C(1) << 30)
#define MAX_CACHE (UINT64_C(4) << 30) /* more is the same as this */

static const char json_prefix[] = "json:", null_name[] = "null-co://";

struct node {
    struct img_node node;
    const char *driver;                             /* NULL: probed */
    const struct pair *offset, *size, *read_zeroes; /* as they were said */
    bool implied;                                   /* a raw image over what was named alone */
};

struct nodes {
    struct pairs pairs;
    struct node list[MAX_NODES];
    size_t count;
    struct node_flags flags;
    const struct node *root;
    find_key *find;
    char **wrong;
};

static bool fail(struct nodes *n, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(struct nodes *n, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    if (vasprintf(n->wrong, format, ap) < 0)
        out_of_memory();
    va_end(ap);
    return false;
}

/* ---- values ----------------------------------------------------------------------------------- */

static bool get_text(struct nodes *n, const char *prefix, const char *name, const char **text) {
    const struct pair *p = pairs_take(&n->pairs, prefix, name);
    *text = p && p->kind != PAIR_NULL ? p->text : NULL;
    return true;
}

static bool get_bool(struct nodes *n, const char *prefix, const char *name, enum tristate *value) {
    static const char *const yes[] = {"on", "yes", "true", "y"}, *const no[] = {"off", "no", "false", "n"};
    const struct pair *p = pairs_take(&n->pairs, prefix, name);
    *value = UNSAID;
    if (!p)
        return true;
    for (size_t i = 0; p->kind != PAIR_NUMBER && i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcmp(p->text, yes[i]) == 0 || strcmp(p->text, no[i]) == 0) {
            *value = strcmp(p->text, yes[i]) == 0 ? YES : NO;
            return true;
        }
    }
    return fail(n, "Parameter '%s' expects 'on' or 'off'", name);
}

/* *pair: what was said, NULL: nothing, and *size stays. */
static bool get_size(struct nodes *n, const char *prefix, const char *name, const struct pair **pair, uint64_t *size) {
    const struct pair *p = pairs_take(&n->pairs, prefix, name);
    uint64_t value;
    if (pair)
        *pair = p;
    if (!p)
        return true;
    if ((p->kind != PAIR_TEXT && p->kind != PAIR_NUMBER) || parse_size(p->text, &value) < 0)
        return fail(n,
                    "Parameter '%s' expects a non-negative number below 2^64\n"
                    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                    "and exabytes, respectively.",
                    name);
    *size = value;
    return true;
}

static bool is_one_of(const char *text, const char *const *words) {
    for (; *words; words++)
        if (strcmp(text, *words) == 0)
            return true;
    return false;
}

/* A key whose value must be one of the words and changes nothing. */
static bool accept_word(struct nodes *n, const char *prefix, const char *name, const char *const *words) {
    const char *text;
    get_text(n, prefix, name, &text);
    if (!text || is_one_of(text, words))
        return true;
    if (strcmp(name, "discard") == 0)
        return fail(n, "Invalid discard option");
    return fail(n, "Parameter '%s' does not accept value '%s'", name, text);
}

static bool accept_bools(struct nodes *n, const char *prefix, const char *const *names) {
    enum tristate ignored;
    for (; *names; names++)
        if (!get_bool(n, prefix, *names, &ignored))
            return false;
    return true;
}

/* ---- nodes ------------------------------------------------------------------------------------- */

static struct node *new_node(struct nodes *n, enum img_node_kind kind) {
    if (n->count == MAX_NODES) {
        fail(n, "More than %d parts make no image", MAX_NODES);
        return NULL;
    }
    struct node *node = &n->list[n->count++];
    node->node.kind = kind;
    return node;
}

/* What every node may say. Of the nodes of the image itself and its file it counts. */
static bool read_common(struct nodes *n, const char *prefix, bool counts) {
    static const char *const discard[] = {"ignore", "off", "unmap", "on", NULL};
    static const char *const detect[] = {"off", "on", "unmap", NULL}, *const ignored[] = {"auto-read-only", NULL};
    enum tristate read_only, force_share, direct, no_flush;
    const char *name;
    get_text(n, prefix, "node-name", &name);
    if (!accept_word(n, prefix, "discard", discard) || !accept_word(n, prefix, "detect-zeroes", detect) ||
        !accept_bools(n, prefix, ignored) || !get_bool(n, prefix, "read-only", &read_only) ||
        !get_bool(n, prefix, "force-share", &force_share) || !get_bool(n, prefix, "cache.direct", &direct) ||
        !get_bool(n, prefix, "cache.no-flush", &no_flush))
        return false;
    if (!counts)
        return true;
    n->flags.read_only = n->flags.read_only || read_only == YES;
    n->flags.force_share = n->flags.force_share || force_share == YES;
    n->flags.direct = direct != UNSAID ? direct : n->flags.direct;
    n->flags.no_flush = no_flush != UNSAID ? no_flush : n->flags.no_flush;
    return true;
}

static bool refuse_unknown(struct nodes *n, const char *prefix, const char *what, const char *driver) {
    const char *name = pairs_unused(&n->pairs, prefix);
    if (!name)
        return true;
    return strcmp(what, "protocol") == 0
               ? fail(n, "Block protocol '%s' doesn't support the option '%s'", driver, name)
               : fail(n, "Block format '%s' does not support the option '%s'", driver ? driver : "qcow2", name);
}

static bool is_protocol(const char *driver) {
    static const char *const names[] = {"file", "host_device", "null-co", NULL};
    return is_one_of(driver, names);
}

static bool is_format(const char *driver) {
    static const char *const names[] = {"raw", "qcow2", "luks", NULL};
    return is_one_of(driver, names);
}

static bool read_file(struct nodes *n, const char *prefix, const char *driver, struct node *node, bool counts) {
    static const char *const locking[] = {"on", "off", "auto", NULL}, *const aio[] = {"threads", "native", "io_uring",
                                                                                      NULL};
    static const char *const ignored[] = {"drop-cache", "x-check-cache-dropped", NULL};
    const char *path, *lock;
    uint64_t batch;
    get_text(n, prefix, "filename", &path);
    get_text(n, prefix, "locking", &lock);
    if (!accept_word(n, prefix, "locking", locking) || !accept_word(n, prefix, "aio", aio) ||
        !accept_bools(n, prefix, ignored) || !get_size(n, prefix, "aio-max-batch", NULL, &batch))
        return false;
    if (!path || !*path)
        return fail(n, "The '%s' block driver requires a file name", driver);
    node->node.path = path;
    if (counts && lock && strcmp(lock, "off") == 0)
        n->flags.unlocked = true;
    return true;
}

static bool read_null(struct nodes *n, const char *prefix, struct node *node) {
    enum tristate zeroes;
    uint64_t latency;
    node->node.size = NULL_SIZE;
    node->read_zeroes = pairs_take(&n->pairs, prefix, "read-zeroes");
    if (!get_size(n, prefix, "size", &node->size, &node->node.size) || !get_bool(n, prefix, "read-zeroes", &zeroes) ||
        !get_size(n, prefix, "latency-ns", NULL, &latency))
        return false;
    node->node.read_zeroes = zeroes == YES;
    return true;
}

static struct node *read_protocol(struct nodes *n, const char *prefix, const char *driver, bool counts) {
    bool null = strcmp(driver, "null-co") == 0;
    struct node *node = new_node(n, null                          ? IMG_NODE_NULL
                                    : strcmp(driver, "file") == 0 ? IMG_NODE_FILE
                                                                  : IMG_NODE_DEVICE);
    if (!node)
        return NULL;
    node->driver = driver;
    bool good = null ? read_null(n, prefix, node) : read_file(n, prefix, driver, node, counts);
    return good && read_common(n, prefix, counts) && refuse_unknown(n, prefix, "protocol", driver) ? node : NULL;
}

static struct node *read_image(struct nodes *n, const char *prefix, const char *format, bool counts);

/* What guest data lie on: a protocol, or an image. */
static const struct node *read_part(struct nodes *n, const char *prefix, bool counts) {
    const char *driver;
    get_text(n, prefix, "driver", &driver);
    if (driver && !is_protocol(driver))
        return read_image(n, prefix, NULL, counts);
    return read_protocol(n, prefix, driver ? driver : "file", counts);
}

static const struct node *read_child_file(struct nodes *n, const char *prefix, bool counts) {
    const char *text;
    get_text(n, prefix, "file", &text);
    if (text) {
        fail(n, "Cannot find device='%s' nor node-name='%s'", text, text);
        return NULL;
    }
    if (!pairs_has_below(&n->pairs, prefix, "file")) {
        fail(n, "A block device must be specified for \"file\"");
        return NULL;
    }
    char *below = text_format("%sfile.", prefix);
    const struct node *node = read_part(n, below, counts);
    free(below);
    return node;
}

static bool read_data_file(struct nodes *n, const char *prefix, struct node *node) {
    const char *text;
    get_text(n, prefix, "data-file", &text);
    if (text)
        return fail(n, "Cannot find device='%s' nor node-name='%s'", text, text);
    if (!pairs_has_below(&n->pairs, prefix, "data-file"))
        return true;
    char *below = text_format("%sdata-file.", prefix);
    const struct node *file = read_part(n, below, false);
    free(below);
    node->node.data_file = file ? &file->node : NULL;
    return file;
}

static bool read_backing(struct nodes *n, const char *prefix, struct node *node) {
    const struct pair *p = pairs_take(&n->pairs, prefix, "backing");
    bool below = pairs_has_below(&n->pairs, prefix, "backing");
    if (p && p->kind == PAIR_TEXT && *p->text)
        return fail(n, "Cannot find device='%s' nor node-name='%s'", p->text, p->text);
    if (p && p->kind == PAIR_TEXT && n->find) /* who looks for the name only has heard it */
        report("warning: Use of \"backing\": \"\" is deprecated; use \"backing\": null instead");
    node->node.own_backing = p || below;
    if (!below)
        return true;
    char *child = text_format("%sbacking.", prefix);
    struct node *backing = read_image(n, child, NULL, false);
    free(child);
    node->node.backing = backing ? &backing->node : NULL;
    return backing;
}

/* cache-size is the sum of the two others. */
static bool read_caches(struct nodes *n, const char *prefix, struct node *node) {
    const struct pair *sum_said, *l2_said, *refcount_said;
    uint64_t sum = 0, l2 = 0, refcount = 0;
    if (!get_size(n, prefix, "cache-size", &sum_said, &sum) || !get_size(n, prefix, "l2-cache-size", &l2_said, &l2) ||
        !get_size(n, prefix, "refcount-cache-size", &refcount_said, &refcount))
        return false;
    if (sum_said && l2_said && refcount_said)
        return fail(n, "cache-size, l2-cache-size and refcount-cache-size may not be set at the same time");
    if (sum_said && l2_said && l2 > sum)
        return fail(n, "l2-cache-size may not exceed cache-size");
    if (sum_said && refcount_said && refcount > sum)
        return fail(n, "refcount-cache-size may not exceed cache-size");
    if (sum_said && !l2_said)
        l2 = sum - refcount;
    node->node.l2_cache = l2 < MAX_CACHE ? l2 : MAX_CACHE;
    node->node.refcount_cache = refcount < MAX_CACHE ? refcount : MAX_CACHE;
    return true;
}

/* Checks that metadata is not overwritten are always made here, whatever is wished. */
static bool read_overlap_check(struct nodes *n, const char *prefix) {
    static const char *const templates[] = {"none", "constant", "cached", "all", NULL};
    static const char *const parts[] = {"overlap-check.main-header",      "overlap-check.active-l1",
                                        "overlap-check.active-l2",        "overlap-check.refcount-table",
                                        "overlap-check.refcount-block",   "overlap-check.snapshot-table",
                                        "overlap-check.inactive-l1",      "overlap-check.inactive-l2",
                                        "overlap-check.bitmap-directory", NULL};
    const char *text, *other;
    get_text(n, prefix, "overlap-check", &text);
    get_text(n, prefix, "overlap-check.template", &other);
    if (text && other && strcmp(text, other) != 0)
        return fail(n,
                    "Conflicting values for qcow2 options 'overlap-check' ('%s') and 'overlap-check.template' ('%s')",
                    text, other);
    text = text ? text : other;
    if (text && !is_one_of(text, templates))
        return fail(n,
                    "Unsupported value '%s' for qcow2 option 'overlap-check'. Allowed are any of the following: none, "
                    "constant, cached, all",
                    text);
    return accept_bools(n, prefix, parts);
}

static bool read_key(struct nodes *n, const char *prefix, const char *name, struct node *node) {
    const char *id;
    get_text(n, prefix, name, &id);
    const struct img_key *key = id && n->find ? n->find(id) : NULL;
    if (id && !key && n->find)
        return fail(n, "No secret with id '%s'", id);
    if (key)
        node->node.key = *key;
    return true;
}

static bool read_qcow2(struct nodes *n, const char *prefix, struct node *node) {
    static const char *const ignored[] = {"lazy-refcounts",     "pass-discard-request", "pass-discard-snapshot",
                                          "pass-discard-other", "discard-no-unref",     NULL};
    const char *format;
    uint64_t entry = 512, interval;
    get_text(n, prefix, "encrypt.format", &format);
    if (!read_key(n, prefix, "encrypt.key-secret", node) || !accept_bools(n, prefix, ignored) ||
        !read_overlap_check(n, prefix) || !read_caches(n, prefix, node) ||
        !get_size(n, prefix, "l2-cache-entry-size", NULL, &entry) ||
        !get_size(n, prefix, "cache-clean-interval", NULL, &interval))
        return false;
    if (entry < 512 || entry > 2 << 20 || (entry & (entry - 1)))
        return fail(n, "L2 cache entry size must be a power of two between 512 and the cluster size");
    return read_data_file(n, prefix, node) && read_backing(n, prefix, node);
}

static bool read_raw(struct nodes *n, const char *prefix, struct node *node) {
    uint64_t size = UINT64_MAX;
    if (!get_size(n, prefix, "offset", &node->offset, &node->node.offset) ||
        !get_size(n, prefix, "size", &node->size, &size))
        return false;
    if (size % 512 && size != UINT64_MAX)
        return fail(n, "Specified size is not multiple of 512");
    if (size == 0)
        return fail(n, "A size of 0 leaves no image");
    node->node.length = size == UINT64_MAX ? 0 : size;
    return true;
}

/* A protocol's driver where an image is expected: all that it has, as it is. */
static struct node *wrap(struct nodes *n, struct node *below) {
    struct node *node = below ? new_node(n, IMG_NODE_FORMAT) : NULL;
    if (!node)
        return NULL;
    node->driver = node->node.format = "raw";
    node->node.file = &below->node;
    node->implied = true;
    return node;
}

static struct node *read_image(struct nodes *n, const char *prefix, const char *format, bool counts) {
    const char *driver;
    get_text(n, prefix, "driver", &driver);
    driver = format ? format : driver;
    if (driver && is_protocol(driver))
        return wrap(n, read_protocol(n, prefix, driver, counts));
    if (driver && !is_format(driver)) {
        fail(n, "Unknown driver '%s'", driver);
        return NULL;
    }
    if (!driver && !pairs_has_below(&n->pairs, prefix, "file") && !pairs_take(&n->pairs, prefix, "file")) {
        fail(n, "Must specify either driver or file");
        return NULL;
    }
    struct node *node = new_node(n, IMG_NODE_FORMAT);
    if (!node)
        return NULL;
    node->driver = node->node.format = driver;
    const struct node *file = read_child_file(n, prefix, counts);
    if (!file || !read_common(n, prefix, counts))
        return NULL;
    node->node.file = &file->node;
    bool good = driver && strcmp(driver, "raw") == 0    ? read_raw(n, prefix, node)
                : driver && strcmp(driver, "luks") == 0 ? read_key(n, prefix, "key-secret", node)
                                                        : read_qcow2(n, prefix, node);
    return good && refuse_unknown(n, prefix, "format", driver) ? node : NULL;
}

/* ---- the whole ---------------------------------------------------------------------------------- */

bool nodes_is_name(const char *argument) {
    return strncmp(argument, json_prefix, strlen(json_prefix)) == 0 ||
           strncmp(argument, null_name, strlen(null_name)) == 0;
}

static struct node *parse_null(struct nodes *n, const char *format) {
    struct node *file = new_node(n, IMG_NODE_NULL), *node = new_node(n, IMG_NODE_FORMAT);
    if (!node)
        return NULL;
    file->driver = "null-co";
    file->node.size = NULL_SIZE;
    node->driver = node->node.format = format;
    node->node.file = &file->node;
    return node;
}

struct nodes *nodes_parse(const char *argument, bool image_opts, const char *format, find_key *find, char **wrong) {
    struct nodes *n = memory(1, sizeof(*n));
    n->find = find;
    n->wrong = wrong;
    *wrong = NULL;
    if (!image_opts && strncmp(argument, null_name, strlen(null_name)) == 0)
        n->root = parse_null(n, format);
    else if (image_opts ? pairs_parse_list(&n->pairs, argument, wrong)
                        : pairs_parse_json(&n->pairs, argument + strlen(json_prefix), wrong))
        n->root = read_image(n, "", format, true);
    if (n->root)
        return n;
    nodes_free(n);
    return NULL;
}

void nodes_free(struct nodes *n) {
    if (!n)
        return;
    pairs_free(&n->pairs);
    free(n);
}

const struct img_node *nodes_root(const struct nodes *n) {
    return &n->root->node;
}

const struct node_flags *nodes_flags(const struct nodes *n) {
    return &n->flags;
}

enum img_cache nodes_cache(const struct nodes *n, enum img_cache cache) {
    bool through = cache == IMG_CACHE_WRITETHROUGH || cache == IMG_CACHE_DIRECTSYNC;
    bool direct = cache == IMG_CACHE_NONE || cache == IMG_CACHE_DIRECTSYNC, unsafe = cache == IMG_CACHE_UNSAFE;
    if (n->flags.direct != UNSAID)
        direct = n->flags.direct == YES;
    if (n->flags.no_flush != UNSAID)
        unsafe = n->flags.no_flush == YES;
    if (unsafe)
        return IMG_CACHE_UNSAFE;
    if (direct)
        return through ? IMG_CACHE_DIRECTSYNC : IMG_CACHE_NONE;
    return through ? IMG_CACHE_WRITETHROUGH : IMG_CACHE_WRITEBACK;
}

static void put_pair(json_t *o, const char *key, const struct pair *p) {
    if (!p)
        return;
    if (p->kind == PAIR_NUMBER)
        json_put(o, key, json_integer(strtoll(p->text, NULL, 10)));
    else if (p->kind == PAIR_BOOLEAN)
        json_put_bool(o, key, strcmp(p->text, "on") == 0);
    else
        json_put_text(o, key, p->text);
}

/* In the order of QEMU's keys. */
static json_t *node_json(const struct node *node, const char *format) {
    const struct node *file = (const struct node *)node->node.file;
    if (node->implied)
        return node_json(file, NULL);
    json_t *o = json_new_object();
    put_pair(o, "read-zeroes", node->read_zeroes);
    put_pair(o, "offset", node->offset);
    json_put_text(o, "driver", node->driver ? node->driver : format ? format : "raw");
    put_pair(o, "size", node->size);
    if (file)
        json_put(o, "file", node_json(file, NULL));
    if (node->node.path)
        json_put_text(o, "filename", node->node.path);
    return o;
}

char *nodes_name(const struct nodes *n, const char *format) {
    const struct node *root = n->root, *file = (const struct node *)root->node.file;
    if (!root->offset && !root->size && file->node.path)
        return text_copy(file->node.path);
    if (!root->offset && !root->size && file->node.kind == IMG_NODE_NULL && !file->size && !file->read_zeroes)
        return text_copy(null_name);
    json_t *o = node_json(root, format);
    char *text = json_dumps(o, JSON_PRESERVE_ORDER | JSON_ENSURE_ASCII);
    if (!text)
        out_of_memory();
    char *name = text_format("%s%s", json_prefix, text);
    free(text);
    json_decref(o);
    return name;
}
