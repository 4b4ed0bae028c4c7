/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scratch.h - a folder for a test's files, and the small helpers that every storage test needs.
 *
 * The folder lies on a disk ($IMG_BUILD, else /var/tmp) because O_DIRECT and holes are to be tried on a real file
 * system. It is removed when the program ends. Failures inside the helpers end the program: they are not what is
 * tested.
 */
#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What cmocka wants included before itself. */
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "storage.h"

/* The folder's path, and "folder/name" (the caller frees). */
const char *scratch_folder(void);
char *scratch_path(const char *name);

/* Makes or replaces a file of `length` bytes: its first `count` from `data`, the rest a hole. Returns its path. */
char *scratch_file(const char *name, const void *data, size_t count, uint64_t length);
uint64_t scratch_length(const char *path);

/* A stream of numbers that depends on the seed alone (xorshift). */
uint64_t random_next(uint64_t *state);
void random_fill(uint64_t *state, void *buffer, size_t count);

/* Opens or fails the test with the sentence. */
struct storage *open_storage(const char *path, uint32_t flags, enum img_cache cache);
void assert_reads(struct storage *s, uint64_t offset, const void *expected, size_t count);
void assert_reads_zero(struct storage *s, uint64_t offset, size_t count);

/* A child process that runs `body` and ends with its result; the parent's cmocka state is not touched. */
pid_t in_child(int (*body)(void *), void *argument);
int child_result(pid_t pid);

#endif
