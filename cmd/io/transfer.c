/* SPDX-License-Identifier: GPL-3.0-or-later */
/* transfer.c - the test shell's commands that move data: read, write, readv, writev, aio_*, discard, flush (shell.h).
 *
 * Each reads its options into a `struct wish`, checks what goes together, and makes one request of it.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../report.h"
#include "shell.h"

#define LENGTH_MOST (UINT64_C(0x7fffffff) & ~UINT64_C(511)) /* of one request */
#define SECTOR 512
#define FILL 0xcd

struct wish {
    bool quiet, machine, dump, verify, patterned, zero, unmap, durable, compress, state, whole_only, invalid;
    uint8_t pattern;
    const char *source; /* a file whose bytes are written again and again */
    uint64_t verify_from, verify_length;
    bool verify_from_given, verify_length_given;
};

/* False after saying what is wrong. `source`: what -s is. */
static bool take_flag(struct wish *w, int opt) {
    switch (opt) {
    case 'q':
        return w->quiet = true;
    case 'C':
        return w->machine = true;
    case 'v':
        return w->dump = true;
    case 'P':
        w->patterned = w->verify = true;
        return io_parse_pattern(optarg, &w->pattern);
    case 'z':
        return w->zero = true;
    case 'u':
        return w->unmap = true;
    case 'f':
        return w->durable = true;
    case 'c':
        return w->compress = true;
    case 'b':
        return w->state = true;
    case 'n':
        return w->whole_only = true;
    case 'i':
        return w->invalid = true;
    default:
        return true; /* -p: for scripts of old */
    }
}

static int refuse(const char *why) {
    printf("%s\n", why);
    return -1;
}

static void give_report(struct io_request *r, const struct wish *w, const char *verb, const char *failing) {
    r->verb = verb;
    r->failing = failing;
    r->quiet = w->quiet;
    r->machine = w->machine;
    r->dump = w->dump;
    r->durable = w->durable;
}

static bool check_length(const char *word, uint64_t length, const char *unless) {
    if (length <= LENGTH_MOST)
        return true;
    printf("length cannot exceed %" PRIu64 "%s, given %s\n", LENGTH_MOST, unless, word);
    return false;
}

static bool check_sectors(const char *what, uint64_t value) {
    if (value % SECTOR == 0)
        return true;
    printf("%" PRIu64 " is not a sector-aligned value for '%s'\n", value, what);
    return false;
}

/* By an ordinary call, with nothing under way that it could wait for. */
static int run_apart(struct shell *s, struct io_request *r, int (*call)(struct img *, struct io_request *)) {
    io_drain(s);
    clock_gettime(CLOCK_MONOTONIC, &r->begun);
    io_request_report(r, call(s->image, r));
    int result = r->wrong ? -1 : 0;
    io_request_free(r);
    return result;
}

/* What no offset can say is an error of its own in QEMU. */
static int move_state(struct img *image, struct io_request *r) {
    int result = r->op == IMG_IO_READ ? img_vmstate_read(image, r->buffer, r->length, r->offset, NULL)
                                      : img_vmstate_write(image, r->buffer, r->length, r->offset, NULL);
    return result == -EINVAL ? -EIO : result;
}

/* ---- one range ---- */

static int read_one(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    struct wish w = {0};
    uint64_t offset, length;
    int opt;
    for (bool first = true; (opt = shell_option(argc, argv, "bCl:pP:qs:v", first)) != -1; first = false) {
        if (opt == '?')
            return shell_usage(command);
        if (opt == 's')
            w.verify_from_given = true;
        if (opt == 'l')
            w.verify_length_given = true;
        if ((opt == 's' && !io_parse_bytes(optarg, &w.verify_from)) ||
            (opt == 'l' && !io_parse_bytes(optarg, &w.verify_length)) || !take_flag(&w, opt))
            return -1;
    }
    if (argc - optind != 2)
        return shell_usage(command);
    if (!io_parse_bytes(argv[optind], &offset) || !io_parse_bytes(argv[optind + 1], &length) ||
        !check_length(argv[optind + 1], length, ""))
        return -1;
    if (!w.verify && (w.verify_from_given || w.verify_length_given))
        return shell_usage(command);
    if (!w.verify_length_given)
        w.verify_length = length - (w.verify_from < length ? w.verify_from : length);
    if (w.verify_from > length || w.verify_length > length - w.verify_from)
        return refuse("pattern verification range exceeds end of read data");
    if (w.state && (!check_sectors("offset", offset) || !check_sectors("count", length)))
        return -1;
    struct io_request *r = io_request_new(IMG_IO_READ, offset, &length, 1, 0xab);
    give_report(r, &w, "read", "read");
    r->verify = w.verify;
    r->pattern = w.pattern;
    r->verify_from = w.verify_from;
    r->verify_length = w.verify_length;
    return w.state ? run_apart(s, r, move_state) : io_request_run(s, r);
}

