/* SPDX-License-Identifier: GPL-3.0-or-later */
/* volumes.c - the set of volumes, the table of schemes, and the scan that lets each scheme see what others have found
 * (volume.h).
 *
 * A volume is added behind all that it lies on, so the set is closed from its end, and what is still to be looked at is
 * a tail of the list. Every addition counts against VOLUMES_MOST and every volume is looked at once, so the scan ends.
 */
#include "volume.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"

#define MESSAGES_MOST 64
#define WORK_BUDGET (UINT64_C(256) << 20)

#define VOLUME_SCHEME(name) extern const struct volume_scheme name##_scheme;
#include "schemes.def"
#undef VOLUME_SCHEME

static const struct volume_scheme *const schemes[] = {
#define VOLUME_SCHEME(name) &name##_scheme,
#include "schemes.def"
#undef VOLUME_SCHEME
};
#define NSCHEMES (sizeof(schemes) / sizeof(schemes[0]))

struct volumes {
    struct volume **list;
    size_t count, room;
    const struct volume_keys *keys;
    uint64_t work_left;
    char *messages[MESSAGES_MOST];
    size_t nmessages;
};

size_t volumes_count(const struct volumes *volumes) {
    return volumes->count;
}

struct volume *volumes_get(const struct volumes *volumes, size_t index) {
    return volumes->list[index];
}

const struct volume_keys *volumes_keys(const struct volumes *volumes) {
    return volumes->keys;
}

bool volumes_spend(struct volumes *volumes, uint64_t units) {
    if (units > volumes->work_left)
        return false;
    volumes->work_left -= units;
    return true;
}

/* ---- what the scan has to say ---- */

const char *volumes_message(const struct volumes *volumes, size_t index) {
    return index < volumes->nmessages ? volumes->messages[index] : NULL;
}

void volumes_note(struct volumes *volumes, const char *format, ...) {
    va_list args;
    char *text;
    if (volumes->nmessages == MESSAGES_MOST)
        return;
    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0)
        return;
    for (size_t i = 0; i < volumes->nmessages; i++) {
        if (strcmp(volumes->messages[i], text) == 0) { /* said the last time, too */
            free(text);
            return;
        }
    }
    volumes->messages[volumes->nmessages++] = text;
}

void volume_trouble(struct volume *volume, const char *format, ...) {
    va_list args;
    if (volume->trouble)
        return;
    va_start(args, format);
    if (vasprintf(&volume->trouble, format, args) < 0)
        volume->trouble = NULL;
    va_end(args);
}

/* ---- adding ---- */

static void free_volume(struct volume *volume) {
    device_close(volume->device);
    free(volume->name);
    free(volume->parents);
    free(volume->trouble);
    free(volume);
}

static bool make_room(struct volumes *volumes) {
    if (volumes->count < volumes->room)
        return true;
    size_t room = volumes->room ? 2 * volumes->room : 16;
    struct volume **list = realloc(volumes->list, room * sizeof(struct volume *));
    if (!list)
        return false;
    volumes->list = list;
    volumes->room = room;
    return true;
}

int volume_add_parent(struct volume *volume, struct volume *parent, struct img_error *err) {
    for (size_t i = 0; i < volume->nparents; i++)
        if (volume->parents[i] == parent)
            return 0;
    struct volume **parents = realloc(volume->parents, (volume->nparents + 1) * sizeof(struct volume *));
    if (!parents)
        return fail_no_memory(err);
    parents[volume->nparents++] = parent;
    volume->parents = parents;
    if (volume->depth <= parent->depth)
        volume->depth = parent->depth + 1;
    return 0;
}

static struct volume *new_volume(enum volume_kind kind, const char *name, struct volume *parent) {
    struct volume *volume = calloc(1, sizeof(*volume));
    if (!volume)
        return NULL;
    volume->kind = kind;
    volume->name = strdup(name);
    volume->content.type = "";
    if (volume->name && (!parent || volume_add_parent(volume, parent, NULL) == 0))
        return volume;
    free_volume(volume);
    return NULL;
}

