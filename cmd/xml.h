/* SPDX-License-Identifier: GPL-3.0-or-later */
/* xml.h - XML as it is written, element by element, two spaces deeper each: what libxml2's writer would make of it.
 *
 * Text comes from guests: bytes that are no UTF-8 and characters that XML does not have become U+FFFD, and what would
 * change a terminal is written by its number. */
#ifndef XML_H
#define XML_H

#include <stdbool.h>
#include <stdio.h>

#define XML_DEPTH_MAX 16

struct xml {
    FILE *out;
    const char *names[XML_DEPTH_MAX]; /* the open elements */
    unsigned depth;
    bool tag_is_open; /* its attributes may follow */
    bool has_text;    /* the innermost one */
};

/* The declaration. */
void xml_start(struct xml *xml, FILE *out);
void xml_begin(struct xml *xml, const char *name);
void xml_attribute(struct xml *xml, const char *name, const char *value);
void xml_text(struct xml *xml, const char *text);
void xml_end(struct xml *xml);
/* An element with text alone; nothing if `text` is NULL or empty. */
void xml_leaf(struct xml *xml, const char *name, const char *text);

#endif
