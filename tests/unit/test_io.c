// SPDX-License-Identifier: GPL-3.0-or-later
/* test_io.c - the public calls on raw and qcow2 images, one promise of img.h after the other: ranges, vectors, errors,
 * parts of images as images, descriptors, snapshots, backing chains, and files that are only read and therefore stay as
 * they are.
 *
 * Images are made by img_create where our own layout will do, else by qemu-img; odd headers are made by changing bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "img.h"
#include "qcow2/format.h"

#define MIB (1u << 20)

static char folder[64];
static struct img_error err;

/* ---- helpers ------------------------------------------------------------------------------------ */

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...) {
    char command[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    if (system(command))
        fail_msg("failed: %s", command);
}

static int setup(void **state) {
    (void)state;
    snprintf(folder, sizeof(folder), "/dev/shm/test-io-XXXXXX");
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    if (chdir("/"))
        return -1;
    shell("rm -rf %s", folder);
    return 0;
}

static void create(const char *path, const struct img_create_options *options) {
    if (img_create(path, options, &err))
        fail_msg("img_create %s: %s", path, err.text);
}

static void create_qcow2(const char *path, uint64_t size) {
    create(path, &(struct img_create_options){.format = "qcow2", .size = size});
}

static struct img *open_with(const char *path, const struct img_open_options *options) {
    struct img *image = NULL;
    if (img_open(path, options, &image, &err))
        fail_msg("img_open %s: %s", path, err.text);
    assert_non_null(image);
    return image;
}

static struct img *open_flags(const char *path, uint32_t flags) {
    return open_with(path, &(struct img_open_options){.flags = flags});
}

/* The open must fail with `code` and a sentence that has `word` in it. */
static void open_fails(const char *path, const struct img_open_options *options, int code, const char *word) {
    struct img *image = NULL;
    memset(&err, 0, sizeof(err));
    int rc = img_open(path, options, &image, &err);
    if (rc == 0)
        fail_msg("%s opens", path);
    if (rc != code || err.code != code || !strstr(err.text, word))
        fail_msg("%s: %d '%s', expected %d and '%s'", path, rc, err.text, code, word);
    assert_int_not_equal(err.text[strlen(err.text) - 1], '\n');
}

static void close_image(struct img *image) {
    if (img_close(image, &err))
        fail_msg("img_close: %s", err.text);
}

static void write_fill(struct img *image, uint64_t offset, size_t count, int fill) {
    uint8_t *bytes = malloc(count);
    memset(bytes, fill, count);
    if (img_pwrite(image, bytes, count, offset, &err))
        fail_msg("img_pwrite: %s", err.text);
    free(bytes);
}

static void expect_fill(struct img *image, uint64_t offset, size_t count, int fill) {
    uint8_t *bytes = malloc(count);
    memset(bytes, ~fill, count);
    if (img_pread(image, bytes, count, offset, &err))
        fail_msg("img_pread: %s", err.text);
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != (uint8_t)fill)
            fail_msg("offset %llu reads as 0x%02x, not 0x%02x", (unsigned long long)(offset + i), bytes[i], fill);
    free(bytes);
}

static uint8_t *load(const char *path, size_t *size) {
    struct stat st;
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    uint8_t *bytes = malloc((size_t)st.st_size + 1);
    assert_int_equal(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
    close(fd);
    *size = (size_t)st.st_size;
    return bytes;
}

static void patch(const char *path, uint64_t offset, const void *bytes, size_t count) {
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, count, (off_t)offset), count);
    close(fd);
}

static void patch64(const char *path, uint64_t offset, uint64_t value) {
    be64 raw = put64(value);
    patch(path, offset, &raw, sizeof(raw));
}

static uint64_t peek64(const char *path, uint64_t offset) {
    be64 raw;
    int fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, &raw, sizeof(raw), (off_t)offset), sizeof(raw));
    close(fd);
    return get64(raw);
}

#define INCOMPATIBLE 72
#define AUTOCLEAR 88

/* ---- ranges and vectors -------------------------------------------------------------------------- */

static void make_kind(unsigned kind) {
    if (kind == 0)
        create("image", &(struct img_create_options){.format = "raw", .size = MIB});
    else
        create("image",
               &(struct img_create_options){.format = "qcow2", .size = MIB, .cluster_size = kind == 1 ? 512 : 65536});
}

