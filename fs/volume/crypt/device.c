/* SPDX-License-Identifier: GPL-3.0-or-later */
/* device.c - the decrypted view of a device: every sector goes through the cipher under its number. A request that is
 * not whole sectors goes through a buffer; so does all that is written, for the caller's bytes stay as they are. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../../error.h"
#include "crypt.h"

#define BUFFER (64u << 10)

struct crypted {
    struct device device;
    struct device *below;
    struct img_cipher *cipher;
    uint64_t offset, tweak;
    unsigned sector;
    uint8_t *buffer; /* BUFFER bytes */
};

/* Whole sectors in place. */
static int read_sectors(struct crypted *c, uint8_t *buffer, size_t count, uint64_t offset, struct img_error *err) {
    int ret = device_read(c->below, buffer, count, c->offset + offset, err);
    if (ret == 0 && (ret = img_cipher_decrypt(c->cipher, c->tweak + offset / 512, buffer, count)) < 0)
        return fail(err, ret, "A sector could not be decrypted");
    return ret;
}

/* How much of a request the buffer takes at a time: *from is where in it the request begins. */
static size_t piece(const struct crypted *c, size_t count, uint64_t offset, size_t *from, size_t *sectors) {
    *from = offset % c->sector;
    size_t length = count < BUFFER - *from ? count : BUFFER - *from;
    *sectors = (*from + length + c->sector - 1) / c->sector * c->sector;
    return length;
}

static int crypted_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *err) {
    struct crypted *c = (struct crypted *)device;
    uint8_t *to = buffer;
    while (count > 0) {
        size_t from, sectors, length = count / c->sector * c->sector;
        int ret;
        if (offset % c->sector == 0 && length > 0) {
            ret = read_sectors(c, to, length, offset, err);
        } else {
            length = piece(c, count, offset, &from, &sectors);
            ret = read_sectors(c, c->buffer, sectors, offset - from, err);
            memcpy(to, c->buffer + from, length);
        }
        if (ret < 0)
            return ret;
        to += length;
        offset += length;
        count -= length;
    }
    return 0;
}

static int crypted_write(struct device *device, const void *buffer, size_t count, uint64_t offset,
                         struct img_error *err) {
    struct crypted *c = (struct crypted *)device;
    const uint8_t *in = buffer;
    while (count > 0) {
        size_t from, sectors, length = piece(c, count, offset, &from, &sectors);
        uint64_t start = offset - from;
        int ret = 0;
        if (from > 0 || length < c->sector)
            ret = read_sectors(c, c->buffer, c->sector, start, err);
        if (ret == 0 && (from + length) % c->sector != 0 && sectors > c->sector)
            ret = read_sectors(c, c->buffer + sectors - c->sector, c->sector, start + sectors - c->sector, err);
        if (ret < 0)
            return ret;
        memcpy(c->buffer + from, in, length);
        if ((ret = img_cipher_encrypt(c->cipher, c->tweak + start / 512, c->buffer, sectors)) < 0)
            return fail(err, ret, "A sector could not be encrypted");
        if ((ret = device_write(c->below, c->buffer, sectors, c->offset + start, err)) < 0)
            return ret;
        in += length;
        offset += length;
        count -= length;
    }
    return 0;
}

static int crypted_flush(struct device *device, struct img_error *err) {
    return device_flush(((struct crypted *)device)->below, err);
}

static void crypted_close(struct device *device) {
    struct crypted *c = (struct crypted *)device;
    img_cipher_free(c->cipher);
    if (c->buffer)
        explicit_bzero(c->buffer, BUFFER);
    free(c->buffer);
    free(c);
}

static const struct device_ops crypted_ops = {
    .read = crypted_read, .write = crypted_write, .flush = crypted_flush, .close = crypted_close};

int crypt_device_new(struct device *below, const struct crypt_payload *payload, const struct img_key *key,
                     struct device **device, struct img_error *err) {
    struct crypted *c = calloc(1, sizeof(*c));
    if (!c || !(c->buffer = malloc(BUFFER))) {
        free(c);
        return fail_no_memory(err);
    }
    c->device =
        (struct device){.ops = &crypted_ops,
                        .size = payload->length,
                        .sector_size = payload->sector > below->sector_size ? payload->sector : below->sector_size,
                        .writable = below->writable};
    c->below = below;
    c->offset = payload->offset;
    c->tweak = payload->tweak;
    c->sector = payload->sector;
    int ret = img_cipher_new(payload->cipher, payload->mode, key, payload->sector, &c->cipher, err);
    if (ret < 0)
        crypted_close(&c->device);
    else
        *device = &c->device;
    return ret;
}
