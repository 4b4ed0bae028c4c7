/* SPDX-License-Identifier: GPL-3.0-or-later */
/* snapshot.h - what the two parts of `img snapshot` share. */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

#include "cmd.h"

struct snapshot_args {
    struct common_options common;
    const char *format, *file;
    int action;        /* 'l', 'a', 'c', 'd'; 0: none */
    const char *name;  /* of the action */
    const char *verb;  /* NULL: none */
    char *const *rest; /* behind the file's name */
    int nrest;
};

/* Opens the file; NULL after reporting. */
struct img *snapshot_open(const struct snapshot_args *a, uint32_t flags);

/* Is there a verb of this name? */
bool snapshot_is_verb(const char *word);
/* Does what the verb says; the exit status. */
int snapshot_show(const struct snapshot_args *a);

#endif
