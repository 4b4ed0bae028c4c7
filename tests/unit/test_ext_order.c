/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_ext_order.c - what a power cut leaves of changes of an ext filesystem that has no journal.
 *
 * In each state that a cut could leave (any subset of what was written behind the last flush), e2fsck -p must mend all
 * by itself; only where the leaves of an index are split may it ask (-y). After that no old
 * file is damaged, one that was replaced has its old or its
 * new content, one that was renamed is whole under one of its names, and a new name is missing or its file is whole.
 *
 * ORDER_SUBSETS=40: so many random subsets between two flushes.
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

#define SIZE (3u << 20)
#define MANY 36 /* files in a directory that has an index */

/* ---- changes ---- */

static void must(int ret, const struct img_error *err) {
    if (ret < 0)
        fail_msg("%s", err->text);
}

static struct fs *open_fs(struct recorder *r, bool write) {
    struct fs *fs;
    struct img_error err = {0};
    struct fs_open_options options = {.write = write};
    must(fs_open(&r->device, &options, &fs, &err), &err);
    return fs;
}

static void fill(char *text, size_t count, char what) {
    for (size_t i = 0; i < count; i++)
        text[i] = (char)(what + (int)(i % 7));
}

static uint64_t make(struct fs *fs, uint64_t dir, const char *name, const struct fs_new *file) {
    struct img_error err = {0};
    uint64_t ino = 0;
    must(fs->write_ops->create(fs, dir, name, strlen(name), file, &ino, &err), &err);
    return ino;
}

static uint64_t put(struct fs *fs, uint64_t dir, const char *name, size_t count, char what) {
    struct img_error err = {0};
    char *text = malloc(count + 1);
    uint64_t ino = make(fs, dir, name, &(struct fs_new){.mode = S_IFREG | 0644, .size = count, .replace = true});
    fill(text, count, what);
    if (count)
        must(fs->write_ops->append(fs, ino, text, count, 0, &err), &err);
    free(text);
    return ino;
}

static uint64_t put_dir(struct fs *fs, uint64_t dir, const char *name) {
    return make(fs, dir, name, &(struct fs_new){.mode = S_IFDIR | 0755});
}

static void put_link(struct fs *fs, const char *name, const char *target) {
    make(fs, fs->root, name, &(struct fs_new){.mode = S_IFLNK | 0777, .target = target, .replace = true});
}

static void rename_in_root(struct fs *fs, const char *old, const char *new) {
    struct img_error err = {0};
    must(fs->write_ops->rename(fs, fs->root, old, strlen(old), fs->root, new, strlen(new), &err), &err);
}

static void unlink_in_root(struct fs *fs, const char *name) {
    struct img_error err = {0};
    must(fs->write_ops->unlink(fs, fs->root, name, strlen(name), &err), &err);
}

static void commit(struct recorder *r, struct fs *fs) {
    struct img_error err = {0};
    must(fs->write_ops->commit(fs, &err), &err);
    r->committed++;
}

static const char short_target[] = "keep";
static const char long_target[] =
    "a/long/target/that/does/not/fit/into/the/inode/and/so/has/a/block/of/its/own/somewhere";

static uint64_t find(struct fs *fs, uint64_t dir, const char *name) {
    uint64_t ino = 0;
    struct img_error err = {0};
    int ret = fs->ops->lookup(fs, dir, name, strlen(name), &ino, &err);
    if (ret < 0 && ret != -ENOENT)
        fail_msg("%s: %s", name, err.text);
    return ret < 0 ? 0 : ino;
}

static void many_name(char name[64], const char *what, int i) {
    snprintf(name, 64, "%s-%03d-with-a-long-name-so-that-few-fit-into-a-block", what, i);
}

static void prepare(struct recorder *r, struct fs *fs) {
    struct img_error err = {0};
    put(fs, fs->root, "keep", 9000, 'k');
    put(fs, fs->root, "replaced", 40000, 'b');
    put(fs, fs->root, "gone", 5000, 'g');
    put(fs, fs->root, "edited", 3000, 'e');
    put(fs, fs->root, "renamed", 2000, 'r');
    uint64_t twice = put(fs, fs->root, "twice", 1500, 't');
    must(fs->write_ops->link(fs, fs->root, "two", 3, twice, &err), &err);
    put_link(fs, "short", short_target);
    put_link(fs, "long", long_target);
    commit(r, fs);
}

