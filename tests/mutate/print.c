// SPDX-License-Identifier: GPL-3.0-or-later
/* print.c - everything that the tool tells of a disk, as one number: volumes, files with all that they have, how full
 * filesystems are, which system is inside and what is installed. An error is told as well, and then what comes behind
 * it, where a tool would have stopped.
 *
 * Held: an error has a sentence and a number that agree; nothing lacks memory; a file gives no more than its size.
 */
#include "mutate.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/guest.h"
#include "fs/inspect/inspect.h"
#include "fs/packages/packages.h"
#include "fs/volume/volume.h"

#define READ_MOST                                                                                                      \
    (256u << 10) /* bytes of one file that are read in a row; what lies behind is tried here and there                 \
                  */
#define RANGES_MOST 24
#define VISITS_MOST 1000 /* behind an error */
#define DEPTH_MOST 40
#define SAMPLE 4096u /* bytes, of so many places of a volume: */
#define SAMPLES 24u

static uint64_t sum;
static bool shown;

static void add(const void *bytes, size_t count) {
    const uint8_t *p = bytes;
    uint64_t word;
    for (; count >= sizeof(word); p += sizeof(word), count -= sizeof(word)) {
        memcpy(&word, p, sizeof(word));
        sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        sum ^= sum >> 29;
    }
    word = count;
    memcpy(&word, p, count < 7 ? count : 7);
    sum = (sum ^ word ^ (uint64_t)count << 56) * UINT64_C(0x9e3779b97f4a7c15);
    sum ^= sum >> 29;
}

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    char line[2000];
    va_list args;
    va_start(args, format);
    int count = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    size_t length = count < 0 ? 0 : (size_t)count < sizeof(line) ? (size_t)count : sizeof(line) - 1;
    add(line, length);
    if (shown)
        printf("%s\n", line);
}

static _Noreturn void broken(const char *what, int ret, const struct img_error *err) {
    fprintf(stderr, "%s gives %d, and says %d '%s'\n", what, ret, err->code, err->text);
    abort();
}

/* Tells an error; true: there is none. */
static bool fine(const char *what, const char *of, int ret, const struct img_error *err) {
    if (ret >= 0)
        return true;
    if (err->code != ret || !err->text[0] || strchr(err->text, '\n') || ret == -ENOMEM)
        broken(what, ret, err);
    say("%s %s: %s", what, of, err->text);
    return false;
}

/* ---- one file ---- */

static size_t read_at(const struct guest_node *node, const struct fs_stat *stat, uint64_t at, bool *ok) {
    static uint8_t buffer[64 << 10];
    struct img_error err = {0};
    size_t got = 0;
    int ret = node->fs->ops->read(node->fs, node->ino, buffer, sizeof(buffer), at, &got, &err);
    *ok = fine("read", "", ret, &err);
    if (*ok && (got > sizeof(buffer) || (got > 0 && (at > stat->size || got > stat->size - at)) ||
                (got < sizeof(buffer) && at < stat->size && got < stat->size - at)))
        broken("the count of bytes read", (int)got, &err);
    if (*ok)
        add(buffer, got);
    return *ok ? got : 0;
}

static void read_ranges(const struct guest_node *node, const struct fs_stat *stat) {
    uint64_t at = 0, start, length;
    bool ok;
    for (unsigned i = 0; i < RANGES_MOST && node->fs->ops->next_data; i++, at = start + length) {
        struct img_error err = {0};
        int ret = node->fs->ops->next_data(node->fs, node->ino, at, &start, &length, &err);
        if (ret == -ENXIO || !fine("next_data", "", ret, &err))
            return;
        if (start < at || length == 0 || start + length < start || start + length > stat->size)
            broken("a range of data", (int)i, &err);
        say("data %" PRIu64 "+%" PRIu64, start, length);
        if (start >= READ_MOST)
            read_at(node, stat, start, &ok);
    }
}

static void read_file(const struct guest_node *node, const struct fs_stat *stat) {
    bool ok = true;
    size_t got = 1;
    for (uint64_t at = 0; ok && got > 0 && at < stat->size && at < READ_MOST; at += got)
        got = read_at(node, stat, at, &ok);
    read_ranges(node, stat);
    if (stat->size > READ_MOST)
        read_at(node, stat, stat->size - 100, &ok);
}

