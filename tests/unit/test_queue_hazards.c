/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_queue_hazards.c - moments at which a queue could lose a request, wait for itself, or do what nobody may do then.
 * Storage that can be held, and the engine's pause points, make each of them happen in every run.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "debug.h"
#include "file.h"
#include "image.h"
#include "image_util.h"

enum { SHORT_MS = 60, LONG_MS = 10000 };

static const uint32_t ways[] = {0, IMG_QUEUE_THREADS};

static struct img_queue *queue_of(struct img *image, unsigned depth, uint32_t flags) {
    struct img_queue *q;
    if (img_queue_create(image, &(struct img_queue_options){.depth = depth, .flags = flags}, &q, &err))
        fail_msg("%s", err.text);
    return q;
}

static void submit(struct img_queue *q, const struct img_io *io) {
    assert_int_equal(img_queue_submit(q, io, 1), 1);
}

/* The one request under way; its result. */
static int result_of(struct img_queue *q) {
    struct img_completion c;
    while (img_queue_reap(q, &c, 1) == 0)
        assert_int_equal(img_queue_wait(q, LONG_MS), 0);
    return c.result;
}

static bool comes_true(atomic_bool *flag, unsigned ms) {
    for (unsigned i = 0; i < ms && !atomic_load(flag); i++)
        usleep(1000);
    return atomic_load(flag);
}

/* ---- a point at which somebody is held ---- */

static atomic_bool armed, held, released;

static void hold_here(void) {
    if (!atomic_exchange(&armed, false))
        return;
    atomic_store(&held, true);
    while (!atomic_load(&released))
        usleep(500);
}

static void arm_hold(void) {
    atomic_store(&held, false);
    atomic_store(&released, false);
    atomic_store(&armed, true);
}

static void hold_at_round(const char *name) {
    if (strcmp(name, "round-frozen") == 0)
        hold_here();
}

/* ---- storage that is held ---- */

static const struct storage_ops *usual;
static atomic_int read_error; /* of the read that was held */

static int slow_truncate(struct storage *s, uint64_t length) {
    hold_here();
    return usual->truncate(s, length);
}

static int slow_read(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    bool mine = atomic_load(&armed);
    hold_here();
    return mine && atomic_load(&read_error) ? atomic_load(&read_error) : usual->read(s, iov, niov, offset);
}

static struct img *open_slow(const char *path, const char *format) {
    static struct storage_ops slow;
    struct storage *file;
    struct img *image;
    struct img_open_options options = {.flags = IMG_OPEN_WRITE, .format = format};
    assert_int_equal(file_open(path, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK, &file, &err), 0);
    usual = file->ops;
    slow = *usual;
    slow.truncate = slow_truncate;
    slow.read = slow_read;
    file->ops = &slow;
    assert_int_equal(image_open_storage(file, &options, &image, &err), 0);
    return image;
}

/* ---- a thread that does one thing ---- */

struct deed {
    pthread_t thread;
    struct img *image;
    struct img_queue *queue;
    void (*act)(struct deed *);
    uint64_t size;
    atomic_bool done;
};

static void *deed_main(void *opaque) {
    struct deed *d = opaque;
    d->act(d);
    atomic_store(&d->done, true);
    return NULL;
}

static void begin(struct deed *d, void (*act)(struct deed *)) {
    d->act = act;
    atomic_store(&d->done, false);
    assert_int_equal(pthread_create(&d->thread, NULL, deed_main, d), 0);
}

static void drain(struct deed *d) {
    assert_int_equal(img_drain(d->image, NULL), 0);
}

static void resize(struct deed *d) {
    assert_int_equal(img_resize(d->image, d->size, IMG_PREALLOCATION_OFF, IMG_RESIZE_SHRINK, &err), 0);
}

/* ---- the tests ---- */

