// SPDX-License-Identifier: GPL-3.0-or-later
/* queue.c - random requests of 4 KiB through one queue, which bench/queue_bench.py compares with fio and others.
 *
 *   queue [options] read|write IMAGE
 *     -f FORMAT   of the image (qcow2); `none`: no engine, pread(2) and pwrite(2) on the file
 *     -d DEPTH    requests at once (32)
 *     -c COUNT    requests (one for each block)
 *     -s BYTES    size of a block's place (4096): 65536 writes one block in each cluster
 *     -p PIECES   the places lie in so many pieces, spread evenly over the disk (1: all of it)
 *     -w BYTES    bytes in all pieces together (the disk)
 *     -t          threads instead of io_uring
 *     -u          past the page cache (O_DIRECT)
 *     -n          does not look at what it wrote or read
 *
 * Each place is asked for at most once, in an order without order. Written blocks begin and end with their number; a
 * read looks for it, and after writes every block is read back whole, outside of the time. The closing flush is inside.
 * Prints requests a second, nanoseconds for each, and the MiB by which the memory grew from before the image was opened
 * to its peak.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "img.h"

enum { BLOCK = 4096, MOST = 1024 };

struct bench {
    const char *format;
    enum img_io_op op;
    unsigned depth;
    uint64_t count, place, pieces, bytes; /* requests; sizes of a place, number and size of pieces together */
    uint64_t distance;                    /* between the pieces */
    unsigned bits;                        /* places are 1 << bits */
    bool threads, direct, looks;
    uint8_t *buffers;
};

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* KiB in a line of this process' status. */
static long memory(const char *name) {
    char line[256];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name)))
            kib = strtol(line + strlen(name), NULL, 10);
    if (f)
        fclose(f);
    return kib;
}

/* Where the request with this number goes: a one-to-one mapping of the numbers below a power of two. */
static uint64_t offset_of(const struct bench *b, uint64_t number) {
    uint64_t mask = (1ull << b->bits) - 1, per_piece = (mask + 1) / b->pieces, x = number;
    for (int i = 0; i < 2; i++) {
        x = (x * 0x9e3779b97f4a7c15ull) & mask;
        x ^= x >> (b->bits + 1) / 2;
    }
    return x / per_piece * b->distance + x % per_piece * b->place;
}

static void mark(uint8_t *buffer, uint64_t offset) {
    memcpy(buffer, &offset, sizeof offset);
    memcpy(buffer + BLOCK - sizeof offset, &offset, sizeof offset);
}

static void look(const uint8_t *buffer, uint64_t offset, bool whole) {
    uint8_t wanted[BLOCK];
    bool same = !memcmp(buffer, &offset, sizeof offset);
    if (whole) {
        memset(wanted, 1, sizeof wanted);
        mark(wanted, offset);
        same = !memcmp(buffer, wanted, BLOCK);
    }
    if (same)
        return;
    fprintf(stderr, "the block at %llu does not hold what was written\n", (unsigned long long)offset);
    exit(1);
}

/* ---- without the engine ---- */

static void run_bare(const struct bench *b, int fd) {
    for (uint64_t i = 0; i < b->count; i++) {
        uint64_t offset = offset_of(b, i);
        if (b->op == IMG_IO_WRITE)
            mark(b->buffers, offset);
        ssize_t n = b->op == IMG_IO_WRITE ? pwrite(fd, b->buffers, BLOCK, (off_t)offset)
                                          : pread(fd, b->buffers, BLOCK, (off_t)offset);
        if (n != BLOCK)
            fail("request", strerror(errno));
        if (b->op == IMG_IO_READ && b->looks)
            look(b->buffers, offset, false);
    }
    if (b->op == IMG_IO_WRITE && fdatasync(fd) < 0)
        fail("flush", strerror(errno));
}

/* ---- through a queue ---- */

static void run(const struct bench *b, struct img_queue *q) {
    static struct iovec iovs[MOST];
    struct img_io batch[MOST];
    struct img_completion done[MOST];
    uint64_t begun = 0, ended = 0, offsets[MOST];
    unsigned free_slots[MOST], nfree = b->depth;
    for (unsigned i = 0; i < b->depth; i++) {
        free_slots[i] = i;
        iovs[i] = (struct iovec){b->buffers + (size_t)i * BLOCK, BLOCK};
    }
    while (ended < b->count) {
        unsigned n = 0;
        for (; nfree && begun < b->count; begun++) {
            unsigned slot = free_slots[--nfree];
            offsets[slot] = offset_of(b, begun);
            if (b->op == IMG_IO_WRITE)
                mark(iovs[slot].iov_base, offsets[slot]);
            batch[n++] =
                (struct img_io){.op = b->op, .iov = &iovs[slot], .niov = 1, .offset = offsets[slot], .cookie = slot};
        }
        if (n && img_queue_submit(q, batch, n) != n)
            fail("submit", img_queue_error(q)->text);
        unsigned k;
        while ((k = img_queue_reap(q, done, MOST)) == 0)
            if (img_queue_wait(q, -1))
                fail("wait", img_queue_error(q)->text);
        for (unsigned i = 0; i < k; i++) {
            unsigned slot = (unsigned)done[i].cookie;
            if (done[i].result)
                fail("request", img_queue_error(q)->text);
            if (b->op == IMG_IO_READ && b->looks)
                look(iovs[slot].iov_base, offsets[slot], false);
            free_slots[nfree++] = slot;
        }
        ended += k;
    }
}