static const char *write_contradiction(const struct wish *w) {
    if (w->state && w->zero)
        return "-b and -z cannot be specified at the same time";
    if (w->durable && (w->state || w->compress))
        return "-f and -b or -c cannot be specified at the same time";
    if (w->whole_only && !w->zero)
        return "-n requires -z to be specified";
    if (w->unmap && !w->zero)
        return "-u requires -z to be specified";
    if (w->zero + w->patterned + (w->source != NULL) > 1)
        return "Only one of -z, -P, and -s can be specified at the same time";
    return NULL;
}

/* Fills the buffer with a file's bytes, over and over. */
static bool fill_from_file(struct io_request *r, const char *file) {
    FILE *in = fopen(file, "re");
    if (!in) {
        fprintf(stderr, "%s: %s\n", file, strerror(errno));
        return false;
    }
    size_t n = fread(r->buffer, 1, r->length, in);
    bool bad = ferror(in);
    fclose(in);
    if (bad || (n == 0 && r->length)) {
        fprintf(stderr, "%s: %s\n", file, bad ? "could not be read" : "file is empty");
        return false;
    }
    for (size_t at = n; at < r->length; at++)
        r->buffer[at] = r->buffer[at - n];
    return true;
}

static int write_compressed(struct img *image, struct io_request *r) {
    uint64_t size = img_size(image);
    if (r->offset > size || r->length > size - r->offset)
        return -EIO;
    return img_pwrite_compressed(image, r->buffer, r->length, r->offset, NULL);
}

static struct io_request *zero_request(const struct shell *s, const struct wish *w, uint64_t offset, uint64_t length) {
    struct io_request *r = io_request_new(IMG_IO_ZERO, offset, NULL, 0, 0);
    r->length = length;
    if (w->unmap && s->how.unmap)
        r->flags = IMG_ZERO_MAY_UNMAP;
    return r;
}

static int write_one(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    struct wish w = {.pattern = FILL};
    uint64_t offset, length;
    int opt;
    for (bool first = true; (opt = shell_option(argc, argv, "bcCfnpP:qs:uz", first)) != -1; first = false) {
        if (opt == '?')
            return shell_usage(command);
        if (opt == 's')
            w.source = optarg;
        if (!take_flag(&w, opt))
            return -1;
    }
    if (argc - optind != 2)
        return shell_usage(command);
    const char *wrong = write_contradiction(&w);
    if (wrong)
        return refuse(wrong);
    if (!io_parse_bytes(argv[optind], &offset) || !io_parse_bytes(argv[optind + 1], &length) ||
        (!w.whole_only && !check_length(argv[optind + 1], length, " without -n")))
        return -1;
    if ((w.state || w.compress) && (!check_sectors("offset", offset) || !check_sectors("count", length)))
        return -1;
    struct io_request *r =
        w.zero ? zero_request(s, &w, offset, length) : io_request_new(IMG_IO_WRITE, offset, &length, 1, w.pattern);
    give_report(r, &w, "wrote", "write");
    if (w.source && !fill_from_file(r, w.source)) {
        io_request_free(r);
        return -1;
    }
    if (w.state)
        return run_apart(s, r, move_state);
    return w.compress && !w.zero ? run_apart(s, r, write_compressed) : io_request_run(s, r);
}

