/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_direct.c - O_DIRECT for callers who know nothing of blocks: every alignment against a byte array, the end of the
 * file, and the races in which a rewrite of a block could undo somebody else's write.
 *
 * Each runs with the block that the file system has and with one of 4 KiB, where more neighbours meet.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "scratch.h"

#define KIB 1024u
#define THREADS 4

static struct storage *open_direct(const char *path, size_t block) {
    struct storage *s = open_storage(path, IMG_OPEN_WRITE, IMG_CACHE_NONE);
    struct file *f = file_of(s);
    if (!f->direct) {
        storage_close(s);
        print_message("no O_DIRECT on this file system\n");
        skip();
    }
    assert_true(fcntl(f->fd, F_GETFL) & O_DIRECT);
    assert_true(f->block >= f->memory_align && f->block <= 64 * KIB);
    if (f->block < block)
        f->block = f->memory_align = block;
    return s;
}

/* What everybody else sees in the file. */
static void assert_file_is(const char *path, const uint8_t *expected, size_t length) {
    assert_int_equal(scratch_length(path), length);
    struct storage *s = open_storage(path, IMG_OPEN_UNLOCKED, IMG_CACHE_WRITEBACK);
    assert_reads(s, 0, expected, length);
    storage_close(s);
}

/* ---- one thread: every alignment ---- */

enum { MODEL = 96 * 1024 };

static void random_requests(size_t block, uint64_t seed) {
    uint8_t *model = calloc(1, MODEL + 1), *data = aligned_alloc(4096, 2 * MODEL);
    char *path = scratch_file("direct.img", "", 0, 0);
    struct storage *s = open_direct(path, block);
    size_t length = 0;
    for (int round = 0; round < 300; round++) {
        size_t grain = (size_t[]){1, 512, 4096}[random_next(&seed) % 3];
        size_t offset = random_next(&seed) % MODEL / grain * grain;
        size_t count = random_next(&seed) % ((MODEL - offset) / grain + 1) / (round % 4 + 1) * grain;
        size_t skew = random_next(&seed) % 2 * (random_next(&seed) % 4096 / grain * grain);
        size_t cut = count / 2 / grain * grain;
        struct iovec iov[2] = {{data + skew, cut}, {data + skew + cut, count - cut}};
        switch (random_next(&seed) % 8) {
        case 0:
        case 1:
        case 2:
            random_fill(&seed, data + skew, count);
            assert_int_equal(storage_writev(s, iov, 2, offset), 0);
            memcpy(model + offset, data + skew, count);
            length = count > 0 && length < offset + count ? offset + count : length;
            break;
        case 3:
            assert_int_equal(storage_zero(s, offset, count, round % 2), 0);
            memset(model + offset, 0, count);
            length = count > 0 && length < offset + count ? offset + count : length;
            break;
        case 4:
            if (offset < length) {
                assert_int_equal(s->ops->truncate(s, offset), 0);
                memset(model + offset, 0, MODEL - offset);
                length = offset;
            }
            break;
        default:
            memset(data, 0x5a, 2 * MODEL);
            assert_int_equal(storage_readv(s, iov, 2, offset), 0);
            assert_memory_equal(data + skew, model + offset, count);
            assert_int_equal(data[skew + count], 0x5a);
        }
        assert_int_equal(storage_size(s), length);
        assert_int_equal(scratch_length(path), length);
    }
    storage_close(s);
    assert_file_is(path, model, length);
    free(path);
    free(model);
    free(data);
}

static void every_alignment(void **state) {
    (void)state;
    random_requests(0, 5);
    random_requests(4096, 6);
    random_requests(64 * KIB, 7);
}

