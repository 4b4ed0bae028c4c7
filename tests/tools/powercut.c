/* SPDX-License-Identifier: GPL-3.0-or-later */
/* powercut.c - a disk that loses its power: a file that this program serves through FUSE over the place where it lies,
 * so that a loop mount of it sends every write through here. What is written since the last flush is in the disk's
 * cache, and a cut may lose any sector of it, in any order, and nothing that was flushed.
 *
 *   powercut FILE      as root, until the end of its input
 *
 * A line of input, PATH COUNT SEED: after COUNT more writes (or a second without any) the disk as a cut leaves it goes
 * to PATH, and a line says how many writes were in the cache and how many of them are whole in the copy. SEED chooses
 * them; 0: all are. FILE itself stays as it was.
 *
 * One thread answers one request after the other, so a copy is of one moment between two of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SECTOR = 512, PAGE = 4096, MAX_WRITE = 1 << 20, ROOM = MAX_WRITE + PAGE, IDLE_MS = 1000 };

/* In the cache: not flushed. */
struct pending {
    struct pending *next;
    uint64_t at;
    size_t length;
    unsigned char bytes[];
};

static uint64_t size;
static unsigned char *stable, *now; /* what a cut cannot take; what a reader sees */
static struct pending *first, **last = &first;
static int fuse;

static struct {
    bool wanted;
    char path[4000];
    unsigned long countdown, seed;
} cut;

static void stop(const char *what) {
    fprintf(stderr, "powercut: %s: %s\n", what, strerror(errno));
    exit(EXIT_FAILURE);
}

static void *must(void *memory) {
    if (!memory)
        stop("memory");
    return memory;
}

/* ---- the disk ---- */

/* Zeroes if there are no bytes. False: outside of the disk. */
static bool write_disk(uint64_t at, size_t length, const unsigned char *bytes) {
    if (at > size || length > size - at)
        return false;
    struct pending *pending = must(calloc(1, sizeof(*pending) + length));
    pending->at = at;
    pending->length = length;
    if (bytes)
        memcpy(pending->bytes, bytes, length);
    memcpy(now + at, pending->bytes, length);
    *last = pending;
    last = &pending->next;
    return true;
}

static void flush_disk(void) {
    while (first) {
        struct pending *done = first;
        memcpy(stable + done->at, done->bytes, done->length);
        first = done->next;
        free(done);
    }
    last = &first;
}

static void put(int file, const unsigned char *bytes, size_t length, uint64_t at) {
    if (pwrite(file, bytes, length, (off_t)at) != (ssize_t)length)
        stop(cut.path);
}

/* 1 if all of it is in the copy. */
static unsigned keep_some(int file, const struct pending *pending) {
    unsigned whole = 1;
    int fate = cut.seed ? rand() % 4 : 3;
    if (fate == 0)
        return 0;
    if (fate > 1) {
        put(file, pending->bytes, pending->length, pending->at);
        return 1;
    }
    for (size_t at = 0; at < pending->length; at += SECTOR) {
        size_t part = pending->length - at < SECTOR ? pending->length - at : SECTOR;
        if (rand() % 2)
            put(file, pending->bytes + at, part, pending->at + at);
        else
            whole = 0;
    }
    return whole;
}

static void make_cut(void) {
    static const unsigned char zeroes[PAGE];
    unsigned count = 0, whole = 0;
    int file = open(cut.path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, (off_t)size) < 0)
        stop(cut.path);
    for (uint64_t at = 0; at < size; at += PAGE) {
        size_t part = size - at < PAGE ? size - at : PAGE;
        if (memcmp(stable + at, zeroes, part) != 0)
            put(file, stable + at, part, at);
    }
    srand((unsigned)cut.seed);
    for (const struct pending *pending = first; pending; pending = pending->next, count++)
        whole += keep_some(file, pending);
    close(file);
    printf("%s cache %u whole %u\n", cut.path, count, whole);
    fflush(stdout);
    cut.wanted = false;
}

/* ---- requests ---- */

static void answer(const struct fuse_in_header *in, int error, const void *bytes, size_t length) {
    struct fuse_out_header out = {
        .len = (uint32_t)(sizeof(out) + (error ? 0 : length)), .error = -error, .unique = in->unique};
    struct iovec parts[] = {{&out, sizeof(out)}, {(void *)bytes, length}};
    if (writev(fuse, parts, error || !length ? 1 : 2) < 0 && errno != ENOENT) /* the asker may be gone */
        stop("answer");
}

static void answer_init(const struct fuse_in_header *in, const struct fuse_init_in *asked) {
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION,
                                .minor = FUSE_KERNEL_MINOR_VERSION,
                                .max_readahead = asked->max_readahead,
                                .flags = FUSE_BIG_WRITES | FUSE_MAX_PAGES,
                                .max_background = 64,
                                .congestion_threshold = 48,
                                .max_write = MAX_WRITE,
                                .time_gran = 1,
                                .max_pages = MAX_WRITE / PAGE};
    answer(in, 0, &out, sizeof(out));
}

