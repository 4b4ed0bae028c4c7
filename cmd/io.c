/* SPDX-License-Identifier: GPL-3.0-or-later */
/* io.c - `img io`, also started as `qemu-io`: a shell that reads, writes and looks at an image, for tests.
 *
 * This file reads the command line; the shell is in cmd/io/. The exit status is 1 when a command failed, or a pattern
 * was not there, and when the image could not be opened.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "io/shell.h"
#include "report.h"

struct io_args {
    struct io_open how;
    struct common_options common;
    char **commands; /* of -c, in their order; borrowed */
    size_t ncommands;
    const char *file; /* NULL: none */
};

static const struct option long_opts[] = {
    {"cmd", required_argument, NULL, 'c'},
    {"format", required_argument, NULL, 'f'},
    {"read-only", no_argument, NULL, 'r'},
    {"snapshot", no_argument, NULL, 's'},
    {"nocache", no_argument, NULL, 'n'},
    {"copy-on-read", no_argument, NULL, 'C'},
    {"misalign", no_argument, NULL, 'm'},
    {"native-aio", no_argument, NULL, 'k'},
    {"aio", required_argument, NULL, 'i'},
    {"cache", required_argument, NULL, 't'},
    {"discard", required_argument, NULL, 'd'},
    {"trace", required_argument, NULL, 'T'},
    {"force-share", no_argument, NULL, 'U'},
    {"version", no_argument, NULL, 'V'},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

/* False after reporting. */
static bool take(struct io_args *a, int opt) {
    switch (opt) {
    case 'c':
        a->commands[a->ncommands++] = optarg;
        return true;
    case 'f':
        a->how.format = optarg;
        return true;
    case 'r':
        return a->how.read_only = true;
    case 's':
        return a->how.temporary = true;
    case 'n':
        a->how.cache = IMG_CACHE_NONE;
        return true;
    case 'k':
        return a->how.native = true;
    case 'i':
        return io_parse_aio(optarg, &a->how);
    case 't':
        return cache_option(optarg, &a->how.cache);
    case 'd':
        return io_parse_discard(optarg, &a->how);
    case 'U':
        return a->how.force_share = true;
    case 'C':
    case 'm':
    case 'T':
        return true; /* what they ask for changes nothing that can be seen */
    default:
        return common_option(opt, &a->common);
    }
}

/* -1: go on; else the exit status. */
static int parse(struct io_args *a, int argc, char **argv) {
    int opt;
    a->commands = memory((size_t)argc + 1, sizeof(*a->commands));
    while ((opt = next_option(&io_command, argc, argv)) != -1) {
        if (opt == 'V') {
            printf("%s version %s\n", report_program(), IMG_VERSION);
            return EXIT_SUCCESS;
        }
        if (!take(a, opt))
            return EXIT_FAILURE;
    }
    if (argc - optind > 1)
        usage_error("Only one image can be given");
    a->file = argv[optind];
    return -1;
}

static int run(int argc, char **argv) {
    struct io_args a = {.how.unmap = true};
    struct shell s = {0};
    int status = parse(&a, argc, argv);
    a.how.image_opts = image_opts_given();
    if (status < 0 && a.file && !shell_open(&s, a.file, &a.how))
        status = EXIT_FAILURE;
    if (status < 0) {
        bool good = true;
        for (size_t i = 0; i < a.ncommands && !s.quit; i++)
            good = shell_line(&s, a.commands[i]) && good;
        if (!a.ncommands)
            good = shell_loop(&s);
        good = shell_close(&s) && good;
        status = good ? EXIT_SUCCESS : EXIT_FAILURE;
    }
    free(a.commands);
    free(s.file);
    free(s.format);
    return status;
}

const struct command io_command = {
    .name = "io",
    .summary = "read, write and look at an image by hand or from a script",
    .usage = "[-f FORMAT] [-r] [-s] [-U] [-n | -t CACHE] [-d unmap|ignore] [-i AIO] [-c COMMAND]...\n           "
             "[--object=SECRET] [--key=ID] [--key-file=PATH] [--image-opts] [FILE]",
    .options = "  -c, --cmd=COMMAND       run this command; may be given many times [read them from stdin]\n"
               "  -f, --format=FORMAT     the image's format, probed if not given\n"
               "  -r, --read-only         open it for reading only\n"
               "  -s, --snapshot          what is written is lost in the end\n"
               "  -U, --force-share       read although another program writes to it\n"
               "  -n, --nocache           the same as -t none\n"
               "  -t, --cache=CACHE       cache mode [writeback]\n"
               "  -d, --discard=MODE      unmap: discards reach the image; ignore: they do nothing [unmap]\n"
               "  -i, --aio=MODE          threads, native or io_uring [io_uring]\n"
               "  -k, --native-aio        the same as -i native\n"
               "  -C, -m, -T              taken as qemu-io takes them, without effect\n"
               "  -V, --version           show the version\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "c:d:f:rsnCmki:t:T:UV",
    .long_opts = long_opts,
    .run = run,
};
