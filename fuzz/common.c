// SPDX-License-Identifier: GPL-3.0-or-later
/* common.c - how the fuzz targets open, check and complain. */
#include "fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"
#include "qcow2/format.h"

/* Freed memory is kept back for a while, but not so much that every allocation is a page fault. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "quarantine_size_mb=4:thread_local_quarantine_size_kb=64";
}

void fuzz_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "FUZZ: ");
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    abort();
}

struct img *fuzz_open(struct mem *mem, uint32_t flags, const char *format, const char *snapshot) {
    struct img_open_options options = {
        .flags = flags | IMG_OPEN_NO_BACKING,
        .format = format,
        .snapshot = snapshot,
        .l2_cache = 64 << 10,
        .refcount_cache = 64 << 10,
    };
    struct img_error err = {0};
    struct img *image = NULL;
    struct storage *file = mem_storage(mem, flags & IMG_OPEN_WRITE);
    if (!file)
        return NULL;
    int rc = image_open_storage(file, &options, &image, &err);
    if (rc == 0)
        return image;
    if (rc > 0 || err.code != rc || err.text[0] == 0 || strlen(err.text) >= sizeof(err.text))
        fuzz_fail("an open fails with %d but says %d '%s'", rc, err.code, err.text);
    for (const char *c = err.text; *c; c++)
        if ((unsigned char)*c < ' ')
            fuzz_fail("a control character in '%s'", err.text);
    return NULL;
}

void fuzz_forget_data_file(struct mem *mem) {
    struct qcow2_disk_header *header = (struct qcow2_disk_header *)mem->bytes;
    if (mem->size >= QCOW2_V3_MIN_HEADER_SIZE && get32(header->magic) == QCOW2_MAGIC)
        header->incompatible_features = put64(get64(header->incompatible_features) & ~QCOW2_INCOMPAT_DATA_FILE);
}

static void look_at_finding(void *opaque, const struct img_finding *f) {
    *(unsigned *)opaque += f->kind == IMG_FINDING_ERROR;
    if (!f->text || strlen(f->text) == 0)
        fuzz_fail("a finding of kind %d without a text", f->kind);
    if (getenv("FUZZ_VERBOSE"))
        fprintf(stderr, "finding %d: %s\n", f->kind, f->text);
}

bool fuzz_check(struct img *image, uint32_t flags, struct img_check_result *result) {
    unsigned errors = 0;
    struct img_check_options options = {.flags = flags, .report = look_at_finding, .opaque = &errors};
    struct img_error err = {0};
    memset(result, 0, sizeof(*result));
    int rc = img_check(image, &options, result, &err);
    if (rc && (err.code != rc || err.text[0] == 0))
        fuzz_fail("a check fails with %d but says %d '%s'", rc, err.code, err.text);
    if (rc && getenv("FUZZ_VERBOSE"))
        fprintf(stderr, "check: %s\n", err.text);
    return rc == 0 && !errors;
}

uint64_t input_number(struct input *in, unsigned bytes) {
    uint64_t number = 0;
    for (; bytes; bytes--) {
        number <<= 8;
        if (in->size) {
            number |= *in->data++;
            in->size--;
        }
    }
    return number;
}
