/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_snapshot.c - internal snapshots by the public calls: all contents stay what they were, checks stay clean, and
 * what fails leaves the file as it was. What qemu-img says about the same is in tests/cli/snapshot.t.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "check_util.h"
#include "faulty_storage.h"
#include "image.h"
#include "image_util.h"
#include "qcow2/fullswitch.h"
#include "scratch.h"

#define IMAGE "image"

static void assert_clean(const char *when) {
    struct check_run run;
    check_path(IMAGE, 0, &run);
    if (strcmp(check_verdict(&run), "clean") != 0) {
        check_show(&run);
        fail_msg("%s: the check says %s", when, check_verdict(&run));
    }
    check_run_free(&run);
}

static struct img *open_snapshot(const char *name) {
    return open_with(IMAGE, &(struct img_open_options){.snapshot = name});
}

static void must(int r) {
    if (r)
        fail_msg("%d: %s", r, err.text);
}

/* ---- any sequence, in windows of any size ------------------------------------------------------------ */

enum { STATES = 4 };

struct shadow {
    uint64_t size;
    uint8_t *active, *states[STATES];
    uint64_t random;
};

static void expect_state(const struct shadow *s, const char *name, const uint8_t *bytes) {
    struct img *image = open_snapshot(name);
    uint8_t *found = malloc(s->size);
    must(img_pread(image, found, s->size, 0, &err));
    if (memcmp(found, bytes, s->size) != 0)
        fail_msg("%s reads as something else", name ? name : "the active state");
    free(found);
    close_image(image);
}

static void write_somewhere(struct shadow *s, struct img *image) {
    uint64_t offset = random_next(&s->random) % (s->size / 512) * 512,
             length = 512 * (1 + random_next(&s->random) % 20);
    length = length < s->size - offset ? length : s->size - offset;
    if (random_next(&s->random) % 5 == 0) {
        memset(s->active + offset, 0, length);
        must(img_write_zeroes(image, offset, length, IMG_ZERO_MAY_UNMAP, &err));
        return;
    }
    memset(s->active + offset, (int)random_next(&s->random) | 1, length);
    must(img_pwrite(image, s->active + offset, length, offset, &err));
}

static void change_snapshots(struct shadow *s, struct img *image) {
    unsigned i = random_next(&s->random) % STATES;
    char name[2] = {(char)('a' + i), 0};
    if (!s->states[i]) {
        must(img_snapshot_create(image, name, NULL, &err));
        s->states[i] = malloc(s->size);
        memcpy(s->states[i], s->active, s->size);
    } else if (random_next(&s->random) % 2) {
        must(img_snapshot_apply(image, name, &err));
        memcpy(s->active, s->states[i], s->size);
    } else {
        must(img_snapshot_delete(image, name, &err));
        free(s->states[i]);
        s->states[i] = NULL;
    }
}

struct seen {
    uint8_t *bytes; /* 1: told */
    uint64_t end, total, ranges;
};

static int see(void *opaque, uint64_t start, uint64_t length) {
    struct seen *seen = opaque;
    assert_true(length > 0 && (start > seen->end || !seen->ranges)); /* rising, and merged */
    memset(seen->bytes + start, 1, length);
    seen->end = start + length;
    seen->total += length;
    seen->ranges++;
    return 0;
}

/* Whatever differs is told. */
static void expect_diff(struct shadow *s, struct img *image, const char *a, const uint8_t *x, const char *b,
                        const uint8_t *y) {
    struct seen seen = {.bytes = calloc(1, s->size)};
    must(img_snapshot_diff(image, a, b, see, &seen, &err));
    for (uint64_t i = 0; i < s->size; i++)
        if (x[i] != y[i] && !seen.bytes[i])
            fail_msg("%s and %s differ at %llu, and nobody told", a ? a : "active", b ? b : "active",
                     (unsigned long long)i);
    if (a && b && strcmp(a, b) == 0)
        assert_int_equal(seen.total, 0);
    free(seen.bytes);
}

