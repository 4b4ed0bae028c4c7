/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_ntfs.c - NTFS where ntfs-3g's mount is no help: names in another case, errors, what Windows left behind, the
 * bounds that the library is held to. What a volume shows is compared in tests/cli/ntfs.t.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/ntfs/ntfs.h"
#include "fs/vfs.h"
#include "scratch.h"

/* behind cmocka */
#include "image_util.h"

#define VOLUME_BYTES (8u << 20)

static struct img *image;
static struct device *device;
static struct fs *fs;

static void open_volume(void) {
    struct img_open_options options = {.format = "raw"};
    assert_int_equal(img_open("volume", &options, &image, &err), 0);
    assert_int_equal(device_of_image(image, 512, DISK_READ, &device, &err), 0);
    if (fs_open(device, NULL, &fs, &err) < 0)
        fs = NULL;
}

static void close_volume(void) {
    fs_close(fs);
    device_close(device);
    img_close(image, NULL);
    fs = NULL;
}

/* Every test begins with a volume that has two files. */
static int set_up(void **state) {
    enter_folder(state);
    sh("truncate -s %u volume && mkntfs -q -F -f -L label volume >/dev/null 2>&1", VOLUME_BYTES);
    sh("printf content >content; ntfscp -q -f volume content 'Long Name.txt' && ntfscp -q -f volume content plain");
    return 0;
}

static int tear_down(void **state) {
    close_volume();
    device = NULL;
    image = NULL;
    return leave_folder(state);
}

static int look_up(const char *name, uint64_t *ino) {
    return fs->ops->lookup(fs, fs->root, name, strlen(name), ino, &err);
}

static void names(void **state) {
    uint64_t ino = 0, other;
    (void)state;
    open_volume();
    assert_non_null(fs);
    assert_int_equal(look_up("Long Name.txt", &ino), 0);
    static const char *const same[] = {"long name.txt", "LONG NAME.TXT", "lONG nAME.tXT"};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(look_up(same[i], &other), 0);
        assert_int_equal(other, ino);
    }
    static const char *const none[] = {"", "long name", "long name.txt ", ".", "..", "\xff\xff", "nosuch"};
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(look_up(none[i], &other), -ENOENT);
    char long_name[FS_NAME_MAX + 100];
    memset(long_name, 'a', sizeof(long_name));
    assert_int_equal(fs->ops->lookup(fs, fs->root, long_name, 256, &other, &err), -ENOENT);
    assert_int_equal(fs->ops->lookup(fs, fs->root, long_name, sizeof(long_name), &other, &err), -ENOENT);
    /* the files of NTFS itself are found */
    assert_int_equal(look_up("$MFT", &other), 0);
    assert_int_equal(other, 0);
}

static int ignore_entry(void *opaque, const struct fs_entry *entry) {
    (void)opaque, (void)entry;
    return 0;
}

static int stop_at_entry(void *opaque, const struct fs_entry *entry) {
    (void)entry;
    return ++*(int *)opaque == 2 ? -ECANCELED : 0;
}

static void errors(void **state) {
    uint64_t ino, start, length;
    struct fs_stat stat;
    char buffer[100];
    size_t got;
    int seen = 0;
    (void)state;
    open_volume();
    assert_int_equal(look_up("plain", &ino), 0);
    assert_int_equal(fs->ops->list(fs, ino, ignore_entry, NULL, &err), -ENOTDIR);
    assert_int_equal(fs->ops->lookup(fs, ino, "a", 1, &ino, &err), -ENOTDIR);
    assert_int_equal(fs->ops->read(fs, fs->root, buffer, 1, 0, &got, &err), -EISDIR);
    assert_int_equal(fs->ops->readlink(fs, ino, buffer, 1, &got, &err), -EINVAL);
    assert_int_equal(fs->ops->stat(fs, 1 << 20, &stat, &err), -ENOENT);
    assert_int_equal(fs->ops->stat(fs, UINT64_MAX, &stat, &err), -ENOENT);
    assert_int_equal(fs->ops->next_data(fs, ino, 7, &start, &length, &err), -ENXIO);
    assert_int_equal(fs->ops->next_data(fs, ino, 3, &start, &length, &err), 0);
    assert_int_equal(start, 3);
    assert_int_equal(length, 4);
    assert_int_equal(fs->ops->list(fs, fs->root, stop_at_entry, &seen, &err), -ECANCELED);
    assert_int_equal(seen, 2);
    struct fs_open_options options = {.write = true};
    struct fs *other;
    assert_int_equal(fs_open(device, &options, &other, &err), -EROFS);
}

/* Two files in turn, and a look at others in between. */
static void one_file_after_another(void **state) {
    uint64_t plain, other;
    char buffer[10];
    size_t got;
    struct fs_stat stat;
    (void)state;
    open_volume();
    assert_int_equal(look_up("plain", &plain), 0);
    assert_int_equal(look_up("long name.txt", &other), 0);
    for (unsigned i = 0; i < 7; i++) {
        assert_int_equal(fs->ops->read(fs, plain, buffer, 1, i, &got, &err), 0);
        assert_int_equal(fs->ops->read(fs, other, buffer + 1, 1, 6 - i, &got, &err), 0);
        assert_int_equal(buffer[0], "content"[i]);
        assert_int_equal(buffer[1], "content"[6 - i]);
        assert_int_equal(fs->ops->stat(fs, i % 2 ? plain : other, &stat, &err), 0);
        assert_int_equal(stat.size, 7);
    }
}