static void test_ranges(void **state) {
    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        uint8_t byte[2] = {1, 2};
        struct img_extent e;
        make_kind(kind);
        struct img *image =
            open_with("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE, .format = kind ? "qcow2" : "raw"});
        assert_int_equal(img_size(image), MIB);
        assert_string_equal(img_format(image), kind ? "qcow2" : "raw");
        assert_int_equal(img_cluster_size(image), kind == 0 ? 0 : kind == 1 ? 512 : 65536);
        static const uint64_t bad[][2] = {
            {MIB, 1}, {MIB - 1, 2}, {UINT64_MAX, 1}, {UINT64_MAX, UINT64_MAX}, {1, UINT64_MAX}};
        for (unsigned i = 0; i < 3; i++) {
            memset(&err, 0, sizeof(err));
            assert_int_equal(img_pread(image, byte, bad[i][1], bad[i][0], &err), -EINVAL);
            assert_int_equal(err.code, -EINVAL);
            assert_true(err.text[0]);
            assert_int_equal(img_pwrite(image, byte, bad[i][1], bad[i][0], NULL), -EINVAL);
        }
        for (unsigned i = 0; i < 5; i++) {
            assert_int_equal(img_write_zeroes(image, bad[i][0], bad[i][1], 0, NULL), -EINVAL);
            assert_int_equal(img_discard(image, bad[i][0], bad[i][1], NULL), -EINVAL);
            assert_int_equal(img_map(image, bad[i][0], bad[i][1], false, &e, NULL), -EINVAL);
        }
        assert_int_equal(img_map(image, 0, 0, false, &e, NULL), -EINVAL);
        /* nothing at the very end is nothing, not an error */
        assert_int_equal(img_pread(image, byte, 0, MIB, &err), 0);
        assert_int_equal(img_pwrite(image, byte, 0, MIB, &err), 0);
        assert_int_equal(img_write_zeroes(image, MIB, 0, 0, &err), 0);
        assert_int_equal(img_discard(image, 0, 0, &err), 0);
        assert_int_equal(img_pwrite(image, byte, 1, MIB - 1, &err), 0);
        expect_fill(image, MIB - 1, 1, 1);
        expect_fill(image, 0, MIB - 1, 0);
        close_image(image);
    }
}

static void test_vectors(void **state) {
    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        static uint8_t in[MIB], out[MIB];
        struct iovec *iov = calloc(IOV_MAX + 1, sizeof(*iov));
        make_kind(kind);
        struct img *image = open_flags("image", IMG_OPEN_WRITE);
        for (unsigned i = 0; i < MIB; i++)
            in[i] = (uint8_t)(i * 7 + (i >> 8));
        /* uneven pieces, some of them empty, as many as the system takes */
        size_t at = 0;
        for (unsigned i = 0; i < IOV_MAX; i++) {
            size_t piece = i % 5 == 4 ? 0 : i % 3 * 201 + 1;
            iov[i] = (struct iovec){in + at, piece};
            at += piece;
        }
        assert_true(at < MIB);
        assert_int_equal(img_pwritev(image, iov, IOV_MAX, 777, &err), 0);
        assert_int_equal(img_pread(image, out, at, 777, &err), 0);
        assert_memory_equal(in, out, at);
        memset(out, 0, sizeof(out));
        for (unsigned i = 0; i < IOV_MAX; i++)
            iov[i].iov_base = out + ((uint8_t *)iov[i].iov_base - in);
        assert_int_equal(img_preadv(image, iov, IOV_MAX, 777, &err), 0);
        assert_memory_equal(in, out, at);
        iov[IOV_MAX] = (struct iovec){out, 1};
        assert_int_equal(img_preadv(image, iov, IOV_MAX + 1, 0, NULL), -EINVAL);
        assert_int_equal(img_preadv(image, iov, -1, 0, NULL), -EINVAL);
        assert_int_equal(img_preadv(image, iov, 0, 0, NULL), 0);
        /* lengths whose sum does not fit */
        iov[0].iov_len = iov[1].iov_len = SIZE_MAX / 2 + 1;
        assert_int_equal(img_preadv(image, iov, 2, 0, NULL), -EINVAL);
        expect_fill(image, 0, 777, 0);
        close_image(image);
        free(iov);
    }
}

