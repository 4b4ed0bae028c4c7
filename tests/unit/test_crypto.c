// SPDX-License-Identifier: GPL-3.0-or-later
/* test_crypto.c - the parts of encryption by themselves: published vectors of PBKDF2 (RFC 6070) and XTS (IEEE 1619),
 * ESSIV against its definition, the splitter, and what a LUKS header may say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crypto/afsplit.h"
#include "crypto/cipher.h"
#include "crypto/luks1.h"
#include "image_util.h"

static EVP_MD *hash_of(const char *name) {
    EVP_MD *hash;
    if (digest_fetch(name, &hash, &err))
        fail_msg("%s", err.text);
    return hash;
}

static void test_pbkdf2(void **state) {
    static const struct {
        const char *passphrase;
        size_t length;
        const char *salt;
        size_t salt_length;
        uint64_t iterations;
        size_t count;
        uint8_t wanted[25];
    } vectors[] = {
        {"password", 8, "salt", 4, 1, 20, {0x0c, 0x60, 0xc8, 0x0f, 0x96, 0x1f, 0x0e, 0x71, 0xf3, 0xa9,
                                           0xb5, 0x24, 0xaf, 0x60, 0x12, 0x06, 0x2f, 0xe0, 0x37, 0xa6}},
        {"password", 8, "salt", 4, 4096, 20, {0x4b, 0x00, 0x79, 0x01, 0xb7, 0x65, 0x48, 0x9a, 0xbe, 0xad,
                                              0x49, 0xd9, 0x26, 0xf7, 0x21, 0xd0, 0x65, 0xa4, 0x29, 0xc1}},
        {"passwordPASSWORDpassword",
         24,
         "saltSALTsaltSALTsaltSALTsaltSALTsalt",
         36,
         4096,
         25,
         {0x3d, 0x2e, 0xec, 0x4f, 0xe4, 0x1c, 0x84, 0x9b, 0x80, 0xc8, 0xd8, 0x36, 0x62,
          0xc0, 0xe4, 0x4a, 0x8b, 0x29, 0x1a, 0x96, 0x4c, 0xf2, 0xf0, 0x70, 0x38}},
        {"pass\0word",
         9,
         "sa\0lt",
         5,
         4096,
         16,
         {0x56, 0xfa, 0x6a, 0xa7, 0x55, 0x48, 0x09, 0x9d, 0xcc, 0x37, 0xd7, 0xf0, 0x34, 0x25, 0xe0, 0xc3}},
    };
    (void)state;
    EVP_MD *sha1 = hash_of("sha1");
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        uint8_t out[25];
        assert_int_equal(pbkdf2(sha1, vectors[i].passphrase, vectors[i].length, (const uint8_t *)vectors[i].salt,
                                vectors[i].salt_length, vectors[i].iterations, out, vectors[i].count, &err),
                         0);
        assert_memory_equal(out, vectors[i].wanted, vectors[i].count);
    }
    EVP_MD_free(sha1);
}

/* An iteration count is worth the time that was asked for. */
static void test_measure(void **state) {
    uint32_t iterations;
    uint8_t salt[32] = {0}, out[64];
    struct timespec from, to;
    (void)state;
    EVP_MD *hash = hash_of("sha256");
    assert_int_equal(pbkdf2_measure(hash, 64, 1, &iterations, &err), 0);
    assert_true(iterations >= 1000);
    assert_int_equal(pbkdf2_measure(hash, 64, 200, &iterations, &err), 0);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    assert_int_equal(pbkdf2(hash, "x", 1, salt, sizeof(salt), iterations, out, sizeof(out), &err), 0);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    double ms = (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
    if (ms < 60 || ms > 700) /* half and twice, and a machine that is busy */
        fail_msg("%u iterations take %.0f ms, not 200", iterations, ms);
    EVP_MD_free(hash);
}

static void test_hashes(void **state) {
    static const struct {
        const char *name;
        int size;
    } hashes[] = {{"sha1", 20}, {"sha224", 28}, {"sha256", 32}, {"sha384", 48}, {"sha512", 64}, {"ripemd160", 20}};
    EVP_MD *hash;
    (void)state;
    for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++) {
        hash = hash_of(hashes[i].name);
        assert_int_equal(EVP_MD_get_size(hash), hashes[i].size);
        EVP_MD_free(hash);
    }
    assert_int_equal(digest_fetch("md5", &hash, &err), -ENOTSUP);
    assert_string_equal(err.text, "Hash algorithm 'md5' is not available");
    assert_int_equal(digest_fetch("", &hash, NULL), -ENOTSUP);
}

