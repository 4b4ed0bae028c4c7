/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_queue.c - queues: what they read and write is what the ordinary calls would, with io_uring and without; waiting,
 * the caller's descriptors, cancelling, draining, and many of them at once.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "image_util.h"

enum { SIZE = 4 * MIB, SLOTS = 64, SLOT = SIZE / SLOTS, DEPTH = 32 };

static const uint32_t ways[] = {0, IMG_QUEUE_THREADS};

static struct img_queue *queue_of(struct img *image, uint32_t flags) {
    struct img_queue *q;
    struct img_queue_options options = {.depth = DEPTH, .flags = flags};
    if (img_queue_create(image, &options, &q, &err))
        fail_msg("%s", err.text);
    return q;
}

static void one(struct img_queue *q, const struct img_io *io, int result) {
    struct img_completion c;
    assert_int_equal(img_queue_submit(q, io, 1), 1);
    while (img_queue_reap(q, &c, 1) == 0)
        assert_int_equal(img_queue_wait(q, 10000), 0);
    if (c.result != result)
        fail_msg("%d, not %d: %s", c.result, result, img_queue_error(q)->text);
    assert_true(c.cookie == io->cookie);
}

/* ---- against a byte array ---------- */

/* A request in each of some slots of the disk; slots do not overlap, so their order does not matter. */
struct work {
    struct img_io io;
    struct iovec iov[3];
    uint8_t bytes[SLOT];
    bool busy;
};

struct disk {
    struct img *image;
    uint8_t *model;
    struct work *work;
    unsigned seed, first, slots;
    bool may_discard; /* a discard reads as zeroes afterwards */
};

static unsigned next_number(struct disk *d, unsigned limit) {
    d->seed = d->seed * 1103515245 + 12345;
    return (d->seed >> 8) % limit;
}

static void fill_work(struct disk *d, unsigned slot) {
    struct work *w = &d->work[slot];
    uint64_t at = (uint64_t)(d->first + slot) * SLOT, start = next_number(d, 3) ? next_number(d, SLOT / 512) * 512 : 0;
    uint64_t length = start == 0 && next_number(d, 2) ? SLOT : 1 + next_number(d, SLOT - start);
    unsigned kind = next_number(d, 10);
    w->io = (struct img_io){.offset = at + start, .length = length, .cookie = slot};
    w->iov[0] = (struct iovec){w->bytes, length / 3};
    w->iov[1] = (struct iovec){w->bytes + length / 3, 0};
    w->iov[2] = (struct iovec){w->bytes + length / 3, length - length / 3};
    w->io.iov = w->iov;
    w->io.niov = 3;
    w->busy = true;
    if (kind < 4) {
        w->io.op = IMG_IO_READ;
        memset(w->bytes, 0xee, SLOT);
    } else if (kind < 8) {
        w->io.op = IMG_IO_WRITE;
        memset(w->bytes, (int)next_number(d, 256), length);
        memcpy(d->model + w->io.offset, w->bytes, length);
    } else if (kind == 8) {
        w->io.op = IMG_IO_ZERO;
        w->io.flags = next_number(d, 2) ? IMG_ZERO_MAY_UNMAP : 0;
        memset(d->model + w->io.offset, 0, length);
    } else if (d->may_discard && length == SLOT) {
        w->io.op = IMG_IO_DISCARD;
        memset(d->model + w->io.offset, 0, length);
    } else {
        w->io.op = IMG_IO_FLUSH;
    }
}

static void take_back(struct disk *d, struct img_queue *q, const struct img_completion *c) {
    struct work *w = &d->work[c->cookie];
    if (c->result)
        fail_msg("request %d: %d %s", (int)w->io.op, c->result, img_queue_error(q)->text);
    w->busy = false;
    if (w->io.op == IMG_IO_READ && memcmp(w->bytes, d->model + w->io.offset, w->io.length))
        fail_msg("%llu bytes at %llu are not what they should be", (unsigned long long)w->io.length,
                 (unsigned long long)w->io.offset);
}