/* New files in new directories, in an old one, and over old ones. */
static void add(struct recorder *r, struct fs *fs) {
    struct img_error err = {0};
    char name[64], value[700];
    uint64_t a = put_dir(fs, fs->root, "a"), many = find(fs, fs->root, "many");
    put(fs, a, "x", 1000, 'x');
    for (int i = 0; i < MANY && many; i++) { /* so that the next inodes lie in another block */
        many_name(name, "new", i);
        put(fs, many, name, 100, 'm');
    }
    uint64_t b = put_dir(fs, a, "b"), y = put(fs, b, "y", 30000, 'y'), c = put_dir(fs, b, "c");
    put(fs, c, "z", 10, 'z');
    must(fs->write_ops->link(fs, fs->root, "also", 4, y, &err), &err);
    fill(value, sizeof(value), 'v');
    must(fs->write_ops->set_xattr(fs, find(fs, fs->root, "keep"), "user.large", value, sizeof(value), &err), &err);
    put(fs, fs->root, "replaced", 70001, 'B');
    put_link(fs, "long", short_target);
    put_link(fs, "short", long_target);
    put(fs, fs->root, "two", 900, 'T');
    commit(r, fs);
}

/* What an editor does, and names that go. */
static void change(struct recorder *r, struct fs *fs) {
    put(fs, fs->root, ".edited", 4000, 'E');
    rename_in_root(fs, ".edited", "edited");
    commit(r, fs);
    rename_in_root(fs, "renamed", "better");
    commit(r, fs);
    unlink_in_root(fs, "gone");
    unlink_in_root(fs, "also");
    commit(r, fs);
}

/* ---- judging ---- */

/* Does the file have these contents? */
static bool is(struct fs *fs, uint64_t ino, size_t count, char what) {
    char *text = malloc(count + 1), *there = malloc(count + 1);
    size_t got = 0;
    fill(text, count, what);
    bool same =
        fs->ops->read(fs, ino, there, count + 1, 0, &got, NULL) == 0 && got == count && memcmp(text, there, count) == 0;
    free(text);
    free(there);
    return same;
}

static bool whole(struct fs *fs, uint64_t dir, const char *name, size_t count, char what) {
    uint64_t ino = dir ? find(fs, dir, name) : 0;
    return ino && is(fs, ino, count, what);
}

static bool whole_or_missing(struct fs *fs, uint64_t dir, const char *name, size_t count, char what) {
    uint64_t ino = dir ? find(fs, dir, name) : 0;
    return !ino || is(fs, ino, count, what);
}

static bool links_to(struct fs *fs, const char *name, const char *one, const char *other) {
    char target[256];
    size_t length = 0;
    uint64_t ino = find(fs, fs->root, name);
    if (!ino || fs->ops->readlink(fs, ino, target, sizeof(target), &length, NULL) < 0)
        return false;
    target[length] = '\0';
    return strcmp(target, one) == 0 || strcmp(target, other) == 0;
}

static const char *old_files(struct fs *fs, int committed) {
    uint64_t root = fs->root, many = find(fs, root, "many");
    char name[64];
    if (!whole(fs, root, "keep", 9000, 'k'))
        return "keep";
    if (!whole(fs, root, "twice", 1500, 't'))
        return "twice";
    if (!whole(fs, root, "replaced", 70001, 'B') && (committed >= 1 || !whole(fs, root, "replaced", 40000, 'b')))
        return "replaced";
    if (!whole(fs, root, "edited", 4000, 'E') && (committed >= 2 || !whole(fs, root, "edited", 3000, 'e')))
        return "edited";
    if (!whole(fs, root, "renamed", 2000, 'r') && !whole(fs, root, "better", 2000, 'r'))
        return "renamed";
    if (!links_to(fs, "short", short_target, long_target) || !links_to(fs, "long", short_target, long_target))
        return "a symbolic link";
    for (int i = 0; i < MANY && many; i++) {
        many_name(name, "old", i);
        if (!whole(fs, many, name, 1, 'o'))
            return "many";
    }
    return NULL;
}

