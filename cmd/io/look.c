/* SPDX-License-Identifier: GPL-3.0-or-later */
/* look.c - the test shell's commands that show or change the image as a whole: alloc, map, info, length, truncate
 * (shell.h). They wait for what is under way first.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../describe.h"
#include "../report.h"
#include "shell.h"

/* A raw file has all of its disk, whatever the host keeps of it. */
static bool is_there(const struct shell *s, const struct img_extent *x) {
    return x->flags & IMG_EXTENT_PRESENT || img_cluster_size(s->image) == 0;
}

static int alloc(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    uint64_t offset, length = 512, there = 0;
    char text[IO_TEXT_MAX];
    (void)command;
    if (!io_parse_bytes(argv[1], &offset) || (argc > 2 && !io_parse_bytes(argv[2], &length)))
        return -1;
    io_drain(s);
    uint64_t size = img_size(s->image), most = offset < size ? size - offset : 0;
    if (length > most)
        length = most;
    for (uint64_t at = 0; at < length;) {
        struct img_extent x;
        int ret = img_map(s->image, offset + at, length - at, true, &x, NULL);
        if (ret < 0) {
            printf("is_allocated failed: %s\n", strerror(-ret));
            return -1;
        }
        if (is_there(s, &x))
            there += x.length;
        at += x.length;
    }
    printf("%" PRIu64 "/%" PRIu64 " bytes allocated at offset %s\n", there, length,
           io_bytes_text((double)offset, text));
    return 0;
}

static void print_range(uint64_t offset, uint64_t length, bool there) {
    char what[IO_TEXT_MAX], where[IO_TEXT_MAX];
    printf("%s (0x%" PRIx64 ") bytes %s allocated at offset %s (0x%" PRIx64 ")\n", io_bytes_text((double)length, what),
           length, there ? "   " : "not", io_bytes_text((double)offset, where), offset);
}

static int map(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    uint64_t begin = 0, at = 0;
    bool there = false;
    (void)command, (void)argc, (void)argv;
    io_drain(s);
    uint64_t size = img_size(s->image);
    while (at < size) {
        struct img_extent x;
        int ret = img_map(s->image, at, size - at, true, &x, NULL);
        if (ret < 0) {
            errno = -ret;
            report("Failed to get allocation status: %s", strerror(-ret));
            return -1;
        }
        if (at > begin && is_there(s, &x) != there) {
            print_range(begin, at - begin, there);
            begin = at;
        }
        there = is_there(s, &x);
        at += x.length;
    }
    if (at > begin)
        print_range(begin, at - begin, there);
    return 0;
}

/* Where a virtual machine's state begins: behind the part of the disk that the tables in use cover. */
static uint64_t state_offset(const struct img_info *info) {
    if (!info->cluster_size)
        return 0;
    uint64_t table = info->cluster_size * (info->cluster_size / (info->extended_l2 ? 16 : 8));
    return (info->virtual_size + table - 1) / table * table;
}

static int info(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    struct img_info about;
    struct img_error err = {0};
    char cluster[IO_TEXT_MAX], state[IO_TEXT_MAX];
    (void)command, (void)argc, (void)argv;
    if (img_info(s->image, &about, &err) < 0) {
        report_sentence(&err);
        return -1;
    }
    printf("format name: %s\ncluster size: %s\nvm state offset: %s\n", about.format,
           io_bytes_text((double)about.cluster_size, cluster), io_bytes_text((double)state_offset(&about), state));
    describe_print_specific(stdout, &about);
    return 0;
}

static int length(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    char text[IO_TEXT_MAX];
    (void)command, (void)argc, (void)argv;
    printf("%s\n", io_bytes_text((double)img_size(s->image), text));
    return 0;
}

static bool parse_preallocation(const char *text, enum img_preallocation *mode) {
    static const char *const names[] = {"off", "metadata", "falloc", "full"};
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *mode = (enum img_preallocation)i;
            return true;
        }
    report("Invalid preallocation mode '%s'", text);
    return false;
}

static int truncate_to(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    enum img_preallocation mode = IMG_PREALLOCATION_OFF;
    struct img_error err = {0};
    uint64_t size;
    int opt;
    for (bool first = true; (opt = shell_option(argc, argv, "m:", first)) != -1; first = false) {
        if (opt == '?')
            return shell_usage(command);
        if (!parse_preallocation(optarg, &mode))
            return -1;
    }
    if (optind >= argc)
        return shell_usage(command);
    if (!io_parse_bytes(argv[optind], &size))
        return -1;
    if (size % 512 && img_cluster_size(s->image)) {
        report("The new size must be a multiple of 512");
        return -1;
    }
    io_drain(s);
    if (img_resize(s->image, size, mode, IMG_RESIZE_SHRINK, &err) < 0) {
        report_sentence(&err);
        return -1;
    }
    return 0;
}

/* ---- what only QEMU's own block layer has ---- */

static int no_breakpoint(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    (void)s, (void)argc;
    const char *why = strerror(ENOTSUP);
    if (strcmp(command->name, "break") == 0)
        printf("Could not set breakpoint: %s\n", why);
    else if (strcmp(command->name, "resume") == 0)
        printf("Could not resume request: %s\n", why);
    else if (strcmp(command->name, "wait_break") == 0)
        printf("Could not wait for request %s: %s\n", argv[1], why);
    else
        printf("Could not remove breakpoint %s: %s\n", argv[1], why);
    return -1;
}

const struct shell_command io_look_commands[] = {
    {.name = "alloc",
     .alias = "a",
     .run = alloc,
     .least = 1,
     .most = 2,
     .args = "offset [count]",
     .summary = "checks if offset is allocated in the file"},
    {.name = "break",
     .run = no_breakpoint,
     .least = 2,
     .most = 2,
     .args = "event tag",
     .summary = "sets a breakpoint on event and tags the stopped request as tag"},
    {.name = "info", .alias = "i", .run = info, .summary = "prints information about the current file"},
    {.name = "length", .alias = "l", .run = length, .summary = "gets the length of the current file"},
    {.name = "map", .run = map, .args = "", .summary = "prints the allocated areas of a file"},
    {.name = "remove_break",
     .run = no_breakpoint,
     .least = 1,
     .most = 1,
     .args = "tag",
     .summary = "remove a breakpoint by tag"},
    {.name = "resume",
     .run = no_breakpoint,
     .least = 1,
     .most = 1,
     .args = "tag",
     .summary = "resumes the request tagged as tag"},
    {.name = "truncate",
     .alias = "t",
     .run = truncate_to,
     .least = 1,
     .most = 3,
     .writes = true,
     .args = "[-m prealloc_mode] off",
     .summary = "truncates the current file at the given offset"},
    {.name = "wait_break",
     .run = no_breakpoint,
     .least = 1,
     .most = 1,
     .args = "tag",
     .summary = "waits for the suspension of a request"},
    {.name = NULL},
};
