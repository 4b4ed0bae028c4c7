/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* secure.c - memory for keys (secure.h): pages of their own, so that what holds for them holds for nothing else. */
#include "secure.h"

#include <openssl/crypto.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t whole_pages(size_t count) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (count + page - 1) & ~(page - 1);
}

void *secure_alloc(size_t count) {
    size_t bytes = whole_pages(count ? count : 1);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    /* what the system refuses (limits on locked memory) is no reason to do without a key */
    (void)madvise(memory, bytes, MADV_DONTDUMP);
    (void)mlock(memory, bytes);
    return memory;
}

void secure_free(void *memory, size_t count) {
    if (memory == NULL)
        return;
    OPENSSL_cleanse(memory, count);
    munmap(memory, whole_pages(count ? count : 1));
}
