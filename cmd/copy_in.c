/* SPDX-License-Identifier: GPL-3.0-or-later */
/* copy_in.c - `img copy-in`, virt-copy-in: files and folders of the host copied into a guest's disk: as one
 * transaction, if the guest's journal can hold it, or as several.
 *
 * A process of its own packs them; what comes out of it is unpacked in the sandbox. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "guest.h"
#include "libarchive.h"
#include "pack.h"
#include "report.h"
#include "unpack.h"

enum { OPT_DRY_RUN = OPT_GUEST_FIRST_FREE };

static const struct option long_opts[] = {
    GUEST_LONG, GUEST_LONG_MOUNT, GUEST_LONG_FISH, {"dry-run", no_argument, NULL, OPT_DRY_RUN}, GUEST_LONG_END,
};

static bool all_there(char *const *paths, size_t count) {
    struct stat stat;
    for (size_t i = 0; i < count; i++)
        if (lstat(paths[i], &stat) < 0) {
            report("%s: %s", paths[i], strerror(errno));
            return false;
        }
    return true;
}

static bool copy_in(struct guest_options *options, bool dry_run, char *const *paths, size_t npaths, const char *dir) {
    struct packer packer;
    if (!all_there(paths, npaths) || !libarchive_load() || !pack_start(&packer, paths, npaths))
        return false;
    struct session *session = session_open(options, dry_run ? SESSION_DRY_RUN : SESSION_WRITE);
    bool good = session && unpack(session->guest, packer.fd, dir, dry_run);
    good = pack_end(&packer) && good;
    if (good && !dry_run)
        good = commit_guest(session->guest);
    return (!session || session_close(session)) && good;
}

static int run(int argc, char **argv) {
    struct guest_options options = {0};
    bool dry_run = false;
    int opt;
    while ((opt = next_option(&copy_in_command, argc, argv)) != -1) {
        if (!guest_option(opt, &options))
            return EXIT_FAILURE;
        dry_run |= opt == OPT_DRY_RUN;
    }
    int count = argc - optind;
    if (count < 2)
        usage_error("Expecting files of the host and a directory of the guest");
    return copy_in(&options, dry_run, argv + optind, (size_t)count - 1, argv[argc - 1]) ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct command copy_in_command = {
    .name = "copy-in",
    .summary = "copy files into a disk",
    .usage = GUEST_USAGE " [OPTION...] FILE... DIR",
    .options = "      --dry-run           change nothing, print what would be put where\n" GUEST_HELP GUEST_HELP_MOUNT,
    .short_opts = GUEST_SHORT GUEST_SHORT_MOUNT GUEST_SHORT_FISH,
    .long_opts = long_opts,
    .run = run,
};
