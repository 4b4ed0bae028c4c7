/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_fat_write.c - FAT volumes that are changed: random operations beside a model of names and contents, fsck.vfat
 * and mtools as judges of what is on the disk; and every place at which the writes of a commit could be cut off.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/fat/fat.h"
#include "fs/vfs_write.h"
#include "scratch.h"

/* behind cmocka */
#include "image_util.h"

extern const struct fs_driver fat_driver;

/* ---- a device in memory that remembers its writes ---- */

struct write {
    uint64_t offset; /* UINT64_MAX: a flush */
    size_t count;
    uint8_t *bytes;
};

static struct {
    struct device device;
    uint8_t *bytes, *before; /* now; when the log began */
    struct write *log;
    size_t count, room;
    bool logging;
} disk;

static struct fs *fs;

static void log_write(uint64_t offset, const void *bytes, size_t count) {
    if (!disk.logging)
        return;
    if (disk.count == disk.room) {
        disk.room = disk.room ? 2 * disk.room : 256;
        disk.log = realloc(disk.log, disk.room * sizeof(*disk.log));
        assert_non_null(disk.log);
    }
    disk.log[disk.count++] = (struct write){offset, count, count ? memcpy(malloc(count), bytes, count) : NULL};
}

static int disk_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *error) {
    (void)device, (void)error;
    memcpy(buffer, disk.bytes + offset, count);
    return 0;
}

static int disk_write(struct device *device, const void *buffer, size_t count, uint64_t offset,
                      struct img_error *error) {
    (void)device, (void)error;
    memcpy(disk.bytes + offset, buffer, count);
    log_write(offset, buffer, count);
    return 0;
}

static int disk_flush(struct device *device, struct img_error *error) {
    (void)device, (void)error;
    log_write(UINT64_MAX, NULL, 0);
    return 0;
}

static const struct device_ops disk_ops = {.read = disk_read, .write = disk_write, .flush = disk_flush};

static void begin_log(void) {
    for (size_t i = 0; i < disk.count; i++)
        free(disk.log[i].bytes);
    disk.count = 0;
    free(disk.before);
    disk.before = malloc(disk.device.size);
    assert_non_null(disk.before);
    memcpy(disk.before, disk.bytes, disk.device.size);
    disk.logging = true;
}

static void open_disk(bool write) {
    struct probe probe;
    struct fs_open_options options = {.write = write};
    fs_close(fs);
    fs = NULL;
    assert_int_equal(fat_driver.probe(&disk.device, &probe), 0);
    if (fat_driver.open(&disk.device, &probe, &options, &fs, &err) < 0)
        fail_msg("%s", err.text);
}

/* A volume of mkfs.vfat, "volume" in the test's folder. */
static void make_disk(const char *options, unsigned kib) {
    size_t size;
    sh("rm -f volume && mkfs.vfat -C %s volume %u >/dev/null 2>&1", options, kib);
    free(disk.bytes);
    disk.bytes = load_file("volume", &size);
    disk.device = (struct device){.ops = &disk_ops, .size = size, .sector_size = 512, .writable = true};
    disk.logging = false;
    open_disk(true);
}