static int take_attribute(void *opaque, const char *name, const void *value, size_t length) {
    (void)opaque;
    say("  %s, %zu", name, length);
    add(value, length);
    return 0;
}

static void print_file(const struct guest_node *node, const char *path, const struct fs_stat *s) {
    struct img_error err = {0};
    char *target = NULL;
    say("%s %" PRIu64 " %o %u %u %u %u:%u %" PRIu64 " %" PRIu64 " %" PRId64 ".%u %" PRId64 ".%u %" PRId64 ".%u", path,
        s->ino, s->mode, s->nlink, s->uid, s->gid, s->rdev_major, s->rdev_minor, s->size, s->blocks, s->atime.seconds,
        s->atime.nanoseconds, s->mtime.seconds, s->mtime.nanoseconds, s->ctime.seconds, s->ctime.nanoseconds);
    if (node->fs->ops->xattrs)
        fine("xattrs", path, node->fs->ops->xattrs(node->fs, node->ino, take_attribute, NULL, &err), &err);
    if (S_ISREG(s->mode))
        read_file(node, s);
    if (S_ISLNK(s->mode) && fine("readlink", path, guest_readlink(node, &target, &err), &err))
        say("  -> %s", target);
    free(target);
}

/* ---- a tree ---- */

static int visit(void *opaque, const struct guest_visit *visit) {
    (void)opaque;
    print_file(&visit->node, visit->path, &visit->stat);
    return GUEST_GO_ON;
}

static unsigned visits_left;

/* What a walk that met an error has not seen, each directory by itself. */
static void print_rest(struct guest *guest, const struct guest_node *dir, unsigned depth) {
    struct guest_names names = {0};
    struct img_error err = {0};
    fine("list", "", guest_list(dir, &names, &err), &err);
    for (size_t i = 0; i < names.count && visits_left > 0; i++) {
        struct guest_node node;
        struct fs_stat stat;
        const char *name = names.list[i].name;
        visits_left--;
        err = (struct img_error){0};
        if (!fine("step", name, guest_step(guest, dir, name, strlen(name), &node, &err), &err) ||
            !fine("stat", name, guest_stat(&node, &stat, &err), &err))
            continue;
        print_file(&node, name, &stat);
        if (S_ISDIR(stat.mode) && depth < DEPTH_MOST)
            print_rest(guest, &node, depth + 1);
    }
    guest_names_free(&names);
}

static void print_tree(struct guest *guest) {
    struct guest_node root;
    struct fs_stat stat;
    struct fs_space space;
    struct img_error err = {0};
    if (!fine("resolve", "/", guest_resolve(guest, "/", true, &root, &err), &err))
        return;
    say("replayed %d, %s", root.fs->replayed, root.fs->warning ? root.fs->warning : "no warning");
    if (fine("space", "", root.fs->ops->space(root.fs, &space, &err), &err))
        say("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, space.block_size, space.blocks,
            space.blocks_free, space.blocks_available, space.inodes, space.inodes_free);
    if (!fine("stat", "/", guest_stat(&root, &stat, &err), &err))
        return;
    visits_left = VISITS_MOST;
    if (!fine("walk", "", guest_walk(guest, &root, visit, NULL, &err), &err) && S_ISDIR(stat.mode))
        print_rest(guest, &root, 0);
}

static void print_filesystem(struct volumes *volumes, struct volume *volume) {
    struct guest *guest;
    struct img_error err = {0};
    if (!fine("guest", "", guest_create(volumes, &guest, &err), &err))
        return;
    if (fine("mount", volume->name, guest_mount(guest, volume, "/", NULL, &err), &err))
        print_tree(guest);
    guest_close(guest);
}

/* ---- volumes ---- */

static void print_bytes(const struct volume *v) {
    static uint8_t buffer[SAMPLE];
    uint64_t step = v->size > SAMPLE ? (v->size - SAMPLE) / SAMPLES + 1 : 1;
    for (uint64_t at = 0; at < v->size; at += step) {
        struct img_error err = {0};
        size_t count = v->size - at < SAMPLE ? (size_t)(v->size - at) : SAMPLE;
        if (!fine("bytes", v->name, device_read(v->device, buffer, count, at, &err), &err))
            break;
        add(buffer, count);
        if (v->size <= SAMPLE)
            break;
    }
}

