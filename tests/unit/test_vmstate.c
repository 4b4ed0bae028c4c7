/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_vmstate.c - the state of a machine behind the disk: what was written is read, the disk and its bitmaps know
 * nothing of it, and the image stays sound. That QEMU reads the same is in tests/cli/io.t, power cuts are in
 * tests/crash.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "check_util.h"
#include "image_util.h"
#include "scratch.h"

#define IMAGE "image"

static void must(int r) {
    if (r)
        fail_msg("%d: %s", r, err.text);
}

static void assert_clean(void) {
    struct check_run run;
    check_path(IMAGE, 0, &run);
    assert_string_equal(check_verdict(&run), "clean");
    check_run_free(&run);
}

static uint64_t next_random(uint64_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

/* ---- bytes ----------------------------------------------------------------------------------------- */

enum { STATE = 3 * MIB };

static void expect_state(struct img *image, const uint8_t *shadow) {
    uint8_t *found = malloc(STATE);
    must(img_vmstate_read(image, found, STATE, 0, &err));
    assert_memory_equal(found, shadow, STATE);
    free(found);
}

/* Random pieces, some of several tables, among writes to the disk, of which every byte is `disk`. */
static void write_pieces(struct img *image, uint8_t *shadow, uint64_t seed, int disk) {
    for (unsigned i = 0; i < 60; i++) {
        uint64_t length = 1 + next_random(&seed) % (i % 10 ? 20000 : 400000);
        uint64_t offset = next_random(&seed) % (STATE - length);
        memset(shadow + offset, (int)(i + 1), length);
        must(img_vmstate_write(image, shadow + offset, length, offset, &err));
        if (i % 4 == 0)
            write_fill(image, next_random(&seed) % (MIB - 5000), 5000, disk);
        if (i % 16 == 0)
            must(img_flush(image, &err));
    }
}

static void try_image(const struct img_create_options *options, int below) {
    uint8_t *shadow = malloc(STATE);
    memset(shadow, 0, STATE);
    if (below) /* the backing file is longer by a MiB */
        memset(shadow, below, MIB);
    create_image(IMAGE, options);
    struct img *image = open_flags(IMAGE, IMG_OPEN_WRITE);
    write_fill(image, 0, MIB, 0xdd);
    expect_state(image, shadow);
    write_pieces(image, shadow, 11, 0xdd);
    expect_state(image, shadow);
    expect_fill(image, 0, MIB, 0xdd);
    close_image(image);
    assert_clean();
    image = open_flags(IMAGE, IMG_OPEN_WRITE);
    expect_state(image, shadow);
    write_pieces(image, shadow, 12, 0xdd);
    close_image(image);
    image = open_flags(IMAGE, 0);
    expect_state(image, shadow);
    expect_fill(image, 0, MIB, 0xdd);
    close_image(image);
    assert_clean();
    free(shadow);
}

static void test_bytes(void **state) {
    (void)state;
    struct img_create_options base = {.format = "qcow2", .size = MIB};
    struct img_create_options o = base;
    try_image(&o, 0);
    o.cluster_size = 512; /* each 32 KiB of it need an entry of L1 */
    try_image(&o, 0);
    o.version = 2;
    try_image(&o, 0);
    o = base;
    o.cluster_size = 16384;
    o.extended_l2 = true;
    try_image(&o, 0);
    o = base;
    o.cluster_size = 4096; /* the end of an L1 entry's 2 MiB is not the disk's */
    o.data_file = "data";
    try_image(&o, 0);
}

static void test_over_a_longer_file(void **state) {
    (void)state;
    create_image("below", &(struct img_create_options){.format = "raw", .size = 2 * MIB});
    struct img *below = open_with("below", &(struct img_open_options){.flags = IMG_OPEN_WRITE, .format = "raw"});
    write_fill(below, 0, 2 * MIB, 0xbb);
    close_image(below);
    /* 1 MiB is a whole number of L2 tables, so that the state begins where the disk ends */
    try_image(
        &(struct img_create_options){
            .format = "qcow2", .size = MIB, .cluster_size = 512, .backing_file = "below", .backing_format = "raw"},
        0xbb);
}

/* ---- beside others ------------------------------------------------------------------------------------ */

static void test_snapshots(void **state) {
    (void)state;
    static const uint8_t one[1000] = {1, 1, 1}, two[1000] = {2, 2, 2};
    uint8_t found[1000];
    create_image(IMAGE, &(struct img_create_options){.format = "qcow2", .size = MIB, .cluster_size = 512});
    struct img *image = open_flags(IMAGE, IMG_OPEN_WRITE);
    must(img_vmstate_write(image, one, sizeof one, 5 * MIB, &err));
    must(img_snapshot_create(image, "a", NULL, &err));
    must(img_vmstate_write(image, two, sizeof two, 5 * MIB, &err));
    struct img *a = open_with(IMAGE, &(struct img_open_options){.snapshot = "a", .flags = IMG_OPEN_UNLOCKED});
    must(img_vmstate_read(a, found, sizeof found, 5 * MIB, &err));
    assert_memory_equal(found, one, sizeof one);
    close_image(a);
    must(img_vmstate_read(image, found, sizeof found, 5 * MIB, &err));
    assert_memory_equal(found, two, sizeof two);
    must(img_snapshot_apply(image, "a", &err));
    must(img_vmstate_read(image, found, sizeof found, 5 * MIB, &err));
    assert_memory_equal(found, one, sizeof one);
    must(img_snapshot_delete(image, "a", &err));
    must(img_vmstate_read(image, found, sizeof found, 5 * MIB, &err));
    assert_memory_equal(found, one, sizeof one);
    close_image(image);
    assert_clean();
}

static void test_bitmaps_see_nothing(void **state) {
    (void)state;
    static const uint8_t bytes[70000] = {1};
    uint64_t start, length;
    create_image(IMAGE, &(struct img_create_options){.format = "qcow2", .size = MIB});
    struct img *image = open_flags(IMAGE, IMG_OPEN_WRITE);
    must(img_bitmap_add(image, "b", 0, true, &err));
    must(img_vmstate_write(image, bytes, sizeof bytes, 0, &err));
    close_image(image);
    image = open_flags(IMAGE, IMG_OPEN_WRITE);
    must(img_bitmap_next(image, "b", 0, &start, &length, &err));
    assert_int_equal(length, 0);
    write_fill(image, 0, 1, 1);
    must(img_vmstate_write(image, bytes, sizeof bytes, 5 * MIB, &err));
    close_image(image);
    image = open_flags(IMAGE, 0);
    must(img_bitmap_next(image, "b", 0, &start, &length, &err));
    assert_int_equal(start, 0);
    assert_int_equal(length, 65536);
    close_image(image);
    assert_clean();
}

struct guest {
    struct img *image;
    atomic_bool stop;
};

static void *write_disk(void *opaque) {
    struct guest *g = opaque;
    struct img_error why;
    uint8_t bytes[3000];
    uint64_t seed = 5;
    memset(bytes, 0xdd, sizeof bytes);
    while (!atomic_load(&g->stop))
        if (img_pwrite(g->image, bytes, sizeof bytes, next_random(&seed) % (MIB - sizeof bytes), &why) ||
            img_flush(g->image, &why))
            return "a write fails";
    return NULL;
}

/* L1 moves while guests write. */
static void test_beside_writers(void **state) {
    (void)state;
    uint8_t *shadow = calloc(1, STATE);
    pthread_t threads[3];
    create_image(IMAGE, &(struct img_create_options){.format = "qcow2", .size = MIB, .cluster_size = 512});
    struct guest g = {.image = open_flags(IMAGE, IMG_OPEN_WRITE)};
    write_fill(g.image, 0, MIB, 0xdd);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_disk, &g), 0);
    write_pieces(g.image, shadow, 13, 0xdd);
    must(img_snapshot_create(g.image, "a", NULL, &err));
    write_pieces(g.image, shadow, 14, 0xdd);
    atomic_store(&g.stop, true);
    for (unsigned i = 0; i < 3; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    expect_state(g.image, shadow);
    expect_fill(g.image, 0, MIB, 0xdd);
    close_image(g.image);
    assert_clean();
    free(shadow);
}

