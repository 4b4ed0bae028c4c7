/* SPDX-License-Identifier: GPL-3.0-or-later */
/* cat.c - `img cat`, virt-cat: the content of a guest's files. Only of regular files: what a device node names is not
 * in the disk. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "guest.h"
#include "report.h"

#define PIECE (1 << 20)

static const struct option long_opts[] = {GUEST_LONG, GUEST_LONG_MOUNT, GUEST_LONG_END};

static int copy_out(const struct guest_node *file, struct img_error *err) {
    static char buffer[PIECE];
    uint64_t at = 0;
    size_t got;
    do {
        int ret = file->fs->ops->read(file->fs, file->ino, buffer, sizeof(buffer), at, &got, err);
        if (ret < 0)
            return ret;
        if (fwrite(buffer, 1, got, stdout) != got)
            return 0; /* main tells that the output could not be written */
        at += got;
    } while (got == sizeof(buffer));
    return 0;
}

static bool print_file(struct guest *guest, const char *path) {
    struct img_error err = {0};
    struct guest_node file;
    struct fs_stat stat;
    int ret = guest_resolve(guest, path, true, &file, &err);
    if (ret == 0)
        ret = guest_stat(&file, &stat, &err);
    if (ret == 0 && !S_ISREG(stat.mode)) {
        report("%s: %s", path, S_ISDIR(stat.mode) ? "is a directory" : "is not a regular file");
        return false;
    }
    if (ret == 0)
        ret = copy_out(&file, &err);
    if (ret < 0)
        report_guest_error(&err);
    return ret == 0;
}

static int run(int argc, char **argv) {
    struct guest_options options = {0};
    int opt, status = EXIT_SUCCESS;
    while ((opt = next_option(&cat_command, argc, argv)) != -1)
        if (!guest_option(opt, &options))
            return EXIT_FAILURE;
    if (!guest_old_style(&options, argc, argv, 1))
        return EXIT_FAILURE;
    if (optind == argc)
        usage_error("Expecting a file of the guest");
    struct session *session = session_open(&options, 0);
    if (!session)
        return EXIT_FAILURE;
    /* As cat, it goes on with the next when one cannot be read. */
    for (; optind < argc; optind++)
        if (!print_file(session->guest, argv[optind]))
            status = EXIT_FAILURE;
    session_close(session);
    return status;
}

const struct command cat_command = {
    .name = "cat",
    .summary = "print files inside a disk",
    .usage = GUEST_USAGE " [OPTION...] FILE...",
    .options = GUEST_HELP GUEST_HELP_MOUNT,
    .short_opts = GUEST_SHORT GUEST_SHORT_MOUNT,
    .long_opts = long_opts,
    .run = run,
};
