/* SPDX-License-Identifier: GPL-3.0-or-later */
/* checksum.h - checksums of a guest's files, by the names that virt-ls --checksum takes. */
#ifndef CHECKSUM_H
#define CHECKSUM_H

#include <stdbool.h>

#include "fs/guest.h"

#define CHECKSUM_TEXT_MAX 160

/* "crc" (POSIX cksum, in decimal), "md5", "sha1", "sha224", "sha256", "sha384", "sha512". */
bool checksum_is_known(const char *name);
/* Of a regular file's content, as text. */
int checksum_file(const char *name, const struct guest_node *file, char text[CHECKSUM_TEXT_MAX],
                  struct img_error *err) IMG_WARN_UNUSED;

#endif
