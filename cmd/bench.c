/* SPDX-License-Identifier: GPL-3.0-or-later */
/* bench.c - `img bench`: many equal requests through a queue, and how long they took.
 *
 * The requests go through the image from an offset in steps and begin again at its front. With a flush interval a
 * flush follows every so many requests that are done: after the queue has run empty, or beside the others with
 * --no-drain. What is written is a pattern; nothing is compared.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd.h"
#include "json.h"
#include "report.h"
#include "size.h"

#define MAX_DEPTH 4096 /* of a queue */
#define BATCH 64
#define ALIGN 4096
#define FLUSH_COOKIE UINT64_MAX

struct bench {
    const char *file, *format;
    struct common_options common;
    enum img_cache cache;
    unsigned count, depth, flush_interval, pattern;
    uint64_t offset, size, step; /* bytes */
    bool write, no_drain, native;
    uint32_t queue_flags;

    struct img_queue *queue;
    uint8_t *buffers;
    struct iovec *iov;     /* of each slot */
    unsigned *idle, nidle; /* slots that no request uses */
    uint64_t image_size, at;
    unsigned started, done; /* requests, flushes left out */
    unsigned flushes;       /* under way */
    bool flush_due;
    double seconds;
};

enum { OPT_NO_DRAIN = 400, OPT_PATTERN, OPT_FLUSH_INTERVAL };

