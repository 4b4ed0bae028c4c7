/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_raw.c - the raw driver by itself, without an executor: sizes, plans, extents, resizing, failed flushes, the
 * guard of the first sector.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image.h"
#include "raw.h"
#include "scratch.h"

#define MIB ((uint64_t)1 << 20)

/* An image with the driver opened on the storage, as image.c would make it. */
static int open_on(struct storage *file, uint64_t offset, uint64_t length, const char *snapshot, struct img **out,
                   struct img_error *error) {
    struct img *image = aligned_alloc(_Alignof(struct img), sizeof *image);
    struct img_driver_options options = {.raw_offset = offset, .raw_length = length, .snapshot = snapshot};
    char *backing, *format;
    memset(image, 0, sizeof *image);
    assert_int_equal(epochs_init(&image->epochs), 0);
    image->driver = &raw_driver;
    image->file = file;
    image->path = file->name;
    image->writable = file->writable;
    int r = raw_driver.open(image, &options, &backing, &format, error);
    if (r < 0) {
        epochs_destroy(&image->epochs);
        free(image);
        return r;
    }
    assert_null(backing);
    assert_null(format);
    *out = image;
    return 0;
}

static struct img *open_raw(const char *path) {
    struct img *image = NULL;
    struct img_error error;
    if (open_on(open_storage(path, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK), 0, UINT64_MAX, NULL, &image, &error) < 0)
        fail_msg("%s", error.text);
    return image;
}

static void close_raw(struct img *image) {
    raw_driver.close(image);
    epochs_destroy(&image->epochs);
    storage_close(image->file);
    free(image);
}

static void size_is_whole_sectors(void **state) {
    (void)state;
    static const uint64_t sizes[][2] = {{0, 0},      {1, 512},     {511, 512}, {512, 512},
                                        {513, 1024}, {1000, 1024}, {MIB, MIB}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char *path = scratch_file("size.raw", "", 0, sizes[i][0]);
        struct img *image = open_raw(path);
        assert_int_equal(image->size, sizes[i][1]);
        struct img_info info;
        assert_int_equal(raw_driver.info(image, &info, NULL), 0);
        assert_string_equal(info.format, "raw");
        assert_int_equal(info.virtual_size, sizes[i][1]);
        assert_int_equal(info.file_length, sizes[i][0]);
        assert_int_equal(info.cluster_size, 0);
        assert_int_equal(raw_driver.cluster_size(image), 0);
        close_raw(image);
        free(path);
    }
    assert_false(raw_driver.probe((const uint8_t *)"anything", 8));
}

static void part_of_a_file(void **state) {
    (void)state;
    char *path = scratch_file("part.raw", "", 0, 10000);
    struct storage *file = open_storage(path, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK);
    struct img *image = NULL;
    struct img_error error;
    assert_int_equal(open_on(file, 10001, UINT64_MAX, NULL, &image, &error), -EINVAL);
    assert_int_equal(open_on(file, 9000, 1001, NULL, &image, &error), -EINVAL);
    assert_non_null(strstr(error.text, "1001"));
    assert_int_equal(open_on(file, 9000, UINT64_MAX - 1, NULL, &image, &error), -EINVAL);
    assert_int_equal(open_on(file, 0, UINT64_MAX, "snap", &image, &error), -ENOTSUP);
    if (open_on(file, 9000, 1000, NULL, &image, &error) < 0 || image == NULL) {
        fail_msg("%s", error.text);
        return;
    }
    assert_int_equal(image->size, 1000); /* what follows is somebody else's */
    struct img_plan plan = {.op = IMG_OP_WRITE, .offset = 10, .length = 20};
    assert_int_equal(raw_driver.resolve(image, &plan, &error), 0);
    assert_int_equal(plan.steps[0].host, 9010);
    assert_int_equal(raw_driver.resize(image, 2048, IMG_PREALLOCATION_OFF, 0, &error), -ENOTSUP);
    close_raw(image);
    free(path);
}

/* ---- plans ---- */