static void expect_diffs(struct shadow *s, struct img *image) {
    for (unsigned i = 0; i < STATES; i++) {
        char a[2] = {(char)('a' + i), 0};
        if (s->states[i])
            expect_diff(s, image, a, s->states[i], NULL, s->active);
        for (unsigned j = 0; s->states[i] && j < STATES; j++)
            if (s->states[j])
                expect_diff(s, image, a, s->states[i], (char[]){(char)('a' + j), 0}, s->states[j]);
    }
}

static void try_sequence(const struct img_create_options *options, uint64_t window, uint64_t seed) {
    struct shadow s = {.size = options->size, .active = calloc(1, options->size), .random = seed};
    create_image(IMAGE, options);
    full_switch_window = window;
    for (unsigned session = 0; session < 4; session++) {
        struct img *image = open_flags(IMAGE, IMG_OPEN_WRITE);
        for (unsigned turn = 0; turn < 12; turn++) {
            for (unsigned i = 0; i < 5; i++)
                write_somewhere(&s, image);
            change_snapshots(&s, image);
        }
        write_somewhere(&s, image);
        expect_diffs(&s, image);
        close_image(image);
        assert_clean("after a session");
        expect_state(&s, NULL, s.active);
        for (unsigned i = 0; i < STATES; i++)
            if (s.states[i])
                expect_state(&s, (char[]){(char)('a' + i), 0}, s.states[i]);
    }
    full_switch_window = 0;
    for (unsigned i = 0; i < STATES; i++)
        free(s.states[i]);
    free(s.active);
}

static void test_sequences(void **state) {
    (void)state;
    try_sequence(&(struct img_create_options){.format = "qcow2", .size = 200 << 10, .cluster_size = 512}, 0, 1);
    try_sequence(&(struct img_create_options){.format = "qcow2", .size = 2 * MIB}, 0, 2);
    try_sequence(&(struct img_create_options){.format = "qcow2", .size = 300 << 10, .version = 2, .cluster_size = 1024},
                 0, 3);
    try_sequence(
        &(struct img_create_options){.format = "qcow2", .size = 512 << 10, .cluster_size = 16384, .extended_l2 = true},
        0, 4);
}

static void test_small_windows(void **state) {
    (void)state;
    struct img_create_options wide = {.format = "qcow2", .size = 200 << 10, .cluster_size = 512, .refcount_bits = 64};
    for (uint64_t window = 1; window < 2000; window *= 3)
        try_sequence(&wide, window, window);
    wide.refcount_bits = 8;
    try_sequence(&wide, 1, 7);
}

/* ---- what fails leaves everything as it was ---------------------------------------------------------------- */

static void test_counts_that_do_not_fit(void **state) {
    (void)state;
    size_t before_size, after_size;
    create_image(IMAGE, &(struct img_create_options){.format = "qcow2", .size = MIB, .refcount_bits = 1});
    struct img *image = open_flags(IMAGE, IMG_OPEN_WRITE);
    write_fill(image, 0, 300000, 5);
    close_image(image);
    uint8_t *before = load_file(IMAGE, &before_size);
    image = open_flags(IMAGE, IMG_OPEN_WRITE);
    assert_int_equal(img_snapshot_create(image, "one", NULL, &err), -EOVERFLOW);
    assert_non_null(strstr(err.text, "1 bits"));
    write_fill(image, 0, 10, 5);
    close_image(image);
    uint8_t *after = load_file(IMAGE, &after_size);
    assert_int_equal(after_size, before_size);
    assert_memory_equal(before, after, before_size);
    free(before);
    free(after);
}

