/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_zero.c - img_is_zero: every size around its strides, every alignment, every single byte. */
#include <stdlib.h>
#include <string.h>

#include "scratch.h"

static void sees_every_byte(void **state) {
    (void)state;
    enum { MAX = 1100 };
    uint8_t *buffer = calloc(1, MAX + 64);
    for (size_t start = 0; start < 17; start += 4) {
        for (size_t count = 0; count <= MAX; count += count < 600 ? 1 : 37) {
            assert_true(img_is_zero(buffer + start, count));
            for (size_t i = 0; i < count; i += count < 300 ? 1 : 7) {
                buffer[start + i] = 0x80;
                if (img_is_zero(buffer + start, count))
                    fail_msg("%zu bytes at %zu: byte %zu not seen", count, start, i);
                buffer[start + i] = 0;
            }
        }
    }
    free(buffer);
}

static void ignores_what_is_outside(void **state) {
    (void)state;
    uint8_t buffer[1024];
    memset(buffer, 0xff, sizeof buffer);
    for (size_t count = 0; count <= 700; count++) {
        memset(buffer + 100, 0, count);
        assert_true(img_is_zero(buffer + 100, count));
        assert_false(img_is_zero(buffer + 99, count + 1));
        assert_false(img_is_zero(buffer + 100, count + 1));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sees_every_byte),
        cmocka_unit_test(ignores_what_is_outside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
