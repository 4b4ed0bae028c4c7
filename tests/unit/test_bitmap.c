/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_bitmap.c - persistent bitmaps: edits, and that recording misses nothing, by calls and queues of many threads. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "check_util.h"
#include "image_util.h"

#define IMAGE "image"

enum { SIZE = 8 << 20, SECTOR = 512, SECTORS = SIZE / SECTOR };

static void create(uint64_t size, uint64_t cluster_size) {
    create_image(IMAGE, &(struct img_create_options){.format = "qcow2", .size = size, .cluster_size = cluster_size});
}

static void must(int rc) {
    if (rc)
        fail_msg("%s", err.text);
}

static struct img *open_to_write(void) {
    return open_flags(IMAGE, IMG_OPEN_WRITE);
}

static void assert_clean(void) {
    struct check_run run;
    check_path(IMAGE, 0, &run);
    if (strcmp(check_verdict(&run), "clean") != 0) {
        check_show(&run);
        fail_msg("the check says %s", check_verdict(&run));
    }
    check_run_free(&run);
}

/* Dirty sectors of a bitmap of the closed image, one byte each. */
static void read_bitmap(const char *name, uint8_t *dirty) {
    struct img *image = open_flags(IMAGE, IMG_OPEN_INFO);
    uint64_t start, length;
    memset(dirty, 0, SECTORS);
    for (uint64_t at = 0;; at = start + length) {
        must(img_bitmap_next(image, name, at, &start, &length, &err));
        if (length == 0)
            break;
        assert_true(start >= at && start + length <= SIZE);
        memset(dirty + start / SECTOR, 1, length / SECTOR);
    }
    close_image(image);
}

static bool bitmap_in_use(size_t index) {
    struct img *image = open_flags(IMAGE, IMG_OPEN_INFO | IMG_OPEN_FORCE_SHARE);
    struct img_info info;
    must(img_info(image, &info, &err));
    assert_true(index < info.nbitmaps);
    bool in_use = info.bitmaps[index].in_use;
    close_image(image);
    return in_use;
}

/* What `dirty` sectors are with a coarser granularity. */
static void coarsen(const uint8_t *dirty, unsigned sectors, uint8_t *out) {
    for (unsigned i = 0; i < SECTORS; i++)
        out[i] = memchr(dirty + i / sectors * sectors, 1, sectors) != NULL;
}

static void assert_dirty(const char *name, const uint8_t *expected) {
    static uint8_t found[SECTORS];
    read_bitmap(name, found);
    for (unsigned i = 0; i < SECTORS; i++)
        if (found[i] != expected[i])
            fail_msg("bitmap %s: sector %u is %s", name, i, found[i] ? "dirty" : "clean");
}

/* ---- many threads -------------------------------------------------------------------------------- */

enum { THREADS = 4, REQUESTS = 150, DEPTH = 8 };

struct writer {
    struct img *image;
    bool queue;
    unsigned seed;
    uint8_t dirty[SECTORS];
};

static struct img_io random_request(struct writer *w, const struct iovec *iov) {
    enum { LONGEST = 40 };
    static const enum img_io_op ops[] = {IMG_IO_WRITE, IMG_IO_WRITE, IMG_IO_ZERO, IMG_IO_DISCARD};
    unsigned first = (unsigned)rand_r(&w->seed) % SECTORS, count = 1 + (unsigned)rand_r(&w->seed) % LONGEST;
    if (count > SECTORS - first)
        count = SECTORS - first;
    memset(w->dirty + first, 1, count);
    struct img_io io = {.op = ops[rand_r(&w->seed) % 4], .offset = (uint64_t)first * SECTOR};
    io.length = (uint64_t)count * SECTOR;
    if (io.op == IMG_IO_WRITE) {
        ((struct iovec *)iov)->iov_len = io.length;
        io.iov = iov;
        io.niov = 1;
        io.length = 0;
    }
    return io;
}

