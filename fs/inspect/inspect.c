/* SPDX-License-Identifier: GPL-3.0-or-later */
/* inspect.c - the inspection as a whole, and the guest that comes of it (inspect.h). */
#include "inspect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "parts.h"

#define ROOTS_MAX 256

static void free_root(struct inspect_root *root) {
    for (size_t i = 0; i < root->nmounts; i++)
        free(root->mounts[i].path);
    free(root->mounts);
    free(root->product_name);
    free(root->product_variant);
    free(root->hostname);
    free(root->build_id);
    free(root->windows_systemroot);
}

void inspect_free(struct inspection *inspection) {
    if (!inspection)
        return;
    for (size_t i = 0; i < inspection->nroots; i++)
        free_root(&inspection->roots[i]);
    for (size_t i = 0; i < inspection->nmessages; i++)
        free(inspection->messages[i]);
    free(inspection->roots);
    free(inspection->messages);
    free(inspection);
}

static int add_message(struct inspection *inspection, const struct volume *volume, const char *sentence,
                       struct img_error *err) {
    char **messages = realloc(inspection->messages, (inspection->nmessages + 1) * sizeof(messages[0]));
    if (!messages)
        return fail_no_memory(err);
    inspection->messages = messages;
    if (asprintf(&messages[inspection->nmessages], "%s: %s", volume->name, sentence) < 0)
        return fail_no_memory(err);
    inspection->nmessages++;
    return 0;
}

/* A /usr of its own has what tells the system apart; without it a root knows little of itself. */
static void mount_usr(struct guest *guest, const struct inspect_root *root) {
    for (size_t i = 0; i < root->nmounts; i++)
        if (strcmp(root->mounts[i].path, "/usr") == 0)
            (void)!guest_mount(guest, root->mounts[i].volume, "/usr", NULL, NULL);
}

static int examine_root(struct guest *guest, struct volumes *volumes, struct inspect_root *root,
                        struct img_error *err) {
    int ret = inspect_fstab(guest, volumes, root, err);
    if (ret < 0)
        return ret;
    mount_usr(guest, root);
    ret = inspect_release(guest, root);
    if (ret == 0)
        ret = inspect_hostname(guest, root);
    if (ret < 0)
        return fail(err, ret, "Out of memory");
    inspect_arch(guest, root);
    inspect_distro(guest, root);
    return 0;
}

static int add_root(struct inspection *inspection, const struct inspect_root *root, struct img_error *err) {
    struct inspect_root *roots = realloc(inspection->roots, (inspection->nroots + 1) * sizeof(roots[0]));
    if (!roots)
        return fail_no_memory(err);
    inspection->roots = roots;
    roots[inspection->nroots++] = *root;
    return 0;
}

/* Looks into one filesystem with nothing else around it. */
static int look_into(struct inspection *inspection, struct volumes *volumes, struct volume *volume,
                     struct img_error *err) {
    struct guest *guest;
    struct inspect_root root = {.volume = volume};
    struct img_error inner = {0};
    int ret = guest_create(volumes, &guest, err);
    if (ret < 0)
        return ret;
    if (guest_mount(guest, volume, "/", NULL, &inner) < 0)
        ret = volume->content.kind == PROBE_FILESYSTEM ? add_message(inspection, volume, inner.text, err) : 0;
    else if (inspect_role(guest, &root) == ROLE_ROOT) {
        ret = examine_root(guest, volumes, &root, err);
        if (ret == 0)
            ret = add_root(inspection, &root, err);
        if (ret < 0)
            free_root(&root);
    } else
        free_root(&root);
    guest_close(guest);
    return ret;
}

int inspect(struct volumes *volumes, struct inspection **inspection, struct img_error *err) {
    struct volume **list;
    size_t count;
    struct inspection *found = calloc(1, sizeof(*found));
    if (!found)
        return fail_no_memory(err);
    int ret = inspect_filesystems(volumes, &list, &count, err);
    if (ret < 0) {
        free(found);
        return ret;
    }
    for (size_t i = 0; i < count && ret == 0 && found->nroots < ROOTS_MAX; i++)
        if (list[i]->content.kind != PROBE_SWAP)
            ret = look_into(found, volumes, list[i], err);
    free(list);
    if (ret < 0)
        inspect_free(found);
    else
        *inspection = found;
    return ret;
}

/* ---- mounting ---- */

static int by_path(const void *a, const void *b) {
    return strcmp((*(const struct inspect_mount *const *)a)->path, (*(const struct inspect_mount *const *)b)->path);
}

/* Without the lines that nothing is mounted for; a mount point comes before what lies below it. */
static size_t sorted_mounts(const struct inspect_root *root, const struct inspect_mount **sorted) {
    size_t count = 0;
    for (size_t i = 0; i < root->nmounts; i++)
        if (root->mounts[i].path[0] == '/' && root->mounts[i].volume->content.kind != PROBE_SWAP)
            sorted[count++] = &root->mounts[i];
    qsort(sorted, count, sizeof(sorted[0]), by_path);
    return count;
}

struct mounting {
    struct guest *guest;
    const struct fs_open_options *options;
    inspect_warn_call warn;
    void *opaque;
};

static void warn_of_mount(const struct mounting *m, const struct inspect_mount *mount, bool reading,
                          const struct img_error *err) {
    char sentence[sizeof(err->text) + 192];
    snprintf(sentence, sizeof(sentence), "%.64s is %s on %.48s%s: %s", mount->volume->name,
             reading ? "mounted" : "not mounted", mount->path, reading ? " for reading only" : "", err->text);
    if (m->warn)
        m->warn(m->opaque, sentence);
}

/* One that is not the root, as well as it can be had. Where changes are wanted, they must not go to the directory below
 * it instead. */
static void mount_if_possible(const struct mounting *m, const struct inspect_mount *mount) {
    bool writes = m->options && m->options->write;
    struct img_error err = {0};
    int ret = guest_mount(m->guest, mount->volume, mount->path, m->options, &err);
    if (ret == 0)
        return;
    bool reading = writes && ret == -EROFS && guest_mount(m->guest, mount->volume, mount->path, NULL, NULL) == 0;
    warn_of_mount(m, mount, reading, &err);
    if (writes && !reading) {
        char why[192];
        snprintf(why, sizeof(why), "%.64s, which is mounted there, could not be", mount->volume->name);
        (void)!guest_bar(m->guest, mount->volume, mount->path, why,
                         NULL); /* without a mount point there is no way in */
    }
}

int inspect_mount(const struct inspect_root *root, struct volumes *volumes, const struct fs_open_options *options,
                  inspect_warn_call warn, void *opaque, struct guest **guest, struct img_error *err) {
    const struct inspect_mount **sorted = calloc(root->nmounts + 1, sizeof(sorted[0]));
    if (!sorted)
        return fail_no_memory(err);
    int ret = guest_create(volumes, guest, err);
    size_t count = ret == 0 ? sorted_mounts(root, sorted) : 0;
    for (size_t i = 0; i < count && ret == 0; i++) {
        const struct mounting mounting = {*guest, options, warn, opaque};
        struct img_error inner = {0};
        if (strcmp(sorted[i]->path, "/") != 0)
            mount_if_possible(&mounting, sorted[i]);
        else if ((ret = guest_mount(*guest, sorted[i]->volume, "/", options, &inner)) < 0) {
            fail(err, ret, "%s: %s", sorted[i]->volume->name, inner.text);
            guest_close(*guest);
        }
    }
    free(sorted);
    return ret;
}
