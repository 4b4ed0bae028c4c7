/* SPDX-License-Identifier: GPL-3.0-or-later */
/* image_util.h - what tests of the public calls share: a folder for each test, opens and creates that must work or must
 * fail with a sentence, disks filled with one byte, bytes of files. */
#ifndef TESTS_IMAGE_UTIL_H
#define TESTS_IMAGE_UTIL_H

#include <stddef.h>
#include <stdint.h>

#include "img.h"

#define MIB (1u << 20)

/* Where every call puts its sentence. */
extern struct img_error err;

/* Runs a command that must end with 0. */
void sh(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* cmocka's: an empty folder of its own as the working directory, and away with it. */
int enter_folder(void **state);
int leave_folder(void **state);

void create_image(const char *path, const struct img_create_options *options);
void create_qcow2(const char *path, uint64_t size);
/* "image" of 1 MiB: 0 raw, 1 qcow2 with clusters of 512 bytes, 2 of 64 KiB. */
void make_kind(unsigned kind);
struct img *open_with(const char *path, const struct img_open_options *options);
struct img *open_flags(const char *path, uint32_t flags);
/* The open must fail with `code` and a sentence that has `word` in it. */
void open_fails(const char *path, const struct img_open_options *options, int code, const char *word);
void close_image(struct img *image);

void write_fill(struct img *image, uint64_t offset, size_t count, int fill);
void expect_fill(struct img *image, uint64_t offset, size_t count, int fill);

uint8_t *load_file(const char *path, size_t *size);
void patch_file(const char *path, uint64_t offset, const void *bytes, size_t count);
void patch64(const char *path, uint64_t offset, uint64_t value);
uint64_t peek64(const char *path, uint64_t offset);

#endif
