/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_ext_cuts.c - what a power cut leaves of changes of an ext4 filesystem.
 *
 * The filesystem lies in memory, on a device that records every write and every flush. Then the states are built that a
 * cut could leave: all that was written before the last flush, and of what came behind it some writes whole, some in
 * part (but a superblock, whose checksum lies in its second sector, is taken as whole, as the kernel takes it), some
 * not. Each must show the files as they were before a transaction or after it, and none of an older one than the last
 * that was committed; e2fsck replays the journal (-p) and must find nothing else then (-fn).
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cuts.h"
#include "fs/vfs.h"
#include "fs/vfs_write.h"
#include "scratch.h"

#define SIZE (8u << 20)
#define SUBSETS 6 /* random ones between two flushes */

/* ---- the files: what each transaction makes of them ---- */

enum { VERSIONS = 3 };

/* The content of /b in each version; other files have one. */
static void fill(char *text, size_t count, char what) {
    for (size_t i = 0; i < count; i++)
        text[i] = (char)(what + (int)(i % 7));
}

static struct fs *open_fs(struct recorder *r, bool write) {
    struct fs *fs;
    struct img_error err = {0};
    struct fs_open_options options = {.write = write};
    if (fs_open(&r->device, &options, &fs, &err) < 0)
        fail_msg("%s", err.text);
    return fs;
}

static void must(int ret, const struct img_error *err) {
    if (ret < 0)
        fail_msg("%s", err->text);
}

static uint64_t put(struct fs *fs, uint64_t dir, const char *name, uint32_t mode, size_t count, char what) {
    struct img_error err = {0};
    struct fs_new file = {.mode = mode, .size = count, .replace = true};
    char *text = malloc(count + 1);
    uint64_t ino;
    fill(text, count, what);
    must(fs->write_ops->create(fs, dir, name, strlen(name), &file, &ino, &err), &err);
    if (count)
        must(fs->write_ops->append(fs, ino, text, count, 0, &err), &err);
    free(text);
    return ino;
}

static void first(struct fs *fs) {
    struct img_error err = {0};
    put(fs, fs->root, "new", S_IFREG | 0600, 30000, 'n');
    put(fs, fs->root, "b", S_IFREG | 0644, 50000, 'B');
    must(fs->write_ops->unlink(fs, fs->root, "gone", 4, &err), &err);
}

static void second(struct fs *fs) {
    struct img_error err = {0};
    uint64_t dir = put(fs, fs->root, "dir", S_IFDIR | 0755, 0, 0);
    put(fs, fs->root, "b", S_IFREG | 0644, 70001, 'c');
    put(fs, dir, "x", S_IFREG | 0644, 10, 'x');
    must(fs->write_ops->rename(fs, fs->root, "new", 3, dir, "newer", 5, &err), &err);
    must(fs->write_ops->set_xattr(fs, dir, "user.comment", "hello", 5, &err), &err);
}

static bool has(struct fs *fs, uint64_t dir, const char *name, size_t count, char what) {
    uint64_t ino;
    size_t got = 0;
    char *text = malloc(count + 1), *there = malloc(count + 1);
    fill(text, count, what);
    bool good = fs->ops->lookup(fs, dir, name, strlen(name), &ino, NULL) == 0 &&
                fs->ops->read(fs, ino, there, count + 1, 0, &got, NULL) == 0 && got == count &&
                memcmp(text, there, count) == 0;
    free(text);
    free(there);
    return good;
}

static bool is_missing(struct fs *fs, uint64_t dir, const char *name) {
    uint64_t ino;
    return fs->ops->lookup(fs, dir, name, strlen(name), &ino, NULL) == -ENOENT;
}

static bool shows(struct fs *fs, int version) {
    uint64_t root = fs->root, dir = 0;
    if (!has(fs, root, "keep", 9000, 'k'))
        return false;
    if (version == 0)
        return has(fs, root, "b", 40000, 'b') && has(fs, root, "gone", 5000, 'g') && is_missing(fs, root, "new");
    if (version == 1)
        return has(fs, root, "b", 50000, 'B') && is_missing(fs, root, "gone") && has(fs, root, "new", 30000, 'n') &&
               is_missing(fs, root, "dir");
    return has(fs, root, "b", 70001, 'c') && is_missing(fs, root, "new") &&
           fs->ops->lookup(fs, root, "dir", 3, &dir, NULL) == 0 && has(fs, dir, "x", 10, 'x') &&
           has(fs, dir, "newer", 30000, 'n');
}

/* ---- judging ---- */

static int run(const char *command) {
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static void check_by_e2fsck(const unsigned char *bytes, const char *what) {
    int fd = open("cut.img", O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, bytes, SIZE), SIZE);
    close(fd);
    int replayed = run("e2fsck -p cut.img >cut.out 2>&1"), sound = run("e2fsck -fn cut.img >>cut.out 2>&1");
    if (replayed > 1 || sound != 0) {
        run("cat cut.out >&2");
        fail_msg("%s: e2fsck ends with %d and %d", what, replayed, sound);
    }
}

