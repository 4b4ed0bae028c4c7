/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* crypto_move.c - guest data of an encrypted image, between the caller's buffers and the host.
 *
 * A read of whole sectors is decrypted where the caller wants it; else it goes through a bounce buffer of bounded size.
 * A write always does: the caller's bytes stay as they are. A request need not begin or end with a sector: then the
 * sector is read, changed and written back, and every other write of it is kept out, or it would be undone although it
 * was acknowledged.
 */
#include "crypto.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"

#define BOUNCE (256u << 10)
#define ALIGN 4096 /* of bounce buffers, for O_DIRECT */

/* The number under which the sector at `host` is encrypted; `guest` is its guest offset. */
static uint64_t number_of(const struct img_crypto *c, uint64_t guest, uint64_t host) {
    return (c->by_host ? host : guest) / CRYPTO_SECTOR;
}

static uint64_t lead_of(uint64_t offset) {
    return offset % CRYPTO_SECTOR;
}

static uint64_t trail_of(uint64_t end) {
    return -end % CRYPTO_SECTOR;
}

static uint8_t *new_bounce(uint64_t count) {
    uint64_t bytes = count < BOUNCE ? count : BOUNCE;
    return aligned_alloc(ALIGN, (bytes + ALIGN - 1) & ~(uint64_t)(ALIGN - 1));
}

static int no_memory(const struct img *image, struct img_error *err) {
    return img_fail(err, -ENOMEM, "no memory for encrypted data of '%s'", image->path);
}

/* ---- reading ---- */

static int decrypt_vector(struct img_crypto *c, const struct iovec *iov, int n, uint64_t sector) {
    int r = 0;
    for (int i = 0; r == 0 && i < n; i++) {
        r = cipher_decrypt(c->cipher, sector, iov[i].iov_base, iov[i].iov_len);
        sector += iov[i].iov_len / CRYPTO_SECTOR;
    }
    return r;
}

/* Whole sectors at the step's front, straight into the caller's buffers. Returns the bytes, 0: not possible, or -errno.
 */
static int64_t read_in_place(struct img *image, const struct img_step *step, struct iov_cursor *to) {
    struct iovec window[64];
    if (lead_of(step->host))
        return 0;
    int n = iov_window(to, window, 64, step->length);
    if (!iov_is_aligned(window, n, 1, CRYPTO_SECTOR))
        return 0;
    int64_t bytes = (int64_t)iov_size(window, n);
    int r = storage_readv(step->file, window, n, step->host);
    if (r == 0)
        r = decrypt_vector(image->crypto, window, n, number_of(image->crypto, step->guest, step->host));
    iov_advance(to, (size_t)bytes);
    return r < 0 ? r : bytes;
}

static int64_t read_bounced(struct img *image, const struct img_step *step, uint8_t *bounce, struct iov_cursor *to) {
    uint64_t lead = lead_of(step->host), bytes = lead + step->length;
    if (bytes > BOUNCE)
        bytes = BOUNCE;
    uint64_t whole = bytes + trail_of(bytes);
    int r = storage_read(step->file, bounce, whole, step->host - lead);
    if (r == 0)
        r = cipher_decrypt(image->crypto->cipher, number_of(image->crypto, step->guest - lead, step->host - lead),
                           bounce, whole);
    if (r < 0)
        return r;
    iov_put(to, bounce + lead, bytes - lead);
    return (int64_t)(bytes - lead);
}

int crypto_read(struct img *image, const struct img_step *step, struct iov_cursor *to, struct img_error *err) {
    struct img_step left = *step;
    uint8_t *bounce = NULL;
    int64_t n = 0;
    while (n >= 0 && left.length) {
        n = read_in_place(image, &left, to);
        if (n == 0 && !bounce && !(bounce = new_bounce(left.length + 2 * CRYPTO_SECTOR))) {
            return no_memory(image, err);
        } else if (n == 0) {
            n = read_bounced(image, &left, bounce, to);
        }
        if (n > 0)
            step_skip(&left, (uint64_t)n);
    }
    free(bounce);
    return n < 0 ? img_fail_errno(err, (int)n,
                                  "could not read %llu bytes at guest offset %llu of '%s' (host offset %llu)",
                                  (unsigned long long)step->length, (unsigned long long)step->guest, image->path,
                                  (unsigned long long)step->host)
                 : 0;
}

/* ---- writing ---- */