static void random_work(struct disk *d, struct img_queue *q, unsigned rounds) {
    unsigned under_way = 0;
    struct img_completion done[8];
    for (unsigned n = 0; n < rounds || under_way;) {
        unsigned slot = next_number(d, d->slots);
        if (n < rounds && !d->work[slot].busy && under_way < DEPTH) {
            fill_work(d, slot);
            assert_int_equal(img_queue_submit(q, &d->work[slot].io, 1), 1);
            under_way++;
            n++;
        } else {
            assert_int_equal(img_queue_wait(q, 60000), 0);
        }
        unsigned k = img_queue_reap(q, done, 8);
        under_way -= k;
        for (unsigned i = 0; i < k; i++)
            take_back(d, q, &done[i]);
    }
}

static void make_disk(struct disk *d, struct img *image, unsigned seed, unsigned first, unsigned slots) {
    *d = (struct disk){.image = image, .seed = seed, .first = first, .slots = slots, .may_discard = true};
    d->work = calloc(slots, sizeof *d->work);
    assert_non_null(d->work);
}

static const char chain[] =
    "qemu-img create -q -f qcow2 base 3M && qemu-io -c 'write -q -P 7 0 2M' base && "
    "qemu-img convert -c -O qcow2 base packed && qemu-img create -q -f qcow2 -b packed -F qcow2 middle 4M && "
    "qemu-io -c 'write -q -P 9 1M 300k' middle && qemu-img create -q -f qcow2 -b middle -F qcow2 image 4M";

static const char *const kinds[] = {
    "truncate -s 4M image",
    "qemu-img create -q -f qcow2 image 4M",
    "qemu-img create -q -f qcow2 -o cluster_size=512 image 4M",
    "qemu-img create -q -f qcow2 -o cluster_size=4k,extended_l2=off,preallocation=metadata image 4M",
    "qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=64k image 4M",
    "qemu-img create -q -f qcow2 -o data_file=data image 4M",
    chain,
};

static void test_random(void **state) {
    (void)state;
    for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (unsigned way = 0; way < 4; way++) {
            sh("rm -f image data base packed middle; %s", kinds[k]);
            struct img_open_options options = {.flags = IMG_OPEN_WRITE,
                                               .format = k ? "qcow2" : "raw",
                                               .cache = way & 2 ? IMG_CACHE_NONE : IMG_CACHE_WRITEBACK,
                                               .l2_cache = 64 << 10};
            struct img *image = open_with("image", &options);
            struct disk d;
            make_disk(&d, image, k * 4 + way + 1, 0, SLOTS);
            d.model = malloc(SIZE);
            assert_non_null(d.model);
            assert_int_equal(img_pread(image, d.model, SIZE, 0, &err), 0);
            struct img_queue *q = queue_of(image, ways[way & 1]);
            assert_int_equal(img_queue_has_ring(q), !(way & 1));
            random_work(&d, q, 600);
            img_queue_destroy(q);
            uint8_t *now = malloc(SIZE);
            assert_int_equal(img_pread(image, now, SIZE, 0, &err), 0);
            assert_memory_equal(now, d.model, SIZE);
            close_image(image);
            if (k)
                sh("qemu-img check -q image");
            free(now);
            free(d.model);
            free(d.work);
        }
}

/* ---- many at once ---------- */

enum { QUEUES = 8 };

static void *queue_thread(void *opaque) {
    struct disk *d = opaque;
    struct img_queue *q = queue_of(d->image, ways[d->first / d->slots % 2]);
    random_work(d, q, 150);
    img_queue_destroy(q);
    return NULL;
}

static void *call_thread(void *opaque) {
    struct disk *d = opaque;
    for (unsigned n = 0; n < 150; n++) {
        unsigned slot = next_number(d, d->slots);
        uint64_t at = (uint64_t)(d->first + slot) * SLOT;
        write_fill(d->image, at, SLOT, (int)n & 255);
        memset(d->model + at, (int)n & 255, SLOT);
        if (n % 16 == 0)
            assert_int_equal(img_flush(d->image, NULL), 0);
    }
    return NULL;
}

