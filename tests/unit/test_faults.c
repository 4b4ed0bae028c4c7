/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_faults.c - an open image whose host fails once and is well again: what is lost is what had to be lost.
 *
 * A read that fails is its request's affair. A barrier or a metadata write that fails stays a failure, as nobody knows
 * what the host holds then; lack of space does not. Whatever was under way is neither done twice nor forgotten: after a
 * clean close a check finds nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check_util.h"
#include "faulty_storage.h"
#include "image.h"
#include "image_util.h"
#include "qcow2/format.h"
#include "scratch.h"

#define IMAGE "image"

static struct img *open_faulty(struct faulty *f) {
    struct img_open_options options = {.flags = IMG_OPEN_WRITE, .format = "qcow2"};
    struct img *image;
    faulty_open(f, IMAGE);
    if (image_open_storage(&f->base, &options, &image, &err))
        fail_msg("%s", err.text);
    return image;
}

static void fail_writes_after(struct faulty *f, unsigned writes, int error) {
    f->writes_left = writes;
    f->error = error;
}

static void fail_reads_of(struct faulty *f, uint64_t start, uint64_t length) {
    f->bad_start = start;
    f->bad_end = start + length;
}

static void heal(struct faulty *f) {
    f->writes_left = FAULTY_NEVER;
    f->bad_start = f->bad_end = 0;
}

/* The image takes nothing any more that would have to reach the disk. */
static void assert_takes_no_writes(struct img *image) {
    uint8_t byte = 1;
    assert_true(img_pwrite(image, &byte, 1, 0, &err) < 0);
    assert_true(img_flush(image, &err) < 0);
    assert_true(img_discard(image, 0, img_size(image), &err) < 0);
    assert_true(img_resize(image, 2 * img_size(image), IMG_PREALLOCATION_OFF, 0, &err) < 0);
}

static void assert_clean(void) {
    struct check_run run;
    check_path(IMAGE, 0, &run);
    if (strcmp(check_verdict(&run), "clean") != 0) {
        check_show(&run);
        fail_msg("the check says %s", check_verdict(&run));
    }
    check_run_free(&run);
}

/* ---- reads of metadata that fail ---------------------------------------------------------------- */

enum { SMALL = 512, ENTRIES = SMALL / 8, COUNTS = SMALL / 2 }; /* a cluster, what an L2 table and a block of it hold */

/* The first L2 table of the image whose clusters lie in a row that two refcount blocks count: the second block's place.
 */
static uint64_t find_row_of_two_blocks(uint64_t *table) {
    uint64_t l1 = peek64(IMAGE, 40), refcounts = peek64(IMAGE, 48);
    for (*table = 0; *table < 64; ++*table) {
        uint64_t l2 = peek64(IMAGE, l1 + *table * 8) & QCOW2_OFFSET_MASK, cluster[ENTRIES];
        bool row = true;
        for (unsigned i = 0; i < ENTRIES; i++) {
            cluster[i] = (peek64(IMAGE, l2 + i * 8ull) & QCOW2_OFFSET_MASK) / SMALL;
            row = row && cluster[i] == cluster[0] + i;
        }
        if (row && cluster[0] / COUNTS != cluster[ENTRIES - 1] / COUNTS)
            return peek64(IMAGE, refcounts + cluster[ENTRIES - 1] / COUNTS * 8);
    }
    fail_msg("no clusters in a row lie on both sides of a block's end");
    return 0;
}

static void test_counts_fall_once(void **state) {
    (void)state;
    struct faulty f;
    uint64_t table;
    sh("qemu-img create -q -f qcow2 -o cluster_size=512 " IMAGE " 4M && qemu-io -c 'write -q -P 1 0 2M' " IMAGE
       " && qemu-img snapshot -c one " IMAGE);
    uint64_t block = find_row_of_two_blocks(&table), guest = table * ENTRIES * SMALL;
    struct img *image = open_faulty(&f);
    assert_int_equal(img_discard(image, guest, ENTRIES * SMALL, &err), 0);
    fail_reads_of(&f, block, SMALL);
    unsigned before = f.reads;
    (void)!img_flush(image, NULL); /* may tell: the counts of one block cannot fall */
    assert_true(f.reads > before);
    heal(&f);
    assert_int_equal(img_flush(image, &err), 0);
    close_image(image);
    assert_clean();
    image = open_with(IMAGE, &(struct img_open_options){.snapshot = "one"});
    expect_fill(image, 0, 2 * MIB, 1);
    close_image(image);
}

