/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tar_in.c - `img tar-in`, virt-tar-in: a tar archive unpacked inside a guest's disk: as one transaction, if the
 * guest's journal can hold it, or as several. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "libarchive.h"
#include "report.h"
#include "unpack.h"

enum { OPT_DRY_RUN = OPT_GUEST_FIRST_FREE };

static const struct option long_opts[] = {
    GUEST_LONG, GUEST_LONG_MOUNT, GUEST_LONG_FISH, {"dry-run", no_argument, NULL, OPT_DRY_RUN}, GUEST_LONG_END,
};

/* -1 after reporting. */
static int open_archive(const char *path) {
    if (strcmp(path, "-") == 0)
        return STDIN_FILENO;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        report("%s: %s", path, strerror(errno));
    return fd;
}

static int run(int argc, char **argv) {
    struct guest_options options = {0};
    bool dry_run = false, good;
    int opt;
    while ((opt = next_option(&tar_in_command, argc, argv)) != -1) {
        if (!guest_option(opt, &options))
            return EXIT_FAILURE;
        dry_run |= opt == OPT_DRY_RUN;
    }
    if (optind != argc - 2)
        usage_error("Expecting an archive and a directory of the guest");
    int fd = open_archive(argv[optind]);
    if (fd < 0 || !libarchive_load())
        return EXIT_FAILURE;
    struct session *session = session_open(&options, dry_run ? SESSION_DRY_RUN : SESSION_WRITE);
    if (!session)
        return EXIT_FAILURE;
    good = unpack(session->guest, fd, argv[optind + 1], dry_run) && (dry_run || commit_guest(session->guest));
    good = session_close(session) && good;
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct command tar_in_command = {
    .name = "tar-in",
    .summary = "unpack a tar archive inside a disk",
    .usage = GUEST_USAGE " [OPTION...] ARCHIVE|- DIR",
    .options = "      --dry-run           change nothing, print what would be put where\n" GUEST_HELP GUEST_HELP_MOUNT,
    .short_opts = GUEST_SHORT GUEST_SHORT_MOUNT GUEST_SHORT_FISH,
    .long_opts = long_opts,
    .run = run,
};
