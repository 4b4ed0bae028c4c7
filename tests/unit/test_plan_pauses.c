// SPDX-License-Identifier: GPL-3.0-or-later
/* test_plan_pauses.c - one request is held at a named point (libimg/debug.h) while others write, discard, flush and
 * reuse.
 *
 * What a stress test meets once in a million runs happens here in every run: an overwrite that lands after its cluster
 * was discarded, a link made while a round is on its way, a second writer of a reserved cluster. A "power cut" is a
 * copy of the file taken while the thread is held: it holds everything that was written by then, in whatever order.
 *
 * The points exist in builds with IMG_DEBUG only (make asan, make tsan); else the whole program is skipped.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#ifdef IMG_DEBUG

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "debug.h"
#include "img.h"

#define CLUSTER 65536u
#define SIZE (8u << 20)
#define LARGE (64u << 20)

static char folder[64], path[96], copy_path[96];
static struct img *image;

/* ---- holding a thread ---------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
enum { HELD_MOST = 2 };
/* A thread that stops at a point, or will. Under `lock`; used anew only when the request that was let go has ended. */
static struct holding {
    const char *point; /* NULL: it was let go, or there is none */
    bool stands;
} holdings[HELD_MOST];
static _Thread_local struct holding *mine;

static void pause_here(const char *name) {
    pthread_mutex_lock(&lock);
    if (mine && mine->point && strcmp(mine->point, name) == 0) {
        mine->stands = true;
        pthread_cond_broadcast(&moved);
        while (mine->point)
            pthread_cond_wait(&moved, &lock);
        mine = NULL;
    }
    pthread_mutex_unlock(&lock);
}

static struct timespec soon(long milliseconds) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += milliseconds / 1000;
    t.tv_nsec += milliseconds % 1000 * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

/* ---- requests in threads ----------------------------------------------------------------------------- */

enum kind { WRITE, ZERO, DISCARD, FLUSH, DRAIN, RESIZE, READ };

struct request {
    enum kind kind;
    uint64_t offset, length;
    uint8_t fill;
    bool may_fail;
    struct holding *holding; /* NULL: nothing holds it */
    pthread_t thread;
    bool ended; /* under `lock` */
    int result;
};

static int perform(const struct request *r) {
    uint8_t *bytes = malloc(r->length + 1);
    struct img_error err = {0};
    int rc = -1;
    memset(bytes, r->fill, r->length);
    if (r->kind == WRITE)
        rc = img_pwrite(image, bytes, r->length, r->offset, &err);
    else if (r->kind == ZERO)
        rc = img_write_zeroes(image, r->offset, r->length, 0, &err);
    else if (r->kind == DISCARD)
        rc = img_discard(image, r->offset, r->length, &err);
    else if (r->kind == FLUSH)
        rc = img_flush(image, &err);
    else if (r->kind == DRAIN)
        rc = img_drain(image, &err);
    else if (r->kind == RESIZE)
        rc = img_resize(image, r->offset, IMG_PREALLOCATION_OFF, 0, &err);
    else
        rc = img_pread(image, bytes, r->length, r->offset, &err);
    if (rc && !r->may_fail)
        print_error("%s\n", err.text);
    free(bytes);
    return rc;
}