static void warnings(void **state) {
    (void)state;
    open_volume();
    assert_null(fs->warning);
    close_volume();
    /* the dirty flag of $VOLUME_INFORMATION: type 0x70, resident, 12 bytes */
    size_t size;
    uint8_t *bytes = load_file("volume", &size);
    static const uint8_t attribute[] = {0x70, 0, 0, 0, 0x28, 0, 0, 0, 0};
    unsigned found = 0;
    for (size_t i = 0; i + 64 < size; i += 8) {
        if (memcmp(bytes + i, attribute, sizeof(attribute)) == 0) {
            uint8_t flags[2] = {1, 0};
            patch_file("volume", i + bytes[i + 20] + 10, flags, 2);
            found++;
        }
    }
    free(bytes);
    assert_int_equal(found, 2); /* $MFT and its mirror */
    open_volume();
    assert_non_null(fs);
    assert_non_null(strstr(fs->warning, "journal"));
    close_volume();
    sh("(printf hibr; head -c 9000 /dev/zero) >hibr; ntfscp -q -f volume hibr hiberfil.sys");
    open_volume();
    assert_non_null(strstr(fs->warning, "hibernated"));
}

static void cut_off(void **state) {
    struct probe probe;
    (void)state;
    sh("truncate -s %u volume", VOLUME_BYTES / 2);
    open_volume();
    assert_null(fs);
    assert_int_equal(err.code, -EUCLEAN);
    fs_probe(device, &probe);
    assert_string_equal(probe.type, "ntfs");
    assert_string_equal(probe.label, "label");
}

/* Where in the volume the attribute of a type begins in the record of a file. */
static size_t attribute_at(const uint8_t *volume, uint64_t ino, uint8_t type) {
    size_t record = ((size_t)volume[0x30] * volume[0x0d] * 512) + ino * 1024;
    assert_memory_equal(volume + record, "FILE", 4);
    size_t at = record + volume[record + 0x14];
    while (volume[at] != type && volume[at] != 0xff)
        at += volume[at + 4];
    assert_int_equal(volume[at], type);
    return at;
}

static void numbers(void **state) {
    static const uint8_t early[8] = {1, 0, 0, 0, 0, 0, 0, 0x81}, long_one[8] = {0, 0, 1};
    uint64_t ino = 0, start, length;
    size_t size;
    struct fs_stat stat;
    (void)state;
    sh("head -c 10000 /dev/zero | tr '\\0' x >content; ntfscp -q -f volume content large");
    open_volume();
    assert_int_equal(look_up("large", &ino), 0);
    close_volume();
    uint8_t *bytes = load_file("volume", &size);
    size_t times = attribute_at(bytes, ino, 0x10), data = attribute_at(bytes, ino, 0x80);
    patch_file("volume", times + bytes[times + 0x14], early, 8);
    patch_file("volume", data + 0x38, long_one, 8); /* initialised: more bytes than the file has, and its clusters */
    free(bytes);
    open_volume();
    assert_int_equal(fs->ops->stat(fs, ino, &stat, &err), 0);
    assert_true(stat.btime.seconds < 0 && stat.btime.nanoseconds == 0 && stat.mtime.seconds > 1700000000);
    assert_int_equal(stat.size, 10000);
    int ret = fs->ops->next_data(fs, ino, 0, &start, &length, &err);
    assert_true(ret < 0 || start + length <= 10000);
}

static void bounds(void **state) {
    struct ntfs_device library = {0};
    char buffer[64];
    (void)state;
    /* the library's allocations are ours */
    assert_ptr_equal(dlsym(RTLD_DEFAULT, "ntfs_malloc"), (void *)ntfs_malloc);
    assert_ptr_equal(dlsym(RTLD_DEFAULT, "ntfs_calloc"), (void *)ntfs_calloc);
    assert_null(ntfs_malloc(1ull << 32));
    assert_null(ntfs_calloc(SIZE_MAX));
    open_volume();
    struct ntfs *ntfs = (struct ntfs *)fs;
    library.d_private = ntfs;
    uint64_t saved = ntfs_begin(ntfs, 100);
    assert_int_equal(ntfs_supply.pread(&library, buffer, 64, VOLUME_BYTES - 10), 10);
    assert_int_equal(ntfs_supply.pread(&library, buffer, 64, VOLUME_BYTES + 10), 0);
    assert_int_equal(ntfs_supply.pread(&library, buffer, 64, -1), -1);
    assert_int_equal(ntfs_supply.pread(&library, buffer, 64, 0), 64);
    assert_int_equal(ntfs_supply.pread(&library, buffer, 64, 0), -1);
    assert_int_equal(ntfs_error(ntfs, 5, &err), -EUCLEAN);
    assert_non_null(strstr(err.text, "file 5 wants to be read more often"));
    ntfs_end(ntfs, saved);
    assert_int_equal(ntfs_supply.pwrite(&library, buffer, 64, 0), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(errors, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_file_after_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(warnings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cut_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(numbers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bounds, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
