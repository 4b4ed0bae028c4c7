/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_volumes.c - the set of volumes by itself, on disks in memory that are written field by field: bounds, order,
 * ownership, names; LVM's text and what is built of it; numbers and text as disks have them. */
#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/ondisk.h"
#include "fs/volume/lvm/lvm.h"
#include "fs/volume/volume.h"
#include "image_util.h"
#include "scratch.h"

/* ---- disks in memory ---- */

struct memory {
    struct device device;
    uint8_t *bytes;
    bool broken; /* reads fail */
};

static unsigned closed;

static int memory_read(struct device *device, void *buffer, size_t count, uint64_t offset, struct img_error *error) {
    struct memory *m = (struct memory *)device;
    if (m->broken) {
        snprintf(error->text, sizeof(error->text), "broken");
        return error->code = -EIO;
    }
    memcpy(buffer, m->bytes + offset, count);
    return 0;
}

static int memory_write(struct device *device, const void *buffer, size_t count, uint64_t offset,
                        struct img_error *error) {
    (void)error;
    memcpy(((struct memory *)device)->bytes + offset, buffer, count);
    return 0;
}

static void memory_device_close(struct device *device) {
    free(((struct memory *)device)->bytes);
    free(device);
    closed++;
}

static const struct device_ops memory_ops = {.read = memory_read, .write = memory_write, .close = memory_device_close};

static struct memory *new_memory(size_t size) {
    struct memory *m = calloc(1, sizeof(*m));
    assert_non_null(m);
    m->bytes = calloc(1, size + 1);
    assert_non_null(m->bytes);
    m->device = (struct device){.ops = &memory_ops, .size = size, .sector_size = 512, .writable = true};
    return m;
}

static void put32(uint8_t *p, uint32_t value) {
    value = htole32(value);
    memcpy(p, &value, 4);
}

static void put64_le(uint8_t *p, uint64_t value) {
    value = htole64(value);
    memcpy(p, &value, 8);
}

/* An entry of the table in this sector. */
static void put_entry(uint8_t *sector, unsigned index, uint8_t type, uint32_t start, uint32_t count) {
    uint8_t *p = sector + 446 + (size_t)16 * index;
    p[4] = type;
    put32(p + 8, start);
    put32(p + 12, count);
    sector[510] = 0x55;
    sector[511] = 0xaa;
}

static struct volumes *open_one(struct memory *m) {
    struct device *disk = &m->device;
    struct volumes *volumes;
    if (volumes_open(&disk, 1, NULL, &volumes, &err) < 0)
        fail_msg("%s", err.text);
    return volumes;
}

static bool says(const struct volumes *volumes, const char *part) {
    const char *message;
    for (size_t i = 0; (message = volumes_message(volumes, i)); i++)
        if (strstr(message, part))
            return true;
    return false;
}

/* ---- the set ---- */

static void disks_are_named_and_closed(void **state) {
    struct device *disks[30];
    struct volumes *volumes;
    (void)state;
    closed = 0;
    for (size_t i = 0; i < 30; i++)
        disks[i] = &new_memory(512 * i)->device;
    assert_int_equal(volumes_open(disks, 30, NULL, &volumes, &err), 0);
    assert_int_equal(volumes_count(volumes), 30);
    assert_string_equal(volumes_get(volumes, 25)->name, "/dev/sdz");
    assert_string_equal(volumes_get(volumes, 26)->name, "/dev/sdaa");
    assert_ptr_equal(volumes_find(volumes, "/dev/vdab"), volumes_get(volumes, 27));
    assert_null(volumes_find(volumes, "/dev/vdae"));
    volumes_close(volumes);
    assert_int_equal(closed, 30);
    volumes_close(NULL);
}

static void too_many_are_refused_and_closed(void **state) {
    static struct device *disks[VOLUMES_MOST + 3];
    struct volumes *volumes;
    (void)state;
    closed = 0;
    for (size_t i = 0; i < VOLUMES_MOST + 3; i++)
        disks[i] = &new_memory(0)->device;
    assert_int_equal(volumes_open(disks, VOLUMES_MOST + 3, NULL, &volumes, &err), -E2BIG);
    assert_non_null(strstr(err.text, "/dev/sdfao"));
    assert_null(volumes);
    assert_int_equal(closed, VOLUMES_MOST + 3);
}

/* ---- tables ---- */

