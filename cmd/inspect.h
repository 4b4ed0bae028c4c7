/* SPDX-License-Identifier: GPL-3.0-or-later */
/* inspect.h - what `img inspect` knows of a root when it prints it, and its two forms. */
#ifndef INSPECT_H
#define INSPECT_H

#include "fs/inspect/inspect.h"
#include "fs/packages/packages.h"
#include "json.h"
#include "xml.h"

struct shown_root {
    const struct inspect_root *root;
    const struct inspect_mount **mounts; /* sorted by path */
    size_t nmounts;
    const struct volume **filesystems; /* sorted by name, each once */
    size_t nfilesystems;
    const struct packages *packages; /* NULL: they are not wanted */
    char *icon;                      /* base64; NULL: none */
};

void print_root_xml(struct xml *xml, const struct shown_root *shown);
json_t *root_as_json(const struct shown_root *shown);

/* Evaluates an XPath expression on the XML document on the standard input. The exit status. */
int print_xpath(const char *expression);

#endif
