/* SPDX-License-Identifier: GPL-3.0-or-later */
/* find_test.h - the expression of `img find`: tests that a file must all pass, and how it is printed. */
#ifndef FIND_TEST_H
#define FIND_TEST_H

#include <stdbool.h>
#include <time.h>

#include "fs/guest.h"
#include "tar_attributes.h"

#define FIND_TESTS_MAX 256

enum find_print { FIND_PRINT, FIND_PRINT0, FIND_LS };

struct find_test;
struct find {
    struct find_test {
        const struct find_word *word;
        bool negated;
        const char *text;
        int sign; /* of a number: '+' more, '-' less, 0 exactly; of -perm '-' all, '/' any */
        uint64_t number, unit;
        struct fs_time time; /* of -newer */
    } tests[FIND_TESTS_MAX];
    size_t count;
    unsigned depth_min, depth_max;
    enum find_print print;
    time_t now;
};

/* Does the expression begin with this word? */
bool find_is_word(const char *word);
/* Reads an expression; false after reporting. */
bool find_parse(struct find *find, char **words, size_t count);
/* Looks up in the guest what tests name: users, groups, files. False after reporting. */
bool find_prepare(struct find *find, struct guest *guest, const struct tar_names *users,
                  const struct tar_names *groups);
/* Does a file pass? `path` as it is printed. */
int find_matches(const struct find *find, const struct guest_visit *visit, const char *path, const char *name,
                 bool *matches, struct img_error *err);

#endif