static void logical_partitions_are_counted(void **state) {
    (void)state;
    struct memory *m = new_memory(MIB);
    put_entry(m->bytes, 1, 0x0f, 10, 1000);
    for (size_t i = 0; i < 200; i++) { /* each table two sectors behind the former */
        put_entry(m->bytes + (10 + 2 * i) * 512, 0, 0x83, 1, 1);
        put_entry(m->bytes + (10 + 2 * i) * 512, 1, 0x05, (uint32_t)(2 * i + 2), 2);
    }
    struct volumes *volumes = open_one(m);
    assert_int_equal(volumes_count(volumes), 1 + 1 + 128);
    assert_true(says(volumes, "The chain of logical partitions of /dev/sda is too long"));
    assert_string_equal(volumes_get(volumes, 129)->name, "/dev/sda132");
    assert_int_equal(volumes_get(volumes, 129)->start, (10 + 2 * 127 + 1) * 512);
    volumes_close(volumes);
}

static void chains_end_where_nothing_is(void **state) {
    (void)state;
    struct memory *m = new_memory(MIB);
    put_entry(m->bytes, 0, 0x05, 0xfffffff0, 0xffffffff);
    put_entry(m->bytes, 1, 0x85, 20, 5);
    put_entry(m->bytes + (size_t)20 * 512, 0, 0x83, 0xffffffff, 0xffffffff);
    put_entry(m->bytes + (size_t)20 * 512, 1, 0x05, 0xffffffff, 1);
    put_entry(m->bytes + (size_t)20 * 512, 3, 0x83, 3, 100); /* does not fit */
    struct volumes *volumes = open_one(m);
    assert_int_equal(volumes_count(volumes), 4);
    struct volume *far = volumes_find(volumes, "/dev/sda5");
    assert_non_null(far);
    assert_null(far->device);
    assert_non_null(far->trouble);
    assert_int_equal(far->size, 0xffffffffull * 512);
    assert_true(says(volumes, "ends at sector 4294967280"));
    assert_true(says(volumes, "ends at sector 4294967315"));
    volumes_close(volumes);
}

static void a_partition_may_hold_the_table(void **state) {
    (void)state;
    struct memory *m = new_memory(MIB);
    put_entry(m->bytes, 0, 0x83, 0, 2048); /* as hybrid ISO images have it */
    struct volumes *volumes = open_one(m);
    assert_int_equal(volumes_count(volumes), 2); /* no partitions in partitions */
    assert_int_equal(volumes_get(volumes, 1)->size, MIB);
    volumes_close(volumes);
}

/* ---- numbers and text ---- */

static void utf16_becomes_utf8(void **state) {
    static const uint8_t text[] = {'a',  0,    0xe9, 0,   0xac, 0x20, 0x34, 0xd8, 0x1e,
                                   0xdd, 0x34, 0xd8, 'z', 0,    0,    0,    'x',  0};
    static const uint8_t big[] = {0, 'a', 0xd8, 0x34, 0xdd, 0x1e};
    char out[32];
    (void)state;
    utf8_of_utf16le(text, 9, out, sizeof(out));
    assert_string_equal(out, "a\xc3\xa9\xe2\x82\xac\xf0\x9d\x84\x9e\xef\xbf\xbdz");
    utf8_of_utf16le(text, 4, out, sizeof(out)); /* half a pair at the end */
    assert_string_equal(out, "a\xc3\xa9\xe2\x82\xac\xef\xbf\xbd");
    utf8_of_utf16le(text, 9, out, 6); /* no half characters */
    assert_string_equal(out, "a\xc3\xa9");
    utf8_of_utf16be(big, 3, out, sizeof(out));
    assert_string_equal(out, "a\xf0\x9d\x84\x9e");
    assert_int_equal(crc32_of(0, "123456789", 9), 0xcbf43926);
}

/* ---- LVM's text ---- */

static int parse(const char *words, struct text *text) {
    return text_parse(strdup(words), strlen(words), text, &err);
}

static void text_is_read(void **state) {
    struct text text;
    uint64_t number;
    (void)state;
    assert_int_equal(parse("# nothing\na = \"x \\\"y\\\" # z\" b=-5 c{d=[1,\"two\" , 'three']\n}e = 1.5 c2 { }", &text),
                     0);
    const struct text_node *top = &text.nodes[0], *c = text_section(&text, top, "c"), *node = NULL;
    assert_string_equal(text_string(&text, top, "a"), "x \"y\" # z");
    assert_false(text_number(&text, top, "b", &number));
    assert_true(text_number(&text, top, "e", &number));
    assert_int_equal(number, 1);
    assert_true(text_lists(&text, c, "d", "two"));
    assert_true(text_lists(&text, c, "d", "three"));
    assert_false(text_lists(&text, c, "d", "1"));
    assert_int_equal(c->total, 5);
    unsigned count = 0;
    while ((node = text_walk(&text, top, node)))
        count++;
    assert_int_equal(count, 5);
    text_free(&text);
}