static const struct option long_opts[] = {
    {"count", required_argument, NULL, 'c'},
    {"depth", required_argument, NULL, 'd'},
    {"format", required_argument, NULL, 'f'},
    {"aio", required_argument, NULL, 'i'},
    {"native", no_argument, NULL, 'n'},
    {"offset", required_argument, NULL, 'o'},
    {"buffer-size", required_argument, NULL, 's'},
    {"step-size", required_argument, NULL, 'S'},
    {"cache", required_argument, NULL, 't'},
    {"write", no_argument, NULL, 'w'},
    {"flush-interval", required_argument, NULL, OPT_FLUSH_INTERVAL},
    {"no-drain", no_argument, NULL, OPT_NO_DRAIN},
    {"pattern", required_argument, NULL, OPT_PATTERN},
    {"quiet", no_argument, NULL, 'q'},
    {"force-share", no_argument, NULL, 'U'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

/* ---- the requests ----------------------------------------------------------------------------- */

static void next_request(struct bench *b, struct img_io *io) {
    unsigned slot = b->idle[--b->nidle];
    *io = (struct img_io){
        .op = b->write ? IMG_IO_WRITE : IMG_IO_READ, .iov = &b->iov[slot], .niov = 1, .offset = b->at, .cookie = slot};
    b->at = (b->at + b->step) % b->image_size;
    b->started++;
}

static void start_flush(struct bench *b) {
    struct img_io io = {.op = IMG_IO_FLUSH, .cookie = FLUSH_COOKIE};
    if (img_queue_submit(b->queue, &io, 1) == 1) {
        b->flushes++;
        b->flush_due = false;
    }
}

/* As many as there is room for; none while the queue runs empty for a flush, and while that is under way. */
static void start_requests(struct bench *b) {
    if (b->flush_due && (b->no_drain || b->nidle == b->depth))
        start_flush(b);
    if (b->flush_due || (b->flushes > 0 && !b->no_drain))
        return;
    while (b->started < b->count && b->nidle > 0) {
        struct img_io ios[BATCH];
        unsigned n = 0;
        while (n < BATCH && b->started < b->count && b->nidle > 0)
            next_request(b, &ios[n++]);
        unsigned taken = img_queue_submit(b->queue, ios, n);
        for (unsigned i = n; i > taken; i--) { /* the queue is full: the last ones go back in order */
            b->idle[b->nidle++] = (unsigned)ios[i - 1].cookie;
            b->at = ios[i - 1].offset;
            b->started--;
        }
        if (taken < n)
            return;
    }
}

static bool finish(struct bench *b, const struct img_completion *completion) {
    if (completion->result < 0) {
        /* what lies behind the end is no other error to qemu-img */
        int code = completion->result == -EINVAL ? EIO : -completion->result;
        report("Failed %s: %s", completion->cookie == FLUSH_COOKIE ? "flush" : "request", strerror(code));
        return false;
    }
    if (completion->cookie == FLUSH_COOKIE) {
        b->flushes--;
        return true;
    }
    b->idle[b->nidle++] = (unsigned)completion->cookie;
    b->done++;
    if (b->flush_interval && b->done % b->flush_interval == 0)
        b->flush_due = true;
    return true;
}

static bool run_requests(struct bench *b) {
    while (b->done < b->count || b->flushes > 0 || b->flush_due) {
        struct img_completion completions[BATCH];
        start_requests(b);
        unsigned n = img_queue_reap(b->queue, completions, BATCH);
        for (unsigned i = 0; i < n; i++)
            if (!finish(b, &completions[i]))
                return false;
        if (n == 0 && img_queue_wait(b->queue, -1) < 0) {
            report("Failed request: %s", strerror(EIO));
            return false;
        }
    }
    return true;
}

/* ---- the whole -------------------------------------------------------------------------------- */

static void print_plan(const struct bench *b) {
    if (b->common.output == OUTPUT_JSON)
        return;
    printf("Sending %u %s requests, %" PRIu64 " bytes each, %u in parallel (starting at offset %" PRIu64
           ", step size %" PRIu64 ")\n",
           b->count, b->write ? "write" : "read", b->size, b->depth, b->offset, b->step);
    if (b->flush_interval)
        printf("Sending flush every %u requests\n", b->flush_interval);
    fflush(stdout);
}

static void print_result(const struct bench *b) {
    if (b->common.output == OUTPUT_HUMAN) {
        printf("Run completed in %3.3f seconds.\n", b->seconds);
        return;
    }
    json_t *o = json_new_object();
    json_put_text(o, "filename", b->file);
    json_put_text(o, "operation", b->write ? "write" : "read");
    json_put_number(o, "count", b->count);
    json_put_number(o, "buffer-size", b->size);
    json_put_number(o, "depth", b->depth);
    json_put_number(o, "offset", b->offset);
    json_put_number(o, "step-size", b->step);
    json_put_number(o, "flush-interval", b->flush_interval);
    json_put_bool(o, "io-uring", img_queue_has_ring(b->queue));
    json_put(o, "seconds", json_real(b->seconds));
    json_print(o);
}

/* Buffers of their own for all slots, so that no two requests write to the same memory. */
static bool make_slots(struct bench *b) {
    uint64_t each = (b->size + ALIGN - 1) / ALIGN * ALIGN, total;
    if (__builtin_mul_overflow(each, b->depth, &total) || total > SIZE_MAX ||
        posix_memalign((void **)&b->buffers, ALIGN, (size_t)total) != 0) {
        b->buffers = NULL;
        report("There is no memory for %u requests of %" PRIu64 " bytes", b->depth, b->size);
        return false;
    }
    memset(b->buffers, (int)b->pattern, (size_t)total);
    b->iov = memory(b->depth, sizeof(*b->iov));
    b->idle = memory(b->depth, sizeof(*b->idle));
    for (unsigned i = b->depth; i-- > 0;) {
        b->iov[i] = (struct iovec){b->buffers + each * i, (size_t)b->size};
        b->idle[b->nidle++] = i;
    }
    return true;
}

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static bool measure(struct bench *b, struct img *image) {
    struct img_queue_options options = {.depth = b->depth + 1, .flags = b->queue_flags};
    struct img_error err = {0};

    b->image_size = img_size(image);
    b->at = b->offset;
    if (b->image_size == 0 && b->count > 0) {
        report("'%s' has no bytes that could be read or written", b->file);
        return false;
    }
    if (!make_slots(b))
        return false;
    if (options.depth > MAX_DEPTH)
        options.depth = MAX_DEPTH;
    if (img_queue_create(image, &options, &b->queue, &err) < 0) {
        report_image_error(&err, "Could not start requests");
        return false;
    }
    print_plan(b);
    double start = now();
    bool good = run_requests(b);
    b->seconds = now() - start;
    if (good)
        print_result(b);
    img_queue_destroy(b->queue);
    return good;
}

static int bench(struct bench *b) {
    struct img_open_options options = {
        .flags = (b->write ? IMG_OPEN_WRITE : 0) | (b->common.force_share ? IMG_OPEN_FORCE_SHARE : 0),
        .cache = b->cache,
        .format = b->format,
    };
    struct img_error err = {0};

    if (b->native && b->cache != IMG_CACHE_NONE && b->cache != IMG_CACHE_DIRECTSYNC) {
        report(
            "Could not open '%s': aio=native was specified, but it requires cache.direct=on, which was not specified.",
            b->file);
        return EXIT_FAILURE;
    }
    struct img *image = open_image(b->file, &options);
    if (!image)
        return EXIT_FAILURE;
    bool good = measure(b, image);
    if (img_close(image, good ? &err : NULL) < 0 && good) {
        report_image_error(&err, "Could not close '%s'", b->file);
        good = false;
    }
    free(b->buffers);
    free(b->iov);
    free(b->idle);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- the command line ------------------------------------------------------------------------- */

/* parse_size_argument for what must not be 0. */
static bool set_size(const char *what, const char *text, uint64_t *size) {
    if (!parse_size_argument(what, text, INT_MAX, size))
        return false;
    if (*size == 0)
        report("Invalid %s specified. Must be between 1 and %d.", what, INT_MAX);
    return *size > 0;
}

/* A whole number in C's notation, as `what`; false after reporting. */
static bool set_number(const char *what, const char *text, unsigned long most, unsigned *number) {
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 0);
    if (end == text || *end || errno || value > most || strchr(text, '-')) {
        report("Invalid %s specified", what);
        return false;
    }
    *number = (unsigned)value;
    return true;
}

static bool set_aio(struct bench *b, const char *text) {
    b->native = strcmp(text, "native") == 0;
    b->queue_flags = strcmp(text, "threads") == 0 ? IMG_QUEUE_THREADS : 0;
    if (b->native || b->queue_flags || strcmp(text, "io_uring") == 0)
        return true;
    report("Invalid aio option: %s", text);
    return false;
}

static bool set_cache(struct bench *b, const char *text) {
    if (parse_cache(text, &b->cache))
        return true;
    report("Invalid cache mode");
    return false;
}

static bool set_option(struct bench *b, int opt) {
    switch (opt) {
    case 'c':
        return set_number("request count", optarg, INT_MAX, &b->count);
    case 'd':
        return set_number("queue depth", optarg, MAX_DEPTH, &b->depth);
    case 'f':
        b->format = optarg;
        return true;
    case 'i':
        return set_aio(b, optarg);
    case 'n':
        b->native = true;
        return true;
    case 'o':
        return parse_size_argument("offset", optarg, INT64_MAX, &b->offset);
    case 's':
        return set_size("buffer size", optarg, &b->size);
    case 'S':
        return parse_size_argument("step_size", optarg, INT_MAX, &b->step);
    case 't':
        return set_cache(b, optarg);
    case 'w':
        b->write = true;
        return true;
    case OPT_FLUSH_INTERVAL:
        return set_number("flush interval", optarg, INT_MAX, &b->flush_interval);
    case OPT_NO_DRAIN:
        b->no_drain = true;
        return true;
    case OPT_PATTERN:
        return set_number("pattern byte", optarg, 0xff, &b->pattern);
    default:
        return common_option(opt, &b->common);
    }
}

static bool parse(int argc, char **argv, struct bench *b) {
    const char *wrong = NULL;
    int opt;
    while ((opt = next_option(&bench_command, argc, argv)) != -1)
        if (!set_option(b, opt))
            return false;
    if (optind != argc - 1)
        usage_error("Expecting one image file name");
    b->file = argv[optind];
    b->step = b->step ? b->step : b->size;
    if (b->flush_interval && !b->write)
        wrong = "--flush-interval is only available in write tests";
    else if (b->flush_interval && b->flush_interval < b->depth)
        wrong = "Flush interval can't be smaller than depth";
    else if (b->depth == 0)
        wrong = "Invalid queue depth specified";
    if (wrong)
        report("%s", wrong);
    return !wrong;
}

static int run(int argc, char **argv) {
    struct bench b = {.count = 75000, .depth = 64, .size = 4096};
    return parse(argc, argv, &b) ? bench(&b) : EXIT_FAILURE;
}

const struct command bench_command = {
    .name = "bench",
    .summary = "time many equal requests to an image",
    .usage = "[-c COUNT] [-d DEPTH] [-f FORMAT] [-s SIZE] [-S STEP] [-o OFFSET] [-w [--pattern=BYTE]\n"
             "           [--flush-interval=N [--no-drain]]] [-i AIO] [-n] [-t CACHE] [-q] [-U] [--output=human|json]\n "
             "          [--image-opts] [--object=SECRET] [--key=ID] [--key-file=PATH] FILE",
    .options = "  -c, --count=COUNT       requests [75000]\n"
               "  -d, --depth=DEPTH       requests at once, up to 4096 [64]\n"
               "  -f, --format=FORMAT     the image's format, probed if not given\n"
               "  -s, --buffer-size=SIZE  bytes of each request [4k]\n"
               "  -S, --step-size=STEP    from the beginning of one to that of the next [their size]\n"
               "  -o, --offset=OFFSET     where the first begins [0]\n"
               "  -w, --write             write instead of reading\n"
               "      --pattern=BYTE      what to write [0]\n"
               "      --flush-interval=N  a flush after every N requests\n"
               "      --no-drain          do not let the others end before a flush\n"
               "  -i, --aio=AIO           threads, native or io_uring [io_uring where the kernel has it]\n"
               "  -n, --native            as -i native; both need a cache mode past the page cache\n"
               "  -t, --cache=CACHE       cache mode [writeback]\n"
               "  -q, --quiet             accepted\n"
               "  -U, --force-share       read although another program writes to the image\n"
               "      --output=human|json how to print the result\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "c:d:f:i:no:qs:S:t:wU",
    .long_opts = long_opts,
    .run = run,
};