static void save(const uint8_t *bytes) {
    FILE *f = fopen("volume", "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, disk.device.size, f), disk.device.size);
    assert_int_equal(fclose(f), 0);
}

static int leave(void **state) {
    fs_close(fs);
    fs = NULL;
    for (size_t i = 0; i < disk.count; i++)
        free(disk.log[i].bytes);
    free(disk.log);
    free(disk.bytes);
    free(disk.before);
    memset(&disk, 0, sizeof(disk));
    return leave_folder(state);
}

/* ---- short words for the operations ---- */

static uint64_t find(uint64_t dir, const char *name) {
    uint64_t ino;
    return fs->ops->lookup(fs, dir, name, strlen(name), &ino, &err) == 0 ? ino : 0;
}

static int create(uint64_t dir, const char *name, uint32_t mode, bool replace, uint64_t *ino) {
    struct fs_new file = {
        .mode = mode, .replace = replace, .mtime = {.seconds = 1700000001}, .atime = {.seconds = 1700000000}};
    return fs->write_ops->create(fs, dir, name, strlen(name), &file, ino, &err);
}

static int append(uint64_t ino, const void *bytes, size_t count, uint64_t offset) {
    return fs->write_ops->append(fs, ino, bytes, count, offset, &err);
}

static int unlink_name(uint64_t dir, const char *name) {
    return fs->write_ops->unlink(fs, dir, name, strlen(name), &err);
}

static int rename_name(uint64_t dir, const char *name, uint64_t new_dir, const char *new_name) {
    return fs->write_ops->rename(fs, dir, name, strlen(name), new_dir, new_name, strlen(new_name), &err);
}

static void commit(void) {
    if (fs->write_ops->commit(fs, &err) < 0)
        fail_msg("%s", err.text);
}

static struct fs_stat stat_of(uint64_t ino) {
    struct fs_stat stat;
    assert_int_equal(fs->ops->stat(fs, ino, &stat, &err), 0);
    return stat;
}

static void put_file(uint64_t dir, const char *name, const char *text) {
    uint64_t ino;
    assert_int_equal(create(dir, name, S_IFREG | 0644, true, &ino), 0);
    assert_int_equal(append(ino, text, strlen(text), 0), 0);
}

static void expect_file(uint64_t dir, const char *name, const char *text) {
    char buffer[100];
    size_t got;
    uint64_t ino = find(dir, name);
    assert_int_not_equal(ino, 0);
    assert_int_equal(fs->ops->read(fs, ino, buffer, sizeof(buffer), 0, &got, &err), 0);
    assert_int_equal(got, strlen(text));
    assert_memory_equal(buffer, text, got);
}

static void check_disk(void) {
    save(disk.bytes);
    sh("fsck.vfat -n volume >fsck 2>&1 || { cat fsck; exit 1; }");
}

/* ---- names ---- */

static void names(void **state) {
    static const char *const good[] = {"UPPER.TXT",
                                       "lower.txt",
                                       "Mixed.Txt",
                                       "a.b.c.d",
                                       ".hidden",
                                       "with space",
                                       "plus+[equ]",
                                       "ünï-日本-😀.txt",
                                       "tail.ext4",
                                       "exactly13char",
                                       "exactly26characters-in-name",
                                       "x"};
    static const char *const bad[] = {"",     "a/b",  "a:b",    "a*",   "a?",   "a\"",  "a<",       "a>",          "a|",
                                      "a\\b", "dot.", "blank ", "\x01", "\x7f", "\xff", "\xc0\x80", "\xed\xa0\x80"};
    char text[800];
    uint64_t ino;
    (void)state;
    make_disk("-F 16 -s 1", 3000);
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        put_file(1, good[i], good[i]);
        assert_int_equal(create(1, good[i], S_IFREG, false, &ino), -EEXIST);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_int_equal(create(1, bad[i], S_IFREG, false, &ino), -EINVAL);
    memset(text, 'n', 256);
    text[256] = 0;
    assert_int_equal(create(1, text, S_IFREG, false, &ino), -EINVAL);
    text[255] = 0;
    put_file(1, text, "long");
    assert_int_equal(create(1, "fifo", S_IFIFO, false, &ino), -EPERM);
    for (unsigned i = 0; i < 60; i++) {
        snprintf(text, sizeof(text), "the same beginning %u.text", i);
        put_file(1, text, text);
    }
    commit();
    check_disk();
    open_disk(false);
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        expect_file(1, good[i], good[i]);
    for (unsigned i = 0; i < 60; i++) {
        snprintf(text, sizeof(text), "THE SAME BEGINNING %u.text", i);
        assert_int_not_equal(find(1, text), 0);
    }
    sh("MTOOLS_SKIP_CHECK=1 mtype -i volume '::Mixed.Txt' | grep -qx Mixed.Txt");
    sh("MTOOLS_SKIP_CHECK=1 LC_ALL=C.UTF-8 mdir -b -i volume | grep -q 'the same beginning 59.text'");
}

static void attributes_and_errors(void **state) {
    uint64_t file, dir, inner, other;
    (void)state;
    make_disk("-F 16 -s 1", 3000);
    assert_int_equal(create(1, "file", S_IFREG | 0444, false, &file), 0);
    assert_int_equal(create(1, "dir", S_IFDIR | 0755, false, &dir), 0);
    assert_int_equal(create(dir, "inner", S_IFDIR | 0755, false, &inner), 0);
    assert_int_equal(stat_of(file).mode, S_IFREG | 0555);
    assert_int_equal(stat_of(file).mtime.seconds, 1700000000);
    struct fs_attributes set = {.set = FS_SET_ALL, .mode = 0600, .mtime = {.seconds = -5}, .atime = {.seconds = 1e12}};
    assert_int_equal(fs->write_ops->set_attributes(fs, file, &set, &err), 0);
    assert_int_equal(stat_of(file).mode, S_IFREG | 0755);
    assert_int_equal(stat_of(file).mtime.seconds, 315532800);
    assert_int_equal(stat_of(file).atime.seconds, 4354732800);
    assert_int_equal(fs->write_ops->set_xattr(fs, file, "user.a", "b", 1, &err), -ENOTSUP);
    assert_int_equal(fs->write_ops->link(fs, 1, "l", 1, file, &err), -EPERM);
    assert_int_equal(unlink_name(1, "dir"), -ENOTEMPTY);
    assert_int_equal(unlink_name(1, "nosuch"), -ENOENT);
    assert_int_equal(rename_name(1, "nosuch", 1, "a"), -ENOENT);
    assert_int_equal(rename_name(1, "file", 1, "dir"), -EISDIR);
    assert_int_equal(rename_name(1, "dir", 1, "file"), -ENOTDIR);
    assert_int_equal(rename_name(1, "dir", inner, "below"), -EINVAL);
    assert_int_equal(create(file, "a", S_IFREG, false, &other), -ENOTDIR);
    assert_int_equal(append(dir, "a", 1, 0), -EINVAL);
    assert_int_equal(append(file, "abc", 3, 0), 0);
    assert_int_equal(append(file, "a", 1, 1), -EINVAL);
    assert_int_equal(append(file, "a", 1, UINT32_MAX), -EFBIG);
    assert_int_equal(fs->write_ops->set_size(fs, file, 2, &err), -EINVAL);
    assert_int_equal(rename_name(dir, "inner", 1, "moved"), 0);
    assert_int_equal(rename_name(1, "file", 1, "FILE"), 0);
    commit();
    check_disk();
    open_disk(false);
    assert_int_equal(stat_of(1).nlink, 4);
    expect_file(1, "file", "abc");
    assert_int_equal(fs->write_ops == NULL, 1);
    disk.device.writable = false;
    struct fs_open_options options = {.write = true};
    struct fs *none;
    struct probe probe;
    fat_driver.probe(&disk.device, &probe);
    assert_int_equal(fat_driver.open(&disk.device, &probe, &options, &none, &err), -EROFS);
}

/* ---- a model ---- */

#define FILES 40
#define MOST (200u << 10)

struct model {
    bool there;
    size_t size;
    uint8_t *bytes;
};

static struct model model[FILES];

static void name_of(unsigned i, uint64_t dirs[4], uint64_t *dir, char name[40]) {
    *dir = dirs[i % 4];
    snprintf(name, 40, i % 3 ? "file %u with a name.dat" : "F%u", i);
}

static void step(uint64_t *state, uint64_t dirs[4]) {
    static uint8_t bytes[40000];
    char name[40], other_name[40];
    uint64_t dir, other_dir, ino;
    unsigned i = (unsigned)(random_next(state) % FILES), k = (unsigned)(random_next(state) % FILES);
    struct model *m = &model[i];
    name_of(i, dirs, &dir, name);
    name_of(k, dirs, &other_dir, other_name);
    size_t count = random_next(state) % 3 ? random_next(state) % 3000 : random_next(state) % sizeof(bytes);
    switch (random_next(state) % 6) {
    case 0:
    case 1: /* anew, in one or two pieces with a hole between them */
        assert_int_equal(create(dir, name, S_IFREG | 0644, true, &ino), 0);
        *m = (struct model){true, 0, m->bytes};
        /* fall through */
    case 2: /* longer */
        if (!m->there || m->size + count + 3000 > MOST)
            break;
        random_fill(state, bytes, count);
        ino = find(dir, name);
        size_t gap = random_next(state) % 4 ? 0 : random_next(state) % 3000;
        gap = count ? gap : 0;
        if (append(ino, bytes, count, m->size + gap) < 0)
            fail_msg("%s", err.text);
        memset(m->bytes + m->size, 0, gap);
        memcpy(m->bytes + m->size + gap, bytes, count);
        m->size += gap + count;
        break;
    case 3:
        assert_int_equal(unlink_name(dir, name), m->there ? 0 : -ENOENT);
        m->there = false;
        break;
    case 4:
        assert_int_equal(rename_name(dir, name, other_dir, other_name), m->there ? 0 : -ENOENT);
        if (m->there && i != k) {
            struct model moved = *m;
            *m = (struct model){false, 0, model[k].bytes};
            model[k] = moved;
        }
        break;
    default:
        if (m->there)
            assert_int_equal(fs->write_ops->set_size(fs, find(dir, name), 0, &err), 0);
        m->size = 0;
    }
}

static void compare_model(uint64_t dirs[4]) {
    static uint8_t bytes[MOST + 1];
    for (unsigned i = 0; i < FILES; i++) {
        char name[40];
        uint64_t dir;
        size_t got;
        name_of(i, dirs, &dir, name);
        uint64_t ino = find(dir, name);
        assert_int_equal(ino != 0, model[i].there);
        if (!ino)
            continue;
        assert_int_equal(fs->ops->read(fs, ino, bytes, sizeof(bytes), 0, &got, &err), 0);
        assert_int_equal(got, model[i].size);
        assert_memory_equal(bytes, model[i].bytes, got);
    }
}

static void random_operations(void **state) {
    static const struct {
        const char *options;
        unsigned kib;
    } kinds[] = {{"-F 12 -s 2", 3000}, {"-F 16 -s 1", 3000}, {"-F 32 -s 1", 3000}, {"-F 12 -S 4096 -s 1", 6000}};
    (void)state;
    unsigned seeds = getenv("FAT_MATRIX") ? 20 : 1;
    for (unsigned kind = 0; kind < 4 * seeds; kind++) {
        uint64_t seed = 7 + kind, dirs[4] = {1};
        make_disk(kinds[kind % 4].options, kinds[kind % 4].kib);
        assert_int_equal(create(1, "dir", S_IFDIR | 0755, false, &dirs[1]), 0);
        assert_int_equal(create(1, "another directory", S_IFDIR | 0755, false, &dirs[2]), 0);
        assert_int_equal(create(dirs[1], "dir", S_IFDIR | 0755, false, &dirs[3]), 0);
        for (unsigned i = 0; i < FILES; i++)
            model[i] = (struct model){.bytes = malloc(MOST)};
        for (unsigned round = 0; round < 20; round++) {
            for (unsigned i = 0; i < 25; i++)
                step(&seed, dirs);
            compare_model(dirs);
            commit();
            compare_model(dirs);
            check_disk();
            if (round % 5 == 4)
                open_disk(true);
        }
        for (unsigned i = 0; i < FILES; i++)
            free(model[i].bytes);
    }
}

static void full(void **state) {
    static uint8_t bytes[100000];
    uint64_t ino, size = 0;
    (void)state;
    make_disk("-F 12 -s 1", 500);
    assert_int_equal(create(1, "fill", S_IFREG, false, &ino), 0);
    int ret = 0;
    while ((ret = append(ino, bytes, sizeof(bytes), size)) == 0)
        size += sizeof(bytes);
    assert_int_equal(ret, -ENOSPC);
    commit();
    check_disk();
    struct fs_space space;
    assert_int_equal(fs->ops->space(fs, &space, &err), 0);
    assert_int_equal(space.blocks_free, 0);
    assert_int_equal(create(1, "dir", S_IFDIR, false, &ino), -ENOSPC);
    assert_int_equal(unlink_name(1, "fill"), 0);
    /* only the commit makes it free */
    assert_int_equal(create(1, "dir", S_IFDIR, false, &ino), -ENOSPC);
    commit();
    assert_int_equal(create(1, "dir", S_IFDIR, false, &ino), 0);
    commit();
    check_disk();
    /* the root of FAT12 has 512 entries */
    char name[40];
    for (ret = 0; ret == 0;) {
        snprintf(name, sizeof(name), "%d", (int)size++);
        ret = create(1, name, S_IFREG, false, &ino);
    }
    assert_int_equal(ret, -ENOSPC);
    commit();
    check_disk();
}

/* What lies behind the end of a directory is nothing, also when the end moves. */
static void behind_the_end(void **state) {
    (void)state;
    make_disk("-F 12 -s 1", 400);
    put_file(1, "A", "a");
    commit();
    uint8_t *slot = disk.bytes + find(1, "A") * FAT_SLOT;
    memcpy(slot + 2 * FAT_SLOT, slot, FAT_SLOT);
    memcpy(slot + 2 * FAT_SLOT, "GARBAGE TXT", FAT_SHORT);
    open_disk(true);
    assert_int_equal(find(1, "garbage.txt"), 0);
    put_file(1, "B", "b");
    assert_int_equal(find(1, "garbage.txt"), 0);
    commit();
    open_disk(false);
    assert_int_equal(find(1, "garbage.txt"), 0);
    expect_file(1, "B", "b");
    check_disk();
}

/* ---- cuts ---- */

/* What fsck.vfat may say of a volume that was cut off: nothing that a file could be hurt by. */
static void check_cut(const uint8_t *bytes, size_t at) {
    save(bytes);
    sh("fsck.vfat -n volume >fsck 2>&1; grep -Ei 'shared|bad|invalid|corrupt|exceeds|contains|longer|truncat|"
       "start|dup|drop|missing' fsck | grep -v 'free cluster' && { echo cut %zu; cat fsck; exit 1; }; true",
       at);
}

static bool has_content(const char *name, const char *a, const char *b) {
    char buffer[100];
    size_t got;
    uint64_t ino = find(1, name);
    if (!ino || fs->ops->read(fs, ino, buffer, sizeof(buffer), 0, &got, &err) < 0)
        return false;
    return (got == strlen(a) && memcmp(buffer, a, got) == 0) || (got == strlen(b) && memcmp(buffer, b, got) == 0);
}

/* A file is replaced in the ways of an editor, others appear and disappear: cut off after each write, what was there
 * before or what is there afterwards is read. */
static void cuts(void **state) {
    static const char *const kinds[] = {"-F 12 -s 1", "-F 32 -s 1"};
    uint64_t ino, dir;
    char name[40];
    (void)state;
    for (unsigned kind = 0; kind < 2; kind++) {
        make_disk(kinds[kind], kind ? 500 : 400);
        put_file(1, "edited", "old");
        put_file(1, "replaced", "old");
        put_file(1, "removed", "old");
        put_file(1, "kept", "kept");
        put_file(1, "target", "old");
        for (unsigned i = 0; i < 20; i++) { /* another sector */
            snprintf(name, sizeof(name), "FILL%u", i);
            put_file(1, name, "");
        }
        put_file(1, "staged", "new");
        commit();
        begin_log();
        assert_int_equal(rename_name(1, "staged", 1, "target"), 0);
        put_file(1, "temporary name", "new");
        assert_int_equal(rename_name(1, "temporary name", 1, "edited"), 0);
        put_file(1, "replaced", "new");
        assert_int_equal(unlink_name(1, "removed"), 0);
        assert_int_equal(create(1, "a directory", S_IFDIR, false, &dir), 0);
        for (unsigned i = 0; i < 30; i++) {
            snprintf(name, sizeof(name), "new file %u", i);
            assert_int_equal(create(dir, name, S_IFREG, false, &ino), 0);
            assert_int_equal(append(ino, name, strlen(name), 0), 0);
        }
        commit();
        disk.logging = false;
        memcpy(disk.bytes, disk.before, disk.device.size);
        for (size_t i = 0; i <= disk.count; i++) {
            if (i && disk.log[i - 1].offset != UINT64_MAX)
                memcpy(disk.bytes + disk.log[i - 1].offset, disk.log[i - 1].bytes, disk.log[i - 1].count);
            if (i > 30 && i + 40 < disk.count && i % 8)
                continue; /* contents of files */
            check_cut(disk.bytes, i);
            open_disk(false);
            assert_true(has_content("edited", "old", "new"));
            assert_true(has_content("replaced", "old", "new"));
            assert_true(has_content("target", "old", "new"));
            assert_true(has_content("kept", "kept", "kept"));
            assert_true(has_content("removed", "old", "old") || !find(1, "removed"));
        }
        check_disk();
        expect_file(1, "edited", "new");
        expect_file(1, "replaced", "new");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names, enter_folder, leave),
        cmocka_unit_test_setup_teardown(attributes_and_errors, enter_folder, leave),
        cmocka_unit_test_setup_teardown(random_operations, enter_folder, leave),
        cmocka_unit_test_setup_teardown(full, enter_folder, leave),
        cmocka_unit_test_setup_teardown(behind_the_end, enter_folder, leave),
        cmocka_unit_test_setup_teardown(cuts, enter_folder, leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