static void verify(const struct bench *b, struct img *image) {
    struct img_error err = {0};
    for (uint64_t i = 0; i < b->count; i++) {
        uint64_t offset = offset_of(b, i);
        if (img_pread(image, b->buffers, BLOCK, offset, &err))
            fail("read back", err.text);
        look(b->buffers, offset, true);
    }
}

/* ---- all ---- */

static void options(struct bench *b, int argc, char **argv) {
    for (int c; (c = getopt(argc, argv, "f:d:c:s:p:w:tun")) != -1;) {
        uint64_t value = optarg ? strtoull(optarg, NULL, 0) : 0;
        switch (c) {
        case 'f':
            b->format = optarg;
            break;
        case 'd':
            b->depth = (unsigned)value;
            break;
        case 'c':
            b->count = value;
            break;
        case 's':
            b->place = value;
            break;
        case 'p':
            b->pieces = value;
            break;
        case 'w':
            b->bytes = value;
            break;
        case 't':
            b->threads = true;
            break;
        case 'u':
            b->direct = true;
            break;
        case 'n':
            b->looks = false;
            break;
        default:
            fail("usage", "queue [options] read|write IMAGE (see the head of bench/queue.c)");
        }
    }
    if (argc - optind != 2 || b->depth < 1 || b->depth > MOST || b->place < BLOCK || !b->pieces)
        fail("usage", "queue [options] read|write IMAGE (see the head of bench/queue.c)");
    b->op = strcmp(argv[optind], "write") ? IMG_IO_READ : IMG_IO_WRITE;
}

static void lay_out(struct bench *b, uint64_t size) {
    uint64_t bytes = b->bytes ? b->bytes : size;
    while (2ull << b->bits <= bytes / b->place)
        b->bits++;
    b->distance = size / b->pieces / b->place * b->place;
    if (!b->count)
        b->count = 1ull << b->bits;
    if (bytes > size || b->count > 1ull << b->bits || b->pieces > 1ull << b->bits || b->pieces & (b->pieces - 1))
        fail("layout", "so many places, or pieces, there are not");
}

static double bare(struct bench *b, const char *path) {
    struct stat st;
    int fd = open(path, (b->op == IMG_IO_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        fail(path, strerror(errno));
    lay_out(b, (uint64_t)st.st_size);
    double start = now();
    run_bare(b, fd);
    double took = now() - start;
    close(fd);
    return took;
}

static double queued(struct bench *b, const char *path) {
    struct img_error err = {0};
    struct img *image;
    struct img_queue *q;
    struct img_open_options open = {.flags = b->op == IMG_IO_WRITE ? IMG_OPEN_WRITE : 0,
                                    .format = b->format,
                                    .cache = b->direct ? IMG_CACHE_NONE : IMG_CACHE_WRITEBACK};
    if (img_open(path, &open, &image, &err))
        fail(path, err.text);
    lay_out(b, img_size(image));
    struct img_queue_options how = {.depth = b->depth, .flags = b->threads ? IMG_QUEUE_THREADS : 0};
    if (img_queue_create(image, &how, &q, &err))
        fail("queue", err.text);
    double start = now();
    run(b, q);
    if (b->op == IMG_IO_WRITE && img_flush(image, &err))
        fail("flush", err.text);
    double took = now() - start;
    img_queue_destroy(q);
    if (b->op == IMG_IO_WRITE && b->looks)
        verify(b, image);
    if (img_close(image, &err))
        fail("close", err.text);
    return took;
}

int main(int argc, char **argv) {
    struct bench b = {.format = "qcow2", .depth = 32, .place = BLOCK, .pieces = 1, .looks = true};
    options(&b, argc, argv);
    b.buffers = aligned_alloc(BLOCK, (size_t)b.depth * BLOCK);
    if (!b.buffers)
        fail("buffers", strerror(ENOMEM));
    memset(b.buffers, 1, (size_t)b.depth * BLOCK);
    long before = memory("VmRSS:");
    double took = strcmp(b.format, "none") ? queued(&b, argv[optind + 1]) : bare(&b, argv[optind + 1]);
    printf("%.0f %.0f %.1f\n", (double)b.count / took, took / (double)b.count * 1e9,
           (double)(memory("VmHWM:") - before) / 1024);
    free(b.buffers);
    return 0;
}
