/* SPDX-License-Identifier: GPL-3.0-or-later */
/* faulty_storage.c - see faulty_storage.h. */
#include "faulty_storage.h"

#include <errno.h>

#include "scratch.h"

static struct faulty *faulty_of(struct storage *s) {
    return (struct faulty *)s;
}

static int faulty_read(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct faulty *f = faulty_of(s);
    uint64_t end = offset;
    for (int i = 0; i < niov; i++)
        end += iov[i].iov_len;
    f->reads++;
    return offset < f->bad_end && end > f->bad_start ? -EIO : storage_readv(f->under, iov, niov, offset);
}

static bool write_fails(struct faulty *f) {
    if (f->writes_left == 0)
        return true;
    f->writes_left--;
    f->writes++;
    return false;
}

/* Whatever the header names must be durable before it, and it before what follows. */
static void note_order(struct faulty *f, bool header) {
    f->out_of_order += f->header_unflushed || (header && f->unflushed);
    f->header_unflushed |= header;
    f->unflushed |= !header;
}

static int faulty_write(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct faulty *f = faulty_of(s);
    if (write_fails(f))
        return f->error;
    note_order(f, offset == 0);
    return storage_writev(f->under, iov, niov, offset);
}

static int faulty_flush(struct storage *s) {
    struct faulty *f = faulty_of(s);
    if (write_fails(f))
        return f->error;
    f->unflushed = f->header_unflushed = false;
    return 0;
}

static int faulty_zero(struct storage *s, uint64_t offset, uint64_t length, bool unmap) {
    struct faulty *f = faulty_of(s);
    return write_fails(f) ? f->error : f->under->ops->zero(f->under, offset, length, unmap);
}

static int faulty_punch(struct storage *s, uint64_t offset, uint64_t length) {
    struct faulty *f = faulty_of(s);
    return write_fails(f) ? f->error : f->under->ops->punch(f->under, offset, length);
}

static int faulty_truncate(struct storage *s, uint64_t length) {
    struct faulty *f = faulty_of(s);
    return write_fails(f) ? f->error : f->under->ops->truncate(f->under, length);
}

static int faulty_reserve(struct storage *s, uint64_t offset, uint64_t length) {
    struct faulty *f = faulty_of(s);
    return write_fails(f) ? f->error : f->under->ops->reserve(f->under, offset, length);
}

static int faulty_extent(struct storage *s, uint64_t offset, uint64_t length, struct storage_extent *extent) {
    return faulty_of(s)->under->ops->extent(faulty_of(s)->under, offset, length, extent);
}

static uint64_t faulty_size(struct storage *s) {
    return storage_size(faulty_of(s)->under);
}

static uint64_t faulty_allocated(struct storage *s) {
    return faulty_of(s)->under->ops->allocated(faulty_of(s)->under);
}

static void faulty_close(struct storage *s) {
    storage_close(faulty_of(s)->under);
}

static const struct storage_ops faulty_ops = {
    .read = faulty_read,
    .write = faulty_write,
    .flush = faulty_flush,
    .zero = faulty_zero,
    .punch = faulty_punch,
    .truncate = faulty_truncate,
    .reserve = faulty_reserve,
    .extent = faulty_extent,
    .size = faulty_size,
    .allocated = faulty_allocated,
    .close = faulty_close,
};

void faulty_open(struct faulty *f, const char *path) {
    *f = (struct faulty){
        .under = open_storage(path, IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK), .writes_left = FAULTY_NEVER, .error = -EIO};
    f->base.ops = &faulty_ops;
    f->base.name = f->under->name;
    f->base.writable = true;
}
