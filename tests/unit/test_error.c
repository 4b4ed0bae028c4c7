/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_error.c - sentences in struct img_error: nothing that a terminal obeys, never cut where the reason stands. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "scratch.h"

static void keeps_code_and_sentence(void **state) {
    (void)state;
    struct img_error e = {0};
    assert_int_equal(img_fail(&e, -EINVAL, "field %s is %d", "x", 7), -EINVAL);
    assert_int_equal(e.code, -EINVAL);
    assert_string_equal(e.text, "field x is 7");
    assert_int_equal(img_fail_errno(&e, -ENOENT, "Could not open '%s'", "a"), -ENOENT);
    assert_string_equal(e.text, "Could not open 'a': No such file or directory");
}

static void works_without_a_place(void **state) {
    (void)state;
    assert_int_equal(img_fail(NULL, -EIO, "x"), -EIO);
    assert_int_equal(img_fail_errno(NULL, -EIO, "x"), -EIO);
    assert_int_equal(img_prefix(NULL, -EIO, "x"), -EIO);
    assert_int_equal(img_hint(NULL, -EIO, "x"), -EIO);
}

static void replaces_control_characters(void **state) {
    (void)state;
    struct img_error e = {0};
    img_fail(&e, -EIO, "name '%s'", "a\n\x1b[31m\x7f\xc2\x9b\xc3\xa4");
    assert_string_equal(e.text, "name 'a??[31m???\xc3\xa4'");
    img_prefix(&e, -EIO, "in '%s': ", "\r\t");
    assert_string_equal(e.text, "in '\?\?': name 'a??[31m???\xc3\xa4'");
}

static void prefix_keeps_the_first_code(void **state) {
    (void)state;
    struct img_error e = {0};
    img_fail(&e, -EAGAIN, "locked");
    assert_int_equal(img_prefix(&e, -EIO, "Could not open '%s': ", "f"), -EAGAIN);
    assert_string_equal(e.text, "Could not open 'f': locked");
    struct img_error empty = {0};
    assert_int_equal(img_prefix(&empty, -EIO, "p"), -EIO);
}

static void hint_is_a_second_line(void **state) {
    (void)state;
    struct img_error e = {0};
    img_fail(&e, -EAGAIN, "locked");
    img_hint(&e, -EAGAIN, "Is [%s] in use?", "a\nb");
    assert_string_equal(e.text, "locked\nIs [a?b] in use?");
    img_prefix(&e, -EAGAIN, "Could not open: ");
    assert_string_equal(e.text, "Could not open: locked\nIs [a?b] in use?");

    char name[1100];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    img_hint(&e, -EAGAIN, "Is [%s] in use?", name);
    assert_string_equal(e.text, "Could not open: locked\nIs [a?b] in use?");
}

/* A name as long as the system allows must not push the reason out, nor be cut inside a character. */
static void long_names_lose_their_middle(void **state) {
    (void)state;
    for (size_t length = 900; length < 12000; length += length < 1100 ? 1 : 997) {
        char *name = malloc(2 * length + 1);
        for (size_t i = 0; i < length; i++)
            memcpy(name + 2 * i, "\xc3\xa4", 2);
        name[2 * length] = '\0';
        struct img_error e;
        memset(&e, 'x', sizeof e);
        img_fail_errno(&e, -ENOENT, "Could not open '%s'", name);
        assert_true(strlen(e.text) < sizeof e.text);
        if (length < 4000)
            assert_non_null(strstr(e.text, "': No such file or directory"));
        assert_non_null(strstr(e.text, "No such file or directory"));
        assert_non_null(strstr(e.text, "Could not open '\xc3\xa4"));
        char *gap = strstr(e.text, "...");
        assert_non_null(gap);
        assert_int_equal((unsigned char)gap[-1], 0xa4);
        assert_int_equal((unsigned char)gap[3], 0xc3);
        free(name);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_code_and_sentence),     cmocka_unit_test(works_without_a_place),
        cmocka_unit_test(replaces_control_characters), cmocka_unit_test(prefix_keeps_the_first_code),
        cmocka_unit_test(hint_is_a_second_line),       cmocka_unit_test(long_names_lose_their_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
