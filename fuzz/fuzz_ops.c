// SPDX-License-Identifier: GPL-3.0-or-later
/* fuzz_ops.c - bytes as an image file and a stream of operations on it, beside a byte array.
 *
 * An input is [count: 2 bytes][operations: count bytes][image]. When our own check finds the start image free of
 * corruption, everything must go right: reads equal the byte array, and at the end neither corruption nor, after a
 * close without errors, more leaks than at the start. Any other image may refuse every operation, but with a sentence,
 * and without a crash.
 *
 * Held besides: -ENOSPC (the memory is full) leaves an image whose check finds no corruption.
 */
#include "fuzz.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW (512u << 10) /* guest bytes that operations touch and that the byte array holds */
#define OPS_MOST 64
#define STATES 4

struct state {
    struct mem *mem;
    struct img *image;
    uint64_t base, window; /* guest range */
    bool sound;            /* the start image was free of corruption, and nothing has failed since */
    bool full;             /* an operation failed for want of space: it may be done in part */
    uint8_t *model;
    uint8_t *unknown; /* per byte: a discard or a failed write may have changed it */
    struct {
        uint8_t *model, *unknown; /* NULL: there is no such snapshot */
    } states[STATES];
};

static void forget(struct state *s, uint64_t offset, uint64_t length) {
    memset(s->unknown + (offset - s->base), 1, length);
}

static void learn(struct state *s, uint64_t offset, uint64_t length, int value, const uint8_t *bytes) {
    if (bytes)
        memcpy(s->model + (offset - s->base), bytes, length);
    else
        memset(s->model + (offset - s->base), value, length);
    memset(s->unknown + (offset - s->base), 0, length);
}

/* True: go on as if done. An error must have a sentence, and a sound image only runs out of space. */
static bool went_well(struct state *s, const char *what, int rc, const struct img_error *err) {
    if (rc == 0)
        return true;
    if (rc > 0 || err->code != rc || !err->text[0])
        fuzz_fail("%s gives %d and says %d '%s'", what, rc, err->code, err->text);
    if (getenv("FUZZ_VERBOSE"))
        fprintf(stderr, "%s: %s\n", what, err->text);
    if (rc == -ENOENT || rc == -EEXIST || rc == -ESTALE)
        return false; /* nothing was tried; or a deletion that failed had gone half way */
    if (rc == -ENOSPC || rc == -EFBIG || rc == -EBUSY || rc == -ENOTSUP || rc == -EOVERFLOW)
        s->full = true;
    else if (s->sound)
        fuzz_fail("%s of a sound image: %s", what, err->text);
    return false;
}

static void compare(struct state *s, uint64_t offset, uint64_t length) {
    struct img_error err = {0};
    uint8_t *bytes = malloc(length + 1);
    if (!bytes)
        return;
    int rc = img_pread(s->image, bytes, length, offset, &err);
    if (went_well(s, "a read", rc, &err) && s->sound) {
        for (uint64_t i = 0; i < length; i++) {
            uint64_t at = offset - s->base + i;
            if (s->unknown[at])
                s->model[at] = bytes[i], s->unknown[at] = 0;
            else if (s->model[at] != bytes[i])
                fuzz_fail("offset %llu reads as 0x%02x, not 0x%02x", (unsigned long long)(offset + i), bytes[i],
                          s->model[at]);
        }
    }
    free(bytes);
}

static void write_bytes(struct state *s, uint64_t offset, uint64_t length, uint8_t seed, bool compressed) {
    struct img_error err = {0};
    uint8_t *bytes = malloc(length + 1);
    if (!bytes)
        return;
    for (uint64_t i = 0; i < length; i++)
        bytes[i] = seed & 1 ? (uint8_t)(seed * 31 + i * i + (i >> 8)) : seed;
    int rc = compressed ? img_pwrite_compressed(s->image, bytes, length, offset, &err)
                        : img_pwrite(s->image, bytes, length, offset, &err);
    if (went_well(s, compressed ? "a compressed write" : "a write", rc, &err))
        learn(s, offset, length, 0, bytes);
    else
        forget(s, offset, length);
    free(bytes);
}