static void print_volume(const struct volume *v) {
    if (!v->name || !v->content.type || (!v->device && v->kind != VOLUME_GROUP && !v->trouble))
        abort();
    say("%s %d %" PRIu64 " %s %u %02x %d %d %" PRIu64, v->name, v->kind, v->size, v->uuid, v->number, v->mbr_type,
        v->extended, v->active, v->start);
    say("  %s %s %s %s %08x %s %d", v->type_uuid, v->part_uuid, v->part_label, v->table ? v->table : "-",
        v->mbr_signature, v->table_uuid, v->divided);
    say("  %d %" PRIu64 " %s %s %s '%s' %s", v->is_pv, v->pv_size, v->pv_uuid, v->trouble ? v->trouble : "-",
        v->content.type, v->content.label, v->content.uuid);
    for (size_t i = 0; i < v->nparents; i++)
        say("  on %s", v->parents[i]->name);
}

static bool whole_disk_contents(const struct volume *v) {
    return v->kind == VOLUME_DISK && v->content.kind == PROBE_FILESYSTEM;
}

/* ---- the system inside ---- */

static void say_sentence(void *opaque, const char *sentence) {
    (void)opaque;
    say("warning: %s", sentence);
}

static void print_packages(struct volumes *volumes, const struct inspect_root *root) {
    struct guest *guest;
    struct packages packages = {0};
    struct img_error err = {0};
    if (!fine("mounts", "", inspect_mount(root, volumes, NULL, say_sentence, NULL, &guest, &err), &err))
        return;
    if (root->package_format && fine("packages", "", packages_list(guest, root->package_format, &packages, &err), &err))
        for (size_t i = 0; i < packages.count; i++)
            say("%s %s", packages.list[i].fields[PACKAGE_NAME], packages.list[i].fields[PACKAGE_VERSION]);
    packages_free(&packages);
    guest_close(guest);
}

static void print_inspection(struct volumes *volumes) {
    struct inspection *inspection;
    struct img_error err = {0};
    if (!fine("inspect", "", inspect(volumes, &inspection, &err), &err))
        return;
    for (size_t i = 0; i < inspection->nmessages; i++)
        say("%s", inspection->messages[i]);
    for (size_t i = 0; i < inspection->nroots; i++) {
        const struct inspect_root *r = &inspection->roots[i];
        say("%s: %s %s %s %s %s %s %u.%u", r->volume->name, r->type ? r->type : "", r->distro ? r->distro : "",
            r->arch ? r->arch : "", r->product_name ? r->product_name : "", r->hostname ? r->hostname : "", r->osinfo,
            r->major, r->minor);
        for (size_t k = 0; k < r->nmounts; k++)
            say("  %s %s", r->mounts[k].path, r->mounts[k].volume->name);
        print_packages(volumes, r);
    }
    inspect_free(inspection);
}

/* ---- all ---- */

static int find_key(void *opaque, const char *name, const char *uuid, size_t nth, struct img_key *key) {
    (void)opaque, (void)name, (void)uuid;
    *key = (struct img_key){PASSPHRASE, strlen(PASSPHRASE)};
    return nth == 0 ? 0 : -ENOKEY;
}

uint64_t print_all(struct base *base, bool show) {
    struct device *devices[DISKS_MOST];
    struct volume_keys keys = {.find = find_key, .work = 20000};
    struct volumes *volumes;
    struct img_error err = {0};
    sum = 1;
    shown = show;
    for (unsigned i = 0; i < base->ndisks; i++)
        devices[i] = &base->disks[i].device;
    if (!fine("volumes", "", volumes_open(devices, base->ndisks, &keys, &volumes, &err), &err))
        return sum;
    for (size_t i = 0; i < volumes_count(volumes); i++)
        print_volume(volumes_get(volumes, i));
    for (size_t i = 0; volumes_message(volumes, i); i++)
        say("%s", volumes_message(volumes, i));
    bool recording = base_recording();
    if (base->divided)
        base_record(false);
    for (size_t i = 0; i < volumes_count(volumes); i++) {
        struct volume *v = volumes_get(volumes, i);
        if (v->device && v->kind != VOLUME_DISK)
            print_bytes(v);
        if (v->device && (v->content.kind == PROBE_FILESYSTEM || base->ndisks == 1) && !v->divided &&
            (v->kind != VOLUME_DISK || whole_disk_contents(v)))
            print_filesystem(volumes, v);
    }
    print_inspection(volumes);
    base_record(recording);
    volumes_close(volumes);
    return sum;
}
