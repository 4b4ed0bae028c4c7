/* SPDX-License-Identifier: GPL-3.0-or-later */
/* beneath.h - opening and making files in a directory under names that a stranger chose: never through a symbolic link,
 * never outside. All return what their system calls do. */
#ifndef BENEATH_H
#define BENEATH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* May it be the name of one file? Not empty, "." or "..", without '/' and NUL. */
bool beneath_is_name(const char *name, size_t length);
/* openat of one name; O_CLOEXEC and O_NOFOLLOW are added. */
int beneath_open(int dir, const char *name, int flags, mode_t mode);
/* A new regular file, open for writing; what had the name before is removed unless it is a directory. */
int beneath_new_file(int dir, const char *name);
/* A directory, new or there already, opened, without a default ACL; a file that had the name is removed. */
int beneath_directory(int dir, const char *name);
/* The directory in which the last name of `path` lies, down from `dir`, opened as a place; *last: that name. */
int beneath_parent(int dir, const char *path, const char **last);

#endif