static struct img_plan resolve(struct img *image, enum img_op op, uint64_t offset, uint64_t length) {
    struct img_plan plan;
    struct img_error error;
    memset(&plan, 0xff, sizeof plan);
    plan.op = op;
    plan.offset = offset;
    plan.length = length;
    if (raw_driver.resolve(image, &plan, &error) != 0)
        fail_msg("%s", error.text);
    assert_int_equal(plan.offset, offset);
    assert_true(plan.length > 0 && plan.length <= length);
    assert_int_equal(plan.head, 0);
    assert_int_equal(plan.tail, 0);
    return plan;
}

static void assert_one_step(const struct img *image, const struct img_plan *plan, enum img_action action) {
    assert_int_equal(plan->action, action);
    assert_int_equal(plan->nsteps, 1);
    assert_int_equal(plan->steps[0].kind, IMG_STEP_HOST);
    assert_int_equal(plan->steps[0].guest, plan->offset);
    assert_int_equal(plan->steps[0].host, plan->offset);
    assert_int_equal(plan->steps[0].length, plan->length);
    assert_ptr_equal(plan->steps[0].file, image->file);
}

static void plans_are_one_step(void **state) {
    (void)state;
    char *path = scratch_file("plan.raw", "", 0, 4 * MIB);
    struct img *image = open_raw(path);
    struct img_plan plan = resolve(image, IMG_OP_READ, 3, 3 * MIB);
    assert_one_step(image, &plan, IMG_MOVE_STEPS);
    assert_int_equal(plan.length, 3 * MIB);
    plan = resolve(image, IMG_OP_WRITE, 5, 3 * MIB);
    assert_one_step(image, &plan, IMG_MOVE_STEPS);
    assert_int_equal(plan.head_fill + plan.tail_fill, 2 * IMG_FILL_NONE);
    raw_driver.commit(image, &plan);
    raw_driver.abort(image, &plan, true);
    plan = resolve(image, IMG_OP_ZERO, 7, 3 * MIB);
    assert_one_step(image, &plan, IMG_MOVE_ZERO_HOST);
    struct img_error error;
    plan = (struct img_plan){.op = IMG_OP_COMPRESSED, .length = 512};
    assert_int_equal(raw_driver.resolve(image, &plan, &error), -ENOTSUP);
    close_raw(image);
    free(path);
}

/* Every discard is covered by plans that follow each other; only whole blocks, or the image's last one, are touched. */
static void discards_touch_whole_blocks(void **state) {
    (void)state;
    enum { SIZE = 5 * 4096 + 512 };
    static const uint64_t edges[] = {0, 1, 512, 4095, 4096, 4097, 8192, 12000, 16384, 5 * 4096, 5 * 4096 + 1, SIZE};
    char *path = scratch_file("discard.raw", "", 0, SIZE);
    struct img *image = open_raw(path);
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        for (size_t j = i + 1; j < sizeof edges / sizeof *edges; j++) {
            uint64_t first = (edges[i] + 4095) / 4096 * 4096, last = edges[j] == SIZE ? SIZE : edges[j] / 4096 * 4096;
            uint64_t at = edges[i], touched = 0;
            for (int plans = 0; at < edges[j]; plans++) {
                struct img_plan plan = resolve(image, IMG_OP_DISCARD, at, edges[j] - at);
                if (plan.action != IMG_MOVE_NOTHING) {
                    assert_one_step(image, &plan, IMG_MOVE_ZERO_HOST);
                    assert_true(at >= first && at + plan.length <= last);
                    touched += plan.length;
                }
                at += plan.length;
                assert_true(plans < 3);
            }
            assert_int_equal(at, edges[j]);
            assert_int_equal(touched, last > first ? last - first : 0);
        }
    }
    close_raw(image);
    free(path);
}

