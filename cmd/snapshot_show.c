/* SPDX-License-Identifier: GPL-3.0-or-later */
/* snapshot_show.c - `img snapshot info|current|parent|tree|diff`: what snapshots are, what they descend from, where
 * they differ. Nothing here changes an image.
 */
#include "snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "describe.h"
#include "json.h"
#include "report.h"

#define MAX_INDENT 40 /* levels that a tree shows as such */

/* An open image and what it tells. */
struct show {
    const struct snapshot_args *args;
    struct img *image;
    struct img_info info;
    bool json;
};

/* By id first, then by name; NULL after reporting. */
static const struct img_snapshot_info *find(const struct show *s, const char *name) {
    for (size_t i = 0; i < s->info.nsnapshots; i++)
        if (strcmp(s->info.snapshots[i].id, name) == 0)
            return &s->info.snapshots[i];
    for (size_t i = 0; i < s->info.nsnapshots; i++)
        if (strcmp(s->info.snapshots[i].name, name) == 0)
            return &s->info.snapshots[i];
    report("'%s' has no snapshot '%s'", s->args->file, name);
    return NULL;
}

/* False after reporting. NULL: the active state. */
static bool parent_of(const struct show *s, const char *id, struct img_parent *parent) {
    struct img_error err = {0};
    if (img_snapshot_parent(s->image, id, parent, &err) == 0)
        return true;
    report_image_error(&err, "Could not tell what '%s' descends from", id ? id : s->args->file);
    return false;
}

static const char *kind_name(enum img_parent_kind kind) {
    static const char *const names[] = {
        [IMG_PARENT_UNKNOWN] = "unknown", [IMG_PARENT_NONE] = "none", [IMG_PARENT_SNAPSHOT] = "snapshot"};
    return names[kind];
}

/* "kind", and "id" and "name" where it is a snapshot. */
static json_t *parent_json(const struct img_parent *parent) {
    json_t *o = json_new_object();
    json_put_text(o, "kind", kind_name(parent->kind));
    if (parent->kind == IMG_PARENT_SNAPSHOT) {
        json_put_text(o, "id", parent->id);
        json_put_text(o, "name", parent->name);
    }
    return o;
}

static void print_name(const char *id, const char *name) {
    print_text(stdout, id);
    putchar(' ');
    print_text(stdout, name);
}

static void print_parent(const struct img_parent *parent) {
    if (parent->kind == IMG_PARENT_SNAPSHOT)
        print_name(parent->id, parent->name);
    else
        printf("%s", kind_name(parent->kind));
    putchar('\n');
}

static int show_parent(const struct show *s, const char *id) {
    struct img_parent parent;
    if (!parent_of(s, id, &parent))
        return EXIT_FAILURE;
    if (s->json)
        json_print(parent_json(&parent));
    else
        print_parent(&parent);
    return EXIT_SUCCESS;
}

/* ---- info ---- */

static bool show_one(const struct show *s, const struct img_snapshot_info *snapshot, json_t *list) {
    struct img_parent parent;
    struct img_info one = s->info;
    if (!parent_of(s, snapshot->id, &parent))
        return false;
    one.snapshots = snapshot;
    one.nsnapshots = 1;
    if (list) {
        json_t *described = describe_snapshots_json(&one), *entry = json_array_get(described, 0);
        json_put_number(entry, "disk-size", snapshot->disk_size);
        json_put(entry, "parent", parent_json(&parent));
        json_add(list, json_incref(entry));
        json_decref(described);
        return true;
    }
    describe_snapshots(stdout, &one);
    printf("disk size: %" PRIu64 " bytes\nparent: ", snapshot->disk_size);
    print_parent(&parent);
    return true;
}

