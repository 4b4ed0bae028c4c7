/* SPDX-License-Identifier: GPL-3.0-or-later */
/* judge.h - is a disk state as it must be after a power cut?
 *
 * The image opens, img_check finds neither corruption nor error, each sector holds a value that the model allows, each
 * internal snapshot reads as it did, and is there when it must be; a cut inside a full switch leaves exactly before or
 * after, and no leak; where guest data have changed, unknown autoclear bits are gone; bitmaps are as bitmaps.h says,
 * and the key slots of an encrypted image as keys.h does. Then the image is opened for writing, a few places are
 * written, zeroed and discarded: all else must stay as it was, the check must stay clean and find no more leaks than
 * before. qemu-img check gives a second opinion, before and after.
 */
#ifndef CRASH_JUDGE_H
#define CRASH_JUDGE_H

#include "bitmaps.h"
#include "keys.h"
#include "model.h"
#include "qemu.h"
#include "replayer.h"

enum { JUDGE_SNAPSHOTS = 12, JUDGE_SWITCHES = 16, JUDGE_CACHE = 128 << 10 };

/* A change that is wholly there or not at all, of an image that was closed cleanly before it. */
struct judge_switch {
    uint64_t begin, end; /* ticks */
    uint64_t size_before, size_after;
    uint8_t *before, *after; /* all windows; owned */
};

struct judge {
    const struct log *log;     /* its devices' paths are the states' */
    const struct model *model; /* NULL: contents are not looked at */
    const char *folder;        /* for the files that qemu-img is given */
    unsigned qemu_every;       /* qemu-img judges every n-th state; 0: none */
    const char *keep;          /* a folder for failing states, or NULL */
    const char *dump;          /* a file that each judged state is saved to, or NULL */
    const char *format;        /* "qcow2" or "luks" */
    struct {
        const char *name;
        uint8_t *content; /* of all windows; owned */
        /* ticks: it is there from some moment in [asked, born] to some moment in [asked_away, gone] */
        uint64_t asked, born, asked_away, gone;
    } snapshots[JUDGE_SNAPSHOTS];
    unsigned nsnapshots;
    struct judge_switch switches[JUDGE_SWITCHES];
    unsigned nswitches;
    struct bitmaps_known bitmaps;
    struct keys_known keys;

    uint8_t *original; /* of all windows, at the start */

    struct qemu qemu;
    unsigned judged;
    char why[1024]; /* of the first failing state */
    char last[1024];
};

/* A replay_judge; `opaque` is a struct judge. */
bool judge_state(void *opaque, const struct replay_state *state);

/* The same for one set of devices, whatever the model: opens, checks, and finds at most `max_leaks`. */
bool judge_clean(struct judge *j, const struct bytes *devices, uint64_t max_leaks);

/* Opens the image of a disk, or a snapshot of it. */
int judge_open(const struct judge *j, struct log *disk, uint32_t flags, const char *snapshot, const char *passphrase,
               struct img **image, struct img_error *err);

/* A discard has no effect on an image of version 2 over a backing file, nor on LUKS. */
bool judge_discards(struct img *image);

/* Reads all windows of an open image, up to its size; what lies behind is zero. */
int judge_read(const struct model *m, struct img *image, uint8_t *all, struct img_error *err);

#endif
