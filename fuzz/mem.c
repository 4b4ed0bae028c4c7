// SPDX-License-Identifier: GPL-3.0-or-later
/* mem.c - a file in memory as a storage: no system call on the way, so that a fuzzer makes thousands of runs a second.
 *
 * One piece of address space is kept for all runs and only what a run touched is cleared. It behaves as a file does:
 * sparse, growing by writes and truncates, with holes where a page is zero, full at MEM_MOST.
 */
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u

struct mem_handle {
    struct storage storage;
    struct mem *mem;
};

static struct mem *mem_of(struct storage *s) {
    return ((struct mem_handle *)s)->mem;
}

static uint64_t total(const struct iovec *iov, int niov) {
    uint64_t sum = 0;
    for (int i = 0; i < niov; i++)
        sum += iov[i].iov_len;
    return sum;
}

static int mem_read(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct mem *m = mem_of(s);
    for (int i = 0; i < niov; i++) {
        uint64_t count = iov[i].iov_len, there = offset < m->size ? m->size - offset : 0;
        if (there > count)
            there = count;
        if (there)
            memcpy(iov[i].iov_base, m->bytes + offset, there);
        if (count > there)
            memset((uint8_t *)iov[i].iov_base + there, 0, count - there);
        if (__builtin_add_overflow(offset, count, &offset))
            return -EFBIG;
    }
    return 0;
}

/* Makes room for a change of [offset, offset + length). */
static int reach(struct mem *m, uint64_t offset, uint64_t length, bool grow) {
    uint64_t end;
    if (__builtin_add_overflow(offset, length, &end) || end > INT64_MAX)
        return -EFBIG;
    if (end > MEM_MOST)
        return -ENOSPC;
    m->writes++;
    if (end > m->touched)
        m->touched = end;
    if (grow && end > m->size)
        m->size = end;
    return 0;
}

static int mem_write(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct mem *m = mem_of(s);
    int rc;
    if (!s->writable)
        fuzz_fail("a write of a file that is open to read");
    rc = reach(m, offset, total(iov, niov), true);
    for (int i = 0; i < niov && rc == 0; i++) {
        if (iov[i].iov_len)
            memcpy(m->bytes + offset, iov[i].iov_base, iov[i].iov_len);
        offset += iov[i].iov_len;
    }
    return rc;
}

static int mem_flush(struct storage *s) {
    (void)s;
    return 0;
}

static int clear(struct storage *s, uint64_t offset, uint64_t length, bool grow) {
    struct mem *m = mem_of(s);
    if (!s->writable)
        fuzz_fail("a zeroing of a file that is open to read");
    if (!grow && offset >= m->size)
        return 0;
    if (!grow && length > m->size - offset)
        length = m->size - offset;
    int rc = reach(m, offset, length, grow);
    if (rc == 0)
        memset(m->bytes + offset, 0, length);
    return rc;
}

static int mem_zero(struct storage *s, uint64_t offset, uint64_t length, bool unmap) {
    (void)unmap;
    return clear(s, offset, length, true);
}

static int mem_punch(struct storage *s, uint64_t offset, uint64_t length) {
    return clear(s, offset, length, false);
}

static int mem_truncate(struct storage *s, uint64_t length) {
    struct mem *m = mem_of(s);
    if (!s->writable)
        fuzz_fail("a truncate of a file that is open to read");
    int rc = reach(m, 0, length, false);
    if (rc)
        return rc;
    if (length < m->size)
        memset(m->bytes + length, 0, m->size - length);
    m->size = length;
    return 0;
}

static int mem_reserve(struct storage *s, uint64_t offset, uint64_t length) {
    if (!s->writable)
        fuzz_fail("a reservation in a file that is open to read");
    return reach(mem_of(s), offset, length, true);
}

static bool page_is_hole(const struct mem *m, uint64_t page) {
    return page * PAGE >= m->touched || img_is_zero(m->bytes + page * PAGE, PAGE);
}

static int mem_extent(struct storage *s, uint64_t offset, uint64_t length, struct storage_extent *e) {
    struct mem *m = mem_of(s);
    uint64_t size = m->size, end = offset + length;
    if (offset >= size) {
        *e = (struct storage_extent){length, true};
        return 0;
    }
    if (end < offset || end > size)
        end = size;
    uint64_t page = offset / PAGE;
    bool hole = page_is_hole(m, page);
    do
        page++;
    while (page * PAGE < end && page_is_hole(m, page) == hole);
    *e = (struct storage_extent){(page * PAGE < end ? page * PAGE : end) - offset, hole};
    return 0;
}

static uint64_t mem_size(struct storage *s) {
    return mem_of(s)->size;
}

static void mem_close(struct storage *s) {
    free(s->name);
    free(s);
}

static const struct storage_ops mem_ops = {
    .read = mem_read,
    .write = mem_write,
    .flush = mem_flush,
    .zero = mem_zero,
    .punch = mem_punch,
    .truncate = mem_truncate,
    .reserve = mem_reserve,
    .extent = mem_extent,
    .size = mem_size,
    .allocated = mem_size,
    .close = mem_close,
};

struct mem *mem_load(const uint8_t *data, size_t size) {
    static struct mem mem;
    if (!mem.bytes) {
        void *p = mmap(NULL, MEM_MOST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
            abort();
        mem.bytes = p;
    }
    if (size > MEM_MOST)
        size = MEM_MOST;
    if (mem.touched > 1u << 20) /* pages given back, not only cleared */
        madvise(mem.bytes, MEM_MOST, MADV_DONTNEED);
    else
        memset(mem.bytes, 0, mem.touched);
    if (size)
        memcpy(mem.bytes, data, size);
    mem.size = mem.touched = size;
    mem.writes = 0;
    return &mem;
}

struct storage *mem_storage(struct mem *mem, bool writable) {
    struct mem_handle *h = calloc(1, sizeof(*h));
    if (!h)
        return NULL;
    h->storage.ops = &mem_ops;
    h->storage.name = strdup("memory");
    h->storage.writable = writable;
    h->mem = mem;
    return &h->storage;
}