static const char *new_files(struct fs *fs, int committed) {
    uint64_t root = fs->root, a = find(fs, root, "a"), b = a ? find(fs, a, "b") : 0, c = b ? find(fs, b, "c") : 0;
    uint64_t two = find(fs, root, "two");
    bool (*check)(struct fs *, uint64_t, const char *, size_t, char) = committed >= 1 ? whole : whole_or_missing;
    if (!check(fs, a, "x", 1000, 'x') || !check(fs, b, "y", 30000, 'y') || !check(fs, c, "z", 10, 'z'))
        return "the new tree";
    if (!whole_or_missing(fs, root, "also", 30000, 'y') || !whole_or_missing(fs, root, "gone", 5000, 'g'))
        return "also, gone";
    if (two && !is(fs, two, 900, 'T') && (committed >= 1 || !is(fs, two, 1500, 't')))
        return "two";
    if (committed >= 4 && (find(fs, root, "gone") || find(fs, root, "also") || find(fs, root, "renamed")))
        return "gone";
    return NULL;
}

static int run(const char *command) {
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static const char *mending = "e2fsck -p cut.img >cut.out 2>&1";

/* A map that lacks what is in use would let a guest that does not look give it away. */
static void mend(unsigned char *bytes, size_t size, const char *what) {
    int fd = open("cut.img", O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, bytes, size), size);
    int before = run("e2fsck -fn cut.img >cut.before 2>&1"), mended = before ? run(mending) : 0;
    bool lacking = run("grep -q 'bitmap differences:.* [+]' cut.before") == 0;
    assert_int_equal(pread(fd, bytes, size, 0), size);
    close(fd);
    if (before && (mended != 1 || lacking)) {
        run("cat cut.before cut.out >&2");
        fail_msg("%s: e2fsck ends with %d%s", what, mended, lacking ? ", the maps lack something" : "");
    }
}

static void judge(unsigned char *bytes, size_t size, int committed, const char *what) {
    struct recorder r = recorder_on(bytes, size);
    mend(bytes, size, what);
    struct fs *fs = open_fs(&r, false);
    const char *wrong = old_files(fs, committed);
    if (!wrong)
        wrong = new_files(fs, committed);
    fs_close(fs);
    if (wrong)
        fail_msg("%s, when %d was committed: %s", what, committed, wrong);
}

/* ---- the filesystems ---- */

static void make_base(const char *options, bool index, unsigned char *bytes) {
    char command[512];
    snprintf(command, sizeof(command),
             "rm -rf base base.img && mkdir -p base/many && "
             "for i in $(seq 0 %d); do "
             "printf o >base/many/$(printf old-%%03d-with-a-long-name-so-that-few-fit-into-a-block $i); done; "
             "truncate -s %u base.img && mke2fs -q -F -N 256 -d base %s base.img 2>/dev/null %s",
             MANY - 1, SIZE, options, index ? "&& { e2fsck -fyD base.img >/dev/null; test $? -le 1; }" : "");
    assert_int_equal(run(command), 0);
    int fd = open("base.img", O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, bytes, SIZE), SIZE);
    close(fd);
}

static void try_cuts(const char *options, bool index) {
    const char *text = getenv("ORDER_SUBSETS");
    unsigned char *bytes = calloc(1, SIZE), *durable = malloc(SIZE);
    make_base(options, index, bytes);
    struct recorder r = recorder_on(bytes, SIZE);
    struct fs *fs = open_fs(&r, true);
    assert_false(fs->write_ops->whole);
    prepare(&r, fs);
    memcpy(durable, bytes, SIZE);
    recorder_start(&r);
    r.committed = 0;
    add(&r, fs);
    change(&r, fs);
    fs_close(fs);
    size_t states = cuts_try(durable, &r, text ? (unsigned)atoi(text) : 2, false, judge);
    print_message("%s: %zu states\n", options, states);
    assert_true(states > 50);
    judge(bytes, SIZE, r.committed, "the end");
    recorder_end(&r);
    free(bytes);
    free(durable);
}

static void test_ext2(void **state) {
    (void)state;
    try_cuts("-t ext2 -b 1024", false);
}

static void test_ext4(void **state) {
    (void)state;
    try_cuts("-t ext4 -b 1024 -O ^has_journal", false);
}

static void test_ext4_index(void **state) {
    (void)state;
    const char *normally = mending;
    mending = "e2fsck -y cut.img >cut.out 2>&1";
    try_cuts("-t ext4 -b 1024 -O ^has_journal", true);
    mending = normally;
}

static void test_ext4_inline(void **state) {
    (void)state;
    try_cuts("-t ext4 -b 4096 -O ^has_journal,inline_data,^resize_inode", false);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ext2), cmocka_unit_test(test_ext4),
                                       cmocka_unit_test(test_ext4_index), cmocka_unit_test(test_ext4_inline)};
    if (chdir(scratch_folder()) < 0)
        return EXIT_FAILURE;
    setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
