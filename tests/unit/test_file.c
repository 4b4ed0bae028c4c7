/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_file.c - host files as storage through the page cache, and block devices: what is refused, that nothing is
 * short, where holes are, how the length behaves, what a full disk does.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "file.h"
#include "scratch.h"

#define MIB (1u << 20)

/* ---- opening ---- */

static void refuse(const char *path, uint32_t flags, int code, const char *text) {
    struct storage *s = NULL;
    struct img_error error = {0};
    int r = file_open(path, flags, IMG_CACHE_WRITEBACK, &s, &error);
    if (r != code || strstr(error.text, text) == NULL || strchr(error.text, '\n') != NULL)
        fail_msg("%s: %d, not %d: %s", path, r, code, error.text);
    assert_null(s);
}

/* None of these may hang: the alarm ends the program. */
static void only_files_and_block_devices(void **state) {
    (void)state;
    alarm(5);
    char *fifo = scratch_path("fifo"), *name = scratch_path("socket");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    assert_int_equal(mkfifo(fifo, 0600), 0);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", open(scratch_folder(), O_PATH | O_CLOEXEC));
    snprintf(address.sun_path, sizeof address.sun_path, "%.40s/socket", link);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);

    static const uint32_t flags[] = {0, IMG_OPEN_WRITE, IMG_OPEN_FORCE_SHARE, IMG_OPEN_UNLOCKED};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        refuse(fifo, flags[i], -EINVAL, "is a FIFO");
        refuse(name, flags[i], -EINVAL, "is a socket");
        refuse("/dev/null", flags[i], -EINVAL, "is a character device");
        refuse("/dev/tty", flags[i], -EINVAL, "is a character device");
        refuse(scratch_folder(), flags[i], -EISDIR, "is a directory");
        refuse("/nowhere/at all", flags[i], -ENOENT, "Could not open '/nowhere/at all': No such file or directory");
    }
    int ends[2];
    struct storage *s;
    struct img_error error;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(file_open_fd(ends[0], 0, IMG_CACHE_WRITEBACK, &s, &error), -EINVAL);
    assert_int_equal(file_open_fd(-1, 0, IMG_CACHE_WRITEBACK, &s, &error), -EBADF);
    close(ends[0]);
    close(ends[1]);
    close(fd);
    free(fifo);
    free(name);
    alarm(0);
}

/* A descriptor that cannot do what is asked for is refused, not found out later. */
static void descriptor_flags_are_checked(void **state) {
    (void)state;
    char *path = scratch_file("fd.img", "0123", 4, 4);
    struct storage *s;
    struct img_error error;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(file_open_fd(fd, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK, &s, &error), -EBADF);
    assert_int_equal(file_open_fd(fd, 0, IMG_CACHE_WRITEBACK, &s, &error), 0);
    close(fd);
    assert_reads(s, 0, "0123", 4);
    storage_close(s);
    fd = open(path, O_RDWR | O_APPEND | O_CLOEXEC);
    assert_int_equal(file_open_fd(fd, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK, &s, &error), -EINVAL);
    close(fd);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(file_open_fd(fd, 0, IMG_CACHE_WRITEBACK, &s, &error), -EBADF);
    close(fd);
    free(path);
}

