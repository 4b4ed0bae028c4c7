/* SPDX-License-Identifier: GPL-3.0-or-later */
/* guest_session.c - from the options to a guest whose files can be read: disks, sandbox, volumes, mounts (guest.h).
 *
 * The order is the point: whatever needs a path, a socket or a right comes before the sandbox, and whatever looks at
 * bytes that a guest could have written comes behind it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "domain.h"
#include "fs/inspect/inspect.h"
#include "guest.h"
#include "report.h"
#include "sandbox.h"

static struct img *open_disk(const struct guest_options *o, const struct guest_disk *disk, unsigned flags) {
    struct img_open_options options = {
        .flags = flags & SESSION_WRITE ? IMG_OPEN_WRITE
                 : o->force_share      ? IMG_OPEN_FORCE_SHARE
                                       : 0,
        .format = disk->format,
        .snapshot = o->snapshot,
    };
    /* A tool of libguestfs reads a disk that is in use, whatever that shows; so do those of its names. */
    if (!(flags & SESSION_WRITE) && !o->force_share && report_as_virt_tool()) {
        struct img_error err = {0};
        struct img *image;
        if (img_open(disk->path, &options, &image, &err) == 0)
            return image;
        if (err.code == -EAGAIN) {
            report("%s is in use: what is shown may be out of date or inconsistent", disk->path);
            options.flags |= IMG_OPEN_FORCE_SHARE;
        }
    }
    return open_image_as(disk->path, false, &options);
}

static bool open_disks(struct session *session, unsigned flags) {
    const struct guest_options *o = session->options;
    for (size_t i = 0; i < o->ndisks; i++) {
        struct img_error err = {0};
        struct img *image = open_disk(o, &o->disks[i], flags);
        if (!image)
            return false;
        session->images[session->nimages] = image;
        enum disk_access access = flags & SESSION_WRITE     ? DISK_WRITE
                                  : flags & SESSION_DRY_RUN ? DISK_PRETEND
                                                            : DISK_READ;
        if (device_of_image(image, o->disks[i].sector_size, access, &session->devices[i], &err) < 0) {
            report_guest_error(&err);
            img_close(image, NULL);
            return false;
        }
        session->nimages++;
    }
    return true;
}

/* struct volume_keys: the keys for this device, by its name or UUID, or for all. */
static int find_key(void *opaque, const char *name, const char *uuid, size_t nth, struct img_key *key) {
    const struct guest_options *o = opaque;
    for (size_t i = 0; i < o->nkeys; i++) {
        const struct key_option *k = &o->keys[i];
        if (strcmp(k->id, "all") != 0 && strcmp(k->id, name) != 0 && strcasecmp(k->id, uuid) != 0)
            continue;
        if (nth-- == 0) {
            *key = (struct img_key){.bytes = k->key, .length = k->length};
            return 0;
        }
    }
    return -ENOKEY;
}

static void say_what_could_be_mounted(const struct session *session) {
    report("Did you mean to mount one of these filesystems?");
    for (size_t i = 0; i < volumes_count(session->volumes); i++) {
        const struct volume *volume = volumes_get(session->volumes, i);
        if (volume->content.kind == PROBE_FILESYSTEM)
            report("\t%s (%s)", volume->name, volume->content.type);
    }
}

static bool mount_one(struct session *session, const struct mount_option *wish, const struct fs_open_options *options) {
    struct img_error err = {0};
    struct volume *volume = volumes_find(session->volumes, wish->device);
    if (volume && guest_mount(session->guest, volume, wish->path, options, &err) == 0)
        return true;
    report("%s could not be mounted: %s", wish->device, volume ? err.text : "No such device");
    say_what_could_be_mounted(session);
    return false;
}

/* What is mounted first is what others are mounted in. */
static int by_length_of_path(const void *a, const void *b) {
    size_t x = strlen(((const struct mount_option *)a)->path), y = strlen(((const struct mount_option *)b)->path);
    return (x > y) - (x < y);
}

static void warn_of_mount(void *opaque, const char *sentence) {
    (void)opaque;
    report("%s", sentence);
}

/* The one system on the disks, and what its fstab says. */
static bool mount_system(struct session *session, const struct inspection *found,
                         const struct fs_open_options *options) {
    struct img_error err = {0};
    if (found->nroots > 1) {
        report("multi-boot operating systems are not supported");
        for (size_t i = 0; i < found->nroots; i++)
            report("  %s (%s)", found->roots[i].volume->name,
                   found->roots[i].product_name ? found->roots[i].product_name : found->roots[i].type);
        return false;
    }
    if (found->nroots == 0) {
        report("no operating system was found on this disk");
        for (size_t i = 0; i < found->nmessages; i++)
            report("%s", found->messages[i]);
        return false;
    }
    if (inspect_mount(&found->roots[0], session->volumes, options, warn_of_mount, NULL, &session->guest, &err) == 0)
        return true;
    session->guest = NULL;
    report_guest_error(&err);
    return false;
}

