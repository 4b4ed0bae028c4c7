// SPDX-License-Identifier: GPL-3.0-or-later
/* test_open.c - what an open accepts and refuses: locks, kinds of files, flags, header bits, unknown extensions,
 * backing chains; what an image that is open for its metadata only gives and takes; and that a file which is only read
 * stays as it is, byte for byte. Odd headers are made by changing bytes of good ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image_util.h"
#include "img.h"
#include "qcow2/format.h"

/* offsets in the header */
#define INCOMPATIBLE 72
#define AUTOCLEAR 88

/* ---- errors ---- */

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
    for (unsigned bit = 6; bit < 32; bit++) /* flags that do not exist */
        open_fails("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE | 1u << bit}, -EINVAL, "unknown");
    struct img *first = open_flags("image", IMG_OPEN_WRITE);
    open_fails("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE}, -EAGAIN, "image");
    open_fails("image", NULL, -EAGAIN, "image");
    close_image(open_flags("image", IMG_OPEN_FORCE_SHARE));
    close_image(open_flags("image", IMG_OPEN_UNLOCKED | IMG_OPEN_INFO));
    close_image(first);
}

/* ---- images opened for their metadata or for a check ---------- */

static void assert_gives_and_takes_nothing(struct img *image, const char *what) {
    static uint8_t bytes[65536];
    uint64_t size = img_size(image);
    static const uint64_t sizes[] = {0, 512, 65536 + 512, 64ull << 20, 1ull << 40};
    if (img_pread(image, bytes, 512, 0, &err) >= 0)
        fail_msg("%s: data can be read", what);
    if (img_pwrite(image, bytes, 512, 0, &err) >= 0 || img_pwrite_compressed(image, bytes, 65536, 0, &err) >= 0 ||
        img_write_zeroes(image, 0, 65536, 0, &err) >= 0 || img_discard(image, 0, 65536, &err) >= 0)
        fail_msg("%s: data can be written", what);
    for (unsigned i = 0; i < 5; i++) {
        if (img_resize(image, sizes[i], IMG_PREALLOCATION_OFF, IMG_RESIZE_SHRINK, &err) >= 0)
            fail_msg("%s: the size can be changed to %llu", what, (unsigned long long)sizes[i]);
        assert_true(strlen(err.text) > 10);
    }
    assert_int_equal(img_size(image), size);
    close_image(image);
}

/* Whole images and such whose tables cannot be loaded. */
static void test_no_data_without_a_whole_open(void **state) {
    (void)state;
    static const struct {
        const char *options, *what;
        unsigned offset; /* of the header's field that is spoilt; 0: none */
        uint64_t value;
    } kinds[] = {{"lazy_refcounts=off", "a good image", 0, 0},
                 {"data_file=data", "an image with a data file", 0, 0},
                 {"lazy_refcounts=off", "an image with its L1 table far out", 40, 1ull << 50},
                 {"lazy_refcounts=off", "an image with its refcount table far out", 48, 1ull << 50},
                 {"lazy_refcounts=off", "an image that is marked as corrupt", INCOMPATIBLE, QCOW2_INCOMPAT_CORRUPT}};
    static const uint32_t ways[] = {IMG_OPEN_CHECK, IMG_OPEN_INFO, IMG_OPEN_CHECK | IMG_OPEN_INFO};
    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        size_t before, after;
        sh("rm -f image data; qemu-img create -q -f qcow2 -o %s image 1M; qemu-io -c 'write -q -P 1 0 128k' image",
           kinds[i].options);
        if (kinds[i].offset)
            patch64("image", kinds[i].offset, kinds[i].value);
        uint8_t *old = load_file("image", &before);
        for (unsigned k = 0; k < 6; k++) {
            struct img_open_options options = {.flags = ways[k % 3] | (k < 3 ? IMG_OPEN_WRITE : 0), .format = "qcow2"};
            struct img *image;
            if (img_open("image", &options, &image, &err) == 0)
                assert_gives_and_takes_nothing(image, kinds[i].what);
            else if (i < 2)
                fail_msg("%s: %s", kinds[i].what, err.text);
        }
        uint8_t *now = load_file("image", &after);
        assert_int_equal(before, after);
        assert_memory_equal(old, now, before);
        free(old);
        free(now);
    }
    sh("truncate -s 1M image");
    for (unsigned k = 0; k < 3; k++) {
        struct img_open_options options = {.flags = ways[k] | IMG_OPEN_WRITE, .format = "raw"};
        struct img *image;
        assert_int_equal(img_open("image", &options, &image, &err), 0);
        assert_gives_and_takes_nothing(image, "a raw image");
    }
    sh("test $(stat -c %%s image) = 1048576");
}