static void reopen(struct state *s) {
    struct img_error err = {0};
    if (!went_well(s, "a close", img_close(s->image, &err), &err))
        forget(s, s->base, s->window);
    s->image = fuzz_open(s->mem, IMG_OPEN_WRITE, "qcow2", NULL);
    if (!s->image && s->sound && !s->full)
        fuzz_fail("a sound image does not open again");
}

static void resize(struct state *s, uint64_t by, bool shrink) {
    struct img_error err = {0};
    uint64_t size = img_size(s->image), end = s->base + s->window;
    uint64_t wanted = shrink ? (by < size - end ? size - by : end) : size + by;
    int rc = img_resize(s->image, wanted, IMG_PREALLOCATION_OFF, shrink ? IMG_RESIZE_SHRINK : 0, &err);
    went_well(s, "a resize", rc, &err);
}

/* A compressed write of whole clusters inside the window. */
static void write_compressed(struct state *s, uint64_t offset, uint8_t seed) {
    uint64_t cluster = img_cluster_size(s->image), end = s->base + s->window;
    offset -= offset % cluster;
    if (offset >= s->base && cluster <= end - offset)
        write_bytes(s, offset, cluster, seed, true);
}

static void drop_state(struct state *s, unsigned k) {
    free(s->states[k].model);
    free(s->states[k].unknown);
    s->states[k].model = s->states[k].unknown = NULL;
}

static void keep_state(struct state *s, unsigned k) {
    s->states[k].model = malloc(WINDOW + 1);
    s->states[k].unknown = malloc(WINDOW + 1);
    if (!s->states[k].model || !s->states[k].unknown)
        abort();
    memcpy(s->states[k].model, s->model, WINDOW + 1);
    memcpy(s->states[k].unknown, s->unknown, WINDOW + 1);
}

static int see_difference(void *opaque, uint64_t start, uint64_t length) {
    uint64_t *end = opaque;
    if (!length || start < *end || start + length < start)
        fuzz_fail("a difference of %llu bytes at %llu", (unsigned long long)length, (unsigned long long)start);
    *end = start + length;
    return 0;
}

/* A snapshot of ours is made, gone back to, deleted, or compared with the active state. A failure may have done it. */
static void change_snapshots(struct state *s, uint8_t seed) {
    struct img_error err = {0};
    struct img_parent parent;
    unsigned k = seed >> 2 & 3;
    uint64_t end = 0;
    char name[] = {'f', (char)('0' + k), 'z', 0};
    bool there = s->states[k].model;
    if (!there) {
        if (went_well(s, "a snapshot", img_snapshot_create(s->image, name, NULL, &err), &err))
            keep_state(s, k);
    } else if (seed % 4 == 0) {
        if (went_well(s, "a deletion", img_snapshot_delete(s->image, name, &err), &err))
            drop_state(s, k);
    } else if (seed % 4 == 1) {
        went_well(s, "a comparison", img_snapshot_diff(s->image, name, NULL, see_difference, &end, &err), &err);
        went_well(s, "descent", img_snapshot_parent(s->image, seed & 16 ? name : NULL, &parent, &err), &err);
    } else if (went_well(s, "going back", img_snapshot_apply(s->image, name, &err), &err)) {
        memcpy(s->model, s->states[k].model, WINDOW + 1);
        memcpy(s->unknown, s->states[k].unknown, WINDOW + 1);
    } else {
        forget(s, s->base, s->window);
    }
}

