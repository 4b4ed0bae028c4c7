/* SPDX-License-Identifier: GPL-3.0-or-later */
/* guest_change.c - what all commands share that change files of a guest (guest.h). */
#include "fs/vfs_write.h"
#include "guest.h"
#include "report.h"

void warn_if_not_whole(const struct fs *fs) {
    static bool told;
    if (fs->write_ops->whole || told)
        return;
    told = true;
    report("The filesystem (%s) has no journal: a power cut now could leave it in need of a check", fs->type);
}

bool commit_guest(struct guest *guest) {
    const struct guest_mount *mounts;
    struct img_error err = {0};
    size_t count = guest_mounts(guest, &mounts);
    for (size_t i = 0; i < count; i++) {
        struct fs *fs = mounts[i].fs;
        if (fs->write_ops && fs->write_ops->commit(fs, &err) < 0) {
            report_guest_error(&err);
            return false;
        }
    }
    return true;
}
