/* SPDX-License-Identifier: GPL-3.0-or-later */
/* keys.h - which passphrases open an encrypted image after a power cut.
 *
 * One that is there for good opens it; one that was taken away for good does not; in between either may be. At least
 * one opens it always, and each slot that is in use opens with one of them: half a slot is never in use. A scenario
 * gives each passphrase one slot.
 */
#ifndef CRASH_KEYS_H
#define CRASH_KEYS_H

#include "img.h"
#include "util.h"

struct log;
struct judge;
struct world;

enum { KEYS_MAX = 8 };

/* In ticks: it opens the image from some moment in [asked, born] to some moment in [asked_away, gone]. */
struct key_known {
    const char *passphrase;
    uint64_t asked, born, asked_away, gone;
};

struct keys_known {
    struct key_known list[KEYS_MAX];
    unsigned count;
};

struct img_key key_of(const char *passphrase);
/* The one that the image was made with. */
void keys_meet(struct keys_known *k, const char *passphrase);
/* One that opens the image now; NULL: it is not encrypted. */
const char *keys_now(const struct keys_known *k);

/* Tries them all on a disk. *passphrase is one that opens it, NULL where it is not encrypted. If something is not as it
 * must be, `why` says what. */
bool keys_hold(const struct judge *j, struct log *disk, uint64_t cut, const char **passphrase, char *why,
               size_t why_size);

/* The guest's image changes; the judge is told. */
void guest_key_add(struct world *w, const char *passphrase, int slot);
void guest_key_remove(struct world *w, const char *passphrase);
void guest_key_change(struct world *w, const char *from, const char *to);

#endif
