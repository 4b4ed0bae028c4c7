// SPDX-License-Identifier: GPL-3.0-or-later
/* test_io.c - the public calls on open raw and qcow2 images, one promise of img.h after the other: ranges, vectors,
 * parts of images as images, descriptors, snapshots, compressed writes, drain.
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
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "image_util.h"
#include "img.h"
#include "qcow2/format.h"

/* ---- ranges and vectors ---------- */

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

/* Flags that do not exist yet may mean something one day: nobody must get used to them. */
static void test_unknown_flags(void **state) {
    (void)state;
    for (unsigned kind = 0; kind < 3; kind++) {
        make_kind(kind);
        struct img *image = open_flags("image", IMG_OPEN_WRITE);
        struct img_check_result result;
        write_fill(image, 0, MIB, 1);
        for (unsigned bit = 0; bit < 32; bit++) {
            struct img_check_options options = {.flags = 1u << bit | IMG_CHECK_REPAIR_LEAKS};
            if (bit >= 1) {
                assert_int_equal(img_write_zeroes(image, 0, 4096, 1u << bit, &err), -EINVAL);
                assert_int_equal(img_write_zeroes(image, 0, 4096, 1u << bit | IMG_ZERO_MAY_UNMAP, &err), -EINVAL);
                assert_int_equal(img_resize(image, 2 * MIB, IMG_PREALLOCATION_OFF, 1u << bit, &err), -EINVAL);
                assert_int_equal(img_resize(image, MIB / 2, IMG_PREALLOCATION_OFF, 1u << bit | 1, &err), -EINVAL);
                assert_int_equal(err.code, -EINVAL);
            }
            if (bit >= 2)
                assert_int_equal(img_check(image, &options, &result, &err), kind ? -EINVAL : -ENOTSUP);
        }
        assert_int_equal(img_size(image), MIB);
        expect_fill(image, 0, MIB, 1);
        close_image(image);
    }
    /* a check that is refused repairs nothing */
    create_qcow2("leaky", MIB);
    sh("qemu-io -f qcow2 -c 'write -q 0 64k' leaky");
    patch64("leaky", peek64("leaky", peek64("leaky", 40)) & QCOW2_OFFSET_MASK, 0);
    struct img *image = open_flags("leaky", IMG_OPEN_WRITE);
    struct img_check_result result;
    struct img_check_options options = {.flags = 1u << 5 | IMG_CHECK_REPAIR_LEAKS};
    assert_int_equal(img_check(image, &options, &result, &err), -EINVAL);
    assert_int_equal(img_check(image, NULL, &result, &err), 0);
    assert_int_equal(result.leaks, 1);
    close_image(image);
}

/* ---- other ways to an image ---------- */

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
    sh("qemu-io -f qcow2 -c 'write -q -P 7 0 4096' inner");
    create_image("outer", &(struct img_create_options){.format = "qcow2", .size = 2 * MIB});
    struct img *outer = open_flags("outer", IMG_OPEN_WRITE);
    size_t size;
    uint8_t *bytes = load_file("inner", &size);
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
    create_image("image", &(struct img_create_options){.format = "qcow2", .size = MIB, .cluster_size = 4096});
    sh("qemu-io -f qcow2 -c 'write -q -P 1 0 64k' image; qemu-img snapshot -c first image;"
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
    sh("qemu-img check -q image");
}

/* ---- raw ---------- */