static void wrong_text_is_refused(void **state) {
    static const char *const wrong[] = {"a",       "a =",     "a = b",    "a { b = 1",
                                        "a = \"b", "= 1",     "a = [1, ", "a = 99999999999999999999",
                                        "}",       "a { ] }", "a = \"\\"};
    char deep[64];
    struct text text;
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(parse(wrong[i], &text), -EUCLEAN);
        assert_non_null(strstr(err.text, "Line 1 of the metadata"));
    }
    memset(deep, 0, sizeof(deep));
    for (int i = 0; i < 20; i++)
        strcat(deep, "a{");
    assert_int_equal(parse(deep, &text), -EUCLEAN);
    assert_non_null(strstr(err.text, "nested too deep"));
}

/* ---- groups ---- */

#define HEAD "g { id = \"gggggggggggggggggggggggggggggggg\" seqno = 1 extent_size = 8 physical_volumes { "
#define PV(n) #n " { id = \"" #n #n #n #n #n #n #n #n #n #n #n #n #n #n #n #n "\" pe_start = 8 pe_count = 16 } "
#define SEGMENT(n, start, count, rest)                                                                                 \
    "segment" #n " { start_extent = " #start " extent_count = " #count " type = " rest " } "

static int read_group(const char *lvs, struct lvm_group *group) {
    char *words;
    assert_true(asprintf(&words, HEAD PV(p0) PV(p1) "} logical_volumes { %s } }", lvs) > 0);
    return lvm_group_parse(words, strlen(words), group, &err);
}

/* The group with its two disks, of which each byte tells where it is. */
static void with_disks(struct lvm_group *group, struct volume volumes[2], struct memory *disks[2]) {
    for (unsigned i = 0; i < 2; i++) {
        disks[i] = new_memory((size_t)17 * 4096);
        for (size_t b = 0; b < disks[i]->device.size; b++)
            disks[i]->bytes[b] = (uint8_t)(b / 512 + 128 * i);
        volumes[i] = (struct volume){.device = &disks[i]->device};
        group->pvs[i].volume = &volumes[i];
    }
}

static void without_disks(struct lvm_group *group, struct memory *disks[2]) {
    lvm_group_free(group);
    device_close(&disks[0]->device);
    device_close(&disks[1]->device);
}

static uint8_t byte_at(struct device *device, uint64_t offset) {
    uint8_t byte = 0;
    if (device_read(device, &byte, 1, offset, &err) < 0)
        fail_msg("%s", err.text);
    return byte;
}

static void runs_are_found(void **state) {
    struct lvm_group group;
    struct volume volumes[2];
    struct memory *disks[2];
    struct device *device, *below;
    bool incomplete;
    uint64_t at, run;
    static uint8_t all[8 * 4096], again[8 * 4096];
    (void)state;
    assert_int_equal(read_group("a { status = [\"VISIBLE\"] " SEGMENT(1, 0, 2, "\"striped\" stripes = [\"p1\", 3]")
                                    SEGMENT(2, 2, 4, "\"striped\" stripe_size = 2 stripes = [\"p0\", 0, \"p1\", 10]")
                                        SEGMENT(3, 6, 2, "\"zero\"") "}",
                                &group),
                     0);
    with_disks(&group, volumes, disks);
    assert_int_equal(lvm_build(&group, lvm_find_lv(&group, "a"), &device, &incomplete, &err), 0);
    assert_int_equal(device->size, 8 * 4096);
    assert_int_equal(byte_at(device, 0), 128 + 8 * 4);
    assert_int_equal(byte_at(device, 8192), 8);                   /* stripe 0 */
    assert_int_equal(byte_at(device, 8192 + 1024), 128 + 8 * 11); /* stripe 1 */
    assert_int_equal(byte_at(device, 8192 + 2048), 10);           /* stripe 0, its second chunk */
    assert_int_equal(byte_at(device, 8192 + 3 * 1024 + 600), 128 + 8 * 11 + 3);
    assert_int_equal(byte_at(device, 7 * 4096), 0);
    assert_false(device->writable); /* zeroes cannot be */
    assert_int_equal(device_read(device, all, sizeof(all), 0, &err), 0);
    for (size_t piece = 0; piece < sizeof(all); piece += 997)
        assert_int_equal(
            device_read(device, again + piece, sizeof(all) - piece < 997 ? sizeof(all) - piece : 997, piece, &err), 0);
    assert_memory_equal(all, again, sizeof(all));
    assert_int_equal(device->ops->locate(device, 8192 + 1100, 5000, &below, &at, &run), 0);
    assert_ptr_equal(below, &disks[1]->device);
    assert_int_equal(at, 4096 + 10 * 4096 + 76);
    assert_int_equal(run, 1024 - 76);
    device_close(device);
    without_disks(&group, disks);
}

