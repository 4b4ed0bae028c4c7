/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* crypto.h - the encryption of an open image's guest data.
 *
 * A driver whose image is encrypted gives it a struct img_crypto when it opens; what moves guest data (move.c) passes
 * every host step through it. Metadata and compressed clusters are not encrypted, as in QEMU.
 *
 * The number that a sector is encrypted under is its place on the host (LUKS in qcow2) or in the guest's disk (the old
 * AES of qcow2; a LUKS image, where both are the same but for the header).
 *
 * Always holds for guest data of an encrypted image: zero bytes on the host are not zeroes, so nothing that only the
 * host makes zero is taken for zeroes, and no fresh cluster is known to be zero.
 */
#ifndef LIBIMG_CRYPTO_H
#define LIBIMG_CRYPTO_H

#include "crypto/keyslot.h"
#include "image.h"
#include "iov.h"
#include "rangelock.h"

struct img_crypto {
    struct sector_cipher *cipher; /* NULL: opened for its metadata only */
    bool by_host;                 /* the sector's number is its host offset's */
    struct rangelock *sectors;    /* host sectors that are rewritten in part */
    /* LUKS */
    bool luks;
    struct luks_place place;
    struct luks_header header; /* changed under image->whole */
    uint8_t *master;           /* secure, LUKS_KEY_MAX bytes; NULL as `cipher` */
    struct img_luks_info info; /* img_info's */
    char cipher_name[64];
};

/* Opens the guest's data, with the key that `options` have or can ask for, unless the image is opened for its metadata
 * only. `parameter`: what a user calls the key. -ENOKEY: there is none; -EACCES: it is wrong. */
int crypto_open_luks(struct img *image, const struct luks_place *place, bool by_host,
                     const struct img_driver_options *options, const char *parameter, struct img_error *err);
int crypto_open_aes(struct img *image, const struct img_driver_options *options, const char *parameter,
                    struct img_error *err);
void crypto_close(struct img *image);

/* The AES key of a passphrase: its first bytes. */
#define CRYPTO_AES_KEY 16

/* Fills in what img_info tells of it. */
void crypto_info(struct img *image, struct img_info *info);

/* One step of a plan that reads, IMG_STEP_HOST. */
int crypto_read(struct img *image, const struct img_step *step, struct iov_cursor *to, struct img_error *err);
/* [head][the step's bytes from the cursor][tail] to the plan's one step; the edges are `edges`, one behind the other.
 * Sectors of which only a part is written are read, changed and written back, and nobody else writes them meanwhile. */
int crypto_write(struct img *image, const struct img_plan *plan, const uint8_t *edges, uint64_t head, uint64_t tail,
                 struct iov_cursor *from, struct img_error *err);

#endif