static void the_end_is_not_moved(void **state) {
    (void)state;
    uint8_t model[12 * KIB] = {0};
    memset(model, 'a', 1000);
    char *path = scratch_file("tail.img", model, 1000, 1000);
    struct storage *s = open_direct(path, 4096);
    assert_reads(s, 0, model, 1000);
    assert_reads_zero(s, 1000, 5000);
    memset(model + 10, 'b', 5);
    assert_int_equal(storage_write(s, model + 10, 5, 10), 0);
    assert_file_is(path, model, 1000);
    memset(model + 998, 'c', 4);
    assert_int_equal(storage_write(s, model + 998, 4, 998), 0);
    assert_file_is(path, model, 1002);
    memset(model + 9000, 'd', 1);
    assert_int_equal(storage_write(s, model + 9000, 1, 9000), 0);
    assert_file_is(path, model, 9001);
    assert_int_equal(s->ops->punch(s, 0, 100000), 0);
    memset(model, 0, sizeof model);
    assert_file_is(path, model, 9001);
    storage_close(s);
    free(path);
}

/* A read that fails inside a rewrite must fail the write and leave the block alone: a descriptor that cannot read. */
static void failed_read_fails_the_write(void **state) {
    (void)state;
    uint8_t model[8 * KIB];
    memset(model, 'm', sizeof model);
    char *path = scratch_file("unreadable.img", model, sizeof model, sizeof model);
    struct storage *s = open_direct(path, 4096);
    int fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
    assert_true(fd >= 0 && dup2(fd, file_of(s)->fd) >= 0);
    assert_int_equal(storage_write(s, "xyz", 3, 100), -EBADF);
    uint8_t *block = aligned_alloc(4096, 4096);
    memset(block, 'w', 4096);
    assert_int_equal(storage_write(s, block, 4096, 4096), 0);
    memset(model + 4096, 'w', 4096);
    close(fd);
    storage_close(s);
    assert_file_is(path, model, sizeof model);
    free(block);
    free(path);
}

/* ---- threads ---- */

struct job {
    struct storage *s;
    uint8_t *model;
    int number;
    size_t size;
    _Atomic int *stop;
    _Atomic long *count;
};

static void run_threads(struct job *jobs, int count, void *(*body)(void *)) {
    pthread_t threads[8];
    for (int i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, body, &jobs[i]), 0);
    const char *bad = NULL;
    for (int i = 0; i < count; i++) {
        void *result;
        pthread_join(threads[i], &result);
        bad = result != NULL ? result : bad;
    }
    if (bad != NULL)
        fail_msg("%s", bad);
}

#define STRIPE 100

/* Writes only its own stripes, which share blocks with everybody else's, and sees its own bytes unharmed. */
static void *write_stripes(void *argument) {
    struct job *job = argument;
    uint64_t seed = 77 + (uint64_t)job->number;
    uint8_t seen[STRIPE];
    for (int i = 0; i < 250; i++) {
        size_t stripe = random_next(&seed) % (job->size / STRIPE / THREADS) * THREADS + (size_t)job->number;
        size_t from = random_next(&seed) % STRIPE, count = 1 + random_next(&seed) % (STRIPE - from);
        size_t offset = stripe * STRIPE + from;
        random_fill(&seed, job->model + offset, count);
        if (storage_write(job->s, job->model + offset, count, offset) < 0)
            return "write failed";
        stripe = random_next(&seed) % (job->size / STRIPE / THREADS) * THREADS + (size_t)job->number;
        if (storage_read(job->s, seen, STRIPE, stripe * STRIPE) < 0)
            return "read failed";
        if (memcmp(seen, job->model + stripe * STRIPE, STRIPE) != 0)
            return "its own bytes were changed by a neighbour";
    }
    return NULL;
}

static void neighbours(size_t block, size_t start_length) {
    enum { SIZE = 40 * STRIPE * THREADS };
    uint8_t *model = calloc(1, SIZE);
    struct job jobs[THREADS];
    char *path = scratch_file("stripes.img", model, start_length, start_length);
    struct storage *s = open_direct(path, block);
    for (int i = 0; i < THREADS; i++)
        jobs[i] = (struct job){.s = s, .model = model, .number = i, .size = SIZE};
    run_threads(jobs, THREADS, write_stripes);
    uint64_t length = storage_size(s);
    storage_close(s);
    assert_true(length <= SIZE);
    assert_file_is(path, model, length);
    assert_true(img_is_zero(model + length, SIZE - length));
    free(model);
    free(path);
}

static void neighbours_in_one_block(void **state) {
    (void)state;
    neighbours(0, 40 * STRIPE * THREADS);
    neighbours(4096, 40 * STRIPE * THREADS);
    neighbours(4096, 0);
    neighbours(64 * KIB, 1);
}