/* ---- files that are only read ---------- */

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
        create_image("image", &(struct img_create_options){.format = "qcow2", .size = MIB, .cluster_size = 4096});
        sh("qemu-io -f qcow2 -c 'write -q -P 1 4096 64k' image");
        patch64("image", bits[i][0], peek64("image", bits[i][0]) | bits[i][1]);
        uint8_t *old = load_file("image", &before);
        for (unsigned k = 0; k < 5; k++)
            read_everything("image", ways[k]);
        uint8_t *now = load_file("image", &after);
        assert_int_equal(before, after);
        assert_memory_equal(old, now, before);
        free(old);
        free(now);
    }
}

static void test_writable_but_unwritten(void **state) {
    (void)state;
    size_t before, after;
    create_image("image", &(struct img_create_options){.format = "qcow2", .size = MIB});
    patch64("image", AUTOCLEAR, 1ull << 40);
    uint8_t *old = load_file("image", &before);
    close_image(open_flags("image", IMG_OPEN_WRITE));
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    expect_fill(image, 0, MIB, 0);
    assert_int_equal(img_flush(image, &err), 0);
    close_image(image);
    uint8_t *now = load_file("image", &after);
    assert_int_equal(before, after);
    assert_memory_equal(old, now, before);
    free(old);
    free(now);
}

/* ---- header bits ---------- */