static void test_refusals(void **state) {
    (void)state;
    create_qcow2(IMAGE, MIB);
    struct img *image = open_flags(IMAGE, 0);
    assert_int_equal(img_snapshot_create(image, "x", NULL, &err), -EBADF);
    close_image(image);
    image = open_flags(IMAGE, IMG_OPEN_WRITE);
    assert_int_equal(img_snapshot_apply(image, "x", &err), -ENOENT);
    assert_int_equal(img_snapshot_delete(image, "x", &err), -ENOENT);
    close_image(image);
    create_image("raw", &(struct img_create_options){.format = "raw", .size = MIB});
    image = open_with("raw", &(struct img_open_options){.flags = IMG_OPEN_WRITE, .format = "raw"});
    assert_int_equal(img_snapshot_create(image, "x", NULL, &err), -ENOTSUP);
    close_image(image);
    create_image(IMAGE, &(struct img_create_options){.format = "qcow2", .size = MIB, .data_file = "data"});
    image = open_flags(IMAGE, IMG_OPEN_WRITE);
    assert_int_equal(img_snapshot_create(image, "x", NULL, &err), -ENOTSUP);
    close_image(image);
}

/* An id is found before a name, ids are one more than the highest, dates are kept. */
static void test_ids(void **state) {
    (void)state;
    struct img_info info;
    create_qcow2(IMAGE, MIB);
    struct img *image = open_flags(IMAGE, IMG_OPEN_WRITE);
    write_fill(image, 0, 4096, 1);
    must(img_snapshot_create(image, "2", &(struct img_snapshot_options){.date_ns = 1234567890123456789}, &err));
    write_fill(image, 0, 4096, 2);
    must(img_snapshot_create(image, "b", NULL, &err));
    must(img_snapshot_create(image, "b", NULL, &err));
    must(img_info(image, &info, &err));
    assert_int_equal(info.nsnapshots, 3);
    assert_string_equal(info.snapshots[2].id, "3");
    assert_int_equal(info.snapshots[0].date_ns, 1234567890123456789);
    assert_int_equal(info.snapshots[0].disk_size, MIB);
    write_fill(image, 0, 4096, 3);
    must(img_snapshot_apply(image, "2", &err));
    expect_fill(image, 0, 4096, 2);
    must(img_snapshot_delete(image, "2", &err));
    must(img_snapshot_apply(image, "2", &err)); /* the name, now that there is no such id */
    expect_fill(image, 0, 4096, 1);
    close_image(image);
    assert_clean("in the end");
}

/* Exactly the clusters that were written, and the tail of the larger disk. */
static void test_differences(void **state) {
    (void)state;
    static uint8_t bytes[4 * MIB];
    create_image(IMAGE, &(struct img_create_options){.format = "qcow2", .size = 2 * MIB, .cluster_size = 4096});
    struct img *image = open_flags(IMAGE, IMG_OPEN_WRITE);
    write_fill(image, 0, MIB, 1);
    must(img_snapshot_create(image, "a", NULL, &err));
    struct seen seen = {.bytes = bytes};
    must(img_snapshot_diff(image, "a", NULL, see, &seen, &err));
    assert_int_equal(seen.ranges, 0);
    write_fill(image, 10000, 10, 2);
    write_fill(image, 4096 * 10, 8192, 2);
    must(img_write_zeroes(image, MIB + 4096, 4096, 0, &err)); /* was nothing, which is the same */
    write_fill(image, 2 * MIB - 4096, 4096, 3);
    must(img_snapshot_diff(image, NULL, "a", see, &seen, &err));
    assert_int_equal(seen.ranges, 3);
    assert_int_equal(seen.total, 4096 + 8192 + 4096);
    assert_true(bytes[8192] && bytes[12287] && !bytes[8191] && !bytes[12288] && bytes[4096 * 12 - 1]);
    must(img_resize(image, 3 * MIB, IMG_PREALLOCATION_OFF, 0, &err));
    seen = (struct seen){.bytes = bytes};
    must(img_snapshot_diff(image, "a", NULL, see, &seen, &err));
    assert_int_equal(seen.ranges, 3); /* the last two touch */
    assert_int_equal(seen.total, 4096 + 8192 + 4096 + MIB);
    must(img_snapshot_apply(image, "a", &err));
    assert_int_equal(img_size(image), 2 * MIB);
    seen = (struct seen){.bytes = bytes};
    must(img_snapshot_diff(image, "a", NULL, see, &seen, &err));
    assert_int_equal(seen.ranges, 0);
    assert_int_equal(img_snapshot_diff(image, "a", "nosuch", see, &seen, &err), -ENOENT);
    close_image(image);
    assert_clean("after comparisons");
}