/* The bitmap of a name of ours, or the image's first. */
static void edit_bitmap(struct state *s, uint8_t seed) {
    struct img_error err = {0};
    struct img_info info;
    char name[1100] = "b";
    int rc = img_info(s->image, &info, &err);
    if (rc == 0 && seed & 1 && info.nbitmaps)
        snprintf(name, sizeof(name), "%s", info.bitmaps[0].name);
    switch (seed >> 1 & 7) {
    case 0:
    case 1:
        rc = img_bitmap_add(s->image, name, seed & 16 ? 512u << (seed >> 5) : 0, seed & 8, &err);
        break;
    case 2:
        rc = img_bitmap_remove(s->image, name, &err);
        break;
    case 3:
        rc = img_bitmap_clear(s->image, name, &err);
        break;
    case 4:
        rc = img_bitmap_set_enabled(s->image, name, seed & 16, &err);
        break;
    default:
        rc = img_bitmap_merge(s->image, "b", s->image, name, &err);
    }
    /* a check does not know all that a bitmap must be */
    if (rc == -EINVAL && err.code == rc && err.text[0])
        return;
    went_well(s, "a change of a bitmap", rc, &err);
}

/* The disk stays what it is. A wish may be one that cannot be granted. */
static void amend(struct state *s, uint8_t seed) {
    struct img_error err = {0};
    struct img_amend_options wishes = {0};
    switch (seed & 3) {
    case 0:
    case 1:
        wishes.refcount_bits = 1u << (seed >> 2 & 7);
        break;
    case 2:
        wishes.version = seed & 4 ? 2 : 3;
        break;
    default:
        wishes.lazy_refcounts = seed & 4 ? IMG_AMEND_ON : IMG_AMEND_OFF;
    }
    int rc = img_amend(s->image, &wishes, &err);
    if ((rc == -EINVAL || rc == -ENOTSUP || rc == -EOVERFLOW) && err.code == rc && err.text[0])
        return;
    went_well(s, "an amendment", rc, &err);
}

/* A machine's state is read as it was written. */
static void touch_state(struct state *s, uint64_t offset, uint8_t seed) {
    struct img_error err = {0};
    uint8_t bytes[3000], found[sizeof(bytes)];
    memset(bytes, seed, sizeof(bytes));
    int rc = img_vmstate_write(s->image, bytes, sizeof(bytes), offset, &err);
    if (rc == -EFBIG && err.code == rc && err.text[0])
        return;
    if (went_well(s, "a write of state", rc, &err) &&
        went_well(s, "a read of state", img_vmstate_read(s->image, found, sizeof(found), offset, &err), &err) &&
        memcmp(bytes, found, sizeof(bytes)) != 0)
        fuzz_fail("a machine's state reads as something else");
}

static void operate(struct state *s, struct input *in) {
    struct img_error err = {0};
    uint8_t what = (uint8_t)input_number(in, 1), seed = (uint8_t)input_number(in, 1);
    uint64_t at = input_number(in, 3) % s->window, length = input_number(in, 2);
    length <<= what >> 6;
    if (length > s->window - at)
        length = s->window - at;
    uint64_t offset = s->base + at;
    switch (what % 15) {
    case 0:
    case 1:
        if (seed < 0xc0)
            compare(s, offset, length);
        else
            touch_state(s, at << (seed & 15), seed);
        return;
    case 2:
    case 3:
    case 4:
        write_bytes(s, offset, length, seed, false);
        return;
    case 5:
        if (went_well(s, "a zeroing", img_write_zeroes(s->image, offset, length, seed & 1, &err), &err))
            learn(s, offset, length, 0, NULL);
        else
            forget(s, offset, length);
        return;
    case 6:
        went_well(s, "a discard", img_discard(s->image, offset, length, &err), &err);
        forget(s, offset, length);
        return;
    case 7:
    case 8:
        write_compressed(s, offset, seed);
        return;
    case 9:
        went_well(s, "a flush", img_flush(s->image, &err), &err);
        return;
    case 10:
        reopen(s);
        return;
    case 11:
    case 12:
        change_snapshots(s, seed);
        return;
    case 13:
        edit_bitmap(s, seed);
        return;
    default:
        if (seed < 0xd0)
            resize(s, length, seed & 1);
        else
            amend(s, seed);
    }
}