static void judge(unsigned char *bytes, size_t size, int committed, const char *what) {
    struct recorder r = recorder_on(bytes, size);
    struct fs *fs = open_fs(&r, false);
    int version = VERSIONS;
    while (version-- > 0 && !shows(fs, version))
        ;
    fs_close(fs);
    if (version < committed)
        fail_msg("%s: it shows version %d although %d was committed", what, version, committed);
    check_by_e2fsck(bytes, what);
}

static void test_cuts(void **state) {
    (void)state;
    unsigned char *bytes = calloc(1, SIZE), *durable = malloc(SIZE);
    assert_int_equal(run("truncate -s 8M base.img && mke2fs -q -F -t ext4 -b 1024 -J size=1 base.img"), 0);
    int fd = open("base.img", O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, bytes, SIZE), SIZE);
    close(fd);

    struct recorder r = recorder_on(bytes, SIZE);
    struct img_error err = {0};
    struct fs *fs = open_fs(&r, true);
    put(fs, fs->root, "keep", S_IFREG | 0644, 9000, 'k');
    put(fs, fs->root, "b", S_IFREG | 0644, 40000, 'b');
    put(fs, fs->root, "gone", S_IFREG | 0644, 5000, 'g');
    must(fs->write_ops->commit(fs, &err), &err);
    memcpy(durable, bytes, SIZE);

    recorder_start(&r);
    first(fs);
    must(fs->write_ops->commit(fs, &err), &err);
    r.committed = 1;
    second(fs);
    must(fs->write_ops->commit(fs, &err), &err);
    r.committed = 2;
    fs_close(fs);

    size_t states = cuts_try(durable, &r, SUBSETS, true, judge);
    assert_true(states > 30);
    judge(bytes, SIZE, 2, "the end");
    recorder_end(&r);
    free(bytes);
    free(durable);
}

/* ---- what a guest's fast commits had is kept, wherever it is cut while it is put to its places ---- */

static bool write_file(const char *path, size_t count, char what) {
    char *text = malloc(count);
    fill(text, count, what);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write(fd, text, count) == (ssize_t)count && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    free(text);
    return good;
}

/* A copy of a mounted filesystem. False: that is not possible here. */
static bool make_crash(void) {
    if (run("truncate -s 8M fast.img && mke2fs -q -F -t ext4 -b 1024 -O fast_commit -J size=3 fast.img 2>/dev/null && "
            "mkdir -p fast && mount -o loop,commit=600 fast.img fast 2>/dev/null") != 0)
        return false;
    bool good = write_file("fast/keep", 9000, 'k') && write_file("fast/old", 20000, 'o') && run("sync -f fast") == 0;
    good = good && mkdir("fast/dir", 0755) == 0 && write_file("fast/dir/x", 3000, 'x') &&
           write_file("fast/new", 30000, 'n') && rename("fast/old", "fast/older") == 0 && unlink("fast/keep") == 0 &&
           write_file("fast/last", 10, 'l') && run("cp fast.img crash.img") == 0;
    assert_int_equal(run("umount fast"), 0);
    assert_true(good);
    return true;
}

static bool shows_fast(struct fs *fs) {
    uint64_t dir = 0;
    return fs->ops->lookup(fs, fs->root, "dir", 3, &dir, NULL) == 0 && has(fs, dir, "x", 3000, 'x') &&
           has(fs, fs->root, "new", 30000, 'n') && has(fs, fs->root, "older", 20000, 'o') &&
           has(fs, fs->root, "last", 10, 'l') && is_missing(fs, fs->root, "old") && is_missing(fs, fs->root, "keep");
}

static void judge_fast(unsigned char *bytes, size_t size, int committed, const char *what) {
    struct recorder r = recorder_on(bytes, size);
    struct fs *fs = open_fs(&r, false);
    bool good = shows_fast(fs) && (committed == 0 || has(fs, fs->root, "written", 5000, 'w'));
    fs_close(fs);
    if (!good)
        fail_msg("%s: a file is not there", what);
    /* And as it is when it is written anew. */
    fs = open_fs(&r, true);
    good = shows_fast(fs);
    fs_close(fs);
    if (!good)
        fail_msg("%s: written anew, a file is not there", what);
    check_by_e2fsck(bytes, what);
}

static void test_fast_commits(void **state) {
    (void)state;
    if (geteuid() != 0 || !make_crash())
        skip();
    unsigned char *bytes = calloc(1, SIZE), *durable = malloc(SIZE);
    int fd = open("crash.img", O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, bytes, SIZE), SIZE);
    close(fd);
    memcpy(durable, bytes, SIZE);
    struct recorder r = recorder_on(bytes, SIZE);
    struct img_error err = {0};
    recorder_start(&r);
    struct fs *fs = open_fs(&r, true);
    assert_true(shows_fast(fs));
    put(fs, fs->root, "written", S_IFREG | 0644, 5000, 'w');
    must(fs->write_ops->commit(fs, &err), &err);
    r.committed = 1;
    fs_close(fs);
    assert_true(cuts_try(durable, &r, SUBSETS, true, judge_fast) > 30);
    recorder_end(&r);
    free(bytes);
    free(durable);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cuts), cmocka_unit_test(test_fast_commits)};
    if (chdir(scratch_folder()) < 0)
        return EXIT_FAILURE;
    setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
