/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* afsplit.h - LUKS's anti-forensic splitter: a key blown up to many stripes, of which all are needed to get it back, so
 * that whoever erases any part of them has erased the key.
 *
 * Specification: "LUKS On-Disk Format", 2.4 "Anti-forensic information splitter".
 */
#ifndef LIBIMG_CRYPTO_AFSPLIT_H
#define LIBIMG_CRYPTO_AFSPLIT_H

#include "library.h"

/* `count` bytes at `key` become `stripes` (> 0) times as many at `out`; random but for the last. */
int af_split(EVP_MD *hash, const uint8_t *key, size_t count, uint32_t stripes, uint8_t *out, struct img_error *err);
int af_merge(EVP_MD *hash, const uint8_t *split, size_t count, uint32_t stripes, uint8_t *key, struct img_error *err);

#endif