static void knows_itself(void **state) {
    (void)state;
    char *path = scratch_file("id.img", "x", 1, 1);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    struct storage *s = open_storage(path, 0, IMG_CACHE_WRITEBACK);
    assert_int_equal(s->device_id, st.st_dev);
    assert_int_equal(s->inode, st.st_ino);
    assert_string_equal(s->name, path);
    assert_false(s->writable);
    assert_false(s->fixed_size);
    assert_int_equal(fcntl(file_of(s)->fd, F_GETFL) & (O_NONBLOCK | O_DIRECT), 0);
    assert_int_equal(fcntl(file_of(s)->fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(storage_flush(s), 0);
    assert_true(storage_write(s, "y", 1, 0) < 0);
    storage_close(s);
    free(path);
}

static void creates_only_new_files(void **state) {
    (void)state;
    char *path = scratch_path("created.img");
    struct storage *s;
    struct img_error error;
    struct stat st;
    mode_t mask = umask(027);
    for (int cache = IMG_CACHE_WRITEBACK; cache <= IMG_CACHE_UNSAFE; cache++) {
        assert_int_equal(file_create(path, (enum img_cache)cache, &s, &error), 0);
        assert_true(s->writable);
        assert_int_equal(storage_size(s), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0640);
        assert_int_equal(storage_write(s, "abc", 3, 1), 0);
        assert_int_equal(storage_flush(s), 0);
        assert_reads(s, 0, "\0abc", 4);
        assert_int_equal(scratch_length(path), 4);
        storage_close(s);
        assert_int_equal(file_create(path, IMG_CACHE_WRITEBACK, &s, &error), -EEXIST);
        assert_non_null(strstr(error.text, "Could not create '"));
        assert_int_equal(scratch_length(path), 4);
        assert_int_equal(file_sync_directory(path, &error), 0);
        unlink(path);
    }
    umask(mask);
    free(path);
    assert_int_equal(file_sync_directory("/nowhere/at all", &error), -ENOENT);
}

/* ---- reading and writing ---- */

enum { MODEL = 300000 };

/* Random requests of many buffers against a byte array. */
static void vectors_move_whole(void **state) {
    (void)state;
    uint64_t seed = 11;
    uint8_t *model = calloc(1, MODEL), *data = malloc(MODEL);
    struct iovec *iov = calloc(3000, sizeof *iov);
    char *path = scratch_file("vectors.img", "", 0, 0);
    struct storage *s = open_storage(path, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK);
    uint64_t length = 0;
    for (int round = 0; round < 400; round++) {
        size_t offset = random_next(&seed) % MODEL, left = random_next(&seed) % (MODEL - offset), at = 0;
        int niov = 0, limit = round % 20 == 0 ? 2999 : 5;
        while (niov < limit) {
            size_t n = random_next(&seed) % (2 * left / (size_t)limit + 2);
            n = niov == limit - 1 || n > left - at ? left - at : n;
            iov[niov++] = (struct iovec){data + at, n};
            at += n;
        }
        if (random_next(&seed) % 2 == 0) {
            random_fill(&seed, data, at);
            assert_int_equal(storage_writev(s, iov, niov, offset), 0);
            memcpy(model + offset, data, at);
            if (at > 0 && length < offset + at)
                length = offset + at;
        } else {
            memset(data, 0x5a, MODEL);
            assert_int_equal(storage_readv(s, iov, niov, offset), 0);
            assert_memory_equal(data, model + offset, at);
        }
        assert_int_equal(storage_size(s), length);
        assert_int_equal(scratch_length(path), length);
    }
    storage_close(s);
    free(iov);
    free(data);
    free(model);
    free(path);
}

static void behind_the_end_are_zeroes(void **state) {
    (void)state;
    char *path = scratch_file("end.img", "abcdef", 6, 6);
    struct storage *s = open_storage(path, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK);
    assert_reads(s, 3, "def\0\0\0\0", 7);
    assert_reads_zero(s, 6, 100);
    assert_reads_zero(s, 1ull << 40, 4096);
    uint8_t byte;
    assert_int_equal(storage_read(s, &byte, 1, INT64_MAX), -EINVAL);
    assert_int_equal(storage_read(s, &byte, 1, UINT64_MAX), -EINVAL);
    assert_int_equal(storage_write(s, &byte, 1, INT64_MAX), -EFBIG);
    assert_int_equal(storage_write(s, &byte, 1, UINT64_MAX), -EFBIG);
    assert_int_equal(storage_read(s, NULL, 0, 5), 0);
    assert_int_equal(storage_write(s, NULL, 0, 500), 0);
    assert_int_equal(storage_size(s), 6);
    /* another process makes it shorter */
    assert_int_equal(truncate(path, 2), 0);
    assert_reads(s, 0, "ab\0\0", 4);
    storage_close(s);
    free(path);
}

/* A write that the kernel cuts short at the limit goes on, and then tells why it cannot. */
static int write_over_limit(void *argument) {
    struct rlimit limit = {100000, 100000};
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
        return 1;
    struct storage *s;
    static uint8_t data[200000];
    memset(data, 7, sizeof data);
    if (file_open(argument, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK, &s, NULL) < 0)
        return 2;
    if (storage_write(s, data, sizeof data, 0) != -EFBIG)
        return 3;
    return storage_size(s) == 100000 && storage_write(s, data, 100000, 0) == 0 ? 0 : 4;
}

static void short_writes_go_on(void **state) {
    (void)state;
    char *path = scratch_file("limit.img", "", 0, 0);
    assert_int_equal(child_result(in_child(write_over_limit, path)), 0);
    assert_int_equal(scratch_length(path), 100000);
    free(path);
}

/* ---- zeroes, holes, the length ---- */

static uint64_t host_bytes(struct storage *s) {
    return s->ops->allocated(s);
}

static char *filled_file(const char *name, uint64_t length) {
    uint8_t *data = malloc(length);
    memset(data, 0xee, length);
    char *path = scratch_file(name, data, length, length);
    free(data);
    return path;
}

static void check_only_zero(struct storage *s, uint64_t size, uint64_t offset, uint64_t length) {
    uint8_t *data = malloc(size), *expected = malloc(size);
    memset(expected, 0xee, size);
    memset(expected + offset, 0, length);
    assert_int_equal(storage_read(s, data, size, 0), 0);
    assert_memory_equal(data, expected, size);
    free(data);
    free(expected);
}

/* Around the edges of pages and sectors, through every way that zeroes can be made. */
static void zeroes_exactly(void **state) {
    (void)state;
    static const uint32_t edges[] = {0, 1, 511, 512, 513, 4095, 4096, 4097, 8192, 12287, 65536};
    enum { EDGES = sizeof edges / sizeof *edges, SIZE = 65536 };
    uint8_t *fill = malloc(SIZE);
    memset(fill, 0xee, SIZE);
    for (int way = 0; way < 5; way++) {
        char *path = filled_file("zero.img", SIZE);
        struct storage *s = open_storage(path, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK);
        struct file *f = file_of(s);
        atomic_store(&f->no_zero_range, way == 2 || way == 4); /* as tmpfs */
        atomic_store(&f->no_punch, way == 3 || way == 4);
        for (size_t i = 0; i < EDGES; i++) {
            for (size_t j = i + 1; j < EDGES; j++) {
                assert_int_equal(storage_write(s, fill, SIZE, 0), 0);
                uint64_t length = edges[j] - edges[i];
                if (way == 0 && j % 2 == 0)
                    assert_int_equal(s->ops->punch(s, edges[i], length), 0);
                else
                    assert_int_equal(storage_zero(s, edges[i], length, way == 0 || way == 3), 0);
                check_only_zero(s, SIZE, edges[i], length);
                assert_int_equal(storage_size(s), SIZE);
            }
        }
        if (way == 4)
            assert_int_equal(s->ops->zero(s, 0, 512, true), -ENOTSUP);
        storage_close(s);
        assert_int_equal(scratch_length(path), SIZE);
        free(path);
    }
    free(fill);
}

static void zeroing_extends(void **state) {
    (void)state;
    for (int unmap = 0; unmap < 2; unmap++) {
        char *path = filled_file("extend.img", 5000);
        struct storage *s = open_storage(path, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK);
        assert_int_equal(storage_zero(s, 4000, 2 * MIB, unmap), 0);
        assert_int_equal(storage_size(s), 4000 + 2 * MIB);
        assert_int_equal(scratch_length(path), 4000 + 2 * MIB);
        check_only_zero(s, 4000 + 2 * MIB, 4000, 2 * MIB);
        if (unmap)
            assert_true(host_bytes(s) < 64 << 10);
        assert_int_equal(storage_zero(s, 0, 0, unmap), 0);
        assert_int_equal(storage_zero(s, UINT64_MAX, 2, unmap), -EFBIG);
        assert_int_equal(storage_zero(s, INT64_MAX, 2, unmap), -EFBIG);
        storage_close(s);
        free(path);
    }
}

static void punching_gives_space_back_and_keeps_the_length(void **state) {
    (void)state;
    char *path = filled_file("punch.img", 2 * MIB);
    struct storage *s = open_storage(path, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK);
    assert_true(host_bytes(s) >= 2 * MIB);
    assert_int_equal(s->ops->punch(s, MIB, 4 * MIB), 0);
    assert_true(host_bytes(s) < MIB + (128 << 10));
    assert_int_equal(storage_size(s), 2 * MIB);
    assert_int_equal(scratch_length(path), 2 * MIB);
    check_only_zero(s, 2 * MIB, MIB, MIB);
    storage_close(s);
    free(path);
}

static void length_is_kept_up_to_date(void **state) {
    (void)state;
    char *path = filled_file("length.img", 1000);
    struct storage *s = open_storage(path, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK);
    assert_int_equal(s->ops->truncate(s, 500), 0);
    assert_int_equal(storage_size(s), 500);
    assert_int_equal(s->ops->truncate(s, 900), 0);
    check_only_zero(s, 900, 500, 400);
    assert_int_equal(storage_size(s), 900);
    assert_int_equal(s->ops->reserve(s, 4096, MIB), 0);
    assert_int_equal(storage_size(s), 4096 + MIB);
    assert_true(host_bytes(s) >= MIB);
    check_only_zero(s, 4096 + MIB, 500, 4096 + MIB - 500);
    assert_int_equal(s->ops->reserve(s, 0, 100), 0);
    assert_int_equal(storage_size(s), 4096 + MIB);
    assert_int_equal(scratch_length(path), 4096 + MIB);
    assert_int_equal(s->ops->truncate(s, UINT64_MAX), -EFBIG);
    storage_close(s);
    free(path);
}

static void sees_holes(void **state) {
    (void)state;
    char *path = scratch_file("holes.img", "", 0, 4 * MIB);
    uint8_t *data = malloc(MIB);
    memset(data, 1, MIB);
    struct storage *s = open_storage(path, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK);
    assert_int_equal(storage_write(s, data, MIB, MIB), 0);
    struct storage_extent e;
    assert_int_equal(s->ops->extent(s, 0, 4 * MIB, &e), 0);
    if (!e.zero) {
        print_message("no holes on this file system\n");
        storage_close(s);
        skip();
    }
    assert_int_equal(e.length, MIB);
    assert_int_equal(s->ops->extent(s, 100, 1000, &e), 0);
    assert_true(e.zero && e.length == 1000);
    assert_int_equal(s->ops->extent(s, MIB + 100, 4 * MIB, &e), 0);
    assert_true(!e.zero && e.length == MIB - 100);
    assert_int_equal(s->ops->extent(s, 2 * MIB, 100 * (uint64_t)MIB, &e), 0);
    assert_true(e.zero && e.length == 100 * (uint64_t)MIB);
    assert_int_equal(s->ops->extent(s, 50 * (uint64_t)MIB, 7, &e), 0);
    assert_true(e.zero && e.length == 7);
    assert_int_equal(s->ops->extent(s, 0, 0, &e), -EINVAL);
    /* another process makes it shorter */
    assert_int_equal(truncate(path, MIB + 10), 0);
    assert_int_equal(s->ops->extent(s, MIB, MIB, &e), 0);
    assert_true(!e.zero && e.length >= 10 && e.length <= MIB);
    assert_int_equal(s->ops->extent(s, 2 * MIB, MIB, &e), 0);
    assert_true(e.zero && e.length == MIB);
    storage_close(s);
    free(data);
    free(path);
}

/* ---- a full disk, and devices ---- */

static void need_root(void) {
    if (geteuid() != 0) {
        print_message("needs root\n");
        skip();
    }
}

static void full_disk(void **state) {
    (void)state;
    need_root();
    char *folder = scratch_path("small");
    assert_int_equal(mkdir(folder, 0700), 0);
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0 ||
        mount("none", folder, "tmpfs", 0, "size=1m") < 0) {
        print_message("cannot mount a tmpfs here\n");
        free(folder);
        skip();
        return;
    }
    char *path = scratch_path("small/full.img");
    uint8_t *data = malloc(2 * MIB);
    memset(data, 9, 2 * MIB);
    struct storage *s;
    struct img_error error;
    for (int cache = IMG_CACHE_WRITEBACK; cache <= IMG_CACHE_NONE; cache += IMG_CACHE_NONE) {
        assert_int_equal(file_create(path, (enum img_cache)cache, &s, &error), 0);
        assert_int_equal(storage_write(s, data, 2 * MIB, 0), -ENOSPC);
        assert_int_equal(storage_size(s), scratch_length(path));
        assert_int_equal(s->ops->truncate(s, 0), 0);
        assert_int_equal(storage_write(s, data, 100000, 3), 0);
        assert_int_equal(s->ops->reserve(s, 0, 2 * MIB), -ENOSPC);
        assert_int_equal(storage_zero(s, 100, 2 * MIB, false), -ENOSPC);
        assert_int_equal(storage_write(s, data, 100000, 3), 0);
        /* what fits, and what needs no space, still works: this file system has holes but no zero ranges */
        assert_int_equal(storage_zero(s, 200, 50000, false), 0);
        assert_int_equal(storage_zero(s, 100003, 16 * MIB, true), 0);
        assert_int_equal(storage_size(s), 100003 + 16 * MIB);
        assert_int_equal(scratch_length(path), 100003 + 16 * MIB);
        assert_reads_zero(s, 200, 50000);
        assert_reads(s, 50200, data, 100003 - 50200);
        storage_close(s);
        unlink(path);
    }
    assert_int_equal(umount(folder), 0);
    free(data);
    free(path);
    free(folder);
}

/* Attaches a loop device to the file; NULL where that is not possible. */
static char *attach_loop(const char *path) {
    char command[8192], name[64] = "";
    snprintf(command, sizeof command, "losetup -f --show '%s' 2>/dev/null", path);
    FILE *p = popen(command, "r");
    if (p == NULL)
        return NULL;
    bool got = fgets(name, sizeof name, p) != NULL;
    if (pclose(p) != 0 || !got)
        return NULL;
    name[strcspn(name, "\n")] = '\0';
    return strdup(name);
}

static void try_device(const char *name, enum img_cache cache) {
    struct storage *s = open_storage(name, IMG_OPEN_WRITE, cache);
    struct file *f = file_of(s);
    assert_true(f->block_device && s->fixed_size && f->block >= 512);
    assert_int_equal(f->direct, cache == IMG_CACHE_NONE);
    assert_true(s->device_id != 0);
    assert_int_equal(storage_size(s), 2 * MIB);
    assert_int_equal(s->ops->truncate(s, MIB), -ENOTSUP);

    uint8_t *data = malloc(2 * MIB);
    memset(data, 0xee, 2 * MIB);
    assert_int_equal(storage_write(s, data, 2 * MIB, 0), 0);
    assert_int_equal(storage_zero(s, 1000, MIB, false), 0);
    check_only_zero(s, 2 * MIB, 1000, MIB);
    assert_int_equal(storage_write(s, data, 2 * MIB, 0), 0);
    assert_int_equal(storage_zero(s, 5, 100, true), 0);
    check_only_zero(s, 2 * MIB, 5, 100);
    assert_int_equal(storage_write(s, data, 2 * MIB, 0), 0);
    assert_int_equal(storage_zero(s, 700000, MIB, true), 0);
    check_only_zero(s, 2 * MIB, 700000, MIB);
    assert_int_equal(storage_write(s, data, 2 * MIB, 0), 0);
    int r = s->ops->punch(s, 1, MIB);
    assert_true(r == 0 || r == -ENOTSUP);
    if (r == 0)
        check_only_zero(s, 2 * MIB, 1, MIB);
    assert_int_equal(storage_write(s, data, 100, 2 * MIB - 100), 0);
    assert_int_equal(storage_write(s, data, 100, 2 * MIB - 50), -ENOSPC);
    assert_int_equal(storage_zero(s, 2 * MIB - 50, 100, true), -ENOSPC);
    assert_reads(s, 2 * MIB - 50, data, 50);
    assert_reads_zero(s, 2 * MIB, 4096);
    struct storage_extent e;
    assert_int_equal(s->ops->extent(s, 0, 2 * MIB, &e), 0);
    assert_true(!e.zero && e.length == 2 * MIB);
    assert_int_equal(storage_flush(s), 0);
    storage_close(s);
    free(data);
}

static void block_device(void **state) {
    (void)state;
    need_root();
    char *path = filled_file("device.img", 2 * MIB);
    char *name = attach_loop(path);
    if (name == NULL) {
        print_message("no loop devices here\n");
        free(path);
        skip();
        return;
    }
    /* Detached now, it goes when the last descriptor does, however the test ends. */
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    char command[128];
    snprintf(command, sizeof command, "losetup -d %s", name);
    assert_int_equal(system(command), 0);
    try_device(name, IMG_CACHE_WRITEBACK);
    try_device(name, IMG_CACHE_NONE);
    close(fd);
    free(name);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_files_and_block_devices),
        cmocka_unit_test(descriptor_flags_are_checked),
        cmocka_unit_test(knows_itself),
        cmocka_unit_test(creates_only_new_files),
        cmocka_unit_test(vectors_move_whole),
        cmocka_unit_test(behind_the_end_are_zeroes),
        cmocka_unit_test(short_writes_go_on),
        cmocka_unit_test(zeroes_exactly),
        cmocka_unit_test(zeroing_extends),
        cmocka_unit_test(punching_gives_space_back_and_keeps_the_length),
        cmocka_unit_test(length_is_kept_up_to_date),
        cmocka_unit_test(sees_holes),
        cmocka_unit_test(full_disk),
        cmocka_unit_test(block_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