static int show_info(const struct show *s, char *const *names, int n) {
    const struct img_snapshot_info *first = s->info.snapshots, *end = first + s->info.nsnapshots;
    if (n == 1) {
        first = find(s, names[0]);
        if (!first)
            return EXIT_FAILURE;
        end = first + 1;
    }
    json_t *list = s->json ? json_new_array() : NULL;
    bool good = true;
    for (const struct img_snapshot_info *snapshot = first; good && snapshot < end; snapshot++)
        good = show_one(s, snapshot, list);
    if (good && list)
        json_print(json_incref(n == 1 ? json_array_get(list, 0) : list));
    if (list)
        json_decref(list);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- tree ---- */

/* The active state is the node behind the last snapshot. Children are found by a list. */
struct node {
    enum img_parent_kind kind;
    size_t parent, first_child, next; /* numbers; NOBODY */
    bool shown;
};
#define NOBODY SIZE_MAX

static bool make_nodes(const struct show *s, struct node *nodes, size_t n) {
    for (size_t i = n; i-- > 0;) { /* so that children are in the order of the table */
        struct img_parent parent;
        if (!parent_of(s, i + 1 < n ? s->info.snapshots[i].id : NULL, &parent))
            return false;
        nodes[i].kind = parent.kind;
        nodes[i].parent = NOBODY;
        for (size_t k = 0; parent.kind == IMG_PARENT_SNAPSHOT && k + 1 < n; k++)
            if (s->info.snapshots[k].id == parent.id)
                nodes[i].parent = k;
        if (nodes[i].parent == NOBODY)
            continue;
        nodes[i].next = nodes[nodes[i].parent].first_child;
        nodes[nodes[i].parent].first_child = i;
    }
    return true;
}

static void print_node(const struct show *s, struct node *nodes, size_t i, size_t depth) {
    printf("%*s", (int)(depth < MAX_INDENT ? depth : MAX_INDENT) * 2, "");
    if (depth > MAX_INDENT)
        printf("(%zu) ", depth);
    if (i < s->info.nsnapshots)
        print_name(s->info.snapshots[i].id, s->info.snapshots[i].name);
    else
        printf("* active state");
    printf("%s\n", depth == 0 && nodes[i].kind != IMG_PARENT_NONE ? " (parent unknown)" : "");
    nodes[i].shown = true;
}

/* Goes down to the first child, on to the next, and up; without recursion, as a chain may be long. */
static void print_branch(const struct show *s, struct node *nodes, size_t root) {
    size_t at = root, depth = 0;
    for (;;) {
        if (!nodes[at].shown)
            print_node(s, nodes, at, depth);
        if (nodes[at].first_child != NOBODY) {
            size_t child = nodes[at].first_child;
            nodes[at].first_child = nodes[child].next;
            if (nodes[child].shown)
                continue; /* an image that lies has made a circle */
            at = child;
            depth++;
        } else if (at != root) {
            at = nodes[at].parent;
            depth--;
        } else {
            return;
        }
    }
}

static json_t *tree_json(const struct show *s, const struct node *nodes, size_t n) {
    json_t *o = json_new_object(), *list = json_new_array();
    for (size_t i = 0; i < n; i++) {
        json_t *entry = i + 1 < n ? json_new_object() : o;
        const struct img_snapshot_info *p = nodes[i].parent == NOBODY ? NULL : &s->info.snapshots[nodes[i].parent];
        struct img_parent parent = {nodes[i].kind, p ? p->id : NULL, p ? p->name : NULL};
        if (i + 1 < n) {
            json_put_text(entry, "id", s->info.snapshots[i].id);
            json_put_text(entry, "name", s->info.snapshots[i].name);
        }
        json_put(entry, i + 1 < n ? "parent" : "current", parent_json(&parent));
        if (i + 1 < n)
            json_add(list, entry);
    }
    json_put(o, "snapshots", list);
    return o;
}

static int show_tree(const struct show *s) {
    size_t n = s->info.nsnapshots + 1;
    struct node *nodes = memory(n, sizeof(*nodes));
    for (size_t i = 0; i < n; i++)
        nodes[i] = (struct node){.first_child = NOBODY, .next = NOBODY, .parent = NOBODY};
    bool good = make_nodes(s, nodes, n);
    if (good && s->json) {
        json_print(tree_json(s, nodes, n));
    } else if (good) {
        for (size_t i = 0; i < n; i++)
            if (nodes[i].parent == NOBODY)
                print_branch(s, nodes, i);
        for (size_t i = 0; i < n; i++)
            if (!nodes[i].shown)
                print_branch(s, nodes, i);
    }
    free(nodes);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- diff ---- */

struct diff {
    bool json, any;
};

static int print_range(void *opaque, uint64_t start, uint64_t length) {
    struct diff *d = opaque;
    if (d->json)
        printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64 "}", d->any ? ",\n" : "", start, length);
    else
        printf("%#-16" PRIx64 "%#" PRIx64 "\n", start, length);
    d->any = true;
    return ferror(stdout);
}

static int show_diff(const struct show *s, char *const *names, int n) {
    struct img_error err = {0};
    struct diff d = {.json = s->json};
    for (int i = 0; i < n; i++)
        if (!find(s, names[i]))
            return EXIT_FAILURE;
    printf(d.json ? "[" : "Offset          Length\n");
    if (img_snapshot_diff(s->image, names[0], n > 1 ? names[1] : NULL, print_range, &d, &err) < 0) {
        report_image_error(&err, "Could not compare the states of '%s'", s->args->file);
        return EXIT_FAILURE;
    }
    if (d.json)
        printf("]\n");
    return EXIT_SUCCESS;
}

/* ---- verbs ---- */

static int verb_info(const struct show *s) {
    return show_info(s, s->args->rest, s->args->nrest);
}
static int verb_current(const struct show *s) {
    return show_parent(s, NULL);
}
static int verb_parent(const struct show *s) {
    const struct img_snapshot_info *snapshot = find(s, s->args->rest[0]);
    return snapshot ? show_parent(s, snapshot->id) : EXIT_FAILURE;
}
static int verb_diff(const struct show *s) {
    return show_diff(s, s->args->rest, s->args->nrest);
}

static const struct verb {
    const char *name;
    int least, most; /* names behind the file's */
    int (*run)(const struct show *);
} verbs[] = {
    {"info", 0, 1, verb_info}, {"current", 0, 0, verb_current}, {"parent", 1, 1, verb_parent},
    {"tree", 0, 0, show_tree}, {"diff", 1, 2, verb_diff},
};

static const struct verb *find_verb(const char *word) {
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcmp(verbs[i].name, word) == 0)
            return &verbs[i];
    return NULL;
}

bool snapshot_is_verb(const char *word) {
    return find_verb(word) != NULL;
}

int snapshot_show(const struct snapshot_args *a) {
    const struct verb *verb = find_verb(a->verb);
    struct show s = {.args = a, .json = a->common.output == OUTPUT_JSON};
    struct img_error err = {0};
    if (a->nrest < verb->least)
        usage_error("'%s' needs the name of a snapshot behind the file's", verb->name);
    if (a->nrest > verb->most)
        usage_error("'%s' takes no '%s'", verb->name, a->rest[verb->most]);
    s.image = snapshot_open(a, IMG_OPEN_INFO);
    if (!s.image)
        return EXIT_FAILURE;
    int status = EXIT_FAILURE;
    if (strcmp(img_format(s.image), "qcow2") != 0)
        report("'%s' has the format %s, which has no snapshots", a->file, img_format(s.image));
    else if (img_info(s.image, &s.info, &err) < 0)
        report_image_error(&err, "Could not list the snapshots of '%s'", a->file);
    else
        status = verb->run(&s);
    img_close(s.image, NULL);
    return status;
}
