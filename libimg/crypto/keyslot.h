/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* keyslot.h - from a passphrase to the master key of a LUKS1 volume, and changes of its key slots.
 *
 * The header lies somewhere in a storage: at the front of a LUKS image, or in clusters of a qcow2 image. What is
 * written here is written in place, in an order in which a power cut leaves a volume that opens with the old or the new
 * passphrase or both: key material goes to a slot that is not active, then, behind a barrier, the header's sector says
 * that the slot is active; a slot is first said to be unused, and then its material is erased.
 */
#ifndef LIBIMG_CRYPTO_KEYSLOT_H
#define LIBIMG_CRYPTO_KEYSLOT_H

#include "../storage.h"
#include "luks1.h"

/* Iterations that unlocking spends at most if nobody says otherwise: minutes of one processor. */
#define LUKS_ITERATIONS_DEFAULT 200000000ull

struct luks_place {
    struct storage *file;
    uint64_t offset, length; /* all of the header is inside */
};

/* Reads and checks the header and where it says that things are. */
int luks_read(const struct luks_place *place, struct luks_header *header, struct img_error *err);

/* The master key, header->key_bytes at `master`, and the slot that gave it. -EACCES: no slot opens with the
 * passphrase. -E2BIG: trying would take more than `budget` iterations (0: the default). */
int luks_unlock(const struct luks_place *place, const struct luks_header *header, const struct img_key *passphrase,
                uint64_t budget, uint8_t *master, unsigned *slot, struct img_error *err);
/* Does this slot open with the passphrase? 1, 0 or -errno. Its iterations come off *budget. */
int luks_try_slot(const struct luks_place *place, const struct luks_header *header, unsigned slot,
                  const struct img_key *passphrase, uint64_t *budget, uint8_t *master, struct img_error *err);

/* What a new volume's header and its one key slot are, for whoever writes them: header->payload is the length of all,
 * of which the first *count bytes, at *out (malloc'ed), are not zero. The options are those of a new image. */
int luks_format(const struct img_encryption *options, struct luks_header *header, uint8_t **out, size_t *count,
                struct img_error *err);

/* The length of that header. */
int luks_measure(const struct img_encryption *options, uint64_t *payload, struct img_error *err);

/* Gives slot `slot`, which is not active, a passphrase; durable when it returns 0. */
int luks_add(const struct luks_place *place, struct luks_header *header, unsigned slot, const uint8_t *master,
             const struct img_key *passphrase, unsigned iter_time, struct img_error *err);
/* Takes a slot away and erases it; durable. */
int luks_remove(const struct luks_place *place, struct luks_header *header, unsigned slot, struct img_error *err);

#endif