static int see_any(void *opaque, uint64_t start, uint64_t length) {
    struct seen *seen = opaque;
    memset(seen->bytes + start, 1, length);
    seen->total += length;
    seen->ranges++;
    return 0;
}

/* Two images that are open: states, an image and its overlay, two overlays, and what lies behind their ends. */
static void test_two_images(void **state) {
    (void)state;
    static uint8_t bytes[8 * MIB];
    struct seen seen = {.bytes = bytes};
    create_image("base", &(struct img_create_options){.format = "qcow2", .size = 2 * MIB, .cluster_size = 4096});
    struct img *base = open_with("base", &(struct img_open_options){.flags = IMG_OPEN_WRITE});
    write_fill(base, 0, MIB, 1);
    must(img_snapshot_create(base, "a", NULL, &err));
    write_fill(base, 8192, 4096, 2);
    close_image(base);
    base = open_with("base", &(struct img_open_options){0});
    struct img_create_options options = {
        .format = "qcow2", .size = 4 * MIB, .cluster_size = 4096, .backing_file = "base", .backing_format = "qcow2"};
    create_image("one", &options);
    options.size = 3 * MIB;
    create_image("two", &options);
    struct img *one = open_with("one", &(struct img_open_options){.flags = IMG_OPEN_WRITE});
    write_fill(one, 65536, 4096, 3);
    close_image(one);
    one = open_with("one", &(struct img_open_options){0});
    struct img *two = open_with("two", &(struct img_open_options){0});
    struct img *old = open_with("base", &(struct img_open_options){.snapshot = "a"});

    must(img_diff(base, base, see_any, &seen, &err));
    assert_int_equal(seen.ranges, 0);
    must(img_diff(old, base, see_any, &seen, &err));
    assert_int_equal(seen.total, 4096);
    assert_true(bytes[8192]);
    memset(bytes, 0, sizeof(bytes));
    seen.total = 0;
    must(img_diff(two, one, see_any, &seen, &err));
    assert_int_equal(seen.total, 4096 + MIB);
    assert_true(bytes[65536] && bytes[3 * MIB] && !bytes[8192]);
    seen.total = 0;
    must(img_diff(one, old, see_any, &seen, &err));
    assert_int_equal(seen.total, 4096 + 4096 + 2 * MIB);
    close_image(old);
    close_image(two);
    close_image(base);

    create_image("other", &(struct img_create_options){.format = "qcow2", .size = 2 * MIB});
    struct img *other = open_with("other", &(struct img_open_options){0});
    assert_int_equal(img_diff(one, other, see_any, &seen, &err), -ENOTSUP);
    close_image(other);
    close_image(one);
}

/* ---- a host that fails ------------------------------------------------------------------------------------ */

static struct img *open_faulty(struct faulty *f) {
    struct img_open_options options = {.flags = IMG_OPEN_WRITE, .format = "qcow2"};
    struct img *image;
    faulty_open(f, IMAGE);
    if (image_open_storage(&f->base, &options, &image, &err))
        fail_msg("%s", err.text);
    return image;
}

static void prepare(void) {
    create_image("start", &(struct img_create_options){.format = "qcow2", .size = 256 << 10, .cluster_size = 512});
    struct img *image = open_flags("start", IMG_OPEN_WRITE);
    write_fill(image, 0, 100 << 10, 1);
    must(img_snapshot_create(image, "a", NULL, &err));
    write_fill(image, 50 << 10, 100 << 10, 2);
    must(img_snapshot_create(image, "b", NULL, &err));
    write_fill(image, 10 << 10, 20 << 10, 3);
    close_image(image);
}

static int call(struct img *image, unsigned what) {
    return what == 0   ? img_snapshot_create(image, "c", NULL, &err)
           : what == 1 ? img_snapshot_apply(image, "a", &err)
                       : img_snapshot_delete(image, what == 2 ? "a" : "b", &err);
}

