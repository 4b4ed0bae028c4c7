/* SPDX-License-Identifier: GPL-3.0-or-later */
/* library.h - libcryptsetup, which is loaded for those who have keys: lc.crypt_init(). Only for the files of this
 * folder. */
#ifndef FS_VOLUME_CRYPT_LIBRARY_H
#define FS_VOLUME_CRYPT_LIBRARY_H

#include <libcryptsetup.h>

#include "../../late.h"

#define LIBCRYPTSETUP(F)                                                                                               \
    F(crypt_dump_json)                                                                                                 \
    F(crypt_free)                                                                                                      \
    F(crypt_get_cipher)                                                                                                \
    F(crypt_get_cipher_mode)                                                                                           \
    F(crypt_get_type)                                                                                                  \
    F(crypt_get_uuid)                                                                                                  \
    F(crypt_get_volume_key_size)                                                                                       \
    F(crypt_init)                                                                                                      \
    F(crypt_load)                                                                                                      \
    F(crypt_metadata_locking)                                                                                          \
    F(crypt_safe_alloc)                                                                                                \
    F(crypt_safe_free)                                                                                                 \
    F(crypt_set_log_callback)                                                                                          \
    F(crypt_volume_key_get)

extern struct libcryptsetup { LIBCRYPTSETUP(LATE_POINTER) } lc;

#endif