static void by_calls(struct writer *w, uint8_t *bytes) {
    for (unsigned i = 0; i < REQUESTS; i++) {
        struct iovec iov = {bytes, 0};
        struct img_io io = random_request(w, &iov);
        int rc = io.op == IMG_IO_WRITE  ? img_pwritev(w->image, io.iov, 1, io.offset, NULL)
                 : io.op == IMG_IO_ZERO ? img_write_zeroes(w->image, io.offset, io.length, 0, NULL)
                                        : img_discard(w->image, io.offset, io.length, NULL);
        assert_int_equal(rc, 0);
    }
}

static void by_queue(struct writer *w, uint8_t *bytes) {
    struct img_queue_options options = {.depth = DEPTH, .flags = w->seed & 1 ? IMG_QUEUE_THREADS : 0};
    struct img_queue *queue;
    struct iovec iov[REQUESTS];
    assert_int_equal(img_queue_create(w->image, &options, &queue, NULL), 0);
    for (unsigned submitted = 0, reaped = 0; reaped < REQUESTS;) {
        struct img_completion done;
        if (submitted < REQUESTS && submitted - reaped < DEPTH) {
            iov[submitted] = (struct iovec){bytes, 0};
            struct img_io io = random_request(w, &iov[submitted]);
            assert_int_equal(img_queue_submit(queue, &io, 1), 1);
            submitted++;
        } else if (img_queue_reap(queue, &done, 1) == 1) {
            assert_int_equal(done.result, 0);
            reaped++;
        } else {
            img_queue_wait(queue, -1);
        }
    }
    img_queue_destroy(queue);
}

static void *run_writer(void *opaque) {
    struct writer *w = opaque;
    uint8_t *bytes = calloc(1, 64 * SECTOR);
    assert_non_null(bytes);
    memset(bytes, (int)w->seed, 64 * SECTOR);
    if (w->queue)
        by_queue(w, bytes);
    else
        by_calls(w, bytes);
    free(bytes);
    return NULL;
}

static void test_recording_misses_nothing(void **state) {
    (void)state;
    static const uint64_t clusters[] = {512, 4096, 65536};
    for (unsigned k = 0; k < 3; k++) {
        static struct writer writers[THREADS];
        static uint8_t all[SECTORS], coarse[SECTORS];
        pthread_t threads[THREADS];
        create(SIZE, clusters[k]);
        struct img *image = open_to_write();
        must(img_bitmap_add(image, "fine", SECTOR, true, &err));
        must(img_bitmap_add(image, "off", SECTOR, false, &err));
        must(img_bitmap_add(image, "coarse", 32768, true, &err));
        memset(writers, 0, sizeof writers);
        for (unsigned i = 0; i < THREADS; i++) {
            writers[i] = (struct writer){.image = image, .queue = i % 2, .seed = 7 * k + i};
            assert_int_equal(pthread_create(&threads[i], NULL, run_writer, &writers[i]), 0);
        }
        memset(all, 0, sizeof all);
        for (unsigned i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
            for (unsigned s = 0; s < SECTORS; s++)
                all[s] |= writers[i].dirty[s];
        }
        assert_true(bitmap_in_use(0) && !bitmap_in_use(1) && bitmap_in_use(2));
        close_image(image);
        assert_false(bitmap_in_use(0) || bitmap_in_use(2));
        assert_dirty("fine", all);
        coarsen(all, 64, coarse);
        assert_dirty("coarse", coarse);
        memset(all, 0, sizeof all);
        assert_dirty("off", all);
        assert_clean();
    }
}

/* ---- edits of an image in use ------------------------------------------------------------------- */

static void mark(uint8_t *dirty, uint64_t offset, uint64_t length) {
    memset(dirty + offset / SECTOR, 1, length / SECTOR);
}