static void test_read_only(void **state) {
    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        uint8_t byte = 1;
        make_kind(kind);
        struct img *image = open_flags("image", 0);
        assert_true(img_pwrite(image, &byte, 1, 0, &err) < 0);
        assert_true(err.text[0]);
        assert_true(img_write_zeroes(image, 0, 512, 0, NULL) < 0);
        assert_true(img_discard(image, 0, 512, NULL) < 0);
        assert_true(img_resize(image, 2 * MIB, IMG_PREALLOCATION_OFF, 0, NULL) < 0);
        assert_int_equal(img_flush(image, NULL), 0);
        close_image(image);
    }
    assert_int_equal(img_close(NULL, NULL), 0);
}

static void test_open_errors(void **state) {
    (void)state;
    create_qcow2("image", MIB);
    open_fails("nothing-here", NULL, -ENOENT, "nothing-here");
    open_fails(".", NULL, -EISDIR, ".");
    open_fails("image", &(struct img_open_options){.format = "vmdk"}, -ENOTSUP, "vmdk");
    open_fails("image", &(struct img_open_options){.snapshot = "none"}, -ENOENT, "none");
    open_fails("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE | IMG_OPEN_FORCE_SHARE}, -EINVAL, "share");
    assert_int_equal(mkfifo("fifo", 0600), 0);
    alarm(20); /* an open of a FIFO that waits for a writer would never end */
    struct img *image;
    assert_true(img_open("fifo", NULL, &image, &err) < 0);
    alarm(0);
    struct img *first = open_flags("image", IMG_OPEN_WRITE);
    open_fails("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE}, -EAGAIN, "image");
    open_fails("image", NULL, -EAGAIN, "image");
    close_image(open_flags("image", IMG_OPEN_FORCE_SHARE));
    close_image(open_flags("image", IMG_OPEN_UNLOCKED | IMG_OPEN_INFO));
    close_image(first);
}

/* ---- other ways to an image ------------------------------------------------------------------------- */

static void test_descriptor(void **state) {
    (void)state;
    struct img *image;
    create_qcow2("image", MIB);
    int fd = open("image", O_RDWR);
    assert_int_equal(img_open_fd(fd, &(struct img_open_options){.flags = IMG_OPEN_WRITE}, &image, &err), 0);
    close(fd); /* ours was a duplicate */
    write_fill(image, 1000, 1000, 5);
    close_image(image);
    fd = open("image", O_RDONLY);
    assert_true(img_open_fd(fd, &(struct img_open_options){.flags = IMG_OPEN_WRITE}, &image, &err) < 0);
    assert_int_equal(img_open_fd(fd, NULL, &image, &err), 0);
    expect_fill(image, 1000, 1000, 5);
    close_image(image);
    close(fd);
    assert_true(img_open_fd(-1, NULL, &image, &err) < 0);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_true(img_open_fd(ends[0], NULL, &image, &err) < 0);
    close(ends[0]);
    close(ends[1]);
}

static void test_range_of_a_disk(void **state) {
    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        struct img *part, *bad;
        struct img_open_options raw = {.flags = IMG_OPEN_WRITE, .format = "raw"};
        make_kind(kind);
        struct img *disk = open_flags("image", IMG_OPEN_WRITE);
        write_fill(disk, 0, MIB, 1);
        assert_int_equal(img_open_range(disk, 63 * 512, 100 * 512, &raw, &part, &err), 0);
        assert_int_equal(img_size(part), 100 * 512);
        expect_fill(part, 0, 100 * 512, 1);
        write_fill(part, 0, 100 * 512, 2);
        assert_int_equal(img_write_zeroes(part, 512, 512, 0, &err), 0);
        assert_int_equal(img_pwrite(part, "x", 1, 100 * 512, NULL), -EINVAL);
        assert_int_equal(img_flush(part, &err), 0);
        close_image(part);
        expect_fill(disk, 0, 63 * 512, 1);
        expect_fill(disk, 63 * 512, 512, 2);
        expect_fill(disk, 64 * 512, 512, 0);
        expect_fill(disk, 163 * 512, 512, 1);
        assert_true(img_open_range(disk, MIB - 512, 1024, &raw, &bad, &err) < 0);
        assert_true(img_open_range(disk, UINT64_MAX - 511, 1024, &raw, &bad, &err) < 0);
        close_image(disk);
    }
}

static void test_qcow2_inside_a_range(void **state) {
    (void)state;
    struct img *inner;
    create_qcow2("inner", 64 << 10);
    shell("qemu-io -f qcow2 -c 'write -q -P 7 0 4096' inner");
    create("outer", &(struct img_create_options){.format = "qcow2", .size = 2 * MIB});
    struct img *outer = open_flags("outer", IMG_OPEN_WRITE);
    size_t size;
    uint8_t *bytes = load("inner", &size);
    assert_int_equal(img_pwrite(outer, bytes, size, 12345 * 4, &err), 0);
    free(bytes);
    assert_int_equal(img_open_range(outer, 12345 * 4, size, NULL, &inner, &err), 0);
    assert_string_equal(img_format(inner), "qcow2");
    expect_fill(inner, 0, 4096, 7);
    expect_fill(inner, 4096, (64 << 10) - 4096, 0);
    close_image(inner);
    close_image(outer);
}

static void test_read_only_parent(void **state) {
    (void)state;
    struct img *part;
    make_kind(1);
    struct img *disk = open_flags("image", 0);
    int rc = img_open_range(disk, 0, 4096, &(struct img_open_options){.flags = IMG_OPEN_WRITE, .format = "raw"}, &part,
                            &err);
    assert_true(rc < 0);
    close_image(disk);
}

static void test_snapshot_is_read_only(void **state) {
    (void)state;
    create("image", &(struct img_create_options){.format = "qcow2", .size = MIB, .cluster_size = 4096});
    shell("qemu-io -f qcow2 -c 'write -q -P 1 0 64k' image; qemu-img snapshot -c first image;"
          "qemu-io -f qcow2 -c 'write -q -P 2 0 32k' image; qemu-img snapshot -c second image");
    open_fails("image", &(struct img_open_options){.snapshot = "first", .flags = IMG_OPEN_WRITE}, -EINVAL, "first");
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    write_fill(image, 0, 16 << 10, 3);
    assert_int_equal(img_discard(image, 16 << 10, 16 << 10, &err), 0);
    struct img_info info;
    assert_int_equal(img_info(image, &info, &err), 0);
    assert_int_equal(info.nsnapshots, 2);
    assert_string_equal(info.snapshots[0].name, "first");
    assert_string_equal(info.snapshots[1].id, "2");
    close_image(image);

    image = open_with("image", &(struct img_open_options){.snapshot = "first"});
    expect_fill(image, 0, 64 << 10, 1);
    assert_true(img_pwrite(image, "x", 1, 0, NULL) < 0);
    close_image(image);
    image = open_with("image", &(struct img_open_options){.snapshot = "2"}); /* by id */
    expect_fill(image, 0, 32 << 10, 2);
    expect_fill(image, 32 << 10, 32 << 10, 1);
    close_image(image);
    image = open_flags("image", 0);
    expect_fill(image, 0, 16 << 10, 3);
    expect_fill(image, 16 << 10, 16 << 10, 0);
    close_image(image);
    shell("qemu-img check -q image");
}

/* ---- files that are only read -------------------------------------------------------------------------- */

static void read_everything(const char *path, uint32_t flags) {
    struct img *image = NULL;
    struct img_info info;
    struct img_check_result result;
    struct img_extent e;
    uint8_t buffer[4096];
    if (img_open(path, &(struct img_open_options){.flags = flags}, &image, NULL))
        return;
    (void)!img_info(image, &info, NULL);
    (void)!img_check(image, NULL, &result, NULL);
    for (uint64_t at = 0; at < img_size(image); at += sizeof(buffer)) {
        (void)!img_pread(image, buffer, sizeof(buffer), at, NULL);
        (void)!img_map(image, at, img_size(image) - at, false, &e, NULL);
    }
    (void)!img_flush(image, NULL);
    img_close(image, NULL);
}

static void test_reading_changes_nothing(void **state) {
    (void)state;
    static const uint64_t bits[][2] = {{INCOMPATIBLE, 0},
                                       {INCOMPATIBLE, QCOW2_INCOMPAT_DIRTY},
                                       {INCOMPATIBLE, QCOW2_INCOMPAT_CORRUPT},
                                       {AUTOCLEAR, 1ull << 40},
                                       {AUTOCLEAR, QCOW2_AUTOCLEAR_BITMAPS}};
    static const uint32_t ways[] = {0, IMG_OPEN_INFO, IMG_OPEN_CHECK, IMG_OPEN_NO_BACKING, IMG_OPEN_FORCE_SHARE};
    for (unsigned i = 0; i < 5; i++) {
        size_t before, after;
        create("image", &(struct img_create_options){.format = "qcow2", .size = MIB, .cluster_size = 4096});
        shell("qemu-io -f qcow2 -c 'write -q -P 1 4096 64k' image");
        patch64("image", bits[i][0], peek64("image", bits[i][0]) | bits[i][1]);
        uint8_t *old = load("image", &before);
        for (unsigned k = 0; k < 5; k++)
            read_everything("image", ways[k]);
        uint8_t *now = load("image", &after);
        assert_int_equal(before, after);
        assert_memory_equal(old, now, before);
        free(old);
        free(now);
    }
}

static void test_writable_but_unwritten(void **state) {
    (void)state;
    size_t before, after;
    create("image", &(struct img_create_options){.format = "qcow2", .size = MIB});
    patch64("image", AUTOCLEAR, 1ull << 40);
    uint8_t *old = load("image", &before);
    close_image(open_flags("image", IMG_OPEN_WRITE));
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    expect_fill(image, 0, MIB, 0);
    assert_int_equal(img_flush(image, &err), 0);
    close_image(image);
    uint8_t *now = load("image", &after);
    assert_int_equal(before, after);
    assert_memory_equal(old, now, before);
    free(old);
    free(now);
}

/* ---- header bits ------------------------------------------------------------------------------------------ */

static void test_unknown_autoclear_bits(void **state) {
    (void)state;
    create("image", &(struct img_create_options){.format = "qcow2", .size = MIB});
    patch64("image", AUTOCLEAR, 1ull << 40 | 1ull << 63);
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    assert_int_equal(peek64("image", AUTOCLEAR), 1ull << 40 | 1ull << 63);
    write_fill(image, 0, 512, 1);
    assert_int_equal(peek64("image", AUTOCLEAR), 0); /* before the change, not at the end */
    close_image(image);
    shell("qemu-img check -q image");
}

static void test_unknown_incompatible_bits(void **state) {
    (void)state;
    create_qcow2("image", MIB);
    patch64("image", INCOMPATIBLE, 1ull << 50);
    open_fails("image", NULL, -ENOTSUP, "incompatible");
    open_fails("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE}, -ENOTSUP, "incompatible");
}

static void test_corrupt_bit(void **state) {
    (void)state;
    create_qcow2("image", MIB);
    patch64("image", INCOMPATIBLE, QCOW2_INCOMPAT_CORRUPT);
    open_fails("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE}, -EACCES, "corrupt");
    struct img *image = open_flags("image", 0);
    struct img_info info;
    assert_int_equal(img_info(image, &info, &err), 0);
    assert_true(info.corrupt);
    expect_fill(image, 0, MIB, 0);
    close_image(image);
}

static void test_dirty_bit_is_repaired(void **state) {
    (void)state;
    shell("qemu-img create -q -f qcow2 -o lazy_refcounts=on,cluster_size=4096 image 1M;"
          "qemu-io -f qcow2 -c 'write -q -P 9 0 128k' -c flush -c 'sigraise 9' image 2>/dev/null || true");
    assert_true(peek64("image", INCOMPATIBLE) & QCOW2_INCOMPAT_DIRTY);
    struct img *image = open_flags("image", 0);
    expect_fill(image, 0, 128 << 10, 9);
    close_image(image);
    image = open_flags("image", IMG_OPEN_WRITE);
    expect_fill(image, 0, 128 << 10, 9);
    write_fill(image, 512 << 10, 64 << 10, 4);
    expect_fill(image, 0, 128 << 10, 9);
    close_image(image);
    assert_false(peek64("image", INCOMPATIBLE) & QCOW2_INCOMPAT_DIRTY);
    shell("qemu-img check -q image");
}

static void test_unknown_extension_is_kept(void **state) {
    (void)state;
    static const uint8_t extension[] = {0x12, 0x34, 0x56, 0x78, 0, 0, 0, 5, 'h', 'e', 'l', 'l', 'o', 0, 0, 0};
    size_t size;
    shell("qemu-img create -q -f qcow2 -o cluster_size=4096 image 1M");
    uint8_t *bytes = load("image", &size);
    /* in front of the first extension; what is moved back is the rest of the header's extensions */
    size_t header_length = get32(((struct qcow2_disk_header *)bytes)->header_length);
    memmove(bytes + header_length + sizeof(extension), bytes + header_length, 1024);
    memcpy(bytes + header_length, extension, sizeof(extension));
    patch("image", 0, bytes, 4096);
    free(bytes);
    shell("qemu-img check -q image");
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    write_fill(image, 0, MIB, 3);
    assert_int_equal(img_resize(image, 64ull << 30, IMG_PREALLOCATION_OFF, 0, &err), 0); /* moves L1 */
    write_fill(image, 32ull << 30, MIB, 4);
    close_image(image);
    bytes = load("image", &size);
    assert_memory_equal(bytes + header_length, extension, sizeof(extension));
    free(bytes);
    shell("qemu-img check -q image");
}

/* A data cluster that is the refcount block: the first write that would land there marks the image. */
static void test_overlap_sets_the_corrupt_bit(void **state) {
    (void)state;
    create("image", &(struct img_create_options){.format = "qcow2", .size = MIB});
    shell("qemu-io -f qcow2 -c 'write -q -P 1 0 64k' image");
    uint64_t l1 = peek64("image", 40), refcount_table = peek64("image", 48);
    uint64_t l2 = peek64("image", l1) & QCOW2_OFFSET_MASK, block = peek64("image", refcount_table);
    patch64("image", l2, block | QCOW2_COPIED);
    size_t size;
    uint8_t *before = load("image", &size);
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    uint8_t bytes[512] = {7};
    assert_true(img_pwrite(image, bytes, sizeof(bytes), 0, &err) < 0);
    assert_true(strlen(err.text) > 10);
    assert_true(img_pwrite(image, bytes, sizeof(bytes), 128 << 10, &err) < 0); /* and no other write */
    img_close(image, NULL);
    assert_true(peek64("image", INCOMPATIBLE) & QCOW2_INCOMPAT_CORRUPT);
    uint8_t *after = load("image", &size);
    assert_memory_equal(before + block, after + block, 65536);
    free(before);
    free(after);
    open_fails("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE}, -EACCES, "corrupt");
}

static void test_data_behind_the_end_is_an_error(void **state) {
    (void)state;
    create("image", &(struct img_create_options){.format = "qcow2", .size = MIB});
    shell("qemu-io -f qcow2 -c 'write -q -P 1 0 128k' image");
    uint64_t l2 = peek64("image", peek64("image", 40)) & QCOW2_OFFSET_MASK;
    patch64("image", l2 + 8, (1ull << 40) | QCOW2_COPIED);
    struct img *image = open_flags("image", 0);
    uint8_t byte;
    expect_fill(image, 0, 65536, 1);
    assert_true(img_pread(image, &byte, 1, 65536, &err) < 0); /* never silent zeroes */
    expect_fill(image, 131072, 65536, 0);
    close_image(image);
}

/* ---- backing chains ------------------------------------------------------------------------------------------ */

static void overlay(const char *path, const char *backing, const char *format, uint64_t size) {
    create("new", &(struct img_create_options){.format = "qcow2",
                                               .size = size,
                                               .backing_file = backing,
                                               .backing_format = format,
                                               .backing_unchecked = true});
    assert_int_equal(rename("new", path), 0); /* img_create refuses a backing file of the same name */
}

static void test_backing_shorter_and_longer(void **state) {
    (void)state;
    shell("head -c 100000 /dev/zero | tr '\\0' '\\7' > base.raw");
    overlay("longer", "base.raw", "raw", MIB);
    overlay("shorter", "base.raw", "raw", 50 * 1024);
    struct img *image = open_flags("longer", IMG_OPEN_WRITE);
    assert_true(img_has_backing(image));
    assert_non_null(img_backing(image));
    expect_fill(image, 0, 100000, 7);
    expect_fill(image, 100000, MIB - 100000, 0);
    write_fill(image, 99999, 2, 8);
    expect_fill(image, 99998, 1, 7);
    expect_fill(image, 100001, 1000, 0);
    close_image(image);
    image = open_flags("shorter", IMG_OPEN_WRITE);
    expect_fill(image, 0, 50 * 1024, 7);
    assert_int_equal(img_resize(image, 80 * 1024, IMG_PREALLOCATION_OFF, 0, &err), 0);
    expect_fill(image, 50 * 1024, 30 * 1024, 0); /* new space is zero, whatever lies below */
    close_image(image);
    image = open_flags("longer", IMG_OPEN_NO_BACKING);
    assert_true(img_has_backing(image));
    assert_null(img_backing(image));
    expect_fill(image, 65536 * 2, 65536, 0);
    close_image(image);
}

static void test_backing_loops(void **state) {
    (void)state;
    overlay("self", "self", "qcow2", MIB);
    open_fails("self", NULL, -ELOOP, "self");
    overlay("a", "b", "qcow2", MIB);
    overlay("b", "c", "qcow2", MIB);
    overlay("c", "./a", "qcow2", MIB);
    open_fails("a", NULL, -ELOOP, "");
    assert_int_equal(link("self", "twin"), 0); /* the same file under another name */
    overlay("x", "self", "qcow2", MIB);
    open_fails("x", NULL, -ELOOP, "");
    close_image(open_flags("self", IMG_OPEN_INFO));
    close_image(open_flags("self", IMG_OPEN_NO_BACKING));
}

static void test_backing_depth(void **state) {
    (void)state;
    char name[16], below[16];
    shell("head -c 4096 /dev/zero | tr '\\0' '\\7' > l0");
    for (unsigned i = 1; i <= 66; i++) {
        snprintf(name, sizeof(name), "l%u", i);
        snprintf(below, sizeof(below), "l%u", i - 1);
        create(name, &(struct img_create_options){.format = "qcow2",
                                                  .size = 4096,
                                                  .cluster_size = 512,
                                                  .backing_file = below,
                                                  .backing_format = i == 1 ? "raw" : "qcow2",
                                                  .backing_unchecked = true});
    }
    struct img *image = open_flags("l60", 0);
    expect_fill(image, 0, 4096, 7);
    struct img_extent e;
    assert_int_equal(img_map(image, 0, 4096, false, &e, &err), 0);
    assert_int_equal(e.depth, 60);
    close_image(image);
    open_fails("l66", NULL, -ELOOP, "");
}

static void test_backing_that_is_no_file(void **state) {
    (void)state;
    static const char *const bad[] = {
        "fifo", "/dev/zero", "/dev/null", "folder", "missing", "nbd://localhost/x", "json:{\"driver\":\"null-co\"}",
        ""};
    assert_int_equal(mkfifo("fifo", 0600), 0);
    assert_int_equal(mkdir("folder", 0700), 0);
    alarm(60);
    for (unsigned i = 0; i < 7; i++) {
        struct img *image;
        overlay("image", bad[i], "raw", MIB);
        int rc = img_open("image", NULL, &image, &err);
        if (rc == 0)
            fail_msg("a backing file '%s' is opened", bad[i]);
        assert_true(strlen(err.text) > 10);
        close_image(open_flags("image", IMG_OPEN_NO_BACKING));
        image = open_flags("image", IMG_OPEN_INFO);
        struct img_info info;
        assert_int_equal(img_info(image, &info, &err), 0);
        assert_string_equal(info.backing_file, bad[i]);
        close_image(image);
    }
    alarm(0);
}

/* ---- raw -------------------------------------------------------------------------------------------------------- */

static void test_probed_raw_stays_raw(void **state) {
    (void)state;
    uint8_t sector[512] = "QFI\xfb";
    create("image", &(struct img_create_options){.format = "raw", .size = MIB});
    struct img *image = open_flags("image", IMG_OPEN_WRITE); /* no format given */
    assert_int_equal(img_pwrite(image, sector, sizeof(sector), 0, &err), -EPERM);
    assert_int_equal(err.code, -EPERM);
    struct iovec iov[] = {{sector, 1}, {sector + 1, 2}, {sector + 3, 509}}; /* the magic in pieces */
    assert_int_equal(img_pwritev(image, iov, 3, 0, &err), -EPERM);
    expect_fill(image, 0, 512, 0);
    write_fill(image, 0, 512, 1);
    assert_int_equal(img_pwrite(image, sector, sizeof(sector), 512, &err), 0);
    close_image(image);
    image = open_with("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE, .format = "raw"});
    assert_int_equal(img_pwrite(image, sector, sizeof(sector), 0, &err), 0); /* who says raw may */
    close_image(image);
}

static void test_odd_raw_file(void **state) {
    (void)state;
    shell("head -c 1000 /dev/zero | tr '\\0' '\\7' > image");
    struct img *image = open_with("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE, .format = "raw"});
    assert_int_equal(img_size(image), 1024);
    expect_fill(image, 0, 1000, 7);
    expect_fill(image, 1000, 24, 0);
    write_fill(image, 1020, 4, 9);
    expect_fill(image, 1000, 20, 0);
    expect_fill(image, 1020, 4, 9);
    close_image(image);
}

/* ---- compressed writes ----------------------------------------------------------------------------------------------
 */

static void test_compressed_rules(void **state) {
    (void)state;
    static uint8_t bytes[MIB];
    create("image", &(struct img_create_options){.format = "qcow2", .size = MIB - 512});
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    memset(bytes, 3, sizeof(bytes));
    assert_int_equal(img_pwrite_compressed(image, bytes, 65536, 512, NULL), -EINVAL);
    assert_int_equal(img_pwrite_compressed(image, bytes, 512, 0, NULL), -EINVAL);
    assert_int_equal(img_pwrite_compressed(image, bytes, 131072, 65536, &err), 0);
    assert_int_equal(img_pwrite_compressed(image, bytes, 65536 - 512, 15 * 65536, &err), 0); /* the short last one */
    expect_fill(image, 65536, 131072, 3);
    expect_fill(image, 15 * 65536, 65536 - 512, 3);
    struct img_extent e;
    assert_int_equal(img_map(image, 65536, 65536, false, &e, &err), 0);
    assert_true(e.flags & IMG_EXTENT_COMPRESSED);
    write_fill(image, 70000, 10, 4); /* unpacked, changed, stored plainly */
    expect_fill(image, 65536, 70000 - 65536, 3);
    expect_fill(image, 70000, 10, 4);
    expect_fill(image, 70010, 61062, 3);
    assert_int_equal(img_pwrite_compressed(image, bytes, 65536, 65536, &err), 0); /* over an allocated one */
    expect_fill(image, 65536, 65536, 3);
    close_image(image);
    shell("qemu-img check -q image");
    create("raw", &(struct img_create_options){.format = "raw", .size = MIB});
    image = open_with("raw", &(struct img_open_options){.flags = IMG_OPEN_WRITE, .format = "raw"});
    assert_int_equal(img_pwrite_compressed(image, bytes, 65536, 0, NULL), -ENOTSUP);
    close_image(image);
}

/* ---- drain
 * ------------------------------------------------------------------------------------------------------------ */

struct drained {
    struct img *image;
    atomic_bool stop;
    atomic_uint writes;
};

static void *keep_writing(void *opaque) {
    struct drained *d = opaque;
    uint8_t bytes[4096] = {1};
    for (unsigned i = 0; !atomic_load(&d->stop); i++) {
        if (img_pwrite(d->image, bytes, sizeof(bytes), i % 256 * 4096, NULL))
            break;
        atomic_fetch_add(&d->writes, 1);
    }
    return NULL;
}

static void test_drain(void **state) {
    (void)state;
    pthread_t threads[3];
    make_kind(2);
    struct drained d = {.image = open_flags("image", IMG_OPEN_WRITE)};
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, keep_writing, &d), 0);
    for (unsigned i = 0; i < 20; i++) {
        struct timespec pause = {.tv_nsec = 5000000};
        assert_int_equal(img_drain(d.image, &err), 0);
        nanosleep(&pause, NULL); /* a call that had ended its work may still have to count it */
        unsigned before = atomic_load(&d.writes);
        if (i % 2)
            assert_int_equal(img_drain(d.image, &err), 0);
        nanosleep(&pause, NULL);
        assert_int_equal(atomic_load(&d.writes), before);
        img_resume(d.image);
        if (i % 2) {
            nanosleep(&pause, NULL);
            assert_int_equal(atomic_load(&d.writes), before); /* the first still holds */
            img_resume(d.image);
        }
        while (atomic_load(&d.writes) == before)
            nanosleep(&pause, NULL);
    }
    atomic_store(&d.stop, true);
    for (unsigned i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    close_image(d.image);
}

#define IO(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        IO(test_ranges),
        IO(test_vectors),
        IO(test_read_only),
        IO(test_open_errors),
        IO(test_descriptor),
        IO(test_range_of_a_disk),
        IO(test_qcow2_inside_a_range),
        IO(test_read_only_parent),
        IO(test_snapshot_is_read_only),
        IO(test_reading_changes_nothing),
        IO(test_writable_but_unwritten),
        IO(test_unknown_autoclear_bits),
        IO(test_unknown_incompatible_bits),
        IO(test_corrupt_bit),
        IO(test_dirty_bit_is_repaired),
        IO(test_unknown_extension_is_kept),
        IO(test_overlap_sets_the_corrupt_bit),
        IO(test_data_behind_the_end_is_an_error),
        IO(test_backing_shorter_and_longer),
        IO(test_backing_loops),
        IO(test_backing_depth),
        IO(test_backing_that_is_no_file),
        IO(test_probed_raw_stays_raw),
        IO(test_odd_raw_file),
        IO(test_compressed_rules),
        IO(test_drain),
    };
    return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
