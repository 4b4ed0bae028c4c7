/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* storage.c - what every storage can do with the operations that its table has (storage.h). */
#include "storage.h"

#include <errno.h>
#include <stdlib.h>

/* One block of zeroes that nobody writes, named several times by one vector: a large zeroing needs no memory. */
#define ZERO_BLOCK ((size_t)64 << 10)
#define ZERO_PIECES 16
static uint8_t zero_block[ZERO_BLOCK] __attribute__((aligned(4096)));

int storage_write_zeroes(struct storage *s, uint64_t offset, uint64_t length) {
    while (length > 0) {
        struct iovec iov[ZERO_PIECES];
        uint64_t covered = 0;
        int n = 0;
        for (; n < ZERO_PIECES && covered < length; n++) {
            uint64_t left = length - covered;
            iov[n] = (struct iovec){zero_block, left < ZERO_BLOCK ? (size_t)left : ZERO_BLOCK};
            covered += iov[n].iov_len;
        }
        int r = storage_writev(s, iov, n, offset);
        if (r < 0)
            return r;
        offset += covered;
        length -= covered;
    }
    return 0;
}

int storage_zero(struct storage *s, uint64_t offset, uint64_t length, bool unmap) {
    uint64_t end;
    if (__builtin_add_overflow(offset, length, &end))
        return -EFBIG;
    if (length == 0)
        return 0;
    if (s->ops->zero != NULL) {
        int r = s->ops->zero(s, offset, length, unmap);
        if (r != -ENOTSUP)
            return r;
    }
    return storage_write_zeroes(s, offset, length);
}

void storage_close(struct storage *s) {
    if (s != NULL)
        s->ops->close(s);
}
