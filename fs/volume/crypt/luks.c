/* SPDX-License-Identifier: GPL-3.0-or-later */
/* luks.c - LUKS headers of both versions. libcryptsetup reads them and derives keys, working on a copy in a memfd: it
 * needs no device-mapper, no rights, and cannot change a byte of the disk.
 *
 * The header is an attacker's as much as anything else on the disk. So before it is used: it names a cipher that
 * encrypts (img_cipher_new knows no other), is not in the middle of a reencryption, has one segment without
 * authentication tags, and what its key slots ask for in time is known and is taken from a budget; those that ask for
 * more memory than MEMORY_MOST are not tried.
 */
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../error.h"
#include "../../ondisk.h"
#include "crypt.h"
#include "library.h"

#define HEADER_COPY (UINT64_C(16) << 20) /* header and key slots as cryptsetup places them */
#define HEADER_MOST (UINT64_C(160) << 20)
#define MEMORY_MOST (UINT64_C(2) << 20) /* KiB of Argon2 */
#define LUKS1_SLOTS 8
#define LUKS1_BYTES 592
#define LUKS1_ACTIVE 0x00ac71f3
#define STRIPES 4000

struct libcryptsetup lc;

static int load_library(struct img_error *err) {
    return late_load("libcryptsetup.so.12", LATE_NAMES(LIBCRYPTSETUP), &lc, err);
}

/* ---- the copy ---- */

static bool is_zero(const uint8_t *bytes, size_t count) {
    return count == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, count - 1) == 0);
}

static int copy_bytes(struct device *device, int copy, uint64_t from, uint64_t to, struct img_error *err) {
    static const size_t piece = 256 << 10;
    uint8_t *buffer = malloc(piece);
    int ret = buffer ? 0 : fail_no_memory(err);
    while (ret == 0 && from < to) {
        size_t count = to - from < piece ? to - from : piece;
        ret = device_read(device, buffer, count, from, err);
        if (ret == 0 && !is_zero(buffer, count) && pwrite(copy, buffer, count, (off_t)from) != (ssize_t)count)
            ret = fail(err, -ENOMEM, "No memory for a LUKS header");
        from += count;
    }
    free(buffer);
    return ret;
}

static void say_nothing(int level, const char *message, void *opaque) {
    (void)level, (void)message, (void)opaque;
}