/* ---- limits --------------------------------------------------------------------------------------------- */

static void fails(int r, int code, const char *word) {
    assert_int_equal(r, code);
    if (!strstr(err.text, word))
        fail_msg("%s", err.text);
}

static void test_limits(void **state) {
    (void)state;
    uint8_t byte = 1;
    const uint64_t top = INT64_MAX;
    create_image("raw", &(struct img_create_options){.format = "raw", .size = MIB});
    struct img *image = open_with("raw", &(struct img_open_options){.flags = IMG_OPEN_WRITE, .format = "raw"});
    fails(img_vmstate_write(image, &byte, 1, 0, &err), -ENOTSUP, "no place");
    fails(img_vmstate_read(image, &byte, 1, 0, &err), -ENOTSUP, "no place");
    close_image(image);
    create_image(IMAGE, &(struct img_create_options){.format = "qcow2", .size = MIB, .cluster_size = 512});
    image = open_flags(IMAGE, 0);
    fails(img_vmstate_write(image, &byte, 1, 0, &err), -EBADF, "reading only");
    must(img_vmstate_read(image, &byte, 1, top - MIB - 1, &err));
    assert_int_equal(byte, 0);
    fails(img_vmstate_read(image, &byte, 1, top - MIB, &err), -EINVAL, "cannot have");
    fails(img_vmstate_read(image, &byte, 1, UINT64_MAX, &err), -EINVAL, "cannot have");
    fails(img_vmstate_read(image, &byte, SIZE_MAX, 5, &err), -EINVAL, "cannot have");
    close_image(image);
    image = open_flags(IMAGE, IMG_OPEN_INFO);
    fails(img_vmstate_read(image, &byte, 1, 0, &err), -EBADF, "metadata only");
    close_image(image);
    image = open_flags(IMAGE, IMG_OPEN_WRITE);
    must(img_vmstate_write(image, NULL, 0, top - MIB, &err));
    /* 4194304 entries of 64 clusters each, 32 of them the disk's */
    const uint64_t most = (4194304ull - 32) * 64 * 512;
    fails(img_vmstate_write(image, &byte, 1, most, &err), -EFBIG, "too large");
    byte = 7;
    must(img_vmstate_write(image, &byte, 1, most - 1, &err));
    byte = 0;
    must(img_vmstate_read(image, &byte, 1, most - 1, &err));
    assert_int_equal(byte, 7);
    close_image(image);
    assert_clean();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_bytes, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_over_a_longer_file, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_snapshots, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_bitmaps_see_nothing, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_beside_writers, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_limits, enter_folder, leave_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
