/* SPDX-License-Identifier: GPL-3.0-or-later */
/* request.c - one request of the test shell: made, moved by the queue, reported when it is done (shell.h).
 *
 * Every request is on the shell's list until it is freed. A completion is handled by whoever reaps it: it begins the
 * flush that may follow, or reports. One that somebody waits for is left to him then, any other frees itself.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../report.h"
#include "shell.h"

#define ALIGN 4096 /* of buffers, for O_DIRECT */
#define STDIN_COOKIE UINT64_MAX

struct io_request *io_request_new(enum img_io_op op, uint64_t offset, const uint64_t *lengths, int n, uint8_t fill) {
    struct io_request *r = memory(1, sizeof(*r));
    uint64_t total = 0;
    for (int i = 0; i < n; i++)
        total += lengths[i];
    r->op = op;
    r->offset = offset;
    r->length = total;
    r->niov = n;
    if (n == 0)
        return r;
    r->iov = memory((size_t)n, sizeof(*r->iov));
    r->buffer = aligned_alloc(ALIGN, (total + ALIGN) & ~(uint64_t)(ALIGN - 1));
    if (!r->buffer)
        out_of_memory();
    memset(r->buffer, fill, total);
    uint8_t *at = r->buffer;
    for (int i = 0; i < n; i++) {
        r->iov[i] = (struct iovec){at, lengths[i]};
        at += lengths[i];
    }
    return r;
}

void io_request_free(struct io_request *r) {
    if (r) {
        free(r->iov);
        free(r->buffer);
    }
    free(r);
}

bool io_inside(const struct shell *s, uint64_t offset, uint64_t length) {
    uint64_t size = img_size(s->image);
    return offset <= size && length <= size - offset;
}

/* ---- the report ---- */

static double seconds_since(const struct timespec *then) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - then->tv_sec) + (double)(now.tv_nsec - then->tv_nsec) / 1e9;
}

static void print_clock(double seconds) {
    unsigned long whole = (unsigned long)seconds;
    printf("%lu:%02lu:%02lu.%02u", whole / 3600, whole / 60 % 60, whole % 60,
           (unsigned)((seconds - (double)whole) * 100));
}

static void print_speed(const struct io_request *r) {
    double seconds = seconds_since(&r->begun), bytes = (double)r->length;
    char text[IO_TEXT_MAX], rate[IO_TEXT_MAX];
    if (seconds < 1e-9)
        seconds = 1e-9;
    if (r->machine) {
        printf("%" PRIu64 ",1,", r->length);
        print_clock(seconds);
        printf(",%.3f,%.3f\n", bytes / seconds, 1 / seconds);
        return;
    }
    printf("%s %" PRIu64 "/%" PRIu64 " bytes at offset %" PRIu64 "\n%s, 1 ops; ", r->verb, r->length, r->length,
           r->offset, io_bytes_text(bytes, text));
    if (seconds < 1)
        printf("00.%02u sec", (unsigned)(seconds * 100));
    else
        print_clock(seconds);
    printf(" (%s/sec and %.4f ops/sec)\n", io_bytes_text(bytes / seconds, rate), 1 / seconds);
}

static bool pattern_is_there(const struct io_request *r) {
    for (uint64_t i = 0; i < r->verify_length; i++)
        if (r->buffer[r->verify_from + i] != r->pattern)
            return false;
    return true;
}

void io_request_report(struct io_request *r, int result) {
    r->wrong = result < 0;
    if (result < 0) {
        printf("%s failed: %s\n", r->failing, strerror(-result));
        return;
    }
    if (r->verify && !pattern_is_there(r)) {
        printf("Pattern verification failed at offset %" PRIu64 ", %" PRIu64 " bytes\n", r->offset + r->verify_from,
               r->verify_length);
        r->wrong = true;
    }
    if (r->quiet)
        return;
    if (r->dump)
        io_dump(r->buffer, r->offset, r->length);
    print_speed(r);
}

/* ---- the queue ---- */

static void take_off(struct shell *s, struct io_request *r) {
    struct io_request **at = &s->requests;
    while (*at && *at != r)
        at = &(*at)->next;
    if (*at)
        *at = r->next;
}

static struct io_request *find(const struct shell *s, uint64_t cookie) {
    struct io_request *r = s->requests;
    while (r && r->cookie != cookie)
        r = r->next;
    return r;
}

static void end(struct shell *s, struct io_request *r, int result) {
    io_request_report(r, result);
    if (r->outcome)
        *r->outcome = (struct io_outcome){true, r->wrong};
    take_off(s, r);
    io_request_free(r);
}

static unsigned reap(struct shell *s);

/* There is room again when enough has been reaped. */
static void submit(struct shell *s, const struct img_io *io) {
    while (img_queue_submit(s->queue, io, 1) == 0)
        if (!reap(s))
            (void)img_queue_wait(s->queue, -1);
}

static void submit_flush(struct shell *s, struct io_request *r) {
    struct img_io io = {.op = IMG_IO_FLUSH, .cookie = r->cookie};
    r->flushing = true;
    submit(s, &io);
}

static void complete(struct shell *s, const struct img_completion *c) {
    struct io_request *r = find(s, c->cookie);
    if (!r) /* STDIN_COOKIE */
        return;
    if (c->result == 0 && r->durable && !r->flushing)
        submit_flush(s, r);
    else
        end(s, r, c->result);
}

static unsigned reap(struct shell *s) {
    struct img_completion done[16];
    unsigned n = img_queue_reap(s->queue, done, 16);
    for (unsigned i = 0; i < n; i++)
        complete(s, &done[i]);
    return n;
}

void io_reap(struct shell *s) {
    while (s->queue && reap(s) > 0)
        ;
}

/* QEMU has its own number for what lies outside, and moves nothing for an empty request. */
static bool ends_at_once(struct shell *s, struct io_request *r) {
    bool inside = io_inside(s, r->offset, r->length);
    if (r->op == IMG_IO_FLUSH || (inside && r->length))
        return false;
    end(s, r, inside ? 0 : -EIO);
    return true;
}

static void start(struct shell *s, struct io_request *r) {
    r->cookie = ++s->last_cookie;
    struct img_io io = {.op = r->op,
                        .flags = r->flags,
                        .iov = r->iov,
                        .niov = r->niov,
                        .offset = r->offset,
                        .length = r->length,
                        .cookie = r->cookie};
    r->next = s->requests;
    s->requests = r;
    clock_gettime(CLOCK_MONOTONIC, &r->begun);
    if (!ends_at_once(s, r))
        submit(s, &io);
}

void io_request_start(struct shell *s, struct io_request *r) {
    start(s, r);
    io_reap(s);
}

int io_request_run(struct shell *s, struct io_request *r) {
    struct io_outcome outcome = {false, false};
    r->outcome = &outcome;
    start(s, r);
    while (!outcome.done)
        if (!reap(s))
            (void)img_queue_wait(s->queue, -1);
    return outcome.wrong ? -1 : 0;
}

void io_drain(struct shell *s) {
    while (s->requests)
        if (!reap(s))
            (void)img_queue_wait(s->queue, -1);
}

void io_wait_readable(struct shell *s, int fd) {
    if (!s->requests || img_queue_watch(s->queue, fd, STDIN_COOKIE) < 0)
        return;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    while (s->requests && poll(&ready, 1, 0) == 0) {
        (void)img_queue_wait(s->queue, -1);
        io_reap(s);
        fflush(stdout);
    }
    (void)img_queue_unwatch(s->queue, fd);
}