static void test_an_unreadable_table_fails_one_request(void **state) {
    (void)state;
    enum { REACH = ENTRIES * SMALL }; /* of one L2 table */
    struct faulty f;
    uint8_t byte = 9;
    create_image(IMAGE, &(struct img_create_options){.format = "qcow2", .size = MIB, .cluster_size = SMALL});
    struct img *image = open_flags(IMAGE, IMG_OPEN_WRITE);
    write_fill(image, 0, 4 * REACH, 1);
    close_image(image);
    sh("qemu-img snapshot -c one " IMAGE); /* now the tables are shared: a write copies one first */
    image = open_faulty(&f);
    write_fill(image, REACH, SMALL, 2);
    fail_reads_of(&f, peek64(IMAGE, peek64(IMAGE, 40)) & QCOW2_OFFSET_MASK, SMALL);
    assert_int_equal(img_pwrite(image, &byte, 1, 0, &err), -EIO);
    heal(&f);
    write_fill(image, 2 * REACH, SMALL, 3);
    assert_int_equal(img_flush(image, &err), 0);
    assert_int_equal(img_pwrite(image, &byte, 1, 0, &err), 0);
    close_image(image);
    assert_clean();
    image = open_flags(IMAGE, 0);
    expect_fill(image, 0, 1, 9);
    expect_fill(image, 1, REACH - 1, 1);
    expect_fill(image, REACH, SMALL, 2);
    expect_fill(image, REACH + SMALL, REACH - SMALL, 1);
    expect_fill(image, 2 * REACH, SMALL, 3);
    close_image(image);
}

/* ---- writes and barriers that fail -------------------------------------------------------------- */

static void test_bitmaps_that_could_not_be_marked(void **state) {
    (void)state;
    for (unsigned writes = 0; writes < 2; writes++) { /* the marks themselves; their barrier */
        struct faulty f;
        struct img_info info;
        uint8_t byte = 9;
        sh("rm -f " IMAGE);
        create_qcow2(IMAGE, MIB);
        sh("qemu-io -f qcow2 -c 'write -q -P 1 0 64k' " IMAGE "; qemu-img bitmap --add " IMAGE " b");
        struct img *image = open_faulty(&f);
        fail_writes_after(&f, writes, -EIO);
        assert_int_equal(img_pwrite(image, &byte, 1, 0, &err), -EIO);
        heal(&f);
        assert_takes_no_writes(image);
        expect_fill(image, 0, 65536, 1);
        close_image(image); /* nothing was taken that could be lost */
        image = open_flags(IMAGE, IMG_OPEN_WRITE);
        expect_fill(image, 0, 65536, 1);
        write_fill(image, 0, 512, 2);
        close_image(image);
        image = open_flags(IMAGE, 0);
        assert_int_equal(img_info(image, &info, &err), 0);
        assert_true(info.nbitmaps == 1 && info.bitmaps[0].in_use == (writes > 0)); /* the mark is there, or not */
        close_image(image);
        assert_clean();
    }
}

/* What was recorded cannot be stored: the close says so, the data are there, and the bitmap is not believed. */
static void test_bitmaps_that_could_not_be_stored(void **state) {
    (void)state;
    for (unsigned writes = 0, failures = 0;; writes++) {
        struct faulty f;
        struct img_info info;
        uint64_t start, length;
        sh("rm -f " IMAGE);
        create_qcow2(IMAGE, MIB);
        sh("qemu-img bitmap --add " IMAGE " b");
        struct img *image = open_faulty(&f);
        write_fill(image, 0, 65536, 1);
        assert_int_equal(img_flush(image, &err), 0);
        fail_writes_after(&f, writes, -ENOSPC);
        int r = img_close(image, &err);
        image = open_flags(IMAGE, 0);
        expect_fill(image, 0, 65536, 1);
        assert_int_equal(img_info(image, &info, &err), 0);
        assert_int_equal(info.nbitmaps, 1);
        if (!info.bitmaps[0].in_use) {
            assert_int_equal(img_bitmap_next(image, "b", 0, &start, &length, &err), 0);
            assert_true(start == 0 && length == 65536);
        }
        assert_true(r < 0 || !info.bitmaps[0].in_use);
        close_image(image);
        failures += r < 0;
        if (r == 0) {
            assert_true(failures > 3);
            assert_clean();
            break;
        }
    }
}

/* Grows the disk, and with it the L1 table, on a host that fails after so many writes. */
static int grow_and_fail(struct faulty *f, unsigned writes, int error, struct img **image) {
    sh("rm -f " IMAGE);
    create_image(IMAGE, &(struct img_create_options){.format = "qcow2", .size = MIB, .cluster_size = SMALL});
    *image = open_faulty(f);
    write_fill(*image, 0, MIB, 1);
    assert_int_equal(img_flush(*image, &err), 0);
    fail_writes_after(f, writes, error);
    int r = img_resize(*image, 64 * MIB, IMG_PREALLOCATION_OFF, 0, &err);
    heal(f);
    return r;
}

static void test_growth_without_space_leaks_nothing(void **state) {
    (void)state;
    unsigned taken_back = 0;
    for (unsigned writes = 0;; writes++) {
        struct faulty f;
        struct img *image;
        int r = grow_and_fail(&f, writes, -ENOSPC, &image);
        if (r == 0) {
            close_image(image);
            break;
        }
        assert_int_equal(r, -ENOSPC);
        if (img_flush(image, &err) == 0) {
            write_fill(image, 0, SMALL, 2);
            assert_int_equal(img_size(image), MIB);
            close_image(image);
            assert_clean();
            taken_back++;
        } else { /* it was a barrier */
            assert_takes_no_writes(image);
            assert_true(img_close(image, NULL) < 0);
        }
        image = open_flags(IMAGE, IMG_OPEN_WRITE);
        expect_fill(image, SMALL, MIB - SMALL, 1);
        close_image(image);
    }
    assert_true(taken_back >= 2); /* the table and the counts of its clusters */
    assert_clean();
}