static int discard(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    struct wish w = {0};
    uint64_t offset, length;
    int opt;
    for (bool first = true; (opt = shell_option(argc, argv, "Cq", first)) != -1; first = false) {
        if (opt == '?')
            return shell_usage(command);
        take_flag(&w, opt);
    }
    if (argc - optind != 2)
        return shell_usage(command);
    if (!io_parse_bytes(argv[optind], &offset) || !io_parse_bytes(argv[optind + 1], &length) ||
        !check_length(argv[optind + 1], length, ""))
        return -1;
    struct io_request *r = io_request_new(IMG_IO_DISCARD, offset, NULL, 0, 0);
    give_report(r, &w, "discard", "discard");
    r->length = length;
    if (s->how.unmap)
        return io_request_run(s, r);
    /* with -d ignore a discard is taken note of and nothing more */
    clock_gettime(CLOCK_MONOTONIC, &r->begun);
    int result = io_inside(s, offset, length) ? 0 : -EIO;
    io_request_report(r, result);
    io_request_free(r);
    return result < 0 ? -1 : 0;
}

/* ---- many buffers ---- */

/* The lengths behind the offset; NULL after saying what is wrong. */
static uint64_t *parse_lengths(char **words, int n) {
    uint64_t *lengths = memory((size_t)n, sizeof(*lengths)), total = 0;
    for (int i = 0; i < n; i++) {
        bool good = io_parse_bytes(words[i], &lengths[i]);
        if (good && lengths[i] > LENGTH_MOST) {
            printf("Argument '%s' exceeds maximum size %" PRIu64 "\n", words[i], LENGTH_MOST);
            good = false;
        }
        if (good && (total += lengths[i]) > LENGTH_MOST) {
            printf("The total number of bytes exceed the maximum size %" PRIu64 "\n", LENGTH_MOST);
            good = false;
        }
        if (!good) {
            free(lengths);
            return NULL;
        }
    }
    return lengths;
}

/* What the options and words of a vectored command ask for; NULL after saying what is wrong. */
static struct io_request *vectored(const struct shell *s, const struct shell_command *command, int argc, char **argv,
                                   const char *options, enum img_io_op op, struct wish *w) {
    uint64_t offset;
    int opt;
    for (bool first = true; (opt = shell_option(argc, argv, options, first)) != -1; first = false) {
        if (opt == '?') {
            shell_usage(command);
            return NULL;
        }
        if (!take_flag(w, opt))
            return NULL;
    }
    int n = argc - optind - 1;
    if (n < 1 || n > IOV_MAX) {
        shell_usage(command);
        return NULL;
    }
    if (w->zero && n != 1) {
        refuse("-z supports only a single length parameter");
        return NULL;
    }
    if (w->unmap && !w->zero) {
        refuse("-u requires -z to be specified");
        return NULL;
    }
    uint64_t *lengths = io_parse_bytes(argv[optind], &offset) ? parse_lengths(argv + optind + 1, n) : NULL;
    if (!lengths)
        return NULL;
    struct io_request *r =
        w->zero ? zero_request(s, w, offset, lengths[0]) : io_request_new(op, offset, lengths, n, w->pattern);
    free(lengths);
    if (op == IMG_IO_READ && w->verify) {
        r->verify = true;
        r->pattern = w->pattern;
        r->verify_length = r->length;
    }
    return r;
}

static int read_many(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    struct wish w = {.pattern = 0xab};
    struct io_request *r = vectored(s, command, argc, argv, "CP:qv", IMG_IO_READ, &w);
    if (!r)
        return -1;
    give_report(r, &w, "read", "readv");
    return io_request_run(s, r);
}

static int write_many(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    struct wish w = {.pattern = FILL};
    struct io_request *r = vectored(s, command, argc, argv, "CfP:q", IMG_IO_WRITE, &w);
    if (!r)
        return -1;
    give_report(r, &w, "wrote", "writev");
    return io_request_run(s, r);
}

/* A request that is only counted in qemu-io's statistics. */
static int pretend(struct io_request *r, const char *what) {
    printf("injecting invalid %s request\n", what);
    io_request_free(r);
    return 0;
}

static int begin_read(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    struct wish w = {.pattern = 0xab};
    struct io_request *r = vectored(s, command, argc, argv, "CP:iqv", IMG_IO_READ, &w);
    if (!r)
        return -1;
    if (w.invalid)
        return pretend(r, "read");
    give_report(r, &w, "read", "readv");
    io_request_start(s, r);
    return 0;
}

static int begin_write(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    struct wish w = {.pattern = FILL};
    struct io_request *r = vectored(s, command, argc, argv, "CfiP:quz", IMG_IO_WRITE, &w);
    if (!r)
        return -1;
    if (w.invalid)
        return pretend(r, "write");
    give_report(r, &w, "wrote", "aio_write");
    io_request_start(s, r);
    return 0;
}