static void *run_request(void *opaque) {
    struct request *r = opaque;
    mine = r->holding;
    int rc = perform(r);
    pthread_mutex_lock(&lock);
    r->result = rc;
    r->ended = true;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void begin(struct request *r) {
    r->ended = false;
    assert_int_equal(pthread_create(&r->thread, NULL, run_request, r), 0);
}

/* Starts the request and waits until it is held at `point`. */
static void hold(struct request *r, const char *point) {
    struct timespec limit = soon(20000);
    pthread_mutex_lock(&lock);
    r->holding = holdings[0].point ? &holdings[1] : &holdings[0];
    bool free_one = !r->holding->point;
    *r->holding = (struct holding){.point = point};
    pthread_mutex_unlock(&lock);
    assert_true(free_one);
    begin(r);
    pthread_mutex_lock(&lock);
    while (!r->holding->stands && !r->ended)
        if (pthread_cond_timedwait(&moved, &lock, &limit) == ETIMEDOUT)
            break;
    bool stands = r->holding->stands;
    pthread_mutex_unlock(&lock);
    if (!stands)
        fail_msg("the request did not come by '%s'", point);
}

static void let_go(struct holding *h) {
    pthread_mutex_lock(&lock);
    h->point = NULL;
    pthread_cond_broadcast(&moved);
    pthread_mutex_unlock(&lock);
}

/* All that are held. */
static void release(void) {
    for (unsigned i = 0; i < HELD_MOST; i++)
        let_go(&holdings[i]);
}

/* True when the request ends within the time. */
static bool ends_within(struct request *r, long milliseconds) {
    struct timespec limit = soon(milliseconds);
    pthread_mutex_lock(&lock);
    while (!r->ended)
        if (pthread_cond_timedwait(&moved, &lock, &limit) == ETIMEDOUT)
            break;
    bool ended = r->ended;
    pthread_mutex_unlock(&lock);
    return ended;
}

static void finish(struct request *r) {
    if (!ends_within(r, 20000))
        fail_msg("a request hangs");
    pthread_join(r->thread, NULL);
    if (!r->may_fail)
        assert_int_equal(r->result, 0);
}

/* Ends while another is held, or the test fails. */
static void do_now(enum kind kind, uint64_t offset, uint64_t length, uint8_t fill) {
    struct request r = {.kind = kind, .offset = offset, .length = length, .fill = fill};
    begin(&r);
    if (!ends_within(&r, 20000)) {
        release();
        fail_msg("a request waits for one that is held");
    }
    finish(&r);
}

/* ---- looking ------------------------------------------------------------------------------------------ */

static bool holds(struct img *from, uint64_t offset, uint64_t length, uint8_t fill) {
    uint8_t *bytes = malloc(length);
    struct img_error err = {0};
    int rc = img_pread(from, bytes, length, offset, &err);
    if (rc)
        fail_msg("read at %llu: %s", (unsigned long long)offset, err.text);
    bool same = true;
    for (uint64_t i = 0; i < length && same; i++)
        same = bytes[i] == fill;
    free(bytes);
    return same;
}

/* What a power cut now would leave at best: the file as it is. Opened to read, checked free of corruption. */
static struct img *power_cut(void) {
    char command[256];
    struct img *copy;
    struct img_error err = {0};
    struct img_check_result result;
    snprintf(command, sizeof(command), "cp --sparse=always %s %s", path, copy_path);
    assert_int_equal(system(command), 0);
    int rc = img_open(copy_path, &(struct img_open_options){.format = "qcow2"}, &copy, &err);
    if (rc)
        fail_msg("after a power cut: %s", err.text);
    assert_int_equal(img_check(copy, NULL, &result, &err), 0);
    assert_int_equal(result.corruptions, 0);
    return copy;
}

static void close_copy(struct img *copy) {
    assert_int_equal(img_close(copy, NULL), 0);
    unlink(copy_path);
}

static void create(bool extended, bool open_it) {
    struct img_create_options options = {.format = "qcow2", .size = SIZE, .extended_l2 = extended};
    struct img_error err = {0};
    if (img_create(path, &options, &err))
        fail_msg("%s", err.text);
    if (open_it && img_open(path, &(struct img_open_options){.flags = IMG_OPEN_WRITE}, &image, &err))
        fail_msg("%s", err.text);
}

static int setup_kind(bool extended) {
    snprintf(folder, sizeof(folder), "/dev/shm/pauses-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/image", folder);
    snprintf(copy_path, sizeof(copy_path), "%s/copy", folder);
    create(extended, true);
    img_debug_pause = pause_here;
    return 0;
}

static int setup(void **state) {
    (void)state;
    return setup_kind(false);
}

static int setup_extended(void **state) {
    (void)state;
    return setup_kind(true);
}

static int teardown(void **state) {
    struct img_error err = {0};
    char command[160];
    (void)state;
    release();
    if (image) {
        int rc = img_close(image, &err);
        image = NULL;
        img_debug_pause = NULL;
        snprintf(command, sizeof(command), "qemu-img check -q %s", path);
        if (rc || system(command)) {
            print_error("after the test: %s\n", err.text);
            return -1;
        }
    }
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command);
}

/* ---- writers ------------------------------------------------------------------------------------------- */