static bool inspect_and_mount(struct session *session, const struct fs_open_options *options) {
    struct inspection *found;
    struct img_error err = {0};
    if (inspect(session->volumes, &found, &err) < 0) {
        report_guest_error(&err);
        return false;
    }
    bool good = mount_system(session, found, options);
    inspect_free(found);
    return good;
}

static bool mount_all(struct session *session, unsigned flags) {
    struct guest_options *o = session->options;
    const struct fs_open_options options = {.write = flags & (SESSION_WRITE | SESSION_DRY_RUN),
                                            .dry_run = flags & SESSION_DRY_RUN};
    struct img_error err = {0};
    if (o->nmounts == 0)
        return inspect_and_mount(session, &options);
    if (guest_create(session->volumes, &session->guest, &err) < 0) {
        report_guest_error(&err);
        return false;
    }
    qsort(o->mounts, o->nmounts, sizeof(o->mounts[0]), by_length_of_path);
    for (size_t i = 0; i < o->nmounts; i++)
        if (!mount_one(session, &o->mounts[i], &options))
            return false;
    return true;
}

void report_warning(const struct volume *volume, const struct fs *fs) {
    if (fs->warning)
        report("%s: %s", volume->name, fs->warning);
}

void report_warnings(const struct guest *guest) {
    const struct guest_mount *mounts;
    size_t count = guest_mounts(guest, &mounts);
    for (size_t i = 0; i < count; i++) {
        size_t first = 0;
        while (mounts[first].fs != mounts[i].fs)
            first++;
        if (first == i)
            report_warning(mounts[i].volume, mounts[i].fs);
    }
}

static bool options_are_complete(const struct guest_options *o) {
    if (o->format_unused)
        report("--format parameter must appear before -a parameter");
    else if (o->sector_size_unused)
        report("--blocksize parameter must appear before -a parameter");
    else if (o->ndisks == 0)
        report("you must specify at least one -a or -d option");
    else
        return true;
    return false;
}

static bool may_write(const struct guest_options *o, unsigned flags) {
    if (!(flags & SESSION_WRITE) || (!o->read_only && !o->force_share))
        return true;
    report(o->read_only ? "--ro: the disks would have to be written"
                        : "-U is for reading: a disk that another program has open is not written");
    return false;
}

/* Everything that needs the rights of a process that is not in the sandbox. */
static struct session *prepare(struct guest_options *options, unsigned flags) {
    if (options->domain && options->ndisks == 0 && !domain_add_disks(options, options->domain))
        return NULL;
    if (!options_are_complete(options) || !may_write(options, flags))
        return NULL;
    struct img_error err = {0};
    if (options->nkeys > 0 && volumes_prepare(&err) < 0) {
        report_guest_error(&err);
        return NULL;
    }
    struct session *session = memory(1, sizeof(*session));
    session->options = options;
    if (open_disks(session, flags))
        return session;
    session_close(session);
    return NULL;
}

/* ... and what needs none. */
static bool look(struct session *session, unsigned flags) {
    struct img_error err = {0};
    struct volume_keys keys = {.find = find_key, .opaque = session->options};
    if (volumes_open(session->devices, session->nimages, &keys, &session->volumes, &err) < 0) {
        report_guest_error(&err);
        return false;
    }
    for (size_t i = 0; session->options->verbose && volumes_message(session->volumes, i); i++)
        report("%s", volumes_message(session->volumes, i));
    if (flags & SESSION_VOLUMES)
        return true;
    if (!mount_all(session, flags))
        return false;
    report_warnings(session->guest);
    return true;
}

bool sessions_open(struct guest_options *options, size_t count, unsigned flags, struct session **sessions) {
    bool good = true;
    size_t opened = 0;
    for (; good && opened < count; opened += good) {
        sessions[opened] = prepare(&options[opened], flags);
        good = sessions[opened] != NULL;
        if (!good)
            guest_options_free(&options[opened]);
    }
    good = good && (options->no_sandbox || sandbox_enter());
    for (size_t i = 0; good && i < count; i++)
        good = look(sessions[i], flags);
    while (!good && opened > 0)
        session_close(sessions[--opened]);
    return good;
}

struct session *session_open(struct guest_options *options, unsigned flags) {
    struct session *session;
    return sessions_open(options, 1, flags, &session) ? session : NULL;
}

bool session_close(struct session *session) {
    bool good = true;
    guest_close(session->guest);
    volumes_close(session->volumes);
    for (size_t i = 0; i < session->nimages; i++) {
        struct img_error err = {0};
        if (img_close(session->images[i], &err) < 0) {
            report("%s: %s", session->options->disks[i].path, err.text);
            good = false;
        }
    }
    guest_options_free(session->options);
    free(session);
    return good;
}

char *session_name(const struct session *session) {
    const struct guest_options *o = session->options;
    if (o->domain && !strchr(o->domain, '/'))
        return text_copy(o->domain);
    const char *path = o->disks[0].path, *slash = strrchr(path, '/');
    return text_format("%s%s", slash ? slash + 1 : path, o->ndisks > 1 ? "+" : "");
}

void report_guest_error(const struct img_error *err) {
    report_sentence(err);
}
