/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Libraries that are loaded late: a table is filled from one that is there, and stays shut if anything is missing. */
#include "fs/late.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define TEXT(F) F(strlen) F(strchr)

struct text {
    TEXT(LATE_POINTER)
};

static void test_filled(void **state) {
    (void)state;
    struct text text = {0};
    struct img_error err = {0};
    assert_int_equal(late_load("libc.so.6", LATE_NAMES(TEXT), &text, &err), 0);
    assert_int_equal(text.strlen("four"), 4);
    assert_string_equal(text.strchr("a-b", '-'), "-b");
    /* what is loaded is not looked for again */
    assert_int_equal(late_load("libnone.so.0", LATE_NAMES(TEXT), &text, &err), 0);
    assert_int_equal(text.strlen("four"), 4);
}

static void test_missing_library(void **state) {
    (void)state;
    struct text text = {0};
    struct img_error err = {0};
    assert_int_equal(late_load("libnone.so.0", LATE_NAMES(TEXT), &text, &err), -ELIBACC);
    assert_non_null(strstr(err.text, "libnone.so.0"));
    assert_null(text.strlen);
}

static void test_missing_name(void **state) {
    (void)state;
    static const char *const first[] = {"no_such_function", "strchr", NULL}, *const last[] = {"strlen",
                                                                                              "no_such_function", NULL};
    struct text text = {0};
    struct img_error err = {0};
    assert_int_equal(late_load("libc.so.6", last, &text, &err), -ELIBACC);
    assert_non_null(strstr(err.text, "no_such_function"));
    assert_null(text.strlen);
    assert_int_equal(late_load("libc.so.6", first, &text, &err), -ELIBACC);
    assert_null(text.strlen);
    assert_int_equal(late_load("libc.so.6", LATE_NAMES(TEXT), &text, &err), 0);
    assert_int_equal(text.strlen("four"), 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filled),
        cmocka_unit_test(test_missing_library),
        cmocka_unit_test(test_missing_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