static void a_copy_gives_way(void **state) {
    struct lvm_group group;
    struct volume volumes[2];
    struct memory *disks[2];
    struct device *device;
    bool incomplete;
    (void)state;
    assert_int_equal(read_group("m { " SEGMENT(1, 0, 2, "\"mirror\" mirrors = [\"p0\", 1, \"p1\", 2]") "}", &group), 0);
    with_disks(&group, volumes, disks);
    assert_int_equal(lvm_build(&group, lvm_find_lv(&group, "m"), &device, &incomplete, &err), 0);
    assert_false(incomplete);
    assert_int_equal(byte_at(device, 0), 16);
    disks[0]->broken = true;
    assert_int_equal(byte_at(device, 0), 128 + 24);
    disks[1]->broken = true;
    uint8_t byte;
    assert_int_equal(device_read(device, &byte, 1, 0, &err), -EIO);
    assert_int_equal(device_write(device, "x", 1, 4096 + 5, &err), 0);
    assert_int_equal(disks[0]->bytes[3 * 4096 + 5], 'x');
    assert_int_equal(disks[1]->bytes[4 * 4096 + 5], 'x');
    device_close(device);
    without_disks(&group, disks);
}

static void groups_that_cannot_be(void **state) {
    static const struct {
        const char *lvs, *word;
        int code;
    } wrong[] = {
        {SEGMENT(1, 1, 2, "\"zero\""), "do not follow", -EUCLEAN},
        {SEGMENT(1, 0, 2, "\"striped\" stripes = [\"p0\", 15]"), "ends at byte", -ENODEV},
        {SEGMENT(1, 0, 2, "\"striped\" stripes = [\"p0\", 9223372036854775807]"), "begins at extent", -EUCLEAN},
        {SEGMENT(1, 0, 2, "\"striped\" stripes = [\"p9\", 0]"), "not in the group", -EUCLEAN},
        {SEGMENT(1, 0, 2, "\"striped\" stripes = [0]"), "not what they should be", -EUCLEAN},
        {SEGMENT(1, 0, 2, "\"striped\""), "has no 'stripes'", -EUCLEAN},
        {SEGMENT(1, 0, 2, "\"striped\" stripes = []"), "are none", -EUCLEAN},
        {SEGMENT(1, 0, 2, "\"striped\" stripe_size = 0 stripes = [\"p0\", 0, \"p1\", 0]"), "stripes of 0", -EUCLEAN},
        {SEGMENT(1, 0, 2, "\"striped\" stripe_size = 5 stripes = [\"p0\", 0, \"p1\", 0]"), "stripes of 5", -EUCLEAN},
        {SEGMENT(1, 0, 2, "\"thin\""), "'thin', which are not read", -ENOTSUP},
        {SEGMENT(1, 0, 2, "\"striped\" stripes = [\"a\", 0]"), "nested too deep", -EUCLEAN}, /* itself */
        {SEGMENT(1, 0, 9223372036854775807, "\"zero\""), "do not follow", -EUCLEAN},
        {"x = 1", "do not follow", -EUCLEAN},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct lvm_group group;
        struct volume volumes[2];
        struct memory *disks[2];
        struct device *device;
        char *lvs;
        bool incomplete;
        assert_true(asprintf(&lvs, "a { %s }", wrong[i].lvs) > 0);
        assert_int_equal(read_group(lvs, &group), 0);
        free(lvs);
        with_disks(&group, volumes, disks);
        assert_int_equal(lvm_build(&group, lvm_find_lv(&group, "a"), &device, &incomplete, &err), wrong[i].code);
        if (!strstr(err.text, wrong[i].word))
            fail_msg("'%s' has no '%s'", err.text, wrong[i].word);
        without_disks(&group, disks);
    }
}

