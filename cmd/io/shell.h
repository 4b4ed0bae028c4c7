/* SPDX-License-Identifier: GPL-3.0-or-later */
/* shell.h - the test shell `img io`: what its files share.
 *
 *   shell.c     lines, words, the table of commands, help
 *   request.c   one request under way: made, waited for, reported
 *   transfer.c  the commands that move data
 *   look.c      the commands that show or change the image as a whole
 *   open.c      open, close, reopen
 *   text.c      numbers as they are read and printed here
 *
 * All data goes through one img_queue, that of `read` and `write` too: so requests that were begun with aio_* go on
 * while another command waits for its own, and none can wait for one that nobody moves. Words and numbers on the
 * screen are qemu-io's, which scripts read.
 */
#ifndef IO_SHELL_H
#define IO_SHELL_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "../cmd.h"

/* How an image is opened; the strings are borrowed. */
struct io_open {
    const char *format;
    enum img_cache cache;
    bool read_only, force_share;
    bool image_opts; /* its name is a list of options */
    bool unmap;      /* discards reach the image, and zeroes may give space back */
    bool temporary;  /* writes go to an overlay that nobody sees again */
    bool threads;    /* no io_uring */
    bool native;     /* needs O_DIRECT, as qemu-io's mode of that name does */
};

struct io_request;

struct shell {
    struct img *image; /* NULL: none is open */
    struct img_queue *queue;
    char *file; /* its name, owned */
    char *format;
    struct io_open how; /* the open image; `format` is the one above */
    struct io_request *requests;
    uint64_t last_cookie;
    bool quit;
};

/* One command: its arguments are counted, and the image is there and may be written, before `run` is called. It returns
 * 0, or -1 when it failed. */
struct shell_command {
    const char *name, *alias;
    int (*run)(struct shell *, const struct shell_command *, int argc, char **argv);
    int least, most; /* arguments; most -1: any number */
    bool without_file, writes;
    const char *args, *summary;
    const char *details; /* NULL: nothing more to say */
};

extern const struct shell_command io_data_commands[], io_look_commands[], io_open_commands[];

/* Runs one line; false: it failed. */
bool shell_line(struct shell *s, const char *line);
/* Lines from standard input, with a prompt; false: some failed. */
bool shell_loop(struct shell *s);
/* Prints how a command is called. */
int shell_usage(const struct shell_command *command);
/* The next option of a command's own, as getopt(3) gives it; the first call is with `first` set. */
int shell_option(int argc, char **argv, const char *options, bool first);

/* ---- open.c ---- */

/* Opens `file`; false after reporting. */
bool shell_open(struct shell *s, const char *file, const struct io_open *how);
/* Waits for what is under way, writes out and closes; false after reporting. */
bool shell_close(struct shell *s);
/* Read the argument of -d and -i; false after reporting. */
bool io_parse_discard(const char *text, struct io_open *how);
bool io_parse_aio(const char *text, struct io_open *how);

/* ---- request.c ---- */

struct io_outcome {
    bool done, wrong;
};

struct io_request {
    struct io_request *next;
    enum img_io_op op;
    uint32_t flags;
    const char *verb;    /* "wrote", "read", "discard" */
    const char *failing; /* what stands in front of "failed" */
    uint64_t offset, length;
    uint8_t *buffer;
    struct iovec *iov;
    int niov;
    bool durable;              /* a flush follows */
    bool quiet, machine, dump; /* of the report */
    bool verify;               /* what was read must be `pattern` in [verify_from, verify_from + verify_length) */
    uint8_t pattern;
    uint64_t verify_from, verify_length;
    bool flushing;              /* the flush that follows runs */
    bool wrong;                 /* failed, or not what was expected */
    struct io_outcome *outcome; /* of somebody who waits for it; NULL: nobody does */
    uint64_t cookie;
    struct timespec begun;
};

/* A request with one buffer for each of `n` lengths, filled with `fill`; `n` 0: no buffer. NULL after saying why. */
struct io_request *io_request_new(enum img_io_op op, uint64_t offset, const uint64_t *lengths, int n, uint8_t fill);
void io_request_free(struct io_request *r);
/* Begins it; it reports and frees itself when it is done. */
void io_request_start(struct shell *s, struct io_request *r);
/* Begins it, waits until it is done and has reported, and frees it; 0, or -1 when it failed. */
int io_request_run(struct shell *s, struct io_request *r);
/* The report of a request that ended with `result`, now. */
void io_request_report(struct io_request *r, int result);
/* Reports what is done without waiting. */
void io_reap(struct shell *s);
/* Waits for all. */
void io_drain(struct shell *s);
/* Waits until `fd` can be read and reports what is done meanwhile. */
void io_wait_readable(struct shell *s, int fd);
/* Is the range inside the image? */
bool io_inside(const struct shell *s, uint64_t offset, uint64_t length);

/* ---- text.c ---- */

#define IO_TEXT_MAX 64
/* "64 KiB", "1.500 MiB", "12 bytes". Returns `text`. */
const char *io_bytes_text(double bytes, char text[IO_TEXT_MAX]);
/* Reads a number of bytes up to 2^63 - 1; false after saying what is wrong. */
bool io_parse_bytes(const char *word, uint64_t *bytes);
bool io_parse_pattern(const char *word, uint8_t *byte);
void io_dump(const uint8_t *bytes, uint64_t offset, uint64_t length);

#endif
