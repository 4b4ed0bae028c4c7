/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fsdump.c - everything that fs/ sees in one filesystem, a line for each file: what tests/guest/tree.py prints of a
 * kernel mount, so that the two can be compared.
 *
 *   fsdump [-o OFFSET] [-l LENGTH] [-b SECTOR] [-f FORMAT] [-n] [-s|-p] DISK
 *   fsdump -v VOLUME [-k KEY] [-b SECTOR] [-f FORMAT] [-n] [-s|-p] DISK...
 *
 * -o, -l: the bytes of the disk in which the filesystem lies; -v: the volume of these disks in which it lies, -k: the
 * passphrase of what is encrypted there; -n: no contents are read; -s: only what
 * `stat -f -c '%S %b %f %a %c %d'` prints of a mount, and a line with the type, replayed or not, the warning; -p: only
 * what `blkid -p -o value` prints of type, label and UUID, each in a line.
 *
 * A line: PATH MODE NLINK UID GID SIZE MTIME RDEV [SHA256] [-> TARGET] [NAME=HEX ...], with bytes of names that are not
 * letters, digits or one of ._/- as \xNN. Each directory's names are sorted by their bytes.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/vfs.h"
#include "fs/volume/volume.h"
#include "img.h"

#define MAX_DEPTH 2000
#define MOST_DISKS 16

static bool contents = true;

static void stop(const char *what, const struct img_error *err) {
    fflush(stdout);
    fprintf(stderr, "fsdump: %s: %s\n", what, err->text);
    exit(EXIT_FAILURE);
}

static void print_bytes(const char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("._/-", c)))
            putchar(c);
        else
            printf("\\x%02x", c);
    }
}

struct entry {
    char *name;
    size_t length;
    uint64_t ino;
};

struct names {
    struct entry *list;
    size_t count, room;
};

static int gather(void *opaque, const struct fs_entry *entry) {
    struct names *names = opaque;
    if (names->count == names->room) {
        names->room = names->room ? 2 * names->room : 64;
        names->list = realloc(names->list, names->room * sizeof(names->list[0]));
        if (!names->list)
            abort();
    }
    names->list[names->count++] = (struct entry){strndup(entry->name, entry->length), entry->length, entry->ino};
    return 0;
}