static void test_edits_between_writes(void **state) {
    (void)state;
    static uint8_t a[SECTORS], b[SECTORS], coarse[SECTORS];
    create(SIZE, 4096);
    struct img *image = open_to_write();
    struct img_info info;
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    must(img_bitmap_add(image, "a", SECTOR, true, &err));
    write_fill(image, 4096, 1024, 1);
    must(img_info(image, &info, &err));
    assert_false(info.bitmaps[0].in_use); /* it is recorded here */
    must(img_bitmap_add(image, "b", 8192, false, &err));
    must(img_bitmap_merge(image, "b", image, "a", &err)); /* what was recorded so far */
    write_fill(image, MIB, 512, 2);
    must(img_bitmap_set_enabled(image, "b", true, &err));
    write_fill(image, 2 * MIB, 70000 / 512 * 512, 3);
    must(img_bitmap_set_enabled(image, "a", false, &err));
    must(img_write_zeroes(image, 3 * MIB, 512, 0, &err));
    mark(a, 4096, 1024);
    mark(a, MIB, 512);
    mark(a, 2 * MIB, 70000 / 512 * 512);
    mark(b, 4096, 1024);
    mark(b, 2 * MIB, 70000 / 512 * 512);
    mark(b, 3 * MIB, 512);
    close_image(image);
    assert_dirty("a", a);
    coarsen(b, 16, coarse);
    assert_dirty("b", coarse);
    assert_clean();

    image = open_to_write();
    write_fill(image, 0, 512, 4);
    must(img_bitmap_clear(image, "b", &err));
    must(img_bitmap_remove(image, "a", &err));
    assert_int_equal(img_bitmap_remove(image, "a", &err), -ENOENT);
    assert_int_equal(img_bitmap_add(image, "b", 0, true, &err), -EEXIST);
    assert_int_equal(img_bitmap_merge(image, "b", image, "c", &err), -ENOENT);
    write_fill(image, 5 * MIB, 512, 5);
    close_image(image);
    memset(b, 0, sizeof b);
    mark(b, 5 * MIB, 8192);
    assert_dirty("b", b);
    assert_clean();
}

static void test_who_may_not(void **state) {
    (void)state;
    create(SIZE, 4096);
    struct img *image = open_flags(IMAGE, 0);
    assert_int_equal(img_bitmap_add(image, "a", 0, true, &err), -EBADF);
    assert_true(img_supports_bitmaps(image));
    close_image(image);
    image = open_to_write();
    assert_int_equal(img_bitmap_add(image, "a", 1000, true, &err), -EINVAL);
    assert_int_equal(img_bitmap_add(image, "a", 1ull << 32, true, &err), -EINVAL);
    assert_int_equal(img_bitmap_add(image, "", 0, true, &err), -EINVAL);
    close_image(image);
    create_image("raw", &(struct img_create_options){.format = "raw", .size = MIB});
    image = open_with("raw", &(struct img_open_options){.flags = IMG_OPEN_WRITE, .format = "raw"});
    assert_false(img_supports_bitmaps(image));
    assert_int_equal(img_bitmap_add(image, "a", 0, true, &err), -ENOTSUP);
    assert_int_equal(img_bitmap_clear(image, "a", &err), -ENOENT);
    close_image(image);
    assert_clean();
}

/* Each of these bitmaps needs a MiB of memory to record anything at all, and there are 256 for all of them. */
static void test_memory_is_bounded(void **state) {
    (void)state;
    enum { BITMAPS = 260 };
    const uint64_t far = 1ull << 30;
    create(2ull << 40, 65536);
    struct img *image =
        open_with(IMAGE, &(struct img_open_options){.flags = IMG_OPEN_WRITE, .cache = IMG_CACHE_UNSAFE});
    for (unsigned i = 0; i < BITMAPS; i++) {
        char name[16];
        snprintf(name, sizeof name, "%u", i);
        must(img_bitmap_add(image, name, SECTOR, true, &err));
    }
    write_fill(image, MIB, 512, 1);
    must(img_discard(image, 0, far, &err));
    close_image(image);
    assert_false(bitmap_in_use(0));
    assert_true(bitmap_in_use(BITMAPS - 1));
    image = open_flags(IMAGE, IMG_OPEN_INFO);
    uint64_t start, length, at = 0;
    for (; at < far; at += length) {
        must(img_bitmap_next(image, "0", at, &start, &length, &err));
        assert_true(start == at && length > 0);
    }
    must(img_bitmap_next(image, "0", at, &start, &length, &err));
    assert_int_equal(length, 0);
    assert_int_equal(img_bitmap_next(image, "259", 0, &start, &length, &err), -ESTALE);
    close_image(image);
    assert_clean();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_recording_misses_nothing, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_edits_between_writes, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_who_may_not, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_memory_is_bounded, enter_folder, leave_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