/* libcryptsetup on the copy. */
static int load_copy(struct crypt_header *h) {
    char path[32];
    lc.crypt_set_log_callback(NULL, say_nothing, NULL);
    lc.crypt_metadata_locking(NULL, 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", h->copy);
    int ret = lc.crypt_init(&h->handle, path);
    return ret < 0 ? ret : lc.crypt_load(h->handle, CRYPT_LUKS, NULL);
}

static void *exit_thread(void *unused) {
    (void)unused;
    pthread_exit(NULL);
}

int crypt_prepare(struct img_error *err) {
    int ret = load_library(err);
    if (ret < 0)
        return ret;
    pthread_t thread;
    if (pthread_create(&thread, NULL, exit_thread, NULL) == 0)
        pthread_join(thread, NULL);
    struct crypt_header h = {.copy = memfd_create("luks", MFD_CLOEXEC)};
    if (h.copy >= 0 && ftruncate(h.copy, 1 << 20) == 0)
        (void)load_copy(&h); /* it is no LUKS, which is found out behind what this is for */
    crypt_header_close(&h);
    return 0;
}

/* The copy is as long as the device; it has its first bytes and is zero behind them. */
static int load(struct device *device, struct crypt_header *h, struct img_error *err) {
    h->copy = memfd_create("luks", MFD_CLOEXEC);
    if (h->copy < 0 || ftruncate(h->copy, (off_t)device->size) < 0)
        return fail(err, -ENOMEM, "No memory for a LUKS header");
    int ret = copy_bytes(device, h->copy, 0, device->size < HEADER_COPY ? device->size : HEADER_COPY, err);
    if (ret < 0)
        return ret;
    ret = load_copy(h);
    return ret < 0 ? fail(err, -EUCLEAN, "The LUKS header is damaged or not supported: %s", strerror(-ret)) : 0;
}

/* ---- what both versions share ---- */

/* "aes-xts-plain64": up to the first dash is the cipher. */
static int set_encryption(struct crypt_payload *p, const char *cipher, size_t length, const char *mode,
                          struct img_error *err) {
    if (length == 0 || length >= sizeof(p->cipher) || strlen(mode) >= sizeof(p->mode))
        return fail(err, -EUCLEAN, "The LUKS header names no cipher");
    memcpy(p->cipher, cipher, length);
    p->cipher[length] = '\0';
    strcpy(p->mode, mode);
    return 0;
}

static int check_payload(const struct device *device, struct crypt_payload *p, bool to_the_end, struct img_error *err) {
    if (p->sector < 512 || p->sector > 4096 || (p->sector & (p->sector - 1)) != 0)
        return fail(err, -EUCLEAN, "The LUKS header has sectors of %u bytes", p->sector);
    if (p->offset % 512 != 0 || p->offset == 0 || p->offset >= device->size)
        return fail(err, -EUCLEAN, "The LUKS header places the data at byte %" PRIu64 " of %" PRIu64, p->offset,
                    device->size);
    uint64_t room = device->size - p->offset;
    if (to_the_end)
        p->length = room / p->sector * p->sector;
    if (p->length > room || p->length % p->sector != 0 || p->length == 0)
        return fail(err, -EUCLEAN, "The LUKS header has %" PRIu64 " bytes of data where there are %" PRIu64, p->length,
                    room);
    return 0;
}

static void add_slot(struct crypt_header *h, int number, uint64_t work) {
    if (h->nslots < CRYPT_SLOTS_MOST)
        h->slots[h->nslots++] = (struct crypt_slot){number, work};
}

/* ---- version 1 ---- */

static int read_version_1(struct device *device, struct crypt_header *h, struct img_error *err) {
    const char *cipher = lc.crypt_get_cipher(h->handle), *mode = lc.crypt_get_cipher_mode(h->handle);
    uint8_t raw[LUKS1_BYTES];
    struct crypt_payload *p = &h->payload;
    if (!cipher || !mode)
        return fail(err, -EUCLEAN, "The LUKS header names no cipher");
    int ret = device_read(device, raw, sizeof(raw), 0, err);
    if (ret == 0)
        ret = set_encryption(p, cipher, strlen(cipher), mode, err);
    if (ret < 0)
        return ret;
    uint64_t digest = get_be32(raw + 164);
    for (unsigned i = 0; i < LUKS1_SLOTS; i++) {
        const uint8_t *slot = raw + 208 + (size_t)i * 48;
        if (get_be32(slot) == LUKS1_ACTIVE && get_be32(slot + 44) == STRIPES)
            add_slot(h, (int)i, get_be32(slot + 4) + digest);
    }
    p->sector = 512;
    p->offset = (uint64_t)get_be32(raw + 104) * 512;
    return check_payload(device, p, true, err);
}

/* ---- version 2: JSON, which libcryptsetup has found valid ---- */

/* 64-bit numbers are strings there. */
static bool json_uint64(const json_t *object, const char *key, uint64_t *value) {
    const char *text = json_string_value(json_object_get(object, key));
    char *end;
    if (!text || *text < '0' || *text > '9')
        return false;
    errno = 0;
    *value = strtoull(text, &end, 10);
    return !*end && !errno;
}

static uint64_t json_count(const json_t *object, const char *key) {
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

/* What all digests together cost, for each of them may be computed to see whether a key is right. */
static uint64_t digest_work(const json_t *root) {
    json_t *digest;
    const char *key;
    uint64_t work = 0;
    json_object_foreach(json_object_get(root, "digests"), key, digest) work += json_count(digest, "iterations");
    return work;
}

static void read_slots(const json_t *root, struct crypt_header *h) {
    uint64_t digests = digest_work(root);
    for (int i = 0; i < CRYPT_SLOTS_MOST; i++) {
        char number[16];
        snprintf(number, sizeof(number), "%d", i);
        const json_t *slot = json_object_get(json_object_get(root, "keyslots"), number);
        const json_t *kdf = json_object_get(slot, "kdf");
        const char *type = json_string_value(json_object_get(slot, "type"));
        uint64_t memory = json_count(kdf, "memory"), time = json_count(kdf, "time"), work;
        if (!type || strcmp(type, "luks2") != 0 || json_count(slot, "key_size") > CRYPT_KEY_MOST ||
            json_count(json_object_get(slot, "af"), "stripes") != STRIPES)
            continue;
        if (memory > MEMORY_MOST || __builtin_mul_overflow(memory, time, &work) ||
            __builtin_add_overflow(work, json_count(kdf, "iterations"), &work) ||
            __builtin_add_overflow(work, digests, &work))
            work = UINT64_MAX;
        add_slot(h, i, work);
    }
}

static int read_segment(struct device *device, const json_t *root, struct crypt_payload *p, struct img_error *err) {
    const json_t *segments = json_object_get(root, "segments"), *segment = json_object_get(segments, "0");
    const char *type = json_string_value(json_object_get(segment, "type"));
    const char *encryption = json_string_value(json_object_get(segment, "encryption"));
    const char *size = json_string_value(json_object_get(segment, "size"));
    const json_t *required =
        json_object_get(json_object_get(json_object_get(root, "config"), "requirements"), "mandatory");
    if (json_array_size(required) > 0)
        return fail(err, -ENOTSUP, "The LUKS header requires '%s', which is not supported",
                    json_string_value(json_array_get(required, 0)));
    if (json_object_size(segments) != 1 || !type || strcmp(type, "crypt") != 0 || !encryption || !size ||
        json_object_get(segment, "integrity"))
        return fail(err, -ENOTSUP, "The LUKS header has segments of a kind that is not supported");
    size_t cipher = strcspn(encryption, "-");
    int ret = set_encryption(p, encryption, cipher, encryption[cipher] ? encryption + cipher + 1 : "", err);
    if (ret < 0)
        return ret;
    uint64_t sector = json_count(segment, "sector_size");
    p->sector = sector <= 4096 ? (unsigned)sector : 0;
    if (!json_uint64(segment, "offset", &p->offset) || !json_uint64(segment, "iv_tweak", &p->tweak))
        return fail(err, -EUCLEAN, "The LUKS header does not say where its data begins");
    bool dynamic = strcmp(size, "dynamic") == 0;
    if (!dynamic && !json_uint64(segment, "size", &p->length))
        return fail(err, -EUCLEAN, "The LUKS header has data of the size '%s'", size);
    return check_payload(device, p, dynamic, err);
}

static int read_version_2(struct device *device, struct crypt_header *h, struct img_error *err) {
    const char *text = NULL;
    if (lc.crypt_dump_json(h->handle, &text, 0) < 0 || !text)
        return fail(err, -EUCLEAN, "The LUKS header cannot be shown");
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (!root)
        return fail(err, -EUCLEAN, "The LUKS header is no JSON");
    int ret = read_segment(device, root, &h->payload, err);
    if (ret == 0)
        read_slots(root, h);
    json_decref(root);
    uint64_t offset = h->payload.offset;
    if (ret == 0 && offset > HEADER_COPY)
        ret = copy_bytes(device, h->copy, HEADER_COPY, offset < HEADER_MOST ? offset : HEADER_MOST, err);
    return ret;
}

/* Is there such a cipher for a key of this length? Asked before anybody spends seconds on finding the key. */
static int check_cipher(const struct crypt_header *h, struct img_error *err) {
    uint8_t bytes[CRYPT_KEY_MOST];
    const struct img_key any = {bytes, h->key_bytes};
    struct img_cipher *cipher;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)i;
    int ret = img_cipher_new(h->payload.cipher, h->payload.mode, &any, h->payload.sector, &cipher, err);
    img_cipher_free(cipher);
    return ret;
}

static int read_header(struct device *device, struct crypt_header *h, struct img_error *err) {
    const char *type = lc.crypt_get_type(h->handle), *uuid = lc.crypt_get_uuid(h->handle);
    int bytes = lc.crypt_get_volume_key_size(h->handle);
    int ret = type && strcmp(type, CRYPT_LUKS1) == 0 ? read_version_1(device, h, err) : read_version_2(device, h, err);
    if (ret < 0)
        return ret;
    if (!uuid || !*uuid || strlen(uuid) >= sizeof(h->uuid) || uuid[strspn(uuid, "0123456789abcdefABCDEF-")])
        return fail(err, -EUCLEAN, "The LUKS header has no UUID");
    strcpy(h->uuid, uuid);
    if (bytes <= 0 || bytes > CRYPT_KEY_MOST)
        return fail(err, -EUCLEAN, "The LUKS header has a key of %d bytes", bytes);
    h->key_bytes = (size_t)bytes;
    return check_cipher(h, err);
}

int crypt_header_open(struct device *device, struct crypt_header *h, struct img_error *err) {
    *h = (struct crypt_header){.copy = -1};
    int ret = load_library(err);
    if (ret < 0)
        return ret;
    ret = load(device, h, err);
    if (ret == 0)
        ret = read_header(device, h, err);
    if (ret < 0)
        crypt_header_close(h);
    return ret;
}

void crypt_header_close(struct crypt_header *h) {
    lc.crypt_free(h->handle);
    if (h->copy >= 0)
        close(h->copy);
    *h = (struct crypt_header){.copy = -1};
}

int crypt_header_try(struct crypt_header *h, const struct crypt_slot *slot, const struct img_key *passphrase,
                     char *key) {
    size_t bytes = CRYPT_KEY_MOST;
    int ret = lc.crypt_volume_key_get(h->handle, slot->number, key, &bytes, passphrase->bytes, passphrase->length);
    if (ret >= 0 && bytes != h->key_bytes)
        return -EUCLEAN;
    return ret < 0 ? ret : 0;
}