static void test_unlinked_data_is_not_seen(void **state) {
    (void)state;
    static const char *const points[] = {"resolved", "moved"};
    for (unsigned i = 0; i < 2; i++) {
        struct request w = {.kind = WRITE, .offset = i * CLUSTER + 100, .length = 1000, .fill = 7};
        hold(&w, points[i]);
        assert_true(holds(image, i * CLUSTER, CLUSTER, 0));
        do_now(FLUSH, 0, 0, 0); /* a flush covers what was acknowledged and waits for nobody else */
        struct img *copy = power_cut();
        assert_true(holds(copy, i * CLUSTER, CLUSTER, 0));
        close_copy(copy);
        release();
        finish(&w);
        assert_true(holds(image, i * CLUSTER + 100, 1000, 7));
        assert_true(holds(image, i * CLUSTER, 100, 0));
    }
}

static void test_disjoint_writers_join(void **state) {
    (void)state;
    struct request w = {.kind = WRITE, .offset = 0, .length = 4096, .fill = 1};
    hold(&w, "moved");
    do_now(WRITE, 8192, 4096, 2); /* into the same cluster, without waiting */
    assert_true(holds(image, 8192, 4096, 2));
    release();
    finish(&w);
    assert_true(holds(image, 0, 4096, 1));
    assert_true(holds(image, 4096, 4096, 0));
    assert_true(holds(image, 8192, 4096, 2));
    assert_true(holds(image, 12288, CLUSTER - 12288, 0));
}

/* The first writer links the cluster while the second, which shares it, is on its way to its place. */
static void test_a_cluster_linked_under_a_joiner(void **state) {
    (void)state;
    struct request w = {.kind = WRITE, .offset = 0, .length = 4096, .fill = 1},
                   second = {.kind = WRITE, .offset = 8192, .length = 4096, .fill = 2};
    hold(&w, "moved");
    hold(&second, "reserved");
    let_go(w.holding);
    finish(&w);
    release();
    finish(&second);
    assert_true(holds(image, 0, 4096, 1));
    assert_true(holds(image, 4096, 4096, 0));
    assert_true(holds(image, 8192, 4096, 2));
}

static void test_overlapping_writers_wait(void **state) {
    (void)state;
    struct request w = {.kind = WRITE, .offset = 0, .length = 4096, .fill = 1};
    struct request second = {.kind = WRITE, .offset = 2048, .length = 4096, .fill = 2};
    hold(&w, "resolved");
    begin(&second);
    assert_false(ends_within(&second, 200));
    release();
    finish(&w);
    finish(&second);
    assert_true(holds(image, 0, 2048, 1));
    assert_true(holds(image, 2048, 4096, 2));
}

static void test_others_do_not_wait(void **state) {
    (void)state;
    struct request w = {.kind = WRITE, .offset = 0, .length = 4096, .fill = 1};
    do_now(WRITE, 3 * CLUSTER, CLUSTER, 9);
    hold(&w, "resolved");
    do_now(WRITE, CLUSTER, CLUSTER, 3); /* allocates beside it */
    do_now(WRITE, 3 * CLUSTER, 512, 4); /* in place */
    do_now(DISCARD, CLUSTER, CLUSTER, 0);
    do_now(READ, 0, 4 * CLUSTER, 0);
    release();
    finish(&w);
    assert_true(holds(image, 0, 4096, 1));
    assert_true(holds(image, CLUSTER, CLUSTER, 0));
    assert_true(holds(image, 3 * CLUSTER, 512, 4));
}

/* ---- pins ------------------------------------------------------------------------------------------------ */

/* Fills the rest of the disk, so that every free cluster is used. */
static void use_all_free(uint64_t from) {
    for (uint64_t offset = from; offset < SIZE; offset += CLUSTER)
        do_now(WRITE, offset, CLUSTER, (uint8_t)(offset / CLUSTER));
}

static void check_all_used(uint64_t from) {
    for (uint64_t offset = from; offset < SIZE; offset += CLUSTER)
        assert_true(holds(image, offset, CLUSTER, (uint8_t)(offset / CLUSTER)));
}

static void test_a_late_overwrite_hits_nobody(void **state) {
    (void)state;
    struct request w = {.kind = WRITE, .offset = 4096, .length = 8192, .fill = 99};
    do_now(WRITE, 0, CLUSTER, 1);
    do_now(FLUSH, 0, 0, 0);
    hold(&w, "resolved"); /* it knows the host cluster */
    do_now(DISCARD, 0, CLUSTER, 0);
    do_now(FLUSH, 0, 0, 0);
    do_now(FLUSH, 0, 0, 0);
    use_all_free(2 * CLUSTER);
    release();
    finish(&w);
    check_all_used(2 * CLUSTER);
    assert_true(holds(image, 0, 4096, 0));
    assert_true(holds(image, 12288, CLUSTER - 12288, 0));
    do_now(FLUSH, 0, 0, 0);
    check_all_used(2 * CLUSTER);
}