/* Rewrites the first bytes of one block, again and again. */
static void *rewrite_head(void *argument) {
    struct job *job = argument;
    while (!atomic_load(job->stop)) {
        uint8_t byte = (uint8_t)atomic_fetch_add(job->count, 1);
        if (storage_write(job->s, &byte, 1, (uint64_t)job->number) < 0) {
            return "rewrite failed";
        }
    }
    return NULL;
}

/* Writes the whole block, or zeroes a part of it, and must find that in place afterwards. */
static const char *whole_writes(struct storage *s, _Atomic long *rewrites) {
    enum { HEAD = 16, BLOCK = 4096 };
    uint8_t *block = aligned_alloc(BLOCK, BLOCK), *seen = aligned_alloc(BLOCK, BLOCK);
    const char *bad = NULL;
    for (int i = 1; i <= 4000 && bad == NULL && (i <= 300 || atomic_load(rewrites) < 300); i++) {
        memset(block, i & 0x7f, BLOCK);
        if (storage_write(s, block, BLOCK, 0) < 0)
            bad = "write failed";
        if (i % 3 == 0) {
            memset(block + 1024, 0, 1024);
            if (storage_zero(s, 1024, 1024, i % 2) < 0)
                bad = "zero failed";
        }
        if (storage_read(s, seen, BLOCK, 0) < 0)
            bad = "read failed";
        if (bad == NULL && memcmp(seen + HEAD, block + HEAD, BLOCK - HEAD) != 0)
            bad = "an acknowledged write of the whole block was undone";
    }
    free(block);
    free(seen);
    return bad;
}

static void rewrites_beside_whole_writes(void **state) {
    (void)state;
    uint8_t zeroes[8 * KIB] = {0};
    char *path = scratch_file("race.img", zeroes, sizeof zeroes, sizeof zeroes);
    struct storage *s = open_direct(path, 4096);
    _Atomic int stop = 0;
    _Atomic long rewrites = 0;
    struct job jobs[2];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        jobs[i] = (struct job){.s = s, .number = i, .stop = &stop, .count = &rewrites};
        assert_int_equal(pthread_create(&threads[i], NULL, rewrite_head, &jobs[i]), 0);
    }
    const char *bad = whole_writes(s, &rewrites);
    atomic_store(&stop, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    storage_close(s);
    free(path);
    if (bad != NULL)
        fail_msg("%s", bad);
}

/* Others append whole blocks while the block at the old end, whose length is restored after each write, is rewritten.
 */
static void *append_blocks(void *argument) {
    struct job *job = argument;
    uint8_t *block = aligned_alloc(4096, 4096);
    memset(block, 0x40 + job->number, 4096);
    const char *bad = NULL;
    for (uint64_t i = 0; i < 60 && bad == NULL; i++)
        if (storage_write(job->s, block, 4096, 4096 * (1 + 2 * i + (uint64_t)job->number)) < 0)
            bad = "append failed";
    free(block);
    return (void *)bad;
}

static void *rewrite_tail(void *argument) {
    struct job *job = argument;
    uint8_t byte = 0x40;
    for (int i = 0; i < 200; i++)
        if (storage_write(job->s, &byte, 1, (uint64_t)(i % 900)) < 0)
            return "rewrite failed";
    return NULL;
}

static void *append_or_rewrite(void *argument) {
    struct job *job = argument;
    return job->number < 2 ? append_blocks(job) : rewrite_tail(job);
}

static void appends_beside_the_old_end(void **state) {
    (void)state;
    enum { BLOCKS = 1 + 120 };
    uint8_t *model = calloc(BLOCKS, 4096);
    for (int round = 0; round < 4; round++) {
        char *path = scratch_file("append.img", model, 1000, 1000);
        struct storage *s = open_direct(path, 4096);
        struct job jobs[3];
        for (int i = 0; i < 3; i++)
            jobs[i] = (struct job){.s = s, .number = i};
        run_threads(jobs, 3, append_or_rewrite);
        memset(model, 0, 4096);
        for (int i = 0; i < 200; i++)
            model[i] = 0x40;
        for (size_t i = 1; i < BLOCKS; i++)
            memset(model + i * 4096, i % 2 ? 0x40 : 0x41, 4096);
        assert_int_equal(storage_size(s), BLOCKS * 4096);
        storage_close(s);
        assert_file_is(path, model, (size_t)BLOCKS * 4096);
        memset(model, 0, (size_t)BLOCKS * 4096);
        free(path);
    }
    free(model);
}