/* Eight queues and eight threads of ordinary calls over a cache of 16 slices. */
static void test_many(void **state) {
    (void)state;
    sh("qemu-img create -q -f qcow2 -o cluster_size=512 image 4M");
    struct img *image = open_with("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE, .l2_cache = 16 * 512});
    struct disk disks[2 * QUEUES];
    pthread_t threads[2 * QUEUES];
    uint8_t *model = calloc(1, SIZE), *now = malloc(SIZE);
    for (unsigned i = 0; i < 2 * QUEUES; i++) {
        make_disk(&disks[i], image, i + 1, i * (SLOTS / (2 * QUEUES)), SLOTS / (2 * QUEUES));
        disks[i].model = model;
        assert_int_equal(pthread_create(&threads[i], NULL, i % 2 ? call_thread : queue_thread, &disks[i]), 0);
    }
    for (unsigned i = 0; i < 2 * QUEUES; i++) {
        pthread_join(threads[i], NULL);
        free(disks[i].work);
    }
    assert_int_equal(img_pread(image, now, SIZE, 0, &err), 0);
    assert_memory_equal(now, model, SIZE);
    close_image(image);
    sh("qemu-img check -q image");
    free(model);
    free(now);
}

/* ---- the rest ---------- */

static void test_errors(void **state) {
    (void)state;
    make_kind(2);
    struct img *image = open_flags("image", 0);
    uint8_t byte = 1;
    struct iovec iov = {&byte, 1};
    for (unsigned way = 0; way < 2; way++) {
        struct img_queue *q = queue_of(image, ways[way]);
        one(q, &(struct img_io){.op = IMG_IO_READ, .iov = &iov, .niov = 1, .offset = MIB, .cookie = 5}, -EINVAL);
        one(q, &(struct img_io){.op = IMG_IO_WRITE, .iov = &iov, .niov = 1, .cookie = 6}, -EBADF);
        one(q, &(struct img_io){.op = IMG_IO_ZERO, .flags = 2, .length = 1}, -EINVAL);
        one(q, &(struct img_io){.op = (enum img_io_op)9}, -EINVAL);
        one(q, &(struct img_io){.op = IMG_IO_FLUSH}, 0);
        one(q, &(struct img_io){.op = IMG_IO_READ, .offset = MIB}, 0);
        assert_int_equal(img_queue_cancel(q, 77), -ENOENT);
        assert_int_equal(img_queue_wait(q, 20), -ETIME);
        img_queue_destroy(q);
    }
    close_image(image);
    struct img_queue *q;
    image = open_flags("image", IMG_OPEN_INFO);
    assert_int_equal(img_queue_create(image, NULL, &q, &err), -EBADF);
    close_image(image);
}

static void test_guarded(void **state) {
    (void)state;
    sh("truncate -s 1M image");
    struct img *image = open_with("image", &(struct img_open_options){.flags = IMG_OPEN_WRITE});
    struct iovec bad = {(char[]){"QFI\xfb"}, 4}, good = {(char[]){"abcd"}, 4};
    struct img_queue *q = queue_of(image, 0);
    one(q, &(struct img_io){.op = IMG_IO_WRITE, .iov = &bad, .niov = 1}, -EPERM);
    one(q, &(struct img_io){.op = IMG_IO_WRITE, .iov = &good, .niov = 1}, 0);
    img_queue_destroy(q);
    close_image(image);
}

/* The caller's own descriptor wakes the wait, again and again until it is read. */
static void test_watch(void **state) {
    (void)state;
    make_kind(1);
    struct img *image = open_flags("image", 0);
    for (unsigned way = 0; way < 2; way++) {
        struct img_queue *q = queue_of(image, ways[way]);
        struct img_completion c;
        int fd = eventfd(0, EFD_NONBLOCK);
        uint64_t count = 1;
        assert_int_equal(img_queue_watch(q, fd, 42), 0);
        assert_int_equal(img_queue_watch(q, fd, 42), -EEXIST);
        assert_int_equal(img_queue_wait(q, 10), -ETIME);
        assert_int_equal(write(fd, &count, 8), 8);
        for (unsigned i = 0; i < 2; i++) {
            assert_int_equal(img_queue_wait(q, 10000), 0);
            assert_int_equal(img_queue_reap(q, &c, 1), 1);
            assert_true(c.cookie == 42 && c.result & POLLIN);
        }
        assert_int_equal(read(fd, &count, 8), 8);
        if (img_queue_wait(q, 10) == 0) /* it was armed once more before the read */
            assert_int_equal(img_queue_reap(q, &c, 1), 1);
        assert_int_equal(img_queue_wait(q, 10), -ETIME);
        assert_int_equal(img_queue_unwatch(q, fd), 0);
        assert_int_equal(img_queue_unwatch(q, fd), -ENOENT);
        assert_int_equal(write(fd, &count, 8), 8);
        assert_int_equal(img_queue_wait(q, 10), -ETIME);
        img_queue_destroy(q);
        close(fd);
    }
    close_image(image);
}

struct drainer {
    struct img *image;
    atomic_int step;
};

static void *drain_and_wait(void *opaque) {
    struct drainer *d = opaque;
    assert_int_equal(img_drain(d->image, NULL), 0);
    atomic_store(&d->step, 1);
    while (atomic_load(&d->step) != 2)
        usleep(1000);
    img_resume(d->image);
    return NULL;
}

/* While the image is drained requests are held and can be cancelled; afterwards they go on. */
static void test_drained(void **state) {
    (void)state;
    make_kind(2);
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    for (unsigned way = 0; way < 2; way++) {
        struct img_queue *q = queue_of(image, ways[way]);
        struct drainer d = {.image = image};
        struct img_completion c;
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, drain_and_wait, &d), 0);
        while (atomic_load(&d.step) != 1)
            usleep(1000);
        struct iovec iov = {(char[]){"abc"}, 3};
        struct img_io ios[2] = {{.op = IMG_IO_WRITE, .iov = &iov, .niov = 1, .cookie = 1},
                                {.op = IMG_IO_WRITE, .iov = &iov, .niov = 1, .offset = 8, .cookie = 2}};
        assert_int_equal(img_queue_submit(q, ios, 2), 2);
        assert_int_equal(img_queue_wait(q, 20), -ETIME);
        assert_int_equal(img_queue_cancel(q, 1), 0);
        assert_int_equal(img_queue_reap(q, &c, 1), 1);
        assert_true(c.cookie == 1 && c.result == -ECANCELED);
        atomic_store(&d.step, 2);
        assert_int_equal(img_queue_wait(q, 10000), 0);
        assert_int_equal(img_queue_reap(q, &c, 1), 1);
        assert_true(c.cookie == 2 && c.result == 0);
        pthread_join(thread, NULL);
        img_queue_destroy(q);
    }
    close_image(image);
}