static void test_xts(void **state) {
    static const struct cipher_spec spec = {.algorithm = "aes", .mode = "xts", .ivgen = IVGEN_PLAIN64};
    static const uint8_t wanted[32] = {0xc4, 0x54, 0x18, 0x5e, 0x6a, 0x16, 0x93, 0x6e, 0x39, 0x33, 0x40,
                                       0x38, 0xac, 0xef, 0x83, 0x8b, 0xfb, 0x18, 0x6f, 0xff, 0x74, 0x80,
                                       0xad, 0xc4, 0x28, 0x93, 0x82, 0xec, 0xd6, 0xd3, 0x94, 0xf0};
    uint8_t key[32], data[1024], plain[1024];
    struct sector_cipher *c;
    (void)state;
    memset(key, 0x11, 16);
    memset(key + 16, 0x22, 16);
    memset(plain, 0x44, sizeof(plain));
    memcpy(data, plain, sizeof(data));
    if (cipher_new(&spec, key, sizeof(key), &c, &err))
        fail_msg("%s", err.text);
    assert_int_equal(cipher_encrypt(c, 0x3333333333, data, sizeof(data)), 0);
    assert_memory_equal(data, wanted, sizeof(wanted));
    assert_memory_not_equal(data + 512, wanted, sizeof(wanted)); /* the next sector has a number of its own */
    assert_int_equal(cipher_decrypt(c, 0x3333333334, data + 512, 512), 0);
    assert_int_equal(cipher_decrypt(c, 0x3333333333, data, 512), 0);
    assert_memory_equal(data, plain, sizeof(plain));
    cipher_free(c);
}

/* CBC whose initial vector is the sector's number, encrypted under the key's hash: step by step with OpenSSL alone. */
static void test_essiv(void **state) {
    static const struct cipher_spec spec = {
        .algorithm = "aes", .mode = "cbc", .ivgen = IVGEN_ESSIV, .ivgen_hash = "sha256"};
    uint8_t key[32], salt[32], iv[16] = {0}, data[512], wanted[512];
    uint64_t number = htole64(0x123456789aull);
    struct sector_cipher *c;
    int n;
    (void)state;
    for (unsigned i = 0; i < sizeof(key); i++)
        key[i] = (uint8_t)(i * 5 + 1);
    memset(data, 'x', sizeof(data));
    assert_int_equal(EVP_Digest(key, sizeof(key), salt, NULL, EVP_sha256(), NULL), 1);
    EVP_CIPHER_CTX *o = EVP_CIPHER_CTX_new();
    memcpy(iv, &number, 8);
    assert_int_equal(EVP_EncryptInit_ex(o, EVP_aes_256_ecb(), NULL, salt, NULL), 1);
    assert_int_equal(EVP_EncryptUpdate(o, iv, &n, iv, 16), 1);
    EVP_CIPHER_CTX_free(o);
    o = EVP_CIPHER_CTX_new();
    assert_int_equal(EVP_EncryptInit_ex(o, EVP_aes_256_cbc(), NULL, key, iv), 1);
    assert_int_equal(EVP_EncryptUpdate(o, wanted, &n, data, 512), 1);
    EVP_CIPHER_CTX_free(o);
    assert_int_equal(cipher_new(&spec, key, sizeof(key), &c, &err), 0);
    assert_int_equal(cipher_encrypt(c, 0x123456789aull, data, 512), 0);
    assert_memory_equal(data, wanted, 512);
    cipher_free(c);
}

