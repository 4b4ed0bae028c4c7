// SPDX-License-Identifier: GPL-3.0-or-later
/* queue.c - random requests of 4 KiB through one queue, as fast as one thread can: what bench/run compares with fio.
 *
 *   queue read|write IMAGE FORMAT DEPTH COUNT
 *
 * Each block of the disk is asked for at most once, in the order of a full-period generator. Written blocks hold their
 * own number; they are read back and compared afterwards, outside of the time. The closing flush is inside. Prints
 * requests a second.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "img.h"

enum { BLOCK = 4096, MOST = 1024 };

static void fail(const char *what, const struct img_error *err) {
    fprintf(stderr, "%s: %s\n", what, err->text);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The next of all numbers below a power of two, each once in a period. */
static uint64_t next_block(uint64_t block, uint64_t blocks) {
    return (block * 5 + 12345) & (blocks - 1);
}

static void run(struct img_queue *q, enum img_io_op op, uint8_t *buffers, unsigned depth, uint64_t count,
                uint64_t blocks) {
    static struct img_io ios[MOST];
    static struct iovec iovs[MOST];
    struct img_completion done[MOST];
    unsigned free_slots[MOST], nfree = depth;
    uint64_t block = 1, begun = 0, ended = 0;
    for (unsigned i = 0; i < depth; i++)
        free_slots[i] = i;
    while (ended < count) {
        unsigned n = 0;
        struct img_io batch[MOST];
        while (nfree && begun < count) {
            unsigned slot = free_slots[--nfree];
            block = next_block(block, blocks);
            iovs[slot] = (struct iovec){buffers + (size_t)slot * BLOCK, BLOCK};
            if (op == IMG_IO_WRITE)
                memcpy(iovs[slot].iov_base, &block, sizeof block);
            ios[slot] =
                (struct img_io){.op = op, .iov = &iovs[slot], .niov = 1, .offset = block * BLOCK, .cookie = slot};
            batch[n++] = ios[slot];
            begun++;
        }
        if (n && img_queue_submit(q, batch, n) != n)
            fail("submit", img_queue_error(q));
        unsigned k;
        while ((k = img_queue_reap(q, done, MOST)) == 0)
            if (img_queue_wait(q, -1))
                fail("wait", img_queue_error(q));
        for (unsigned i = 0; i < k; i++) {
            if (done[i].result)
                fail("request", img_queue_error(q));
            free_slots[nfree++] = (unsigned)done[i].cookie;
        }
        ended += k;
    }
}

static void verify(struct img *image, uint64_t count, uint64_t blocks) {
    struct img_error err = {0};
    uint64_t block = 1, found;
    for (uint64_t i = 0; i < count; i++) {
        block = next_block(block, blocks);
        if (img_pread(image, &found, sizeof found, block * BLOCK, &err))
            fail("read back", &err);
        if (found != block) {
            fprintf(stderr, "block %llu holds %llu\n", (unsigned long long)block, (unsigned long long)found);
            exit(1);
        }
    }
}

int main(int argc, char **argv) {
    struct img_error err = {0};
    struct img *image;
    struct img_queue *q;
    if (argc != 6) {
        fprintf(stderr, "usage: queue read|write IMAGE FORMAT DEPTH COUNT\n");
        return 1;
    }
    enum img_io_op op = strcmp(argv[1], "write") ? IMG_IO_READ : IMG_IO_WRITE;
    unsigned depth = (unsigned)strtoul(argv[4], NULL, 0);
    uint64_t count = strtoull(argv[5], NULL, 0), blocks = 1;
    struct img_open_options options = {.flags = op == IMG_IO_WRITE ? IMG_OPEN_WRITE : 0, .format = argv[3]};
    if (img_open(argv[2], &options, &image, &err))
        fail(argv[2], &err);
    while (blocks * 2 <= img_size(image) / BLOCK)
        blocks *= 2;
    uint8_t *buffers = aligned_alloc(BLOCK, (size_t)MOST * BLOCK);
    if (!buffers || !depth || depth > MOST || count > blocks ||
        img_queue_create(image, &(struct img_queue_options){.depth = depth}, &q, &err))
        fail("queue", &err);
    memset(buffers, 1, (size_t)MOST * BLOCK);
    double start = now();
    run(q, op, buffers, depth, count, blocks);
    if (op == IMG_IO_WRITE && img_flush(image, &err))
        fail("flush", &err);
    double took = now() - start;
    img_queue_destroy(q);
    if (op == IMG_IO_WRITE)
        verify(image, count, blocks);
    free(buffers);
    if (img_close(image, &err))
        fail("close", &err);
    printf("%.0f\n", (double)count / took);
    return 0;
}