/* ---- the lock on ranges by itself ---- */

struct cells {
    struct rangelock *lock;
    long values[64]; /* one for each MiB; only the lock guards them */
};

struct walker {
    struct cells *cells;
    uint64_t seed;
};

/* Exclusive holders change all cells of their range, shared ones find them unchanged while they hold. */
static void *walk(void *argument) {
    struct walker *w = argument;
    for (int i = 0; i < 20000; i++) {
        uint64_t from = random_next(&w->seed) % 64, to = from + 1 + random_next(&w->seed) % (i % 50 ? 4 : 64 - from);
        bool exclusive = random_next(&w->seed) % 3 == 0;
        to = to > 64 ? 64 : to;
        struct range_hold hold;
        rangelock_acquire(w->cells->lock, &hold, from << 20, i % 100 == 0 ? UINT64_MAX : to << 20, exclusive);
        long *first = &w->cells->values[from];
        long before = *first;
        for (uint64_t c = from; c < to && exclusive; c++)
            w->cells->values[c]++;
        bool same = *first == before + exclusive;
        rangelock_release(w->cells->lock, &hold);
        if (!same)
            return "somebody changed it under a lock";
    }
    return NULL;
}

static void ranges_exclude_each_other(void **state) {
    (void)state;
    struct cells cells = {.lock = rangelock_new()};
    struct walker walkers[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        walkers[i] = (struct walker){&cells, 99 + (uint64_t)i};
        pthread_create(&threads[i], NULL, walk, &walkers[i]);
    }
    long changes = 0, counted = 0;
    for (int i = 0; i < THREADS; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
    /* The same walks without a lock count what the cells must hold: a lost increment is a failed exclusion. */
    for (int i = 0; i < THREADS; i++) {
        uint64_t seed = 99 + (uint64_t)i;
        for (int n = 0; n < 20000; n++) {
            uint64_t from = random_next(&seed) % 64, to = from + 1 + random_next(&seed) % (n % 50 ? 4 : 64 - from);
            bool exclusive = random_next(&seed) % 3 == 0;
            to = to > 64 ? 64 : to;
            counted += exclusive ? (long)(to - from) : 0;
        }
    }
    for (int c = 0; c < 64; c++)
        changes += cells.values[c];
    assert_int_equal(changes, counted);
    rangelock_free(cells.lock);
}

static void a_try_leaves_nothing_behind(void **state) {
    (void)state;
    struct rangelock *lock = rangelock_new();
    struct range_hold second, tried, all;
    const uint64_t shard = RANGELOCK_SHARD_BYTES;
    rangelock_acquire(lock, &second, shard, shard + 1, true);
    assert_false(rangelock_try(lock, &tried, shard - 1, shard + 1)); /* the first of two shards it could have */
    rangelock_release(lock, &second);
    rangelock_acquire(lock, &all, 0, UINT64_MAX, true);
    assert_false(rangelock_try(lock, &tried, 5, 6));
    rangelock_release(lock, &all);
    assert_true(rangelock_try(lock, &tried, 5, 6));
    assert_true(rangelock_try(lock, &second, 0, shard + 6)); /* both shared */
    rangelock_release(lock, &tried);
    rangelock_release(lock, &second);
    rangelock_acquire(lock, &all, 0, UINT64_MAX, true);
    rangelock_release(lock, &all);
    rangelock_free(lock);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_alignment),
        cmocka_unit_test(the_end_is_not_moved),
        cmocka_unit_test(failed_read_fails_the_write),
        cmocka_unit_test(neighbours_in_one_block),
        cmocka_unit_test(rewrites_beside_whole_writes),
        cmocka_unit_test(appends_beside_the_old_end),
        cmocka_unit_test(ranges_exclude_each_other),
        cmocka_unit_test(a_try_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
