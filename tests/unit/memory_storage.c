/* SPDX-License-Identifier: GPL-3.0-or-later */
/* memory_storage.c - a storage in memory for unit tests (memory_storage.h). */
#include "unit/memory_storage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct memory_storage *memory_of(struct storage *s) {
    return (struct memory_storage *)s;
}

static int memory_read(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct memory_storage *m = memory_of(s);
    m->reads++;
    if (m->fail_reads != 0)
        return m->fail_reads;
    for (int i = 0; i < niov; i++) {
        uint64_t there = offset < m->size ? m->size - offset : 0;
        size_t count = iov[i].iov_len < there ? iov[i].iov_len : (size_t)there;
        memcpy(iov[i].iov_base, m->bytes + (count > 0 ? offset : 0), count);
        memset((uint8_t *)iov[i].iov_base + count, 0, iov[i].iov_len - count);
        offset += iov[i].iov_len;
    }
    return 0;
}

static int memory_write(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct memory_storage *m = memory_of(s);
    m->writes++;
    for (int i = 0; i < niov; i++) {
        if (offset + iov[i].iov_len > m->size)
            memory_resize(m, offset + iov[i].iov_len);
        memcpy(m->bytes + offset, iov[i].iov_base, iov[i].iov_len);
        offset += iov[i].iov_len;
    }
    return 0;
}

static int memory_flush(struct storage *s) {
    memory_of(s)->flushes++;
    return 0;
}

static int memory_truncate(struct storage *s, uint64_t length) {
    memory_resize(memory_of(s), length);
    return 0;
}

static uint64_t memory_size(struct storage *s) {
    return memory_of(s)->size;
}

static const struct storage_ops memory_ops = {
    .read = memory_read,
    .write = memory_write,
    .flush = memory_flush,
    .truncate = memory_truncate,
    .size = memory_size,
    .allocated = memory_size,
};

void memory_open(struct memory_storage *m, uint64_t size) {
    memset(m, 0, sizeof *m);
    m->base.ops = &memory_ops;
    m->base.writable = true;
    memory_resize(m, size);
}

void memory_resize(struct memory_storage *m, uint64_t size) {
    uint8_t *bytes = realloc(m->bytes, size > 0 ? size : 1);
    if (bytes == NULL)
        abort();
    if (size > m->size)
        memset(bytes + m->size, 0, size - m->size);
    m->bytes = bytes;
    m->size = size;
}

void memory_close(struct memory_storage *m) {
    free(m->bytes);
    m->bytes = NULL;
    m->size = 0;
}

void memory_put(struct memory_storage *m, uint64_t offset, unsigned width, uint64_t value) {
    for (unsigned i = 0; i < width; i++)
        m->bytes[offset + i] = (uint8_t)(value >> 8 * (width - 1 - i));
}

uint64_t memory_get(const struct memory_storage *m, uint64_t offset, unsigned width) {
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++)
        value = value << 8 | m->bytes[offset + i];
    return value;
}