/* A loop that is not ours: the queue's descriptor says when to look. */
static void test_foreign_loop(void **state) {
    (void)state;
    make_kind(2);
    struct img *image = open_flags("image", IMG_OPEN_WRITE);
    for (unsigned way = 0; way < 2; way++) {
        struct img_queue *q = queue_of(image, ways[way]);
        for (unsigned n = 0; n < 20; n++) {
            struct img_io io = {.op = IMG_IO_FLUSH, .cookie = n};
            struct img_completion c;
            struct pollfd p = {.fd = img_queue_fd(q), .events = POLLIN};
            write_fill(image, n * 4096, 4096, 3);
            assert_int_equal(img_queue_submit(q, &io, 1), 1);
            while (img_queue_reap(q, &c, 1) == 0)
                assert_int_equal(poll(&p, 1, -1), 1); /* a time limit would look again, and hide that nobody woke it */
            assert_true(c.cookie == n && c.result == 0);
        }
        img_queue_destroy(q);
    }
    close_image(image);
}

static void test_limits(void **state) {
    (void)state;
    make_kind(1);
    struct img *image = open_flags("image", 0);
    struct img_queue *queues[IMG_QUEUES_MAX], *one_more;
    for (unsigned i = 0; i < IMG_QUEUES_MAX; i++)
        queues[i] = queue_of(image, IMG_QUEUE_THREADS);
    assert_int_equal(img_queue_create(image, NULL, &one_more, &err), -EBUSY);
    img_queue_destroy(queues[0]);
    queues[0] = queue_of(image, 0);
    for (unsigned i = 0; i < IMG_QUEUES_MAX; i++)
        img_queue_destroy(queues[i]);
    assert_int_equal(img_queue_create(image, &(struct img_queue_options){.depth = 5000}, &one_more, &err), -EINVAL);
    close_image(image);
}

#define IO(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        IO(test_random), IO(test_many),    IO(test_errors),       IO(test_guarded),
        IO(test_watch),  IO(test_drained), IO(test_foreign_loop), IO(test_limits),
    };
    return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