/* A round that a queue's writes made necessary, and that nobody waits for, does not run on in a drained image. */
static void test_drained_means_still(void **state) {
    (void)state;
    sh("qemu-img create -q -f qcow2 -o cluster_size=512 image 4M");
    struct img *image = open_with("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE, .l2_cache = 16 * 512});
    struct img_queue *q = queue_of(image, 4, 0);
    uint8_t bytes[512] = {1};
    struct iovec iov = {bytes, sizeof bytes};
    struct deed d = {.image = image};
    img_debug_pause = hold_at_round;
    arm_hold();
    /* more writes than the round leaves room for would wait for it */
    for (unsigned n = 0; n < 128 && !comes_true(&held, image->driver->strained(image) ? LONG_MS : 0); n++) {
        submit(q, &(struct img_io){.op = IMG_IO_WRITE, .iov = &iov, .niov = 1, .offset = n * (32u << 10)});
        assert_int_equal(result_of(q), 0);
    }
    assert_true(atomic_load(&held));
    begin(&d, drain);
    assert_false(comes_true(&d.done, SHORT_MS));
    atomic_store(&released, true);
    assert_true(comes_true(&d.done, LONG_MS));
    pthread_join(d.thread, NULL);
    img_resume(image);
    img_queue_destroy(q);
    img_debug_pause = NULL;
    close_image(image);
}

/* What a request may do is settled when it is moved: the image has shrunk since it was submitted. */
static void test_shrunk_meanwhile(void **state) {
    (void)state;
    uint8_t bytes[4096] = {1};
    struct iovec iov = {bytes, sizeof bytes};
    for (unsigned way = 0; way < 4; way++) {
        bool raw = way < 2;
        make_kind(raw ? 0 : 2);
        struct img *image = open_slow("image", raw ? "raw" : "qcow2");
        struct img_queue *q = queue_of(image, 4, ways[way % 2]);
        struct deed d = {.image = image, .size = MIB / 2};
        img_debug_pause = hold_at_round;
        arm_hold();
        begin(&d, resize);
        assert_true(comes_true(&held, LONG_MS)); /* the gate is closed */
        submit(q, &(struct img_io){.op = IMG_IO_WRITE, .iov = &iov, .niov = 1, .offset = MIB - sizeof bytes});
        assert_int_equal(img_queue_wait(q, SHORT_MS), -ETIME);
        atomic_store(&released, true);
        pthread_join(d.thread, NULL);
        assert_int_equal(result_of(q), -EINVAL);
        img_queue_destroy(q);
        img_debug_pause = NULL;
        close_image(image);
        image = open_flags("image", 0);
        assert_int_equal(img_size(image), MIB / 2);
        close_image(image);
    }
}

/* A write that fills its cluster's edges does not wait for a context while it has a plan open: all the others may be
 * those of calls that wait for this very cluster. */
static void test_all_contexts_taken(void **state) {
    (void)state;
    sh("qemu-img create -q -f qcow2 base 1M && qemu-io -c 'write -q -P 7 0 1M' base");
    sh("qemu-img create -q -f qcow2 -b base -F qcow2 image");
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    struct img_context *taken[IMG_CONTEXTS];
    unsigned count = 0;
    uint8_t byte = 9;
    struct iovec iov = {&byte, 1};
    struct img_queue *q = queue_of(image, 4, 0);
    for (uint64_t cluster = 0; cluster < 3; cluster++) { /* the table is there, and a run of clusters */
        submit(q, &(struct img_io){.op = IMG_IO_WRITE, .iov = &iov, .niov = 1, .offset = cluster << 16});
        assert_int_equal(result_of(q), 0);
    }
    while ((taken[count] = context_try_claim(&image->epochs)))
        count++;
    submit(q, &(struct img_io){.op = IMG_IO_WRITE, .iov = &iov, .niov = 1, .offset = 5 << 16});
    assert_int_equal(result_of(q), 0);
    while (count)
        context_release(&image->epochs, taken[--count]);
    img_queue_destroy(q);
    expect_fill(image, (5 << 16) + 1, 65535, 7);
    close_image(image);
}

static int write_and_flush(struct img_queue *q) {
    uint8_t out[512] = {3}, in[512];
    struct iovec from = {out, sizeof out}, to = {in, sizeof in};
    struct img_io ios[] = {{.op = IMG_IO_WRITE, .iov = &from, .niov = 1, .cookie = 1},
                           {.op = IMG_IO_READ, .iov = &to, .niov = 1, .offset = 8192, .cookie = 2},
                           {.op = IMG_IO_FLUSH, .cookie = 3}};
    struct img_completion c;
    unsigned done = 0;
    if (img_queue_submit(q, ios, 3) != 3)
        return -EBUSY;
    for (int r; done < 3; done++) {
        while (img_queue_reap(q, &c, 1) == 0)
            if ((r = img_queue_wait(q, LONG_MS)) < 0)
                return r;
        if (c.result < 0)
            return c.result;
    }
    return 0;
}

static void use_queue(struct deed *d) {
    d->size = (uint64_t)-write_and_flush(d->queue);
}

/* A queue belongs to one thread at a time, and not always to the same. */
static void test_hand_over(void **state) {
    (void)state;
    for (unsigned way = 0; way < 2; way++) {
        make_kind(2);
        struct img *image =
            open_with("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE, .cache = IMG_CACHE_NONE});
        struct img_queue *q = queue_of(image, 8, ways[way]);
        int ends[2];
        struct img_completion c;
        assert_int_equal(pipe(ends), 0);
        assert_int_equal(write_and_flush(q), 0);
        assert_int_equal(img_queue_watch(q, ends[0], 42), 0);
        assert_int_equal(img_queue_wait(q, 10), -ETIME);
        for (unsigned i = 0; i < 3; i++) {
            struct deed d = {.image = image, .queue = q};
            begin(&d, use_queue);
            pthread_join(d.thread, NULL);
            assert_int_equal(d.size, 0);
        }
        assert_int_equal(img_queue_has_ring(q), way == 0);
        assert_int_equal(write_and_flush(q), 0);
        assert_int_equal(write(ends[1], "x", 1), 1);
        assert_int_equal(img_queue_wait(q, LONG_MS), 0);
        assert_int_equal(img_queue_reap(q, &c, 1), 1);
        assert_true(c.cookie == 42);
        assert_int_equal(img_queue_unwatch(q, ends[0]), 0);
        img_queue_destroy(q);
        close(ends[0]);
        close(ends[1]);
        close_image(image);
    }
}

/* What was cancelled while it waited for metadata is cancelled, even when there was an error on the way. */
static void test_cancelled_fails(void **state) {
    (void)state;
    sh("qemu-img create -q -f qcow2 image 1M && qemu-io -c 'write -q -P 7 0 1M' image");
    struct img *image = open_slow("image", "qcow2");
    struct img_queue *q = queue_of(image, 4, 0);
    uint8_t byte;
    struct iovec iov = {&byte, 1};
    atomic_store(&read_error, -EIO);
    arm_hold();
    submit(q, &(struct img_io){.op = IMG_IO_READ, .iov = &iov, .niov = 1, .cookie = 5});
    assert_true(comes_true(&held, LONG_MS));
    assert_int_equal(img_queue_cancel(q, 5), 0);
    atomic_store(&released, true);
    assert_int_equal(result_of(q), -ECANCELED);
    atomic_store(&read_error, 0);
    img_queue_destroy(q);
    close_image(image);
}

static void make_queue(struct deed *d) {
    struct img_queue *one = queue_of(d->image, 4, 0);
    img_queue_destroy(one);
}

/* Making a queue, and unmaking it, waits for nothing that waits for the requests of its thread's other queues. */
static void test_made_beside_a_resize(void **state) {
    (void)state;
    make_kind(0);
    struct img *image = open_slow("image", "raw");
    struct img_queue *q = queue_of(image, 4, 0);
    struct deed slow = {.image = image, .size = MIB / 2}, quick = {.image = image};
    arm_hold();
    begin(&slow, resize);
    assert_true(comes_true(&held, LONG_MS));
    begin(&quick, make_queue);
    assert_true(comes_true(&quick.done, LONG_MS / 2));
    atomic_store(&released, true);
    pthread_join(slow.thread, NULL);
    pthread_join(quick.thread, NULL);
    img_queue_destroy(q);
    close_image(image);
}

/* Somebody else's loop: sleeps on the descriptor until there is a completion. */
static struct img_completion reap_by_poll(struct img_queue *q, struct pollfd *p) {
    struct img_completion c;
    while (img_queue_reap(q, &c, 1) == 0)
        assert_int_equal(poll(p, 1, LONG_MS), 1);
    return c;
}

/* It sleeps when there is nothing to do. */
static void test_descriptor_falls_silent(void **state) {
    (void)state;
    make_kind(2);
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    for (unsigned way = 0; way < 2; way++) {
        struct img_queue *q = queue_of(image, 4, ways[way]);
        struct pollfd p = {.fd = img_queue_fd(q), .events = POLLIN};
        struct img_completion c;
        for (unsigned n = 0; n < 3; n++) {
            write_fill(image, n * 65536, 4096, 3);
            submit(q, &(struct img_io){.op = IMG_IO_FLUSH});
            (void)reap_by_poll(q, &p);
            usleep(5000); /* the signal may come behind what it tells of */
            assert_int_equal(img_queue_reap(q, &c, 1), 0);
            assert_int_equal(poll(&p, 1, 0), 0);
        }
        img_queue_destroy(q);
    }
    close_image(image);
}

static void resume_later(struct deed *d) {
    usleep(SHORT_MS * 1000);
    img_resume(d->image);
}

/* A loop that sleeps on the queue's descriptor before anything has happened is woken when it does. */
static void test_descriptor_wakes(void **state) {
    (void)state;
    make_kind(2);
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    for (unsigned way = 0; way < 2; way++) {
        struct img_queue *q = queue_of(image, 4, ways[way]);
        struct pollfd p = {.fd = img_queue_fd(q), .events = POLLIN};
        struct timespec start, end;
        struct deed d = {.image = image};
        uint8_t byte = 1;
        struct iovec iov = {&byte, 1};
        assert_int_equal(img_drain(image, NULL), 0);
        submit(q, &(struct img_io){.op = IMG_IO_WRITE, .iov = &iov, .niov = 1});
        clock_gettime(CLOCK_MONOTONIC, &start);
        begin(&d, resume_later);
        assert_int_equal(reap_by_poll(q, &p).result, 0);
        clock_gettime(CLOCK_MONOTONIC, &end);
        assert_true(end.tv_sec - start.tv_sec < LONG_MS / 2000);
        pthread_join(d.thread, NULL);
        img_queue_destroy(q);
    }
    close_image(image);
}

/* As deep as a queue can be, and full. */
static void test_full(void **state) {
    (void)state;
    enum { DEPTH = 4096, PIECE = 4096 };
    sh("truncate -s 16M image");
    struct iovec *iov = calloc(DEPTH, sizeof *iov);
    struct img_io *ios = calloc(DEPTH, sizeof *ios);
    uint8_t *bytes = aligned_alloc(4096, DEPTH * PIECE), *found = aligned_alloc(4096, DEPTH * PIECE);
    struct img_completion done[64];
    for (unsigned way = 0; way < 4; way++) {
        struct img *image =
            open_with("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE,
                                                          .format = "raw",
                                                          .cache = way & 2 ? IMG_CACHE_NONE : IMG_CACHE_WRITEBACK});
        struct img_queue *q = queue_of(image, DEPTH, ways[way & 1]);
        assert_int_equal(img_queue_has_ring(q), !(way & 1));
        for (unsigned pass = 0; pass < 2; pass++) {
            for (unsigned i = 0; i < DEPTH; i++) {
                memset(bytes + i * PIECE, (int)(i * 7 + way + 1), PIECE);
                iov[i] = (struct iovec){(pass ? found : bytes) + i * PIECE, PIECE};
                ios[i] = (struct img_io){.op = pass ? IMG_IO_READ : IMG_IO_WRITE,
                                         .iov = &iov[i],
                                         .niov = 1,
                                         .offset = i * PIECE,
                                         .cookie = i};
            }
            assert_int_equal(img_queue_submit(q, ios, DEPTH), DEPTH);
            assert_int_equal(img_queue_submit(q, ios, 1), 0);
            img_queue_drain(q);
            unsigned all = 0, n;
            while ((n = img_queue_reap(q, done, 64)))
                for (all += n; n--;)
                    assert_int_equal(done[n].result, 0);
            assert_int_equal(all, DEPTH);
        }
        assert_memory_equal(bytes, found, DEPTH * PIECE);
        img_queue_destroy(q);
        close_image(image);
    }
    free(iov);
    free(ios);
    free(bytes);
    free(found);
}

/* ---- past the page cache ---- */

enum { BLOCK = 4096, CLUSTER = 65536 };

static struct img *open_direct(const char *format) {
    struct img_create_options create = {.format = format, .size = 64 * CLUSTER};
    struct img_open_options options = {.flags = IMG_OPEN_WRITE, .format = format, .cache = IMG_CACHE_NONE};
    struct img *image;
    assert_int_equal(img_create("direct", &create, &err), 0);
    assert_int_equal(img_open("direct", &options, &image, &err), 0);
    return image;
}

/* False: a queue could not write past the page cache by itself here. */
static bool goes_by_the_ring(struct img *image, const struct img_queue *q) {
    bool direct = file_of(image->driver->data(image))->direct;
    if (!direct || !img_queue_has_ring(q))
        print_message("no O_DIRECT in this folder, or no io_uring\n");
    return direct && img_queue_has_ring(q);
}

static uint8_t *filled(size_t size, uint8_t fill) {
    return memset(aligned_alloc(BLOCK, size), fill, size);
}

static void rewrite_block(struct deed *d) {
    struct rangelock *ranges = file_of(d->image->driver->data(d->image))->ranges;
    struct range_hold hold;
    rangelock_acquire(ranges, &hold, 3 * BLOCK, 4 * BLOCK, true);
    rangelock_release(ranges, &hold);
}

/* A write on its way through the ring, and a rewrite of a part of its block, keep out of each other. */
static void test_blocks_are_held(void **state) {
    (void)state;
    struct img *image = open_direct("raw");
    struct img_queue *q = queue_of(image, 4, 0);
    uint8_t *bytes = filled(BLOCK, 7), found[BLOCK];
    struct iovec iov = {bytes, BLOCK};
    struct img_io io = {.op = IMG_IO_WRITE, .iov = &iov, .niov = 1, .offset = 3 * BLOCK};
    bool can = goes_by_the_ring(image, q);
    if (can) {
        struct rangelock *ranges = file_of(image->driver->data(image))->ranges;
        struct deed rewrite = {.image = image};
        struct range_hold hold;
        struct img_completion c;
        submit(q, &io);
        begin(&rewrite, rewrite_block);
        assert_false(comes_true(&rewrite.done, SHORT_MS)); /* nobody has asked the queue yet */
        assert_int_equal(result_of(q), 0);
        pthread_join(rewrite.thread, NULL);

        rangelock_acquire(ranges, &hold, 3 * BLOCK, 4 * BLOCK, true);
        submit(q, &io);
        (void)img_queue_wait(q, SHORT_MS);
        unsigned early = img_queue_reap(q, &c, 1);
        rangelock_release(ranges, &hold);
        assert_int_equal(early, 0);
        assert_int_equal(result_of(q), 0);
        assert_int_equal(img_pread(image, found, BLOCK, 3 * BLOCK, &err), 0);
        assert_memory_equal(found, bytes, BLOCK);
    }
    free(bytes);
    img_queue_destroy(q);
    assert_int_equal(img_close(image, &err), 0);
    if (!can)
        skip();
}

/* Others allocate, and so lengthen the file, while a write is on the ring and its thread does something else: all of it
 * here, in the thread of the queue. */
static void test_lengthened_beside_the_ring(void **state) {
    (void)state;
    struct img *image = open_direct("qcow2");
    struct img_queue *q = queue_of(image, 4, 0);
    uint8_t *bytes = filled(CLUSTER, 7);
    struct iovec iov = {bytes, CLUSTER};
    struct img_io io = {.op = IMG_IO_WRITE, .iov = &iov, .niov = 1};
    bool can = goes_by_the_ring(image, q);
    assert_int_equal(img_pwrite(image, bytes, CLUSTER, 0, &err), 0);
    submit(q, &io);
    for (uint64_t i = 1; i < 64; i++)
        assert_int_equal(img_pwrite(image, bytes, CLUSTER, i * CLUSTER, &err), 0);
    assert_int_equal(result_of(q), 0);
    free(bytes);
    img_queue_destroy(q);
    assert_int_equal(img_close(image, &err), 0);
    if (!can)
        skip();
}

#define IO(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        IO(test_drained_means_still),
        IO(test_shrunk_meanwhile),
        IO(test_all_contexts_taken),
        IO(test_hand_over),
        IO(test_cancelled_fails),
        IO(test_made_beside_a_resize),
        IO(test_descriptor_wakes),
        IO(test_descriptor_falls_silent),
        IO(test_full),
        IO(test_blocks_are_held),
        IO(test_lengthened_beside_the_ring),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("queue hazards", tests, NULL, NULL);
}
