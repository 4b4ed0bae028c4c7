// SPDX-License-Identifier: GPL-3.0-or-later
/* image_util.c - see image_util.h. Everything asserts: a helper that returns has done what it was asked for. */
#include "image_util.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qcow2/format.h"

static char folder[64];
struct img_error err;

void sh(const char *format, ...) {
    char command[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(command, sizeof(command), format, args);
    va_end(args);
    if (system(command))
        fail_msg("failed: %s", command);
}

int enter_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof(folder), "/dev/shm/test-io-XXXXXX");
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

int leave_folder(void **state) {
    (void)state;
    if (chdir("/"))
        return -1;
    sh("rm -rf %s", folder);
    return 0;
}

void create_image(const char *path, const struct img_create_options *options) {
    if (img_create(path, options, &err))
        fail_msg("img_create %s: %s", path, err.text);
}

void create_qcow2(const char *path, uint64_t size) {
    create_image(path, &(struct img_create_options){.format = "qcow2", .size = size});
}

struct img *open_with(const char *path, const struct img_open_options *options) {
    struct img *image = NULL;
    if (img_open(path, options, &image, &err))
        fail_msg("img_open %s: %s", path, err.text);
    assert_non_null(image);
    return image;
}

struct img *open_flags(const char *path, uint32_t flags) {
    return open_with(path, &(struct img_open_options){.flags = flags});
}

void open_fails(const char *path, const struct img_open_options *options, int code, const char *word) {
    struct img *image = NULL;
    memset(&err, 0, sizeof(err));
    int rc = img_open(path, options, &image, &err);
    if (rc == 0)
        fail_msg("%s opens", path);
    if (rc != code || err.code != code || !strstr(err.text, word))
        fail_msg("%s: %d '%s', expected %d and '%s'", path, rc, err.text, code, word);
    assert_int_not_equal(err.text[strlen(err.text) - 1], '\n');
}

void close_image(struct img *image) {
    if (img_close(image, &err))
        fail_msg("img_close: %s", err.text);
}

void write_fill(struct img *image, uint64_t offset, size_t count, int fill) {
    uint8_t *bytes = malloc(count);
    memset(bytes, fill, count);
    if (img_pwrite(image, bytes, count, offset, &err))
        fail_msg("img_pwrite: %s", err.text);
    free(bytes);
}

void expect_fill(struct img *image, uint64_t offset, size_t count, int fill) {
    uint8_t *bytes = malloc(count);
    memset(bytes, ~fill, count);
    if (img_pread(image, bytes, count, offset, &err))
        fail_msg("img_pread: %s", err.text);
    for (size_t i = 0; i < count; i++)
        if (bytes[i] != (uint8_t)fill)
            fail_msg("offset %llu reads as 0x%02x, not 0x%02x", (unsigned long long)(offset + i), bytes[i], fill);
    free(bytes);
}

uint8_t *load_file(const char *path, size_t *size) {
    struct stat st = {0};
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    uint8_t *bytes = malloc((size_t)st.st_size + 1);
    assert_int_equal(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
    close(fd);
    *size = (size_t)st.st_size;
    return bytes;
}

void patch_file(const char *path, uint64_t offset, const void *bytes, size_t count) {
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, count, (off_t)offset), count);
    close(fd);
}

void patch64(const char *path, uint64_t offset, uint64_t value) {
    be64 raw = put64(value);
    patch_file(path, offset, &raw, sizeof(raw));
}

uint64_t peek64(const char *path, uint64_t offset) {
    be64 raw;
    int fd = open(path, O_RDONLY);
    assert_int_equal(pread(fd, &raw, sizeof(raw), (off_t)offset), sizeof(raw));
    close(fd);
    return get64(raw);
}

void make_kind(unsigned kind) {
    if (kind == 0)
        create_image("image", &(struct img_create_options){.format = "raw", .size = MIB});
    else
        create_image("image", &(struct img_create_options){
                                  .format = "qcow2", .size = MIB, .cluster_size = kind == 1 ? 512 : 65536});
}
