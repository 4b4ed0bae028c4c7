/* SPDX-License-Identifier: GPL-3.0-or-later */
/* pairs.h - what somebody says about an image, as a flat list: "file.driver" is "file", and so on.
 *
 * Both ways of saying it, "driver=qcow2,file.filename=x" and {"driver": "qcow2", "file": {"filename": "x"}}, come to
 * the same list. The last of several pairs with one key counts. A pair that was looked up is used; those that nobody
 * looked up are unknown to everybody.
 */
#ifndef PAIRS_H
#define PAIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pair_kind { PAIR_TEXT, PAIR_NUMBER, PAIR_BOOLEAN, PAIR_NULL };

struct pair {
    char *key, *text; /* a number and a boolean are text too */
    enum pair_kind kind;
    bool used;
};

struct pairs {
    struct pair *list;
    size_t count, room;
};

/* Read a list; on failure *wrong is the sentence, malloc'ed. pairs_free() is to be called in any case. */
bool pairs_parse_list(struct pairs *p, const char *text, char **wrong);
bool pairs_parse_json(struct pairs *p, const char *text, char **wrong);
void pairs_free(struct pairs *p);

/* The pair of the key PREFIX NAME; NULL: there is none. */
const struct pair *pairs_take(struct pairs *p, const char *prefix, const char *name);
/* Are there keys that go on with a dot behind PREFIX NAME? */
bool pairs_has_below(const struct pairs *p, const char *prefix, const char *name);
/* What the first unused key that begins with PREFIX has behind it; NULL: all are used. */
const char *pairs_unused(const struct pairs *p, const char *prefix);

#endif