static int wait_for_all(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    (void)command, (void)argc, (void)argv;
    io_drain(s);
    return 0;
}

static int flush(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    (void)command, (void)argc, (void)argv;
    struct io_request *r = io_request_new(IMG_IO_FLUSH, 0, NULL, 0, 0);
    r->quiet = true;
    r->failing = "flush";
    return io_request_run(s, r);
}

/* ---- the table ---- */

#define REPORTS                                                                                                        \
    " -C  numbers for programs: bytes, operations, time, bytes and operations a second\n"                              \
    " -q  no such numbers\n"
#define BUFFERS " Each length is a buffer of its own, one behind the other on the disk.\n"

const struct shell_command io_data_commands[] = {
    {.name = "aio_flush",
     .run = wait_for_all,
     .summary = "completes all outstanding aio requests",
     .details = " Waits for every aio_read and aio_write that has not ended. Nothing becomes durable: see 'flush'."},
    {.name = "aio_read",
     .run = begin_read,
     .least = 2,
     .most = -1,
     .args = "[-Ciqv] [-P pattern] off len [len..]",
     .summary = "asynchronously reads a number of bytes",
     .details = BUFFERS " The command ends before the reading does, and fails only if nothing could be begun.\n" REPORTS
                        " -i  begin nothing\n -P  expect this byte everywhere\n -v  show the bytes"},
    {.name = "aio_write",
     .run = begin_write,
     .least = 2,
     .most = -1,
     .writes = true,
     .args = "[-Cfiquz] [-P pattern] off len [len..]",
     .summary = "asynchronously writes a number of bytes",
     .details = BUFFERS " The command ends before the writing does, and fails only if nothing could be begun.\n" REPORTS
                        " -f  durable when it ends\n -i  begin nothing\n -P  write this byte [0xcd]\n"
                        " -u  with -z: the space may be given back\n -z  write zeroes, by metadata if possible"},
    {.name = "discard",
     .alias = "d",
     .run = discard,
     .least = 2,
     .most = -1,
     .writes = true,
     .args = "[-Cq] off len",
     .summary = "discards a number of bytes at a specified offset",
     .details = " Does nothing in an image that was opened with -d ignore.\n" REPORTS},
    {.name = "flush", .alias = "f", .run = flush, .summary = "flush all in-core file state to disk"},
    {.name = "read",
     .alias = "r",
     .run = read_one,
     .least = 2,
     .most = -1,
     .args = "[-abCqv] [-P pattern [-s off] [-l len]] off len",
     .summary = "reads a number of bytes at a specified offset",
     .details = " 'read -v 512 1k' shows the second and third sector.\n" REPORTS
                " -b  the state of a virtual machine, not its disk\n -P  expect this byte everywhere, or with\n"
                " -s  ... from there on, counted from where the reading begins, and with\n -l  ... so many bytes\n"
                " -p  nothing\n -v  show the bytes"},
    {.name = "readv",
     .run = read_many,
     .least = 2,
     .most = -1,
     .args = "[-Cqv] [-P pattern] off len [len..]",
     .summary = "reads a number of bytes at a specified offset",
     .details = BUFFERS REPORTS " -P  expect this byte everywhere\n -v  show the bytes"},
    {.name = "write",
     .alias = "w",
     .run = write_one,
     .least = 2,
     .most = -1,
     .writes = true,
     .args = "[-bcCfnquz] [-P pattern | -s source_file] off len",
     .summary = "writes a number of bytes at a specified offset",
     .details = " 'write -P 7 64k 1M' fills a MiB with sevens.\n" REPORTS
                " -b  the state of a virtual machine, not its disk\n -c  store compressed, in whole clusters\n"
                " -f  durable when it ends\n -n  with -z: a long range is fine\n -P  write this byte [0xcd]\n"
                " -p  nothing\n -s  write what is in this file, again and again\n"
                " -u  with -z: the space may be given back\n -z  write zeroes, by metadata if possible"},
    {.name = "writev",
     .run = write_many,
     .least = 2,
     .most = -1,
     .writes = true,
     .args = "[-Cfq] [-P pattern] off len [len..]",
     .summary = "writes a number of bytes at a specified offset",
     .details = BUFFERS REPORTS " -f  durable when it ends\n -P  write this byte [0xcd]"},
    {.name = NULL},
};