static void test_unknown_autoclear_bits(void **state) {
    (void)state;
    create_image("image", &(struct img_create_options){.format = "qcow2", .size = MIB});
    patch64("image", AUTOCLEAR, 1ull << 40 | 1ull << 63);
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    assert_int_equal(peek64("image", AUTOCLEAR), 1ull << 40 | 1ull << 63);
    write_fill(image, 0, 512, 1);
    assert_int_equal(peek64("image", AUTOCLEAR), 0); /* before the change, not at the end */
    close_image(image);
    sh("qemu-img check -q image");
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
    sh("qemu-img create -q -f qcow2 -o lazy_refcounts=on,cluster_size=4096 image 1M;"
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
    sh("qemu-img check -q image");
}

static void test_unknown_extension_is_kept(void **state) {
    (void)state;
    static const uint8_t extension[] = {0x12, 0x34, 0x56, 0x78, 0, 0, 0, 5, 'h', 'e', 'l', 'l', 'o', 0, 0, 0};
    size_t size;
    sh("qemu-img create -q -f qcow2 -o cluster_size=4096 image 1M");
    uint8_t *bytes = load_file("image", &size);
    /* in front of the first extension; what is moved back is the rest of the header's extensions */
    size_t header_length = get32(((struct qcow2_disk_header *)bytes)->header_length);
    memmove(bytes + header_length + sizeof(extension), bytes + header_length, 1024);
    memcpy(bytes + header_length, extension, sizeof(extension));
    patch_file("image", 0, bytes, 4096);
    free(bytes);
    sh("qemu-img check -q image");
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    write_fill(image, 0, MIB, 3);
    assert_int_equal(img_resize(image, 64ull << 30, IMG_PREALLOCATION_OFF, 0, &err), 0); /* moves L1 */
    write_fill(image, 32ull << 30, MIB, 4);
    close_image(image);
    bytes = load_file("image", &size);
    assert_memory_equal(bytes + header_length, extension, sizeof(extension));
    free(bytes);
    sh("qemu-img check -q image");
}

/* A data cluster that is the refcount block: the first write that would land there marks the image. */
static void test_overlap_sets_the_corrupt_bit(void **state) {
    (void)state;
    create_image("image", &(struct img_create_options){.format = "qcow2", .size = MIB});
    sh("qemu-io -f qcow2 -c 'write -q -P 1 0 64k' image");
    uint64_t l1 = peek64("image", 40), refcount_table = peek64("image", 48);
    uint64_t l2 = peek64("image", l1) & QCOW2_OFFSET_MASK, block = peek64("image", refcount_table);
    patch64("image", l2, block | QCOW2_COPIED);
    size_t size;
    uint8_t *before = load_file("image", &size);
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    uint8_t bytes[512] = {7};
    assert_true(img_pwrite(image, bytes, sizeof(bytes), 0, &err) < 0);
    assert_true(strlen(err.text) > 10);
    assert_true(img_pwrite(image, bytes, sizeof(bytes), 128 << 10, &err) < 0); /* and no other write */
    img_close(image, NULL);
    assert_true(peek64("image", INCOMPATIBLE) & QCOW2_INCOMPAT_CORRUPT);
    uint8_t *after = load_file("image", &size);
    assert_memory_equal(before + block, after + block, 65536);
    free(before);
    free(after);
    open_fails("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE}, -EACCES, "corrupt");
}

static void test_data_behind_the_end_is_an_error(void **state) {
    (void)state;
    create_image("image", &(struct img_create_options){.format = "qcow2", .size = MIB});
    sh("qemu-io -f qcow2 -c 'write -q -P 1 0 128k' image");
    uint64_t l2 = peek64("image", peek64("image", 40)) & QCOW2_OFFSET_MASK;
    patch64("image", l2 + 8, (1ull << 40) | QCOW2_COPIED);
    struct img *image = open_flags("image", 0);
    uint8_t byte;
    expect_fill(image, 0, 65536, 1);
    assert_true(img_pread(image, &byte, 1, 65536, &err) < 0); /* never silent zeroes */
    expect_fill(image, 131072, 65536, 0);
    close_image(image);
}

/* ---- names in images ---------- */

static void test_data_file_without_names(void **state) {
    (void)state;
    static const uint32_t ways[] = {0, IMG_OPEN_WRITE, IMG_OPEN_FORCE_SHARE};
    sh("qemu-img create -q -f qcow2 -o data_file=data image 1M; qemu-io -c 'write -q -P 1 0 64k' image");
    for (unsigned i = 0; i < 3; i++)
        open_fails("image", &(struct img_open_options){.flags = ways[i] | IMG_OPEN_NO_BACKING}, -EPERM, "data");
    struct img *image = open_flags("image", 0);
    expect_fill(image, 0, 65536, 1);
    close_image(image);
    struct img_info info;
    image = open_flags("image", IMG_OPEN_NO_BACKING | IMG_OPEN_INFO); /* shows the name and follows it as little */
    assert_int_equal(img_info(image, &info, &err), 0);
    assert_string_equal(info.data_file, "data");
    close_image(image);
}

/* ---- backing chains ---------- */

static void overlay(const char *path, const char *backing, const char *format, uint64_t size) {
    create_image("new", &(struct img_create_options){.format = "qcow2",
                                                     .size = size,
                                                     .backing_file = backing,
                                                     .backing_format = format,
                                                     .backing_unchecked = true});
    assert_int_equal(rename("new", path), 0); /* img_create refuses a backing file of the same name */
}

static void test_backing_shorter_and_longer(void **state) {
    (void)state;
    sh("head -c 100000 /dev/zero | tr '\\0' '\\7' > base.raw");
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
    sh("head -c 4096 /dev/zero | tr '\\0' '\\7' > l0");
    for (unsigned i = 1; i <= 66; i++) {
        snprintf(name, sizeof(name), "l%u", i);
        snprintf(below, sizeof(below), "l%u", i - 1);
        create_image(name, &(struct img_create_options){.format = "qcow2",
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

#define IO(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IO(test_open_errors),
        IO(test_no_data_without_a_whole_open),
        IO(test_reading_changes_nothing),
        IO(test_writable_but_unwritten),
        IO(test_unknown_autoclear_bits),
        IO(test_unknown_incompatible_bits),
        IO(test_corrupt_bit),
        IO(test_dirty_bit_is_repaired),
        IO(test_unknown_extension_is_kept),
        IO(test_overlap_sets_the_corrupt_bit),
        IO(test_data_behind_the_end_is_an_error),
        IO(test_data_file_without_names),
        IO(test_backing_shorter_and_longer),
        IO(test_backing_loops),
        IO(test_backing_depth),
        IO(test_backing_that_is_no_file),
    };
    return cmocka_run_group_tests_name("open", tests, NULL, NULL);
}