/* Leaks of counts behind the end of the file, which no check sees before the file has grown over them. */
static uint64_t all_leaks(struct mem *mem) {
    struct img_check_result result = {0};
    uint64_t size = mem->size;
    mem->size = size + (MEM_MOST - size) / 2;
    struct img *image = fuzz_open(mem, 0, "qcow2", NULL);
    if (image) {
        fuzz_check(image, 0, &result);
        img_close(image, NULL);
    }
    mem->size = size;
    return result.leaks;
}

/* A sound start: the check could be made and found no corruption, everything in the window can be read, and nothing
 * forbids a write. */
static bool begin(struct state *s, struct img_check_result *result) {
    struct img *image = fuzz_open(s->mem, 0, "qcow2", NULL);
    struct img_info info;
    if (!image)
        return false;
    s->sound = fuzz_check(image, 0, result) && !result->corruptions && !result->check_errors;
    if (s->sound && img_info(image, &info, NULL) == 0 && (info.encrypted || info.corrupt || info.backing_file))
        s->sound = false;
    uint64_t size = img_size(image);
    s->base = s->base % (size / 512 + 1) * 512;
    s->window = size - s->base < WINDOW ? size - s->base : WINDOW;
    s->model = calloc(1, WINDOW + 1);
    s->unknown = calloc(1, WINDOW + 1);
    if (s->model && s->unknown && s->sound && img_pread(image, s->model, s->window, s->base, NULL))
        s->sound = false; /* a compressed cluster that does not unpack: no check looks inside */
    img_close(image, NULL);
    if (s->sound)
        result->leaks = all_leaks(s->mem);
    return s->window > 0 && s->model && s->unknown;
}

static void judge(struct state *s, const struct img_check_result *before) {
    struct img_check_result after;
    struct img *image = fuzz_open(s->mem, IMG_OPEN_CHECK, "qcow2", NULL);
    if (!image)
        fuzz_fail("the image does not open for a check any more");
    if (!fuzz_check(image, 0, &after) || after.corruptions || after.check_errors)
        fuzz_fail("%llu corruptions where there were none", (unsigned long long)after.corruptions);
    if (!s->full && after.leaks > before->leaks)
        fuzz_fail("%llu leaks where there were %llu", (unsigned long long)after.leaks,
                  (unsigned long long)before->leaks);
    img_close(image, NULL);
    if (s->full)
        return;
    s->image = fuzz_open(s->mem, 0, "qcow2", NULL);
    if (!s->image)
        fuzz_fail("the image does not open any more");
    compare(s, s->base, s->window);
    img_close(s->image, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    struct img_check_result before = {0};
    struct img_error err = {0};
    struct state s = {0};
    size_t count = input_number(&in, 2);
    if (count > in.size)
        return 0;
    struct input ops = {in.data, count};
    s.mem = mem_load(in.data + count, in.size - count);
    fuzz_forget_data_file(s.mem);
    s.base = input_number(&ops, 2);
    if (begin(&s, &before)) {
        s.image = fuzz_open(s.mem, IMG_OPEN_WRITE, "qcow2", NULL);
        for (unsigned i = 0; i < OPS_MOST && ops.size && s.image; i++)
            operate(&s, &ops);
        if (s.image && !went_well(&s, "a close", img_close(s.image, &err), &err))
            forget(&s, s.base, s.window);
        if (s.sound)
            judge(&s, &before);
    }
    free(s.model);
    free(s.unknown);
    for (unsigned k = 0; k < STATES; k++)
        drop_state(&s, k);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    size_t count = size < 2 ? size : (size_t)data[0] << 8 | data[1];
    if (seed % 3 || count + 2 >= size)
        return LLVMFuzzerMutate(data, size, max_size);
    if (seed % 2)
        LLVMFuzzerMutate(data + 2, count, count);
    else
        mutate_image(data + 2 + count, size - 2 - count, seed);
    return size;
}