/* `done`: the change is there; else it may be there, as an error of the last barrier does not tell. */
static void expect_start(unsigned what, bool done) {
    struct img *image = open_flags(IMAGE, 0);
    uint8_t first;
    must(img_pread(image, &first, 1, 10 << 10, &err));
    bool applied = what == 1 && first == 1;
    assert_true(applied || !done || what != 1);
    expect_fill(image, 0, 10 << 10, 1);
    expect_fill(image, 10 << 10, 20 << 10, applied ? 1 : 3);
    expect_fill(image, 120 << 10, 1000, applied ? 0 : 2);
    close_image(image);
    if (what != 3) {
        image = open_snapshot("b");
        expect_fill(image, 0, 50 << 10, 1);
        expect_fill(image, 50 << 10, 100 << 10, 2);
        close_image(image);
    }
}

/* Lack of space at each write in turn: the change is there or not, and writes go on. */
static void test_lack_of_space(void **state) {
    (void)state;
    prepare();
    for (unsigned what = 0; what < 4; what++) {
        int r = -1;
        for (unsigned n = 0; r; n++) {
            struct faulty f;
            struct check_run run;
            sh("cp start " IMAGE);
            struct img *image = open_faulty(&f);
            f.writes_left = n;
            f.error = -ENOSPC;
            r = call(image, what);
            f.writes_left = FAULTY_NEVER;
            (void)img_close(image, NULL);
            check_path(IMAGE, 0, &run);
            if (strcmp(check_verdict(&run), "clean") != 0 && strcmp(check_verdict(&run), "leaks") != 0) {
                check_show(&run);
                fail_msg("change %u, write %u: the check says %s", what, n, check_verdict(&run));
            }
            check_run_free(&run);
            expect_start(what, r == 0);
            assert_int_equal(f.out_of_order, 0);
        }
    }
}

/* Nothing behind the last cluster can be had, and the host has no holes: a deletion goes the other way. */
static void test_deletion_without_room(void **state) {
    (void)state;
    prepare();
    for (unsigned what = 2; what < 4; what++) {
        sh("cp --sparse=never start " IMAGE);
        struct img *image = open_flags(IMAGE, IMG_OPEN_WRITE);
        struct qcow2 *q = qcow2_of(image);
        uint64_t limit = q->alloc.limit;
        q->alloc.limit = q->alloc.fresh + (what == 2); /* a snapshot table that is not only cut needs a cluster */
        must(call(image, what));
        q->alloc.limit = limit;
        write_fill(image, 200 << 10, 20 << 10, 9);
        close_image(image);
        assert_clean("after a deletion without room");
        expect_start(what, true);
    }
    /* others fail and change nothing */
    sh("cp --sparse=never start " IMAGE);
    for (unsigned what = 0; what < 2; what++) {
        struct img *image = open_flags(IMAGE, IMG_OPEN_WRITE);
        qcow2_of(image)->alloc.limit = qcow2_of(image)->alloc.fresh;
        assert_int_equal(call(image, what), -ENOSPC);
        close_image(image);
        sh("cmp start " IMAGE);
    }
}

/* ---- others work meanwhile -------------------------------------------------------------------------------- */

enum { WRITERS = 3, PART = 64 << 10, ROUNDS = 12 };

struct writer {
    struct img *image;
    unsigned number;
    bool queue;
    atomic_bool *stop;
};

/* One value goes over the whole part, block by block from the front: any moment shows one value up to some block and
 * the one before it behind. */
static void *keep_writing(void *opaque) {
    struct writer *w = opaque;
    struct img_queue *queue = NULL;
    struct img_error mine;
    uint8_t block[4096];
    if (w->queue && img_queue_create(w->image, NULL, &queue, &mine))
        abort();
    for (unsigned turn = 1; !atomic_load(w->stop); turn++) {
        memset(block, (int)(turn % 250 + 1), sizeof block);
        for (unsigned at = 0; at < PART; at += sizeof block) {
            uint64_t offset = (uint64_t)w->number * PART + at;
            if (!w->queue) {
                if (img_pwrite(w->image, block, sizeof block, offset, &mine))
                    abort();
                continue;
            }
            struct iovec iov = {block, sizeof block};
            struct img_completion c;
            struct img_io io = {.op = IMG_IO_WRITE, .iov = &iov, .niov = 1, .offset = offset};
            if (img_queue_submit(queue, &io, 1) != 1)
                abort();
            while (img_queue_reap(queue, &c, 1) == 0)
                if (img_queue_wait(queue, -1))
                    abort();
            if (c.result)
                abort();
        }
    }
    img_queue_destroy(queue);
    return NULL;
}