static void test_growth_that_fails_stays_failed(void **state) {
    (void)state;
    unsigned stuck = 0;
    for (unsigned writes = 0;; writes++) {
        struct faulty f;
        struct img *image;
        int r = grow_and_fail(&f, writes, -EIO, &image);
        unsigned done = f.writes;
        if (r == 0) {
            close_image(image);
            break;
        }
        assert_int_equal(r, -EIO);
        assert_takes_no_writes(image);
        expect_fill(image, 0, MIB, 1);
        assert_true(img_close(image, NULL) < 0);
        assert_int_equal(f.writes, done); /* nor does it write anything by itself */
        image = open_flags(IMAGE, IMG_OPEN_WRITE);
        expect_fill(image, 0, MIB, 1);
        close_image(image);
        stuck++;
    }
    assert_true(stuck >= 5); /* the table, its counts, the header and its two barriers */
}

/* ---- a repair that cannot be loaded ------------------------------------------------------------- */

static void fail_at_repair(void *opaque, const struct img_finding *finding) {
    struct faulty *f = opaque;
    if (finding->kind == IMG_FINDING_REPAIR)
        f->bad_end = f->bad_start + 1;
}

static void test_a_repaired_image_that_cannot_be_loaded(void **state) {
    (void)state;
    for (unsigned place = 0; place < 3; place++) { /* where the fields of these offsets point to */
        static const uint64_t fields[] = {0, 40, 48};
        struct faulty f;
        struct img_check_result result;
        struct img_info info;
        struct img_extent extent;
        uint8_t byte = 9;
        sh("rm -f " IMAGE);
        create_qcow2(IMAGE, MIB);
        sh("qemu-io -f qcow2 -c 'write -q -P 1 0 128k' " IMAGE);
        patch64(IMAGE, peek64(IMAGE, peek64(IMAGE, 40)) & QCOW2_OFFSET_MASK, 0); /* a leak */
        struct img *image = open_faulty(&f);
        f.bad_start = fields[place] ? peek64(IMAGE, fields[place]) : 0;
        struct img_check_options options = {IMG_CHECK_REPAIR_LEAKS, fail_at_repair, NULL, &f};
        assert_true(img_check(image, &options, &result, &err) < 0);
        assert_true(f.bad_end > 0); /* the repair was done */
        heal(&f);
        assert_true(img_pread(image, &byte, 1, 65536, &err) < 0);
        assert_true(img_write_zeroes(image, 0, 65536, 0, &err) < 0);
        assert_takes_no_writes(image);
        (void)!img_map(image, 0, MIB, false, &extent, NULL);
        (void)!img_info(image, &info, NULL);
        (void)!img_check(image, NULL, &result, NULL);
        close_image(image); /* nothing was taken that could be lost */
        assert_clean();
        image = open_flags(IMAGE, IMG_OPEN_WRITE);
        expect_fill(image, 0, 65536, 0);
        expect_fill(image, 65536, 65536, 1);
        close_image(image);
    }
}

/* What a context holds for its next tables or data is given up before it is said that there is no room. */
static void test_a_device_of_the_measured_size(void **state) {
    (void)state;
    for (unsigned bits = 9; bits <= 16; bits += 1) {
        struct img_create_options options = {.format = "qcow2", .size = 24 * MIB, .cluster_size = 1u << bits};
        struct img_open_options open = {.flags = IMG_OPEN_WRITE, .format = "qcow2"};
        struct img_measure measure;
        struct faulty f;
        struct img *image;
        assert_int_equal(img_measure(&options, NULL, &measure, &err), 0);
        create_image(IMAGE, &options);
        sh("truncate -s %llu %s", (unsigned long long)measure.fully_allocated, IMAGE);
        faulty_open(&f, IMAGE);
        f.base.fixed_size = true;
        assert_int_equal(image_open_storage(&f.base, &open, &image, &err), 0);
        for (unsigned at = 0; at < 24; at++)
            write_fill(image, (uint64_t)at * MIB, MIB, 1 + (int)at);
        close_image(image);
        assert_clean();
    }
}

#define FAULTY(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        FAULTY(test_counts_fall_once),
        FAULTY(test_an_unreadable_table_fails_one_request),
        FAULTY(test_bitmaps_that_could_not_be_marked),
        FAULTY(test_bitmaps_that_could_not_be_stored),
        FAULTY(test_growth_without_space_leaks_nothing),
        FAULTY(test_growth_that_fails_stays_failed),
        FAULTY(test_a_repaired_image_that_cannot_be_loaded),
        FAULTY(test_a_device_of_the_measured_size),
    };
    return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
