/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_overlay.c - an overlay reads as a plain array to which the same was done, and what is below it stays. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/overlay.h"

#define SIZE (1u << 20)

/* ---- a device in memory ---- */

struct memory {
    struct device device;
    uint8_t *bytes; /* NULL: it is zeroes */
};

static int memory_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    const struct memory *memory = (struct memory *)device;
    (void)err;
    if (memory->bytes)
        memcpy(buffer, memory->bytes + offset, count);
    else
        memset(buffer, 0, count);
    return 0;
}

static void memory_close(struct device *device) {
    (void)device;
}

static const struct device_ops memory_ops = {.read = memory_read, .close = memory_close};

/* ---- tests ---- */

static void check_all(struct device *overlay, const uint8_t *model) {
    static uint8_t buffer[SIZE];
    struct img_error err = {0};
    assert_int_equal(device_read(overlay, buffer, SIZE, 0, &err), 0);
    assert_memory_equal(buffer, model, SIZE);
    for (int i = 0; i < 50; i++) {
        size_t at = (size_t)rand() % SIZE, count = (size_t)rand() % (SIZE - at);
        assert_int_equal(device_read(overlay, buffer, count, at, &err), 0);
        assert_memory_equal(buffer, model + at, count);
    }
}

static void as_an_array(unsigned unit) {
    static uint8_t below[SIZE], before[SIZE], model[SIZE], bytes[8192];
    struct memory memory = {{.ops = &memory_ops, .size = SIZE, .sector_size = 512}, below};
    struct device *overlay;
    struct img_error err = {0};
    srand(unit);
    for (size_t i = 0; i < SIZE; i++)
        below[i] = (uint8_t)rand();
    memcpy(before, below, SIZE);
    memcpy(model, below, SIZE);
    assert_int_equal(device_of_overlay(&memory.device, unit, &overlay, &err), 0);
    assert_int_equal(overlay_count(overlay), 0);
    for (int i = 0; i < 2000; i++) {
        size_t at = (size_t)rand() % SIZE, count = (size_t)rand() % sizeof(bytes), from = (size_t)rand() % SIZE;
        if (rand() % 2) {
            at -= at % unit;
            from -= from % unit;
            assert_int_equal(overlay_redirect(overlay, at, from, &err), 0);
            memcpy(model + at, below + from, unit);
            continue;
        }
        count = count < SIZE - at ? count : SIZE - at;
        memset(bytes, i, count);
        assert_int_equal(device_write(overlay, bytes, count, at, &err), 0);
        memcpy(model + at, bytes, count);
    }
    check_all(overlay, model);
    assert_true(overlay_count(overlay) <= SIZE / unit);
    device_close(overlay);
    assert_memory_equal(below, before, SIZE);
}

static void test_array(void **state) {
    (void)state;
    as_an_array(512);
    as_an_array(4096);
    as_an_array(65536);
}

/* More than is kept in memory is refused, and what was written before stands. */
static void test_limit(void **state) {
    const uint64_t size = OVERLAY_MOST + (1 << 20);
    static uint8_t bytes[65536], read[65536];
    struct memory memory = {{.ops = &memory_ops, .size = size, .sector_size = 512}, NULL};
    struct device *overlay;
    struct img_error err = {0};
    int ret = 0;
    (void)state;
    assert_int_equal(device_of_overlay(&memory.device, 65536, &overlay, &err), 0);
    for (uint64_t at = 0; at < OVERLAY_MOST; at += sizeof(bytes)) {
        memset(bytes, (int)(at >> 16) + 1, sizeof(bytes));
        assert_int_equal(device_write(overlay, bytes, sizeof(bytes), at, &err), 0);
    }
    ret = device_write(overlay, bytes, sizeof(bytes), OVERLAY_MOST, &err);
    assert_int_equal(ret, -EFBIG);
    assert_non_null(strstr(err.text, "268435456 bytes"));
    for (uint64_t at = 0; at < OVERLAY_MOST; at += sizeof(bytes)) {
        memset(bytes, (int)(at >> 16) + 1, sizeof(bytes));
        assert_int_equal(device_read(overlay, read, sizeof(read), at, &err), 0);
        assert_memory_equal(read, bytes, sizeof(read));
    }
    device_close(overlay);
}

static void test_refused(void **state) {
    struct memory memory = {{.ops = &memory_ops, .size = 10000, .sector_size = 512}, NULL};
    struct device *overlay;
    struct img_error err = {0};
    (void)state;
    assert_int_equal(device_of_overlay(&memory.device, 1000, &overlay, &err), -EINVAL);
    assert_int_equal(device_of_overlay(&memory.device, 4096, &overlay, &err), 0);
    assert_int_equal(overlay->size, 8192); /* whole units */
    assert_int_equal(overlay_redirect(overlay, 8192, 0, &err), -EINVAL);
    assert_int_equal(overlay_redirect(overlay, 0, 100, &err), -EINVAL);
    device_close(overlay);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_array), cmocka_unit_test(test_limit),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