static void test_probed_raw_stays_raw(void **state) {
    (void)state;
    uint8_t sector[512] = "QFI\xfb";
    create_image("image", &(struct img_create_options){.format = "raw", .size = MIB});
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

/* A copy into a probed raw image is a write like any other. */
static void test_copies_into_probed_raw(void **state) {
    (void)state;
    uint8_t sector[512] = "QFI\xfb";
    struct img *source, *target;
    for (unsigned i = 0; i < 4; i++) { /* all of the magic comes from the source, or a part of it */
        bool whole = i % 2 == 0, asked = i >= 2;
        struct img_open_options raw = {.flags = IMG_OPEN_WRITE, .format = "raw"};
        struct img_copy_options options = {.target_offset = whole ? 0 : 2};
        create_image("source", &(struct img_create_options){.format = "raw", .size = MIB});
        create_image("target", &(struct img_create_options){.format = "raw", .size = 2 * MIB});
        source = open_with("source", &raw);
        write_fill(source, 0, MIB, 5);
        assert_int_equal(img_pwrite(source, sector + options.target_offset, 100, 0, &err), 0);
        target = open_with("target", &raw);
        write_fill(target, 0, 2 * MIB, 7);
        if (!whole)
            assert_int_equal(img_pwrite(target, sector, 2, 0, &err), 0);
        close_image(target);
        target = open_with("target", asked ? &raw : &(struct img_open_options){.flags = IMG_OPEN_WRITE});
        memset(&err, 0, sizeof(err));
        assert_int_equal(img_copy(source, target, &options, &err), asked ? 0 : -EPERM);
        assert_int_equal(err.code, asked ? 0 : -EPERM);
        expect_fill(target, 4096, MIB - 4096, asked ? 5 : 7);
        expect_fill(target, 2, 1, asked ? 'I' : 7);
        if (!asked) { /* elsewhere it may go, and so may other bytes */
            options.target_offset = 512;
            assert_int_equal(img_copy(source, target, &options, &err), 0);
            assert_int_equal(img_pwrite(source, "x", 1, 0, &err), 0);
            options.target_offset = 0;
            assert_int_equal(img_copy(source, target, &options, &err), 0);
            expect_fill(target, 4096, MIB - 4096, 5);
        }
        close_image(target);
        close_image(source);
    }
}

static void test_odd_raw_file(void **state) {
    (void)state;
    sh("head -c 1000 /dev/zero | tr '\\0' '\\7' > image");
    struct img *image = open_with("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE, .format = "raw"});
    assert_int_equal(img_size(image), 1024);
    expect_fill(image, 0, 1000, 7);
    expect_fill(image, 1000, 24, 0);
    write_fill(image, 1020, 4, 9);
    expect_fill(image, 1000, 20, 0);
    expect_fill(image, 1020, 4, 9);
    close_image(image);
}

/* ---- compressed writes ---------- */

static void test_compressed_rules(void **state) {
    (void)state;
    static uint8_t bytes[MIB];
    create_image("image", &(struct img_create_options){.format = "qcow2", .size = MIB - 512});
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
    sh("qemu-img check -q image");
    create_image("raw", &(struct img_create_options){.format = "raw", .size = MIB});
    image = open_with("raw", &(struct img_open_options){.flags = IMG_OPEN_WRITE, .format = "raw"});
    assert_int_equal(img_pwrite_compressed(image, bytes, 65536, 0, NULL), -ENOTSUP);
    close_image(image);
}

/* ---- long tables ---------- */

/* An L1 table longer than what one refcount block counts: with such clusters every group begins with its own block. */
static void test_l1_longer_than_a_group(void **state) {
    (void)state;
    static const struct {
        const char *options;
        uint64_t size;
    } cases[] = {{"cluster_size=512,refcount_bits=64", 8ull << 30},
                 {"cluster_size=512", 8ull << 30},
                 {"cluster_size=1k,refcount_bits=1", 64ull << 30},
                 {"cluster_size=4k,refcount_bits=64", 256ull << 30}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        sh("rm -f image; qemu-img create -q -f qcow2 -o %s image 1M", cases[i].options);
        struct img *image = open_flags("image", IMG_OPEN_WRITE);
        write_fill(image, 0, 3000, 1);
        assert_int_equal(img_resize(image, cases[i].size, IMG_PREALLOCATION_OFF, 0, &err), 0);
        write_fill(image, cases[i].size - 4096, 4096, 2);
        assert_int_equal(img_resize(image, 2 * cases[i].size, IMG_PREALLOCATION_OFF, 0, &err), 0);
        expect_fill(image, 0, 3000, 1);
        expect_fill(image, cases[i].size - 4096, 4096, 2);
        close_image(image);
        sh("qemu-img check -q image && test $(stat -c %%s image) -lt 64000000");
    }
}

/* ---- drain ---------- */

enum { WRITERS = 3 };

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
    pthread_t threads[WRITERS];
    make_kind(2);
    struct drained d = {.image = open_flags("image", IMG_OPEN_WRITE)};
    for (unsigned i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, keep_writing, &d), 0);
    for (unsigned i = 0; i < 20; i++) {
        struct timespec pause = {.tv_nsec = 5000000};
        assert_int_equal(img_drain(d.image, &err), 0);
        /* each thread's last call had ended before, and may still have to be counted */
        unsigned before = atomic_load(&d.writes), most = before + WRITERS;
        if (i % 2)
            assert_int_equal(img_drain(d.image, &err), 0);
        nanosleep(&pause, NULL);
        assert_in_range(atomic_load(&d.writes), before, most);
        img_resume(d.image);
        if (i % 2) {
            nanosleep(&pause, NULL);
            assert_in_range(atomic_load(&d.writes), before, most); /* the first still holds */
            img_resume(d.image);
        }
        while (atomic_load(&d.writes) <= most)
            nanosleep(&pause, NULL);
    }
    atomic_store(&d.stop, true);
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    close_image(d.image);
}

#define IO(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IO(test_ranges),
        IO(test_vectors),
        IO(test_read_only),
        IO(test_unknown_flags),
        IO(test_descriptor),
        IO(test_range_of_a_disk),
        IO(test_qcow2_inside_a_range),
        IO(test_read_only_parent),
        IO(test_snapshot_is_read_only),
        IO(test_probed_raw_stays_raw),
        IO(test_copies_into_probed_raw),
        IO(test_odd_raw_file),
        IO(test_compressed_rules),
        IO(test_l1_longer_than_a_group),
        IO(test_drain),
    };
    return cmocka_run_group_tests_name("io", tests, NULL, NULL);
}
