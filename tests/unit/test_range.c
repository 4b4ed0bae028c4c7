/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_range.c - a byte range of an open image as storage, over raw and over qcow2: a byte array is the model, and the
 * bytes around the range must never change.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"
#include "scratch.h"

enum { PARENT = 1 << 20, START = 70000, LENGTH = 300001 };

static struct img *open_parent(const char *path, const char *format, uint32_t flags) {
    struct img *image;
    struct img_error error = {0};
    struct img_open_options options = {.format = format, .flags = flags};
    if (img_open(path, &options, &image, &error) < 0)
        fail_msg("%s", error.text);
    return image;
}

static char *make_parent(const char *format) {
    char *path = scratch_path("parent");
    struct img_error error = {0};
    struct img_create_options options = {.format = format, .size = PARENT, .cluster_size = format[0] == 'q' ? 4096 : 0};
    remove(path);
    if (img_create(path, &options, &error) < 0)
        fail_msg("%s", error.text);
    return path;
}

static void assert_image_is(struct img *image, const uint8_t *expected) {
    uint8_t *seen = malloc(PARENT);
    assert_int_equal(img_pread(image, seen, PARENT, 0, NULL), 0);
    for (size_t i = 0; i < PARENT; i++)
        if (seen[i] != expected[i])
            fail_msg("byte %zu is %#x, not %#x", i, seen[i], expected[i]);
    free(seen);
}

static void random_operations(const char *format) {
    uint64_t seed = 3;
    char *path = make_parent(format);
    struct img *parent = open_parent(path, format, IMG_OPEN_WRITE);
    uint8_t *model = malloc(PARENT), *data = malloc(LENGTH + 1000);
    struct iovec *iov = calloc(3000, sizeof *iov);
    struct storage *s;
    random_fill(&seed, model, PARENT);
    assert_int_equal(img_pwrite(parent, model, PARENT, 0, NULL), 0);
    assert_int_equal(range_open(parent, START, LENGTH, &s, NULL), 0);
    assert_true(s->writable && s->fixed_size);
    assert_int_equal(storage_size(s), LENGTH);
    uint8_t *part = model + START;
    for (int round = 0; round < 200; round++) {
        size_t offset = random_next(&seed) % LENGTH, count = random_next(&seed) % (LENGTH - offset + 1), used = 0;
        int niov = 0, limit = round % 10 == 0 ? 2900 : 3;
        while (niov < limit) {
            size_t n = niov == limit - 1 ? count - used : (count - used) / 2 / (size_t)(limit - niov);
            iov[niov++] = (struct iovec){data + used, n};
            used += n;
        }
        switch (random_next(&seed) % 5) {
        case 0:
            random_fill(&seed, data, count);
            assert_int_equal(storage_writev(s, iov, niov, offset), 0);
            memcpy(part + offset, data, count);
            break;
        case 1:
            assert_int_equal(storage_zero(s, offset, count, round % 2), 0);
            memset(part + offset, 0, count);
            break;
        case 2:
            assert_int_equal(s->ops->punch(s, offset, count), 0);
            memset(part + offset, 0, count);
            break;
        default:
            memset(data, 0x5a, LENGTH + 1000);
            assert_int_equal(storage_readv(s, iov, niov, offset), 0);
            assert_memory_equal(data, part + offset, count);
        }
    }
    assert_int_equal(storage_flush(s), 0);
    /* zeroes and nothing else behind its end */
    memset(data, 0x5a, LENGTH + 1000);
    assert_int_equal(storage_read(s, data, 1000, LENGTH - 500), 0);
    assert_memory_equal(data, part + LENGTH - 500, 500);
    assert_true(img_is_zero(data + 500, 500));
    assert_int_equal(storage_read(s, data, 1000, UINT64_MAX - 10), 0);
    assert_true(img_is_zero(data, 1000));
    assert_int_equal(storage_write(s, data, 2, LENGTH - 1), -ENOSPC);
    assert_int_equal(storage_write(s, data, 1, UINT64_MAX), -ENOSPC);
    assert_int_equal(storage_zero(s, LENGTH - 1, 2, true), -ENOSPC);
    assert_int_equal(s->ops->truncate(s, 5), -ENOTSUP);
    storage_close(s);
    assert_image_is(parent, model);
    assert_int_equal(img_close(parent, NULL), 0);
    free(iov);
    free(model);
    free(data);
    free(path);
}

static void over_raw(void **state) {
    (void)state;
    random_operations("raw");
}

static void over_qcow2(void **state) {
    (void)state;
    random_operations("qcow2");
}

static void extents_are_the_parents(void **state) {
    (void)state;
    char *path = make_parent("qcow2");
    struct img *parent = open_parent(path, "qcow2", IMG_OPEN_WRITE);
    struct storage *s;
    struct storage_extent e;
    assert_int_equal(img_pwrite(parent, "x", 1, 8192 + 10, NULL), 0);
    assert_int_equal(range_open(parent, 4096, 16384, &s, NULL), 0);
    assert_int_equal(s->ops->extent(s, 0, 16384, &e), 0);
    assert_true(e.zero && e.length == 4096);
    assert_int_equal(s->ops->extent(s, 4096 + 100, 12000, &e), 0);
    assert_true(!e.zero && e.length == 3996);
    assert_int_equal(s->ops->extent(s, 12288, 1 << 20, &e), 0);
    assert_true(e.zero && e.length >= 4096);
    assert_int_equal(s->ops->extent(s, 1 << 30, 77, &e), 0);
    assert_true(e.zero && e.length == 77);
    assert_int_equal(s->ops->extent(s, 0, 0, &e), -EINVAL);
    storage_close(s);
    assert_int_equal(img_close(parent, NULL), 0);
    free(path);
}

static void stays_inside(void **state) {
    (void)state;
    char *path = make_parent("raw");
    struct img *parent = open_parent(path, "raw", 0);
    struct storage *s;
    struct img_error error;
    assert_int_equal(range_open(parent, 1, PARENT, &s, &error), -EINVAL);
    assert_int_equal(range_open(parent, PARENT + 1, 0, &s, &error), -EINVAL);
    assert_int_equal(range_open(parent, UINT64_MAX, 2, &s, &error), -EINVAL);
    assert_non_null(strstr(error.text, "18446744073709551615"));
    assert_int_equal(range_open(parent, 0, PARENT, &s, &error), 0);
    assert_false(s->writable);
    assert_true(storage_write(s, "x", 1, 0) < 0);
    storage_close(s);
    assert_int_equal(range_open(parent, PARENT, 0, &s, &error), 0);
    assert_reads_zero(s, 0, 10);
    storage_close(s);
    assert_int_equal(img_close(parent, NULL), 0);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(over_raw),
        cmocka_unit_test(over_qcow2),
        cmocka_unit_test(extents_are_the_parents),
        cmocka_unit_test(stays_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