static void map_shows_holes(void **state) {
    (void)state;
    char *path = scratch_file("map.raw", "abc", 3, 3);
    struct img *image = open_raw(path);
    struct img_extent e;
    assert_int_equal(raw_driver.map(image, 0, 512, &e, NULL), 0);
    assert_int_equal(e.start, 0);
    assert_int_equal(e.length, 3);
    assert_int_equal(e.flags, IMG_EXTENT_PRESENT | IMG_EXTENT_DATA | IMG_EXTENT_OFFSET);
    assert_int_equal(raw_driver.map(image, 3, 509, &e, NULL), 0);
    assert_int_equal(e.start, 3);
    assert_int_equal(e.length, 509);
    assert_int_equal(e.host_offset, 3);
    assert_int_equal(e.flags, IMG_EXTENT_PRESENT | IMG_EXTENT_ZERO | IMG_EXTENT_OFFSET);
    assert_string_equal(e.file, path);
    close_raw(image);
    free(path);
}

/* ---- resizing ---- */

static void resizes(void **state) {
    (void)state;
    char *path = scratch_file("resize.raw", "abc", 3, 1000);
    struct img *image = open_raw(path);
    struct img_error error;
    assert_int_equal(raw_driver.resize(image, 2 * MIB - 5, IMG_PREALLOCATION_OFF, 0, &error), 0);
    assert_int_equal(image->size, 2 * MIB);
    assert_int_equal(scratch_length(path), 2 * MIB);
    assert_true(image->file->ops->allocated(image->file) < MIB);
    assert_int_equal(raw_driver.resize(image, 3 * MIB, IMG_PREALLOCATION_FALLOC, 0, &error), 0);
    assert_true(image->file->ops->allocated(image->file) >= MIB);
    assert_int_equal(raw_driver.resize(image, 4 * MIB, IMG_PREALLOCATION_FULL, 0, &error), 0);
    assert_true(image->file->ops->allocated(image->file) >= 2 * MIB);
    assert_int_equal(scratch_length(path), 4 * MIB);
    assert_reads(image->file, 0, "abc", 3);
    assert_reads_zero(image->file, 3, 4 * MIB - 3);

    assert_int_equal(raw_driver.resize(image, MIB, IMG_PREALLOCATION_OFF, 0, &error), -EINVAL);
    assert_non_null(strstr(error.text, "shrinking"));
    assert_int_equal(raw_driver.resize(image, MIB, IMG_PREALLOCATION_FULL, IMG_RESIZE_SHRINK, &error), -EINVAL);
    assert_int_equal(raw_driver.resize(image, 8 * MIB, IMG_PREALLOCATION_METADATA, 0, &error), -ENOTSUP);
    assert_int_equal(raw_driver.resize(image, UINT64_MAX, IMG_PREALLOCATION_OFF, 0, &error), -EFBIG);
    assert_int_equal(scratch_length(path), 4 * MIB);
    assert_int_equal(image->size, 4 * MIB);
    assert_int_equal(raw_driver.resize(image, MIB, IMG_PREALLOCATION_OFF, IMG_RESIZE_SHRINK, &error), 0);
    assert_int_equal(scratch_length(path), MIB);
    assert_int_equal(image->size, MIB);
    close_raw(image);
    free(path);
}

/* ---- a flush that fails ---- */

static int failing_flush(struct storage *s) {
    (void)s;
    return -EIO;
}

static void failed_flush_stays_failed(void **state) {
    (void)state;
    char *path = scratch_file("flush.raw", "abc", 3, 4096);
    struct img *image = open_raw(path);
    struct img_error error;
    const struct storage_ops *good = image->file->ops;
    struct storage_ops bad = *good;
    bad.flush = failing_flush;
    assert_int_equal(raw_driver.flush(image, &error), 0);
    image->file->ops = &bad;
    assert_int_equal(raw_driver.flush(image, &error), -EIO);
    image->file->ops = good;
    assert_int_equal(raw_driver.flush(image, &error), -EIO);
    assert_int_equal(raw_driver.finish(image, &error), -EIO);
    static const enum img_op changing[] = {IMG_OP_WRITE, IMG_OP_ZERO, IMG_OP_DISCARD};
    for (size_t i = 0; i < 3; i++) {
        struct img_plan plan = {.op = changing[i], .length = 4096};
        assert_int_equal(raw_driver.resolve(image, &plan, &error), -EIO);
        assert_non_null(strstr(error.text, "opened anew"));
    }
    assert_int_equal(raw_driver.resize(image, MIB, IMG_PREALLOCATION_OFF, 0, &error), -EIO);
    assert_int_equal(scratch_length(path), 4096);
    struct img_plan plan = {.op = IMG_OP_READ, .length = 4096};
    assert_int_equal(raw_driver.resolve(image, &plan, &error), 0);
    close_raw(image);
    free(path);
}

