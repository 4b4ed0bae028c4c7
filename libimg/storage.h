/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* storage.h - what lies under a format: a row of bytes that can be read, written and made durable.
 *
 * One small table of operations. The host file and block device (file.c) is the first storage, a byte range of an
 * open image (range.c) the second; the crash recorder of the tests is another, and network stores come later.
 * Every call may be made from any number of threads at once and may block. Offsets and lengths are bytes and need no
 * alignment: a storage that has a block size (O_DIRECT) deals with it inside.
 *
 * No call returns short. Reading past the end of the storage gives zeroes: who must tell "past the end" from "zero"
 * asks storage_size first.
 */
#ifndef LIBIMG_STORAGE_H
#define LIBIMG_STORAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "img.h"

struct storage;
struct range_hold;

struct storage_extent {
    uint64_t length; /* bytes from the offset asked for, > 0 */
    bool zero;       /* a hole: reads as zeroes and takes no space */
};

/* How an executor may do the I/O of a storage itself: preadv and pwritev on `fd`, at the storage's own offsets, of
 * which a read that ends early has met the end (zeroes follow). */
struct storage_descriptor {
    int fd;
    bool in_memory;      /* tmpfs: no call ever waits */
    bool direct;         /* O_DIRECT: only whole blocks can go this way, and writes between `hold` and `let_go` */
    size_t memory_align; /* direct: of buffers */
    size_t block;        /* direct: of offsets and lengths */
};

struct storage_ops {
    int (*read)(struct storage *, const struct iovec *, int niov, uint64_t offset);
    int (*write)(struct storage *, const struct iovec *, int niov, uint64_t offset);
    /* Completed writes, zeroes, punches and truncates survive a power cut once this has returned 0. */
    int (*flush)(struct storage *);
    /* Makes the range read as zeroes; may give space back with `unmap`. -ENOTSUP: the caller writes zeroes. */
    int (*zero)(struct storage *, uint64_t offset, uint64_t length, bool unmap);
    /* Gives the space back and keeps the length; the range reads as zeroes afterwards, or the call fails. */
    int (*punch)(struct storage *, uint64_t offset, uint64_t length);
    /* Sets the length (files only; else -ENOTSUP); new bytes read as zeroes. No write behind the shorter of the old and
     * the new length may run beside it. */
    int (*truncate)(struct storage *, uint64_t length);
    /* Reserves host space for the range without changing what it reads as; the length grows to its end. */
    int (*reserve)(struct storage *, uint64_t offset, uint64_t length);
    /* Describes what starts at `offset`, at most `length` (> 0) bytes of it; behind the end all is a hole. Where holes
     * cannot be seen, and while others change the file, a hole may be called data. */
    int (*extent)(struct storage *, uint64_t offset, uint64_t length, struct storage_extent *);
    /* What the host can make of a range of `from` by itself, to save reading and writing it; both may be NULL. The
     * block of which both offsets and the length must be multiples, 0 when it can do nothing. With `copies` it may
     * copy, else only share. */
    uint64_t (*clone_block)(struct storage *to, struct storage *from, bool copies);
    /* Any failure: the range holds anything, and is to be read and written. */
    int (*clone)(struct storage *to, uint64_t offset, struct storage *from, uint64_t from_offset, uint64_t length,
                 bool copies);
    /* For what is moved once and is large; all may be NULL where there is no page cache to spare. Begins to write the
     * range to the disk, without waiting for it. */
    void (*start_writeback)(struct storage *, uint64_t offset, uint64_t length);
    /* Gives the pages of the range back. Where a flush reaches the disk they are on it before, or this fails, and no
     * flush will fail for the same again; elsewhere those that are not stay. */
    int (*drop_cache)(struct storage *, uint64_t offset, uint64_t length);
    /* Reads from now on need not leave anything in the page cache. */
    void (*read_once)(struct storage *, bool);
    uint64_t (*size)(struct storage *);
    uint64_t (*allocated)(struct storage *); /* bytes of host space in use */
    /* False, or NULL: there is no descriptor that would do. */
    bool (*descriptor)(struct storage *, struct storage_descriptor *);
    /* Keeps out, until it is let go, who rewrites a block of the range in part. False: somebody does, and the write is
     * one for `write`. NULL where the descriptor is not `direct`. */
    bool (*hold)(struct storage *, struct range_hold *, uint64_t offset, uint64_t length);
    void (*let_go)(struct storage *, struct range_hold *, bool failed);
    /* Bytes up to `end` were written through the descriptor. */
    void (*wrote)(struct storage *, uint64_t end);
    void (*close)(struct storage *);
};

struct storage {
    const struct storage_ops *ops;
    char *name; /* for messages and for the names it refers to; owned */
    bool writable;
    bool fixed_size;           /* a block device or a range: cannot be truncated, fresh space holds anything */
    uint64_t device_id, inode; /* who it is, for loops in backing chains; both 0: unknown */
};

static inline int storage_readv(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    return s->ops->read(s, iov, niov, offset);
}
static inline int storage_writev(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    return s->ops->write(s, iov, niov, offset);
}
static inline int storage_read(struct storage *s, void *buffer, size_t count, uint64_t offset) {
    struct iovec iov = {buffer, count};
    return s->ops->read(s, &iov, 1, offset);
}
static inline int storage_write(struct storage *s, const void *buffer, size_t count, uint64_t offset) {
    struct iovec iov = {(void *)buffer, count};
    return s->ops->write(s, &iov, 1, offset);
}
static inline int storage_flush(struct storage *s) {
    return s->ops->flush(s);
}
static inline uint64_t storage_size(struct storage *s) {
    return s->ops->size(s);
}

/* Makes the range read as zeroes, by writing where the storage has nothing better. */
int storage_zero(struct storage *s, uint64_t offset, uint64_t length, bool unmap);
/* Writes zeroes over the range, in pieces, whatever else the storage could do. */
int storage_write_zeroes(struct storage *s, uint64_t offset, uint64_t length);

/* Opens a host regular file or block device (file.c), refuses anything else at once, and takes the image locks before
 * anything is read. `flags`: enum img_open_flags; IMG_OPEN_WRITE opens for writing, IMG_OPEN_FORCE_SHARE reads whatever
 * others do, IMG_OPEN_UNLOCKED takes no locks; the others mean nothing here. The modes with O_DIRECT fall back to the
 * page cache where the file system has none; that every write be durable (write-through) is up to the caller. */
int file_open(const char *path, uint32_t flags, enum img_cache cache, struct storage **out, struct img_error *err);
/* As file_open on a descriptor, which is duplicated: file offset, status flags and locks are shared with the caller's.
 */
int file_open_fd(int fd, uint32_t flags, enum img_cache cache, struct storage **out, struct img_error *err);
/* Creates (O_CREAT | O_EXCL) a regular file for writing, mode 0644 & ~umask, locked as its creator. */
int file_create(const char *path, enum img_cache cache, struct storage **out, struct img_error *err);
/* Makes a rename or a new name in the folder of `path` durable. */
int file_sync_directory(const char *path, struct img_error *err);

/* A byte range of an open image as a storage (range.c). */
int range_open(struct img *parent, uint64_t offset, uint64_t length, struct storage **out, struct img_error *err);
/* All of an image as a storage that closes the image with itself; owns it even when this fails. */
int range_adopt(struct img *parent, struct storage **out, struct img_error *err);

void storage_close(struct storage *s);

#endif