static void test_a_late_overwrite_revives_no_zeroes(void **state) {
    (void)state;
    struct request w = {.kind = WRITE, .offset = 0, .length = CLUSTER, .fill = 99};
    do_now(WRITE, 0, CLUSTER, 1);
    do_now(FLUSH, 0, 0, 0);
    hold(&w, "resolved");
    do_now(ZERO, 0, CLUSTER, 0);
    assert_true(holds(image, 0, CLUSTER, 0));
    do_now(WRITE, 8192, 4096, 5); /* must not go where the late one lands */
    assert_true(holds(image, 8192, 4096, 5));
    release();
    finish(&w);
    assert_true(holds(image, 8192, 4096, 5));
    assert_true(holds(image, 0, 8192, 0));
    assert_true(holds(image, 12288, CLUSTER - 12288, 0));
}

/* Subclusters that are there are overwritten in place at any moment: they must not be on their way to a new cluster. */
static void test_subclusters_are_not_moved_under_a_writer(void **state) {
    (void)state;
    struct request open = {.kind = WRITE, .offset = CLUSTER, .length = 512, .fill = 8},
                   w = {.kind = WRITE, .offset = 0, .length = 512, .fill = 2};
    do_now(WRITE, 0, 2 * CLUSTER, 1);
    do_now(FLUSH, 0, 0, 0);
    hold(&open, "resolved"); /* it could be a late one for what is cleared now */
    do_now(ZERO, 0, 2048, 0);
    hold(&w, "moved");
    do_now(WRITE, 8192, 4096, 3);
    release();
    finish(&w);
    finish(&open);
    assert_true(holds(image, 0, 512, 2));
    assert_true(holds(image, 512, 1536, 0));
    assert_true(holds(image, 2048, 8192 - 2048, 1));
    assert_true(holds(image, 8192, 4096, 3));
    assert_true(holds(image, 12288, CLUSTER - 12288, 1));
}

static void test_copy_on_write_lets_go_late(void **state) {
    (void)state;
    struct request w = {.kind = WRITE, .offset = 100, .length = 100, .fill = 2};
    do_now(WRITE, 0, CLUSTER, 1);
    assert_int_equal(img_close(image, NULL), 0);
    char command[160];
    snprintf(command, sizeof(command), "qemu-img snapshot -c one %s", path);
    assert_int_equal(system(command), 0);
    assert_int_equal(img_open(path, &(struct img_open_options){.flags = IMG_OPEN_WRITE}, &image, NULL), 0);
    hold(&w, "moved");
    assert_true(holds(image, 0, CLUSTER, 1));
    use_all_free(CLUSTER);
    do_now(FLUSH, 0, 0, 0);
    assert_true(holds(image, 0, CLUSTER, 1));
    release();
    finish(&w);
    assert_true(holds(image, 0, 100, 1));
    assert_true(holds(image, 100, 100, 2));
    assert_true(holds(image, 200, CLUSTER - 200, 1));
    check_all_used(CLUSTER);
    assert_int_equal(img_close(image, NULL), 0);
    assert_int_equal(img_open(path, &(struct img_open_options){.snapshot = "one"}, &image, NULL), 0);
    assert_true(holds(image, 0, CLUSTER, 1));
}

/* ---- rounds ------------------------------------------------------------------------------------------------ */

static void test_a_flush_that_comes_late_runs_again(void **state) {
    (void)state;
    struct request first = {.kind = FLUSH}, second = {.kind = FLUSH};
    do_now(WRITE, 0, CLUSTER, 1);
    hold(&first, "round-frozen");
    do_now(WRITE, CLUSTER, CLUSTER, 2); /* acknowledged after the freeze */
    begin(&second);
    assert_false(ends_within(&second, 200)); /* the running round does not cover it */
    release();
    finish(&first);
    finish(&second);
    struct img *copy = power_cut();
    assert_true(holds(copy, 0, CLUSTER, 1));
    assert_true(holds(copy, CLUSTER, CLUSTER, 2));
    close_copy(copy);
}