/* Every cipher there and back; two sectors of the same content look different, but for ECB. */
static void test_ciphers(void **state) {
    static const struct {
        const char *algorithm, *mode;
        unsigned key_bytes;
        bool there;
    } ciphers[] = {
        {"aes", "xts-plain64", 32, true},
        {"aes", "xts-plain64", 64, true},
        {"aes", "cbc-plain", 16, true},
        {"aes", "cbc-plain64", 24, true},
        {"aes", "cbc-essiv:sha256", 32, true},
        {"aes", "ctr-plain64", 32, true},
        {"aes", "ecb", 16, true},
        {"camellia", "cbc-plain64", 32, true},
        {"camellia", "cbc-essiv:sha256", 32, true},
        {"camellia", "ctr-plain", 16, true},
        {"aes", "xts-plain64", 48, false},
        {"aes", "cbc-plain64", 40, false},
        {"aes", "cbc-essiv:sha1", 16, false},
        {"camellia", "xts-plain64", 64, false},
        {"serpent", "xts-plain64", 64, false},
        {"twofish", "cbc-plain64", 32, false},
        {"cipher_null", "ecb", 16, false},
        {"aes", "gcm-plain64", 16, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(ciphers) / sizeof(ciphers[0]); i++) {
        struct cipher_spec spec = {{0}, {0}, IVGEN_NONE, {0}};
        uint8_t key[64], plain[4096], data[4096];
        struct sector_cipher *c;
        char again[32];
        for (unsigned j = 0; j < sizeof(key); j++)
            key[j] = (uint8_t)(j * 7 + 3);
        strcpy(spec.algorithm, ciphers[i].algorithm);
        assert_int_equal(cipher_parse_mode(ciphers[i].mode, &spec, &err), 0);
        cipher_format_mode(&spec, again);
        assert_string_equal(again, ciphers[i].mode);
        int r = cipher_new(&spec, key, ciphers[i].key_bytes, &c, &err);
        if (!ciphers[i].there) {
            assert_int_equal(r, -ENOTSUP);
            assert_non_null(strstr(err.text, "is not available"));
            continue;
        }
        if (r)
            fail_msg("%s %s: %s", ciphers[i].algorithm, ciphers[i].mode, err.text);
        memset(plain, 'p', sizeof(plain));
        memcpy(data, plain, sizeof(data));
        assert_int_equal(cipher_encrypt(c, 77, data, sizeof(data)), 0);
        assert_memory_not_equal(data, plain, 512);
        assert_int_equal(memcmp(data, data + 512, 512) == 0, strcmp(ciphers[i].mode, "ecb") == 0);
        assert_int_equal(cipher_decrypt(c, 77, data, sizeof(data)), 0);
        assert_memory_equal(data, plain, sizeof(plain));
        cipher_free(c);
    }
}

static void test_modes(void **state) {
    static const char *const bad[] = {"",
                                      "cbc",
                                      "xts-",
                                      "cbc-essiv",
                                      "cbc-essiv:",
                                      "cbc-plain:sha256",
                                      "xts-benbi",
                                      "xts-plain6",
                                      "-plain64",
                                      "aaaaaaaaaaaaaaaaaaaa-plain64",
                                      "cbc-essiv:aaaaaaaaaaaaaaaaaaaa"};
    struct cipher_spec spec;
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (cipher_parse_mode(bad[i], &spec, &err) >= 0 || !strstr(err.text, bad[i]))
            fail_msg("'%s': %s", bad[i], err.text);
}

static void test_split(void **state) {
    static const char *const hashes[] = {"sha1", "sha256", "sha512"};
    (void)state;
    for (size_t i = 0; i < 3; i++)
        for (size_t count = 16; count <= 64; count += 8) {
            uint8_t key[64], again[64], split[64 * 100];
            EVP_MD *hash = hash_of(hashes[i]);
            for (size_t j = 0; j < count; j++)
                key[j] = (uint8_t)(j + i);
            assert_int_equal(af_split(hash, key, count, 100, split, &err), 0);
            assert_int_equal(af_merge(hash, split, count, 100, again, &err), 0);
            assert_memory_equal(key, again, count);
            split[count * 50] ^= 1; /* one bit of one stripe */
            assert_int_equal(af_merge(hash, split, count, 100, again, &err), 0);
            assert_memory_not_equal(key, again, count);
            assert_int_equal(af_split(hash, key, count, 1, split, &err), 0);
            assert_memory_equal(key, split, count);
            EVP_MD_free(hash);
        }
    /* two stripes by hand: H(0 || a) xor key; a is the random one */
    EVP_MD *hash = hash_of("sha256");
    uint8_t key[32] = "0123456789abcdef0123456789abcde", split[64], input[36] = {0}, digest[32];
    assert_int_equal(af_split(hash, key, 32, 2, split, &err), 0);
    memcpy(input + 4, split, 32);
    assert_int_equal(EVP_Digest(input, 36, digest, NULL, EVP_sha256(), NULL), 1);
    for (unsigned i = 0; i < 32; i++)
        assert_int_equal(split[32 + i], digest[i] ^ key[i]);
    EVP_MD_free(hash);
}

/* ---- the header ---------- */

static void good_header(struct luks_header *h) {
    memset(h, 0, sizeof(*h));
    strcpy(h->cipher.algorithm, "aes");
    assert_int_equal(cipher_parse_mode("xts-plain64", &h->cipher, &err), 0);
    strcpy(h->hash, "sha256");
    strcpy(h->uuid, "a-uuid");
    h->key_bytes = 64;
    h->digest_iterations = 1000;
    luks_place(h);
    h->slots[3].active = true;
    h->slots[3].iterations = 5000;
}

static void test_header(void **state) {
    static const struct {
        size_t offset, width;
        uint32_t value;
        int code;
        const char *words;
    } wrong[] = {
        {0, 4, 0, -EINVAL, "Volume is not in LUKS format"},
        {6, 2, 2, -ENOTSUP, "LUKS version 2 is not supported"},
        {104, 4, 1, -EINVAL, "payload is overlapping with the header"},
        {104, 4, 504, -EINVAL, "overlapping with the encrypted payload"},
        {108, 4, 0, -EINVAL, "key-bytes = 0"},
        {108, 4, 65, -EINVAL, "key-bytes = 65"},
        {108, 4, 0xffffffff, -EINVAL, "key-bytes = 4294967295"},
        {164, 4, 0, -EINVAL, "LUKS key iteration count is zero"},
        {208, 4, 1, -EINVAL, "Keyslot 0 state (active/disable) is corrupted"},
        {208 + 3 * 48 + 4, 4, 0, -EINVAL, "Keyslot 3 iteration count is zero"},
        {208 + 40, 4, 1, -EINVAL, "Keyslot 0 is overlapping with the LUKS header"},
        {208 + 40, 4, 0xffffffff, -EINVAL, "Keyslot 0 is overlapping with the encrypted payload"},
        {208 + 44, 4, 0, -EINVAL, "Keyslot 0 is corrupted (stripes = 0"},
        {208 + 44, 4, 0xffffffff, -EINVAL, "Keyslot 0 is corrupted (stripes = 4294967295"},
        {208 + 44, 4, 5000, -EINVAL, "Keyslots 0 and 1 are overlapping in the header"},
        {208 + 7 * 48 + 40, 4, 8, -EINVAL, "Keyslots 0 and 7 are overlapping in the header"},
    };
    struct luks_header h, again;
    uint8_t bytes[LUKS_HEADER_BYTES], bad[LUKS_HEADER_BYTES];
    (void)state;
    good_header(&h);
    luks_encode(&h, bytes);
    assert_true(luks_probe(bytes, sizeof(bytes)));
    assert_false(luks_probe(bytes, 7));
    assert_int_equal(luks_decode(bytes, &again, &err), 0);
    assert_int_equal(again.payload, 2068480); /* where QEMU has it */
    assert_int_equal(again.slots[1].offset, 262144);
    assert_string_equal(again.cipher.mode, "xts");
    luks_encode(&again, bad);
    assert_memory_equal(bytes, bad, sizeof(bytes));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        uint32_t value = htobe32(wrong[i].value << (wrong[i].width == 2 ? 16 : 0));
        memcpy(bad, bytes, sizeof(bad));
        memcpy(bad + wrong[i].offset, &value, wrong[i].width);
        int r = luks_decode(bad, &again, &err);
        if (r != wrong[i].code || !strstr(err.text, wrong[i].words))
            fail_msg("%zu: %d '%s', not '%s'", wrong[i].offset, r, err.text, wrong[i].words);
    }
    static const struct {
        size_t offset;
        const char *words;
    } names[] = {{8, "cipher name"}, {40, "cipher mode"}, {72, "hash spec"}};
    for (size_t i = 0; i < 3; i++) {
        memcpy(bad, bytes, sizeof(bad));
        memset(bad + names[i].offset, 'a', 32);
        assert_int_equal(luks_decode(bad, &again, &err), -EINVAL);
        assert_non_null(strstr(err.text, names[i].words));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pbkdf2), cmocka_unit_test(test_measure), cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_xts),    cmocka_unit_test(test_essiv),   cmocka_unit_test(test_ciphers),
        cmocka_unit_test(test_modes),  cmocka_unit_test(test_split),   cmocka_unit_test(test_header),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
