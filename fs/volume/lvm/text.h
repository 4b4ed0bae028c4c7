/* SPDX-License-Identifier: GPL-3.0-or-later */
/* text.h - LVM's metadata as it is written: sections in braces, and in them keys with strings, numbers or arrays.
 *
 * The text becomes a tree of nodes in one array, whose strings stand in the text itself. Depth and size are bounded
 * here, so whoever walks the tree need not be careful.
 */
#ifndef FS_VOLUME_LVM_TEXT_H
#define FS_VOLUME_LVM_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "img.h"

#define TEXT_MOST (8u << 20) /* bytes */

enum text_kind { TEXT_SECTION, TEXT_STRING, TEXT_NUMBER, TEXT_ARRAY };

struct text_node {
    enum text_kind kind;
    uint32_t first, next; /* indices of the first in it and of the one behind it; 0: there is none */
    uint32_t total;       /* nodes in it, at any depth, and itself */
    const char *key;      /* "" in an array */
    union {
        const char *string;
        int64_t number;
    };
};

struct text {
    char *bytes;
    struct text_node *nodes; /* the first is the whole, a section */
    uint32_t count;
};

/* `bytes` is `length` and a zero more, from malloc, and becomes the text's in any case. -EUCLEAN with the line and what
 * is wrong there; -ENOMEM. */
int text_parse(char *bytes, size_t length, struct text *text, struct img_error *err);
void text_free(struct text *text);

/* The next in a walk over all of a section or an array: begin with NULL. NULL: that was the last. */
const struct text_node *text_walk(const struct text *text, const struct text_node *in, const struct text_node *at);
/* NULL: it has no such key. */
const struct text_node *text_get(const struct text *text, const struct text_node *section, const char *key);
const struct text_node *text_section(const struct text *text, const struct text_node *section, const char *key);
const char *text_string(const struct text *text, const struct text_node *section, const char *key);
/* False: there is no number that is not negative. */
bool text_number(const struct text *text, const struct text_node *section, const char *key, uint64_t *number);
/* Is the word in the array of strings of this key? */
bool text_lists(const struct text *text, const struct text_node *section, const char *key, const char *word);

#endif
