/* SPDX-License-Identifier: GPL-3.0-or-later */
/* paths.h - paths of a guest as users give them and as lists show them. */
#ifndef PATHS_H
#define PATHS_H

#include <stdbool.h>

/* A copy without '/' at its end: "" is the root. */
char *path_trimmed(const char *path);
/* A '/' at the end wants what a link leads to. */
bool path_follows(const char *path);
/* What is `below` a trimmed path, as a walk tells it; "": that itself. */
char *path_below(const char *top, const char *below);

#endif