/* What is written, as one row of bytes: [lead][head][data][tail][trail], whole sectors at both ends. */
struct row {
    struct img *image;
    struct storage *file;
    uint64_t guest, host; /* of the first byte */
    uint64_t length, at;
    uint64_t lead, head, data, tail; /* lengths; the trail is the rest */
    const uint8_t *edges;
    struct iov_cursor *from;
    uint8_t old[2][CRYPTO_SECTOR]; /* the first and the last sector, decrypted, where they are written in part */
};

static int read_old(struct row *row, uint64_t at, uint8_t *sector) {
    struct img_crypto *c = row->image->crypto;
    int r = storage_read(row->file, sector, CRYPTO_SECTOR, row->host + at);
    return r < 0 ? r : cipher_decrypt(c->cipher, number_of(c, row->guest + at, row->host + at), sector, CRYPTO_SECTOR);
}

/* The part of [start, start + length) of the row that lies in [row->at, row->at + count): its place in the buffer and
 * in the part. */
static uint64_t overlap(const struct row *row, uint64_t start, uint64_t length, uint64_t count, uint64_t *to,
                        uint64_t *from) {
    uint64_t begin = start > row->at ? start : row->at, end = start + length, last = row->at + count;
    end = end < last ? end : last;
    *to = begin - row->at;
    *from = begin - start;
    return begin < end ? end - begin : 0;
}

/* The next `count` bytes of the row. */
static void gather(struct row *row, uint8_t *out, uint64_t count) {
    uint64_t to, from, n, at = row->lead;
    if ((n = overlap(row, 0, row->lead, count, &to, &from)))
        memcpy(out + to, row->old[0] + from, n);
    if ((n = overlap(row, at, row->head, count, &to, &from)))
        memcpy(out + to, row->edges + from, n);
    at += row->head;
    if ((n = overlap(row, at, row->data, count, &to, &from)))
        iov_get(row->from, out + to, n);
    at += row->data;
    if ((n = overlap(row, at, row->tail, count, &to, &from)))
        memcpy(out + to, row->edges + row->head + from, n);
    at += row->tail;
    uint64_t trail = row->length - at;
    if ((n = overlap(row, at, trail, count, &to, &from)))
        memcpy(out + to, row->old[1] + CRYPTO_SECTOR - trail + from, n);
}

static int write_row(struct row *row, uint8_t *bounce) {
    struct img_crypto *c = row->image->crypto;
    uint64_t trail = row->length - row->lead - row->head - row->data - row->tail;
    int r = row->lead ? read_old(row, 0, row->old[0]) : 0;
    if (r == 0 && trail)
        r = read_old(row, row->length - CRYPTO_SECTOR, row->old[1]);
    while (r == 0 && row->at < row->length) {
        uint64_t count = row->length - row->at < BOUNCE ? row->length - row->at : BOUNCE;
        gather(row, bounce, count);
        r = cipher_encrypt(c->cipher, number_of(c, row->guest + row->at, row->host + row->at), bounce, count);
        if (r == 0)
            r = storage_write(row->file, bounce, count, row->host + row->at);
        row->at += count;
    }
    return r;
}

int crypto_write(struct img *image, const struct img_plan *plan, const uint8_t *edges, uint64_t head, uint64_t tail,
                 struct iov_cursor *from, struct img_error *err) {
    const struct img_step *step = &plan->steps[0];
    uint64_t lead = lead_of(step->host - head), end = step->host + step->length + tail, trail = trail_of(end);
    struct row row = {
        .image = image,
        .file = step->file,
        .guest = step->guest - head - lead,
        .host = step->host - head - lead,
        .length = lead + head + step->length + tail + trail,
        .lead = lead,
        .head = head,
        .data = step->length,
        .tail = tail,
        .edges = edges,
        .from = from,
    };
    uint8_t *bounce = new_bounce(row.length);
    if (!bounce)
        return no_memory(image, err);
    struct range_hold hold;
    rangelock_acquire(image->crypto->sectors, &hold, row.host, row.host + row.length, lead || trail);
    int r = write_row(&row, bounce);
    rangelock_release(image->crypto->sectors, &hold);
    free(bounce);
    return r < 0 ? img_fail_errno(err, r, "could not write %llu bytes at guest offset %llu of '%s'",
                                  (unsigned long long)plan->length, (unsigned long long)plan->offset, image->path)
                 : 0;
}