int volumes_add(struct volumes *volumes, enum volume_kind kind, const char *name, struct device *device,
                struct volume *parent, struct volume **volume, struct img_error *err) {
    struct volume *made = NULL;
    int ret = 0;
    *volume = NULL;
    if (volumes->count == VOLUMES_MOST)
        ret = fail(err, -E2BIG, "There are more than %d volumes, the next one being %s", VOLUMES_MOST, name);
    else if (!make_room(volumes) || !(made = new_volume(kind, name, parent)))
        ret = fail_no_memory(err);
    if (ret < 0) {
        device_close(device);
        return ret;
    }
    if (device) {
        made->device = device;
        made->size = device->size;
        fs_probe(device, &made->content);
    }
    volumes->list[volumes->count++] = made;
    *volume = made;
    return 0;
}

bool volume_holds(const struct volume *volume, const char *type) {
    return volume->device && !volume->divided && !volume->extended && strcmp(volume->content.type, type) == 0;
}

/* ---- the scan ---- */

static int look_at(struct volumes *volumes, struct volume *volume, struct img_error *err) {
    int ret = 0;
    if (volume->depth > VOLUME_DEPTH_MOST)
        volumes_note(volumes, "%s lies on more than %d others and is not looked into", volume->name, VOLUME_DEPTH_MOST);
    for (size_t i = 0; i < NSCHEMES && ret == 0; i++) {
        if (!volume->device || volume->divided || volume->extended || volume->depth > VOLUME_DEPTH_MOST)
            break;
        if (schemes[i]->look)
            ret = schemes[i]->look(volumes, volume, err);
    }
    return ret;
}

static int gather(struct volumes *volumes, bool last, struct img_error *err) {
    int ret = 0;
    size_t before = volumes->count;
    for (size_t i = 0; i < NSCHEMES && ret == 0 && volumes->count == before; i++)
        if (schemes[i]->gather)
            ret = schemes[i]->gather(volumes, last, err);
    return ret;
}

static int scan(struct volumes *volumes, struct img_error *err) {
    size_t looked = 0, before;
    int ret = 0;
    bool last = false, more = true;
    while (more && ret == 0) {
        while (looked < volumes->count && ret == 0)
            ret = look_at(volumes, volumes->list[looked++], err);
        before = volumes->count;
        if (ret == 0)
            ret = gather(volumes, last, err);
        more = volumes->count > before || !last;
        last = volumes->count == before;
    }
    return ret;
}

/* "a" for 0, "z" for 25, "aa" for 26 */
static void letters(size_t index, char out[8]) {
    char reversed[8];
    size_t n = 0;
    for (index++; index > 0 && n < sizeof(reversed) - 1; index = (index - 1) / 26)
        reversed[n++] = (char)('a' + (index - 1) % 26);
    for (size_t i = 0; i < n; i++)
        out[i] = reversed[n - 1 - i];
    out[n] = '\0';
}

static int add_disks(struct volumes *volumes, struct device **disks, size_t ndisks, struct img_error *err) {
    int ret = 0;
    for (size_t i = 0; i < ndisks; i++) {
        struct volume *volume;
        char number[8], name[16];
        letters(i, number);
        snprintf(name, sizeof(name), "/dev/sd%s", number);
        if (ret == 0)
            ret = volumes_add(volumes, VOLUME_DISK, name, disks[i], NULL, &volume, err);
        else
            device_close(disks[i]);
    }
    return ret;
}

int volumes_prepare(struct img_error *err) {
    int ret = 0;
    for (size_t i = 0; i < NSCHEMES && ret == 0; i++)
        if (schemes[i]->prepare)
            ret = schemes[i]->prepare(err);
    return ret;
}

int volumes_open(struct device **disks, size_t ndisks, const struct volume_keys *keys, struct volumes **volumes,
                 struct img_error *err) {
    struct volumes *set = calloc(1, sizeof(*set));
    *volumes = NULL;
    if (!set) {
        for (size_t i = 0; i < ndisks; i++)
            device_close(disks[i]);
        return fail_no_memory(err);
    }
    set->keys = keys;
    set->work_left = keys && keys->work ? keys->work : WORK_BUDGET;
    int ret = add_disks(set, disks, ndisks, err);
    if (ret == 0)
        ret = scan(set, err);
    set->keys = NULL; /* nobody asks any more, and who was asked may go */
    if (ret < 0)
        volumes_close(set);
    else
        *volumes = set;
    return ret;
}

void volumes_close(struct volumes *volumes) {
    if (!volumes)
        return;
    while (volumes->count > 0)
        free_volume(volumes->list[--volumes->count]);
    while (volumes->nmessages > 0)
        free(volumes->messages[--volumes->nmessages]);
    free(volumes->list);
    free(volumes);
}