static void expect_moment(const char *name) {
    struct img *image = open_snapshot(name);
    uint8_t *bytes = malloc(PART);
    for (unsigned n = 0; n < WRITERS; n++) {
        must(img_pread(image, bytes, PART, (uint64_t)n * PART, &err));
        unsigned changes = 0;
        for (unsigned i = 1; i < PART; i++)
            changes += bytes[i] != bytes[i - 1];
        if (changes > 1)
            fail_msg("%s shows %u changes in the part of writer %u", name, changes, n);
    }
    free(bytes);
    close_image(image);
}

static void test_beside_writers(void **state) {
    (void)state;
    atomic_bool stop = false;
    pthread_t threads[WRITERS];
    struct writer writers[WRITERS];
    char name[16];
    create_image(IMAGE, &(struct img_create_options){.format = "qcow2", .size = MIB, .cluster_size = 4096});
    struct img *image = open_flags(IMAGE, IMG_OPEN_WRITE);
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){image, i, i == 1, &stop};
        assert_int_equal(pthread_create(&threads[i], NULL, keep_writing, &writers[i]), 0);
    }
    for (unsigned i = 0; i < ROUNDS; i++) {
        snprintf(name, sizeof name, "s%u", i);
        must(img_snapshot_create(image, name, NULL, &err));
        if (i % 3 == 2) {
            snprintf(name, sizeof name, "s%u", i - 1);
            must(img_snapshot_delete(image, name, &err));
        }
        must(img_flush(image, &err));
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    close_image(image);
    assert_clean("after snapshots under writers");
    for (unsigned i = 0; i < ROUNDS; i++) {
        snprintf(name, sizeof name, "s%u", i);
        if (i % 3 != 1)
            expect_moment(name);
    }
}

/* ---- the host's space ---- */

static uint64_t stored_bytes(void) {
    struct stat st;
    assert_int_equal(stat(IMAGE, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* What only the snapshot held is the host's again, and a file does not become longer with each snapshot of its life. */
static void test_space_is_given_back(void **state) {
    (void)state;
    uint64_t before = 0, length = 0;
    create_qcow2(IMAGE, 64 * MIB);
    struct img *image = open_flags(IMAGE, IMG_OPEN_WRITE);
    write_fill(image, 0, 8 * MIB, 1);
    close_image(image);
    before = stored_bytes();
    for (unsigned i = 0; i < 20; i++) {
        image = open_flags(IMAGE, IMG_OPEN_WRITE);
        must(img_snapshot_create(image, "s", NULL, &err));
        if (i == 0)
            write_fill(image, 0, 8 * MIB, 2);
        close_image(image);
        image = open_flags(IMAGE, IMG_OPEN_WRITE);
        must(img_snapshot_delete(image, "s", &err));
        close_image(image);
        struct stat st;
        assert_int_equal(stat(IMAGE, &st), 0);
        if (i == 1)
            length = (uint64_t)st.st_size;
        assert_true(i < 1 || (uint64_t)st.st_size == length);
        assert_true(stored_bytes() <= before + MIB);
    }
    assert_clean("in the end");
    image = open_flags(IMAGE, 0);
    expect_fill(image, 0, 8 * MIB, 2);
    expect_fill(image, 8 * MIB, 56 * MIB, 0);
    close_image(image);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sequences, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_small_windows, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_counts_that_do_not_fit, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_refusals, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_ids, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_differences, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_two_images, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_lack_of_space, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_deletion_without_room, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_space_is_given_back, enter_folder, leave_folder),
        cmocka_unit_test_setup_teardown(test_beside_writers, enter_folder, leave_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