static void test_a_link_during_a_round_stays_out(void **state) {
    (void)state;
    static const char *const points[] = {"round-frozen", "round-synced"};
    for (unsigned i = 0; i < 2; i++) {
        struct request flush = {.kind = FLUSH}, done = {.kind = FLUSH};
        uint64_t at = 4ull * i * CLUSTER;
        do_now(WRITE, at, CLUSTER, 1);
        hold(&flush, points[i]);
        do_now(WRITE, at + CLUSTER, CLUSTER, 2);
        release();
        finish(&flush);
        /* written from the live slice, the second link would be on the disk before its barrier */
        struct img *copy = power_cut();
        assert_true(holds(copy, at, CLUSTER, 1));
        assert_true(holds(copy, at + CLUSTER, CLUSTER, 0));
        close_copy(copy);
        begin(&done);
        finish(&done);
        copy = power_cut();
        assert_true(holds(copy, at + CLUSTER, CLUSTER, 2));
        close_copy(copy);
    }
}

static void test_a_freed_cluster_waits_for_its_round(void **state) {
    (void)state;
    static const char *const points[] = {"round-frozen", "round-synced", "round-done"};
    for (unsigned i = 0; i < 3; i++) {
        struct request flush = {.kind = FLUSH};
        do_now(WRITE, 0, CLUSTER, 77);
        do_now(FLUSH, 0, 0, 0);
        do_now(DISCARD, 0, CLUSTER, 0);
        do_now(WRITE, (2 + i) * CLUSTER, 512, 1); /* so that the round has both halves */
        hold(&flush, points[i]);
        use_all_free(8 * CLUSTER);
        /* the table on the disk may still name the cluster: nobody else's bytes may be in it */
        struct img *copy = power_cut();
        assert_true(holds(copy, 0, CLUSTER, 77) || holds(copy, 0, CLUSTER, 0));
        close_copy(copy);
        release();
        finish(&flush);
        check_all_used(8 * CLUSTER);
        do_now(DISCARD, 8 * CLUSTER, SIZE - 8 * CLUSTER, 0);
        do_now(FLUSH, 0, 0, 0);
    }
}

static void test_reads_and_writes_pass_a_round(void **state) {
    (void)state;
    static const char *const points[] = {"round-frozen", "round-synced", "round-done"};
    for (unsigned i = 0; i < 3; i++) {
        struct request flush = {.kind = FLUSH};
        do_now(WRITE, 0, CLUSTER, 1);
        do_now(DISCARD, 5 * CLUSTER, CLUSTER, 0);
        do_now(WRITE, 5 * CLUSTER, CLUSTER, 1);
        hold(&flush, points[i]);
        do_now(READ, 0, 2 * CLUSTER, 0);
        do_now(WRITE, 0, 512, 2);
        do_now(WRITE, (6 + i) * CLUSTER, 512, 3);
        release();
        finish(&flush);
        assert_true(holds(image, (6 + i) * CLUSTER, 512, 3));
        assert_true(holds(image, 0, 512, 2));
    }
}

/* ---- the gate --------------------------------------------------------------------------------------------- */

static void test_drain_waits_and_holds_back(void **state) {
    (void)state;
    struct request w = {.kind = WRITE, .offset = 0, .length = 512, .fill = 1}, drain = {.kind = DRAIN},
                   late = {.kind = WRITE, .offset = CLUSTER, .length = 512, .fill = 2},
                   read = {.kind = READ, .offset = 0, .length = 512};
    hold(&w, "moved");
    begin(&drain);
    assert_false(ends_within(&drain, 100));
    begin(&late);
    assert_false(ends_within(&late, 100));
    release();
    finish(&w);
    finish(&drain);
    begin(&read);
    assert_false(ends_within(&late, 100));
    assert_false(ends_within(&read, 100));
    img_resume(image);
    finish(&late);
    finish(&read);
    assert_true(holds(image, 0, 512, 1));
    assert_true(holds(image, CLUSTER, 512, 2));
}