/* ---- the first sector ---- */

static void first_sector_is_guarded(void **state) {
    (void)state;
    static const struct {
        size_t offset;
        const char *bytes;
        size_t length;
    } magics[] = {
        {0, "QFI\xfb", 4},
        {0, "LUKS\xba\xbe", 6},
        {0, "QED\0", 4},
        {0, "KDMV", 4},
        {0, "vhdxfile", 8},
        {0, "conectix", 8},
        {64, "\x7f\x10\xda\xbe", 4},
        {0, "<<< Oracle VM VirtualBox Disk Image", 35},
        {0, "# Disk DescriptorFile", 21},
    };
    uint8_t sector[1024] = {0};
    assert_null(raw_foreign_format(sector, sizeof sector));
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++) {
        memset(sector, 'x', sizeof sector);
        memcpy(sector + magics[i].offset, magics[i].bytes, magics[i].length);
        assert_non_null(raw_foreign_format(sector, 512));
        assert_non_null(raw_foreign_format(sector, magics[i].offset + magics[i].length));
        assert_null(raw_foreign_format(sector, magics[i].offset + magics[i].length - 1));
        sector[magics[i].offset + magics[i].length - 1] ^= 1;
        assert_null(raw_foreign_format(sector, 512));
    }
    static const char *const descriptors[] = {"#x\nversion=1\n", "# a\r\n\n \nversion=3\n", "version=1\n"};
    for (size_t i = 0; i < sizeof descriptors / sizeof *descriptors; i++)
        assert_non_null(raw_foreign_format((const uint8_t *)descriptors[i], strlen(descriptors[i])));
    assert_null(raw_foreign_format((const uint8_t *)"#!/bin/sh\necho version=1\n", 25));
    memset(sector, 0, sizeof sector);
    sector[512] = 'Q';
    sector[513] = 'F';
    sector[514] = 'I';
    sector[515] = 0xfb;
    assert_null(raw_foreign_format(sector, sizeof sector));
    sector[510] = 0x55;
    sector[511] = 0xaa;
    assert_null(raw_foreign_format(sector, 512)); /* a boot sector */
}

/* What the peer would take for another format must be on the list: it makes the images, we look at their heads. */
static void peer_formats_are_known(void **state) {
    (void)state;
    static const char *const formats[] = {"qcow", "qcow2", "qed", "vdi", "vmdk", "vhdx", "vpc", "parallels"};
    if (system("command -v qemu-img >/dev/null") != 0) {
        print_message("qemu-utils is not installed\n");
        skip();
    }
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        char *path = scratch_path("peer.img"), command[8192];
        uint8_t head[512] = {0};
        snprintf(command, sizeof command, "qemu-img create -q -f %s '%s' 16M >/dev/null", formats[i], path);
        assert_int_equal(system(command), 0);
        struct storage *s = open_storage(path, 0, IMG_CACHE_WRITEBACK);
        assert_int_equal(storage_read(s, head, sizeof head, 0), 0);
        storage_close(s);
        if (!raw_foreign_format(head, sizeof head))
            fail_msg("%s is not guarded", formats[i]);
        unlink(path);
        free(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_is_whole_sectors),     cmocka_unit_test(part_of_a_file),
        cmocka_unit_test(plans_are_one_step),        cmocka_unit_test(discards_touch_whole_blocks),
        cmocka_unit_test(map_shows_holes),           cmocka_unit_test(resizes),
        cmocka_unit_test(failed_flush_stays_failed), cmocka_unit_test(first_sector_is_guarded),
        cmocka_unit_test(peer_formats_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