static void answer_attributes(const struct fuse_in_header *in) {
    struct fuse_attr_out out = {
        .attr_valid = 1000000,
        .attr = {.ino = 1, .size = size, .blocks = size / SECTOR, .mode = S_IFREG | 0600, .nlink = 1, .blksize = PAGE}};
    answer(in, 0, &out, sizeof(out));
}

static void answer_read(const struct fuse_in_header *in, const struct fuse_read_in *asked) {
    uint64_t left = asked->offset < size ? size - asked->offset : 0;
    answer(in, 0, now + (left ? asked->offset : 0), asked->size < left ? asked->size : left);
}

static void answer_write(const struct fuse_in_header *in, const struct fuse_write_in *asked) {
    struct fuse_write_out out = {.size = asked->size};
    bool done = write_disk(asked->offset, asked->size, (const unsigned char *)(asked + 1));
    if (cut.wanted && (cut.countdown == 0 || --cut.countdown == 0))
        make_cut();
    answer(in, done ? 0 : ENOSPC, &out, sizeof(out));
}

static void answer_request(const struct fuse_in_header *in) {
    const void *asked = in + 1;
    struct fuse_open_out open = {.open_flags = FOPEN_DIRECT_IO};
    const struct fuse_fallocate_in *range = asked;
    switch (in->opcode) {
    case FUSE_INIT:
        answer_init(in, asked);
        break;
    case FUSE_GETATTR:
    case FUSE_SETATTR:
        answer_attributes(in);
        break;
    case FUSE_OPEN:
        answer(in, 0, &open, sizeof(open));
        break;
    case FUSE_READ:
        answer_read(in, asked);
        break;
    case FUSE_WRITE:
        answer_write(in, asked);
        break;
    case FUSE_FALLOCATE: /* discarded, or zeroed */
        answer(in, write_disk(range->offset, range->length, NULL) ? 0 : ENOSPC, NULL, 0);
        break;
    case FUSE_FSYNC:
        flush_disk();
        answer(in, 0, NULL, 0);
        break;
    case FUSE_FLUSH:
    case FUSE_RELEASE:
        answer(in, 0, NULL, 0);
        break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        break;
    default:
        answer(in, ENOSYS, NULL, 0);
    }
}

/* ---- the program ---- */

static volatile sig_atomic_t told_to_stop;

static void on_signal(int number) {
    (void)number;
    told_to_stop = 1;
}

static void serve(void) {
    static unsigned char request[ROOM] __attribute__((aligned(8)));
    ssize_t got = read(fuse, request, sizeof(request));
    if (got >= (ssize_t)sizeof(struct fuse_in_header))
        answer_request((const struct fuse_in_header *)request);
    else if (got < 0 && errno == ENODEV) /* unmounted by somebody else */
        exit(EXIT_SUCCESS);
    else if (got < 0 && errno != EINTR && errno != EAGAIN && errno != ENOENT)
        stop("request");
}

static bool take_command(void) {
    char line[sizeof(cut.path) + 50];
    if (!fgets(line, sizeof(line), stdin))
        return false;
    if (sscanf(line, "%3999s %lu %lu", cut.path, &cut.countdown, &cut.seed) == 3)
        cut.wanted = true;
    return true;
}

static void load(const char *path) {
    struct stat stat;
    int file = open(path, O_RDONLY);
    if (file < 0 || fstat(file, &stat) < 0)
        stop(path);
    size = (uint64_t)stat.st_size;
    stable = must(malloc(size));
    now = must(malloc(size));
    for (uint64_t at = 0; at < size;) {
        ssize_t got = pread(file, stable + at, size - at, (off_t)at);
        if (got <= 0)
            stop(path);
        at += (uint64_t)got;
    }
    memcpy(now, stable, size);
    close(file);
}

int main(int argc, char **argv) {
    char options[100];
    if (argc != 2)
        return EXIT_FAILURE;
    load(argv[1]);
    if ((fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC)) < 0)
        stop("/dev/fuse");
    snprintf(options, sizeof(options), "fd=%d,rootmode=100000,user_id=0,group_id=0", fuse);
    if (mount("powercut", argv[1], "fuse", MS_NOSUID | MS_NODEV, options) < 0)
        stop("mount");
    printf("%s served\n", argv[1]);
    fflush(stdout);
    setvbuf(stdin, NULL, _IONBF, 0); /* what poll sees is what is there */
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    while (!told_to_stop) {
        struct pollfd polled[] = {{.fd = fuse, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
        int count = poll(polled, 2, cut.wanted ? IDLE_MS : -1);
        if (count == 0)
            make_cut();
        if (count > 0 && polled[0].revents)
            serve();
        if (count > 0 && polled[1].revents && !take_command())
            break;
    }
    umount2(argv[1], MNT_DETACH);
    return EXIT_SUCCESS;
}
