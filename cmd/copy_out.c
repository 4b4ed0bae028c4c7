/* SPDX-License-Identifier: GPL-3.0-or-later */
/* copy_out.c - `img copy-out`, virt-copy-out: files of a guest, with all that is known of them, to a directory of the
 * host.
 *
 * Two processes: one reads the disks in the sandbox (copy_reader.h), this one makes the files (copy_writer.h). */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apart.h"
#include "copy_reader.h"
#include "copy_writer.h"
#include "guest.h"
#include "report.h"

static const struct option long_opts[] = {
    GUEST_LONG,
    GUEST_LONG_MOUNT,
    GUEST_LONG_FISH,
    GUEST_LONG_END,
};

static int read_apart(struct guest_options *options, char *const *paths, size_t count, struct chute *chute) {
    struct session *session = session_open(options, 0);
    if (!session)
        return EXIT_FAILURE;
    bool good = send_guest_files(session->guest, paths, count, chute);
    session_close(session);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

static bool copy_to(int top, struct guest_options *options, char *const *paths, size_t count) {
    struct chute *chute = chute_create();
    pid_t child = chute ? apart_start() : -1;
    if (child < 0)
        return false;
    if (child == 0) {
        close(top);
        chute_be_sender(chute);
        int status = read_apart(options, paths, count, chute);
        fflush(NULL);
        _exit(status);
    }
    chute_be_receiver(chute);
    bool written = make_host_files(chute, top);
    chute_close(chute); /* which ends a reader that is still at work */
    return apart_end(child) && written;
}

static int run(int argc, char **argv) {
    struct guest_options options = {0};
    int opt;
    while ((opt = next_option(&copy_out_command, argc, argv)) != -1)
        if (!guest_option(opt, &options))
            return EXIT_FAILURE;
    if (argc - optind < 2)
        usage_error("Expecting files of the guest and a directory to copy them to");
    const char *target = argv[argc - 1];
    int top = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0) {
        report("The target '%s' is not a directory that can be opened: %s", target, strerror(errno));
        return EXIT_FAILURE;
    }
    signal(SIGPIPE, SIG_IGN);
    bool good = copy_to(top, &options, argv + optind, (size_t)(argc - 1 - optind));
    close(top);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct command copy_out_command = {
    .name = "copy-out",
    .summary = "copy files from inside a disk",
    .usage = GUEST_USAGE " [OPTION...] FILE_OR_DIR... LOCALDIR",
    .options = GUEST_HELP GUEST_HELP_MOUNT,
    .short_opts = GUEST_SHORT GUEST_SHORT_MOUNT GUEST_SHORT_FISH,
    .long_opts = long_opts,
    .run = run,
};