static int by_bytes(const void *a, const void *b) {
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static void print_contents(struct fs *fs, const struct fs_stat *stat, const char *path) {
    static unsigned char buffer[1 << 20];
    struct img_error err = {0};
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_length;
    uint64_t at = 0;
    size_t got;
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    do {
        if (fs->ops->read(fs, stat->ino, buffer, sizeof(buffer), at, &got, &err) < 0)
            stop(path, &err);
        EVP_DigestUpdate(hash, buffer, got);
        at += got;
    } while (got == sizeof(buffer));
    if (at != stat->size)
        printf(" READ=%" PRIu64, at);
    EVP_DigestFinal_ex(hash, digest, &digest_length);
    EVP_MD_CTX_free(hash);
    putchar(' ');
    for (unsigned i = 0; i < digest_length; i++)
        printf("%02x", digest[i]);
}

static void print_target(struct fs *fs, uint64_t ino, const char *path) {
    char target[4096];
    size_t length;
    struct img_error err = {0};
    if (fs->ops->readlink(fs, ino, target, sizeof(target), &length, &err) < 0)
        stop(path, &err);
    printf(" -> ");
    print_bytes(target, length < sizeof(target) ? length : sizeof(target));
}

struct attributes {
    char *list[4096];
    size_t count;
};

static int gather_attribute(void *opaque, const char *name, const void *value, size_t length) {
    struct attributes *attributes = opaque;
    if (attributes->count == sizeof(attributes->list) / sizeof(attributes->list[0]))
        return -E2BIG;
    char *text = malloc(strlen(name) + 2 * length + 2);
    if (!text)
        abort();
    char *end = stpcpy(stpcpy(text, name), "=");
    for (size_t i = 0; i < length; i++)
        end += sprintf(end, "%02x", ((const unsigned char *)value)[i]);
    attributes->list[attributes->count++] = text;
    return 0;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void print_attributes(struct fs *fs, uint64_t ino, const char *path) {
    static struct attributes attributes;
    struct img_error err = {0};
    attributes.count = 0;
    if (fs->ops->xattrs && fs->ops->xattrs(fs, ino, gather_attribute, &attributes, &err) < 0)
        stop(path, &err);
    qsort(attributes.list, attributes.count, sizeof(attributes.list[0]), by_text);
    for (size_t i = 0; i < attributes.count; i++) {
        printf(" %s", attributes.list[i]);
        free(attributes.list[i]);
    }
}

static void print_file(struct fs *fs, uint64_t ino, const char *path, struct fs_stat *stat) {
    struct img_error err = {0};
    if (fs->ops->stat(fs, ino, stat, &err) < 0)
        stop(path, &err);
    print_bytes(path, strlen(path));
    printf(" %o %u %u %u %" PRIu64 " %" PRId64 ".%09u %u:%u", stat->mode, stat->nlink, stat->uid, stat->gid,
           S_ISDIR(stat->mode) ? 0 : stat->size, stat->mtime.seconds, stat->mtime.nanoseconds, stat->rdev_major,
           stat->rdev_minor);
    if (S_ISREG(stat->mode) && contents)
        print_contents(fs, stat, path);
    if (S_ISLNK(stat->mode))
        print_target(fs, ino, path);
    print_attributes(fs, ino, path);
    putchar('\n');
}

static void walk(struct fs *fs, uint64_t ino, const char *path, unsigned depth) {
    struct names names = {0};
    struct img_error err = {0};
    struct fs_stat stat;
    print_file(fs, ino, path, &stat);
    if (!S_ISDIR(stat.mode) || depth > MAX_DEPTH)
        return;
    if (fs->ops->list(fs, ino, gather, &names, &err) < 0)
        stop(path, &err);
    if (names.count > 0)
        qsort(names.list, names.count, sizeof(names.list[0]), by_bytes);
    for (size_t i = 0; i < names.count; i++) {
        struct entry *entry = &names.list[i];
        uint64_t found;
        char *below;
        if (asprintf(&below, "%s/%s", strcmp(path, "/") == 0 ? "" : path, entry->name) < 0)
            abort();
        if (fs->ops->lookup(fs, ino, entry->name, entry->length, &found, &err) < 0)
            stop(below, &err);
        if (found != entry->ino)
            printf("LOOKUP=%" PRIu64 " LIST=%" PRIu64 " ", found, entry->ino);
        walk(fs, entry->ino, below, depth + 1);
        free(below);
        free(entry->name);
    }
    free(names.list);
}

static void print_space(struct fs *fs) {
    struct img_error err = {0};
    struct fs_space space;
    if (fs->ops->space(fs, &space, &err) < 0)
        stop("space", &err);
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", space.block_size, space.blocks,
           space.blocks_free, space.blocks_available, space.inodes, space.inodes_free);
    printf("%s%s: %s\n", fs->type, fs->replayed ? ", replayed" : "", fs->warning ? fs->warning : "no warning");
}

static void print_fs(struct device *device, const char *name, bool space) {
    struct img_error err = {0};
    struct fs *fs;
    if (fs_open(device, NULL, &fs, &err) < 0)
        stop(name, &err);
    if (space)
        print_space(fs);
    else
        walk(fs, fs->root, "/", 0);
    fs_close(fs);
}

static void print_probe(struct device *device) {
    struct probe probe;
    fs_probe(device, &probe);
    printf("%s\n%s\n%s\n", probe.type, probe.label, probe.uuid);
}

struct question {
    struct img_open_options open;
    uint64_t offset, length;
    unsigned sector;
    const char *volume, *key;
    bool space, probe;
};

static int find_key(void *opaque, const char *name, const char *uuid, size_t nth, struct img_key *key) {
    const struct question *question = opaque;
    (void)name, (void)uuid;
    if (nth > 0 || !question->key)
        return -ENOKEY;
    *key = (struct img_key){question->key, strlen(question->key)};
    return 0;
}

static void answer(const struct question *question, struct device *device, const char *name) {
    if (question->probe)
        print_probe(device);
    else
        print_fs(device, name, question->space);
}

static void of_range(const struct question *question, struct device *disk, const char *name) {
    struct img_error err = {0};
    struct device *device;
    if (device_of_range(disk, question->offset, question->length ? question->length : disk->size - question->offset,
                        &device, &err) < 0)
        stop(name, &err);
    answer(question, device, name);
    device_close(device);
    device_close(disk);
}

static void of_volume(struct question *question, struct device **disks, size_t ndisks) {
    struct volume_keys keys = {.find = find_key, .opaque = question};
    struct img_error err = {0};
    struct volumes *volumes;
    if (volumes_open(disks, ndisks, &keys, &volumes, &err) < 0)
        stop(question->volume, &err);
    struct volume *volume = volumes_find(volumes, question->volume);
    if (!volume || !volume->device) {
        snprintf(err.text, sizeof(err.text), "%s",
                 volume && volume->trouble ? volume->trouble : "There is no such volume");
        stop(question->volume, &err);
    }
    answer(question, volume->device, question->volume);
    volumes_close(volumes);
}

static bool take_option(struct question *question, int option, const char *value) {
    if (option == 'o')
        question->offset = strtoull(value, NULL, 0);
    else if (option == 'l')
        question->length = strtoull(value, NULL, 0);
    else if (option == 'b')
        question->sector = (unsigned)strtoul(value, NULL, 0);
    else if (option == 'f')
        question->open.format = value;
    else if (option == 'v')
        question->volume = value;
    else if (option == 'k')
        question->key = value;
    else if (option == 'n')
        contents = false;
    else if (option == 's')
        question->space = true;
    else if (option == 'p')
        question->probe = true;
    else
        return false;
    return true;
}

int main(int argc, char **argv) {
    struct question question = {.sector = 512};
    struct img_error err = {0};
    struct img *images[MOST_DISKS];
    struct device *disks[MOST_DISKS];
    size_t ndisks = 0;
    int opt;
    while ((opt = getopt(argc, argv, "o:l:b:f:v:k:nsp")) != -1)
        if (!take_option(&question, opt, optarg))
            return EXIT_FAILURE;
    if (optind >= argc || argc - optind > (question.volume ? MOST_DISKS : 1))
        return EXIT_FAILURE;
    for (; optind < argc; optind++, ndisks++)
        if (img_open(argv[optind], &question.open, &images[ndisks], &err) < 0 ||
            device_of_image(images[ndisks], question.sector, DISK_READ, &disks[ndisks], &err) < 0)
            stop(argv[optind], &err);
    if (question.volume)
        of_volume(&question, disks, ndisks);
    else
        of_range(&question, disks[0], argv[argc - 1]);
    while (ndisks > 0)
        img_close(images[--ndisks], NULL);
    return EXIT_SUCCESS;
}
