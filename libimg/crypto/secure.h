/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* secure.h - memory for keys: in no core dump, on no swap where the system allows it, wiped when it is given back. */
#ifndef LIBIMG_CRYPTO_SECURE_H
#define LIBIMG_CRYPTO_SECURE_H

#include <stddef.h>

/* Zeroed; NULL: no memory. */
void *secure_alloc(size_t count);
/* `count` as it was asked for. NULL is allowed. */
void secure_free(void *memory, size_t count);

#endif
