/* SPDX-License-Identifier: GPL-3.0-or-later */
/* recover.c - a filesystem that was not unmounted: its journal replayed, and what it holds then shown.
 *
 * The journal is found with the filesystem as it lies on the disk. If it changes something, the filesystem is opened a
 * second time, on the overlay. A journal that cannot be replayed does not keep anybody from reading: the filesystem is
 * shown as it lies there, with a warning.
 */
#include <errno.h>
#include <stdlib.h>

#include "../overlay.h"
#include "journal.h"

static const char no_journal[] = "the journal is on another device and was not replayed: files may be old or damaged";
static const char not_replayed[] = "the journal is damaged and was not replayed: files may be old or damaged";
static const char in_part[] = "the journal is damaged and was replayed in part: files may be old or damaged";

/* Memory and the host's errors end the opening, what is wrong in the guest does not. */
static int only_warn(struct ext *ext, int ret, const char *warning) {
    if (ret != -EUCLEAN && ret != -ENOTSUP && ret != -EFBIG)
        return ret;
    ext->fs.warning = warning;
    return 0;
}

/* What fast commits change in inodes lies on an overlay of its own: the log alone can be put to its places. */
static int show(struct ext *ext, struct device *device, struct device *overlay, bool notes, struct img_error *err) {
    ext_close_library(ext);
    ext->overlay = ext->fs.shown = overlay;
    ext->fs.replayed = true;
    int ret = notes ? device_of_overlay(overlay ? overlay : device, ext->block_size, &ext->noted, err) : 0;
    return ret < 0 ? ret : ext_open_library(ext, ext->noted ? ext->noted : overlay, err);
}

/* Reads all that the journal holds: the log becomes an overlay, notes of fast commits are kept. */
static int gather(struct ext *ext, struct device *device, struct device **overlay, struct fast_log *notes,
                  struct img_error *err) {
    struct journal journal;
    uint32_t end = 0;
    bool damaged = false;
    int ret = journal_open(ext, &journal, err);
    if (ret < 0)
        return ret;
    ret = journal_replay(&journal, device, overlay, &end, &damaged, err);
    if (ret == 0 && journal.start != 0 && !damaged)
        ret = fast_scan(&journal, end, notes, err);
    if (damaged)
        ext->fs.warning = in_part;
    ext->journal_end = end;
    journal_close(&journal);
    return ret;
}

int ext_recover(struct ext *ext, struct device *device, struct img_error *err) {
    struct device *overlay = NULL;
    struct fast_log notes = {0};
    if (!ext2fs_has_feature_journal_needs_recovery(super_of(ext)))
        return 0;
    if (super_of(ext)->s_journal_inum == 0) {
        ext->fs.warning = no_journal;
        return 0;
    }
    int ret = gather(ext, device, &overlay, &notes, err);
    if (ret < 0) {
        device_close(overlay);
        ret = only_warn(ext, ret, not_replayed);
    } else if (overlay || notes.tags) {
        ret = show(ext, device, overlay, notes.tags, err);
        if (ret == 0 && notes.tags)
            ret = only_warn(ext, fast_replay(ext, &notes, err), in_part);
    }
    free(notes.bytes);
    return ret;
}
