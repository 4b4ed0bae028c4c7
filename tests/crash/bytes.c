/* SPDX-License-Identifier: GPL-3.0-or-later */
/* bytes.c - a sparse row of bytes in memory (bytes.h). Running out of memory ends the test program. */
#include "bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util.h"

static void page_put(struct bytes_page *page) {
    if (page && --page->refs == 0)
        free(page);
}

void bytes_free(struct bytes *b) {
    for (size_t i = 0; i < b->npages; i++)
        page_put(b->pages[i]);
    free(b->pages);
    *b = (struct bytes){0};
}

void bytes_clone(struct bytes *to, const struct bytes *from) {
    *to = *from;
    to->pages = xcalloc(from->npages, sizeof(*to->pages));
    for (size_t i = 0; i < from->npages; i++) {
        to->pages[i] = from->pages[i];
        if (to->pages[i])
            to->pages[i]->refs++;
    }
}

static const struct bytes_page *page_at(const struct bytes *b, uint64_t index) {
    return index < b->npages ? b->pages[index] : NULL;
}

/* The page for writing: there, and nobody else's. */
static struct bytes_page *page_own(struct bytes *b, size_t index) {
    if (index >= b->npages) {
        size_t more = index + 64;
        b->pages = xrealloc(b->pages, more * sizeof(*b->pages));
        memset(b->pages + b->npages, 0, (more - b->npages) * sizeof(*b->pages));
        b->npages = more;
    }
    struct bytes_page *old = b->pages[index];
    if (old && old->refs == 1)
        return old;
    struct bytes_page *page = xcalloc(1, sizeof(*page));
    page->refs = 1;
    if (old)
        memcpy(page->data, old->data, BYTES_PAGE);
    page_put(old);
    return b->pages[index] = page;
}

static size_t piece_of(uint64_t offset, uint64_t left) {
    size_t room = BYTES_PAGE - offset % BYTES_PAGE;
    return left < room ? left : room;
}

void bytes_read(const struct bytes *b, void *buffer, size_t count, uint64_t offset) {
    uint8_t *out = buffer;
    memset(out, 0, count);
    if (offset >= b->length)
        return;
    if (count > b->length - offset)
        count = b->length - offset;
    while (count > 0) {
        size_t piece = piece_of(offset, count);
        const struct bytes_page *page = page_at(b, offset / BYTES_PAGE);
        if (page)
            memcpy(out, page->data + offset % BYTES_PAGE, piece);
        out += piece, offset += piece, count -= piece;
    }
}

int bytes_write(struct bytes *b, const void *buffer, size_t count, uint64_t offset) {
    const uint8_t *in = buffer;
    if (offset > BYTES_MAX || count > BYTES_MAX - offset)
        return -EFBIG;
    if (count > 0 && offset + count > b->length)
        b->length = offset + count;
    while (count > 0) {
        size_t piece = piece_of(offset, count);
        memcpy(page_own(b, offset / BYTES_PAGE)->data + offset % BYTES_PAGE, in, piece);
        in += piece, offset += piece, count -= piece;
    }
    return 0;
}

void bytes_zero(struct bytes *b, uint64_t offset, uint64_t length) {
    uint64_t end = (uint64_t)b->npages * BYTES_PAGE;
    if (offset >= end)
        return;
    if (length > end - offset)
        length = end - offset;
    while (length > 0) {
        size_t piece = piece_of(offset, length);
        size_t index = offset / BYTES_PAGE;
        if (piece == BYTES_PAGE) {
            page_put(b->pages[index]);
            b->pages[index] = NULL;
        } else if (b->pages[index]) {
            memset(page_own(b, index)->data + offset % BYTES_PAGE, 0, piece);
        }
        offset += piece, length -= piece;
    }
}

int bytes_truncate(struct bytes *b, uint64_t length) {
    if (length > BYTES_MAX)
        return -EFBIG;
    if (length < b->length)
        bytes_zero(b, length, b->length - length);
    b->length = length;
    return 0;
}

uint64_t bytes_extent(const struct bytes *b, uint64_t offset, uint64_t length, bool *hole) {
    *hole = !page_at(b, offset / BYTES_PAGE);
    uint64_t reach = 0;
    while (reach < length && !page_at(b, (offset + reach) / BYTES_PAGE) == *hole)
        reach += piece_of(offset + reach, length - reach);
    return reach;
}

uint64_t bytes_allocated(const struct bytes *b) {
    uint64_t total = 0;
    for (size_t i = 0; i < b->npages; i++)
        total += b->pages[i] ? BYTES_PAGE : 0;
    return total;
}

uint64_t bytes_hash(const struct bytes *b) {
    uint64_t hash = mix64(b->length + 1);
    for (size_t i = 0; i < b->npages; i++) {
        if (!b->pages[i])
            continue;
        uint64_t words[BYTES_PAGE / 8], sum = 0, any = 0;
        memcpy(words, b->pages[i]->data, BYTES_PAGE);
        for (size_t k = 0; k < BYTES_PAGE / 8; k++) {
            any |= words[k];
            sum = (sum ^ words[k]) * 0x9e3779b97f4a7c15ull;
            sum ^= sum >> 29;
        }
        if (any)
            hash += mix64(sum ^ mix64(i));
    }
    return hash;
}

int bytes_load(struct bytes *b, const char *path) {
    uint8_t page[BYTES_PAGE];
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int rc = fstat(fd, &st) ? -errno : bytes_truncate(b, st.st_size);
    for (uint64_t at = 0; rc == 0 && at < b->length; at += BYTES_PAGE) {
        ssize_t got = pread(fd, page, sizeof(page), at);
        if (got < 0)
            rc = -errno;
        else if (!all_zero(page, got))
            rc = bytes_write(b, page, got, at);
    }
    close(fd);
    return rc;
}

int bytes_save(const struct bytes *b, const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    int rc = ftruncate(fd, b->length) ? -errno : 0;
    for (size_t i = 0; rc == 0 && i < b->npages; i++) {
        uint64_t at = (uint64_t)i * BYTES_PAGE;
        if (!b->pages[i] || at >= b->length)
            continue;
        size_t count = b->length - at < BYTES_PAGE ? b->length - at : BYTES_PAGE;
        if (pwrite(fd, b->pages[i]->data, count, at) != (ssize_t)count)
            rc = errno ? -errno : -EIO;
    }
    return close(fd) && rc == 0 ? -errno : rc;
}
