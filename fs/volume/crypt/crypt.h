/* SPDX-License-Identifier: GPL-3.0-or-later */
/* crypt.h - what the files of this folder share: a LUKS header that says how its volume is encrypted and tries keys
 * (luks.c), and a device that decrypts (device.c). scheme.c asks for keys and brings the result into the set. */
#ifndef FS_VOLUME_CRYPT_H
#define FS_VOLUME_CRYPT_H

#include "../volume.h"

#define CRYPT_KEY_MOST 128 /* bytes of a volume key */
#define CRYPT_SLOTS_MOST 32

/* Where the encrypted sectors are and how they are encrypted. */
struct crypt_payload {
    uint64_t offset, length;   /* bytes */
    uint64_t tweak;            /* added to the numbers of sectors */
    unsigned sector;           /* bytes that are encrypted as one */
    char cipher[32], mode[64]; /* "aes", "xts-plain64" */
};

struct crypt_slot {
    int number;
    uint64_t work; /* of one try (volumes_spend) */
};

struct crypt_header {
    char uuid[40];
    struct crypt_payload payload;
    size_t key_bytes;
    struct crypt_slot slots[CRYPT_SLOTS_MOST]; /* that may be tried */
    unsigned nslots;
    struct crypt_device *handle; /* libcryptsetup's */
    int copy;                    /* a memfd that it works on */
};

/* Loads libcryptsetup, which the first header does else, and uses it: the first time it opens the source of random
 * numbers and loads modules of OpenSSL, and fails if it cannot, though nothing here needs either. A thread ends, as
 * Argon2's do, because for the first one that does the C library loads a library. -ELIBACC. */
int crypt_prepare(struct img_error *err);
/* Reads and checks the header; what it asks for that is not supported, or not right, is told. -ENOTSUP, -EUCLEAN,
 * -ENOMEM, -ELIBACC. */
int crypt_header_open(struct device *device, struct crypt_header *header, struct img_error *err);
void crypt_header_close(struct crypt_header *header);
/* Tries a passphrase on one slot. 0 with the volume's key in CRYPT_KEY_MOST bytes; -EPERM: it is another's. */
int crypt_header_try(struct crypt_header *header, const struct crypt_slot *slot, const struct img_key *passphrase,
                     char *key);

/* What the key opens; `below` must stand longer. -ENOTSUP: there is no such cipher here. */
int crypt_device_new(struct device *below, const struct crypt_payload *payload, const struct img_key *key,
                     struct device **device, struct img_error *err);

#endif