/* Each of these refers to the next many times: without a budget it would be 100 to the fifth. */
static void work_is_bounded(void **state) {
    struct lvm_group group;
    struct volume volumes[2];
    struct memory *disks[2];
    struct device *device;
    bool incomplete;
    char *words = NULL;
    size_t length;
    FILE *f = open_memstream(&words, &length);
    (void)state;
    for (int name = 'a'; name < 'g'; name++) {
        fprintf(f, "%c { segment1 { start_extent = 0 extent_count = 1 type = \"mirror\" mirrors = [", name);
        for (unsigned i = 0; i < 100; i++)
            fprintf(f, "%s\"%s\", 0", i ? ", " : "", name == 'f' ? "p0" : (char[]){(char)(name + 1), 0});
        fprintf(f, "] } }\n");
    }
    fclose(f);
    assert_int_equal(read_group(words, &group), 0);
    free(words);
    with_disks(&group, volumes, disks);
    assert_int_equal(lvm_build(&group, lvm_find_lv(&group, "a"), &device, &incomplete, &err), -EUCLEAN);
    assert_non_null(strstr(err.text, "are too many"));
    without_disks(&group, disks);
}

/* ---- ciphers ---- */

static void large_sectors_are_one(void **state) {
    uint8_t key[32], plain[8192], data[8192], wanted[8192], iv[16] = {0};
    struct img_key volume_key = {key, sizeof(key)};
    struct img_cipher *cipher;
    int n;
    (void)state;
    for (size_t i = 0; i < sizeof(key); i++)
        key[i] = (uint8_t)(3 * i + 1);
    memset(plain, 'p', sizeof(plain));
    for (unsigned i = 0; i < 2; i++) { /* the number of the second is that of its first 512 bytes */
        put64_le(iv, 0x10000 + 8 * i);
        EVP_CIPHER_CTX *o = EVP_CIPHER_CTX_new();
        assert_int_equal(EVP_EncryptInit_ex(o, EVP_aes_128_xts(), NULL, key, iv), 1);
        assert_int_equal(EVP_EncryptUpdate(o, wanted + 4096 * i, &n, plain + 4096 * i, 4096), 1);
        EVP_CIPHER_CTX_free(o);
    }
    assert_int_equal(img_cipher_new("aes", "xts-plain64", &volume_key, 4096, &cipher, &err), 0);
    memcpy(data, plain, sizeof(data));
    assert_int_equal(img_cipher_encrypt(cipher, 0x10000, data, sizeof(data)), 0);
    assert_memory_equal(data, wanted, sizeof(data));
    assert_int_equal(img_cipher_decrypt(cipher, 0x10008, data + 4096, 4096), 0);
    assert_memory_equal(data + 4096, plain, 4096);
    assert_int_equal(img_cipher_decrypt(cipher, 0, data, 512), -EINVAL);
    img_cipher_free(cipher);
    img_cipher_free(NULL);
    assert_int_equal(img_cipher_new("aes", "xts-plain64", &volume_key, 8192, &cipher, &err), -EINVAL);
    assert_int_equal(img_cipher_new("aes", "xts-plain64", &volume_key, 513, &cipher, &err), -EINVAL);
    assert_int_equal(img_cipher_new("cipher_null", "ecb", &volume_key, 512, &cipher, &err), -ENOTSUP);
    assert_int_equal(
        img_cipher_new("a name that is much longer than any cipher's", "ecb", &volume_key, 512, &cipher, &err),
        -ENOTSUP);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(disks_are_named_and_closed),
        cmocka_unit_test(too_many_are_refused_and_closed),
        cmocka_unit_test(logical_partitions_are_counted),
        cmocka_unit_test(chains_end_where_nothing_is),
        cmocka_unit_test(a_partition_may_hold_the_table),
        cmocka_unit_test(utf16_becomes_utf8),
        cmocka_unit_test(text_is_read),
        cmocka_unit_test(wrong_text_is_refused),
        cmocka_unit_test(runs_are_found),
        cmocka_unit_test(a_copy_gives_way),
        cmocka_unit_test(groups_that_cannot_be),
        cmocka_unit_test(work_is_bounded),
        cmocka_unit_test(large_sectors_are_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