/* A request of many steps is a running one until its last: it does not stop at the gate between two of them. */
static void test_drain_waits_for_the_whole_request(void **state) {
    (void)state;
    struct request w = {.kind = WRITE, .length = LARGE, .fill = 1}, drain = {.kind = DRAIN}, flush = {.kind = FLUSH},
                   resize = {.kind = RESIZE, .offset = 2 * LARGE};
    assert_int_equal(img_resize(image, LARGE, IMG_PREALLOCATION_OFF, 0, NULL), 0);
    hold(&w, "moved"); /* in its first step */
    begin(&drain);
    assert_false(ends_within(&drain, 100));
    release();
    finish(&drain);
    bool ended = ends_within(&w, 5000); /* what is left is the way out of the call */
    begin(&flush);
    begin(&resize);
    bool waits = !ends_within(&flush, 100) && !ends_within(&resize, 100);
    img_resume(image);
    finish(&w);
    finish(&flush);
    finish(&resize);
    assert_true(ended);
    assert_true(waits);
    assert_int_equal(img_size(image), 2 * LARGE);
    assert_true(holds(image, 0, LARGE, 1));
    assert_true(holds(image, LARGE, LARGE, 0));
}

/* Who grows must not shrink what another has grown in between. */
static void test_growers_do_not_shrink(void **state) {
    (void)state;
    struct request far = {.kind = RESIZE, .offset = 4ull << 30},
                   near = {.kind = RESIZE, .offset = 2ull << 30, .may_fail = true};
    hold(&far, "round-frozen"); /* of its larger L1 table: the size is still the old one */
    begin(&near);
    assert_false(ends_within(&near, 200));
    release();
    finish(&far);
    finish(&near);
    assert_int_equal(near.result, -EINVAL);
    assert_int_equal(img_size(image), 4ull << 30);
}

static void test_resize_waits_for_writers(void **state) {
    (void)state;
    struct request w = {.kind = WRITE, .offset = SIZE - CLUSTER, .length = 512, .fill = 1};
    struct img_check_result result;
    hold(&w, "resolved");
    struct request flush = {.kind = FLUSH};
    begin(&flush);
    finish(&flush);
    release();
    finish(&w);
    assert_int_equal(img_resize(image, SIZE / 2, IMG_PREALLOCATION_OFF, IMG_RESIZE_SHRINK, NULL), 0);
    assert_int_equal(img_resize(image, SIZE, IMG_PREALLOCATION_OFF, 0, NULL), 0);
    assert_true(holds(image, SIZE - CLUSTER, CLUSTER, 0));
    assert_int_equal(img_check(image, NULL, &result, NULL), 0);
    assert_int_equal(result.corruptions, 0);
}

#define PAUSED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
#define PAUSED_EXTENDED(test)                                                                                          \
    { #test " (extended L2)", test, setup_extended, teardown, NULL }

int main(void) {
    const struct CMUnitTest tests[] = {
        PAUSED(test_unlinked_data_is_not_seen),
        PAUSED_EXTENDED(test_unlinked_data_is_not_seen),
        PAUSED(test_disjoint_writers_join),
        PAUSED(test_a_cluster_linked_under_a_joiner),
        PAUSED(test_overlapping_writers_wait),
        PAUSED_EXTENDED(test_overlapping_writers_wait),
        PAUSED(test_others_do_not_wait),
        PAUSED(test_a_late_overwrite_hits_nobody),
        PAUSED_EXTENDED(test_a_late_overwrite_hits_nobody),
        PAUSED(test_a_late_overwrite_revives_no_zeroes),
        PAUSED_EXTENDED(test_a_late_overwrite_revives_no_zeroes),
        PAUSED_EXTENDED(test_subclusters_are_not_moved_under_a_writer),
        PAUSED(test_copy_on_write_lets_go_late),
        PAUSED_EXTENDED(test_copy_on_write_lets_go_late),
        PAUSED(test_a_flush_that_comes_late_runs_again),
        PAUSED(test_a_link_during_a_round_stays_out),
        PAUSED(test_a_freed_cluster_waits_for_its_round),
        PAUSED_EXTENDED(test_a_freed_cluster_waits_for_its_round),
        PAUSED(test_reads_and_writes_pass_a_round),
        PAUSED(test_drain_waits_and_holds_back),
        PAUSED(test_drain_waits_for_the_whole_request),
        PAUSED(test_growers_do_not_shrink),
        PAUSED(test_resize_waits_for_writers),
    };
    return cmocka_run_group_tests_name("pauses", tests, NULL, NULL);
}

#else

int main(void) {
    printf("1..0 # SKIP pause points are compiled in with IMG_DEBUG only\n");
    return 0;
}

#endif
