/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_header.c - the header is read, judged and written back as header.h promises.
 *
 * A small valid image is made in memory, then one field after the other is set to something it may not be, and the
 * sentence must name it. Random damage must never do worse than an error.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "qcow2/header.h"
#include "unit/memory_storage.h"

#define BITS 12
#define CLUSTER (1u << BITS)
#define EXT 112 /* where the extensions of a version 3 header begin here */

/* Header, refcount table, refcount block, L1, snapshot table, bitmap directory: one cluster each. */
enum { REFTABLE_AT = 1 * CLUSTER, BLOCK_AT = 2 * CLUSTER, L1_AT = 3 * CLUSTER, SNAPSHOTS_AT = 4 * CLUSTER };
enum { DIRECTORY_AT = 5 * CLUSTER, IMAGE_SIZE = 6 * CLUSTER };

static struct qcow2_header plain(unsigned version) {
    return (struct qcow2_header){
        .version = version,
        .cluster_bits = BITS,
        .size = 8u << 20,
        .l1_offset = L1_AT,
        .l1_size = 4,
        .refcount_table_offset = REFTABLE_AT,
        .refcount_table_clusters = 1,
        .refcount_order = 4,
    };
}

static void put_header(struct memory_storage *m, struct qcow2_header *h) {
    struct img_error err = {0};
    assert_int_equal(header_compose(h, &err), 0);
    memory_open(m, h->first_size > CLUSTER ? IMAGE_SIZE * (h->first_size / CLUSTER) : IMAGE_SIZE);
    memcpy(m->bytes, h->first, h->first_size);
    free(h->first);
    h->first = NULL;
}

static void make(struct memory_storage *m, unsigned version) {
    struct qcow2_header h = plain(version);
    put_header(m, &h);
}

/* Reads the header; 0 or the error, whose text is left in `err`. */
static int try_read(struct memory_storage *m, bool lenient, struct img_error *err) {
    struct qcow2_header h;
    memset(err, 0, sizeof *err);
    int r = header_read(&m->base, &h, lenient, err);
    if (r == 0)
        header_free(&h);
    else
        assert_null(h.first);
    return r;
}

static void expect_failure(struct memory_storage *m, int code, const char *words) {
    struct img_error err;
    int r = try_read(m, false, &err);
    if (r != code || strstr(err.text, words) == NULL)
        fail_msg("expected %d with \"%s\", got %d with \"%s\"", code, words, r, err.text);
    assert_int_equal(err.code, r);
}

static void expect_success(struct memory_storage *m) {
    struct img_error err;
    int r = try_read(m, false, &err);
    if (r != 0)
        fail_msg("unexpected: %s", err.text);
}

struct mutation {
    unsigned offset, width;
    uint64_t value;
    int code;
    const char *words;
};

static void try_mutations(unsigned version, const struct mutation *list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct memory_storage m;
        make(&m, version);
        expect_success(&m);
        memory_put(&m, list[i].offset, list[i].width, list[i].value);
        expect_failure(&m, list[i].code, list[i].words);
        memory_close(&m);
    }
}

#define TRY(version, list) try_mutations(version, list, sizeof list / sizeof list[0])

static void test_both_versions(void **state) {
    (void)state;
    static const struct mutation list[] = {
        {0, 4, 0x514649fa, -EINVAL, "Image is not in qcow2 format (magic = 0x514649fa)"},
        {4, 4, 1, -ENOTSUP, "Unsupported qcow2 version 1"},
        {4, 4, 4, -ENOTSUP, "Unsupported qcow2 version 4"},
        {8, 8, 71, -EINVAL, "Invalid backing file offset (backing_file_offset = 71)"},
        {8, 8, CLUSTER + 1, -EINVAL, "Invalid backing file offset (backing_file_offset = 4097)"},
        {8, 8, UINT64_MAX, -EINVAL, "Invalid backing file offset"},
        {8, 8, 1024, -EINVAL, "Backing file name is empty"},
        {20, 4, 8, -EINVAL, "Unsupported cluster size: 2^8"},
        {20, 4, 22, -EINVAL, "Unsupported cluster size: 2^22"},
        {20, 4, UINT32_MAX, -EINVAL, "Unsupported cluster size: 2^4294967295"},
        {24, 8, (8u << 20) + 1, -EINVAL, "L1 table is too small (l1_size = 4, but size = 8388609 needs 5)"},
        {24, 8, 1ull << 62, -EFBIG, "Image is too big (size = 4611686018427387904)"},
        {24, 8, UINT64_MAX, -EFBIG, "Image is too big (size = 18446744073709551615)"},
        {32, 4, 3, -ENOTSUP, "Unsupported encryption method 3"},
        {32, 4, 2, -EINVAL, "Missing CRYPTO header for crypt method 2"},
        {36, 4, 3, -EINVAL, "L1 table is too small (l1_size = 3"},
        {36, 4, 4194305, -EINVAL, "Active L1 table too large (l1_size = 4194305)"},
        {36, 4, UINT32_MAX, -EINVAL, "Active L1 table too large (l1_size = 4294967295)"},
        {36, 4, 4096, -EUCLEAN, "Active L1 table lies outside the file (l1_table_offset = 12288"},
        {40, 8, L1_AT + 8, -EINVAL, "Active L1 table offset invalid (l1_table_offset = 12296)"},
        {40, 8, 1ull << 56, -EINVAL, "Active L1 table offset invalid (l1_table_offset = 72057594037927936)"},
        {40, 8, IMAGE_SIZE, -EUCLEAN, "Active L1 table lies outside the file (l1_table_offset = 24576"},
        {40, 8, 0, -EUCLEAN, "Active L1 table (l1_table_offset = 0) overlaps Header"},
        {40, 8, REFTABLE_AT, -EUCLEAN, "Active L1 table (l1_table_offset = 4096) overlaps Reference count table"},
        {48, 8, REFTABLE_AT + 1, -EINVAL, "Reference count table offset invalid (refcount_table_offset = 4097)"},
        {48, 8, UINT64_MAX << BITS, -EINVAL, "Reference count table offset invalid"},
        {48, 8, 0, -EUCLEAN, "Reference count table (refcount_table_offset = 0) overlaps Header"},
        {48, 8, 1 << 30, -EUCLEAN, "Reference count table lies outside the file (refcount_table_offset = 1073741824"},
        {56, 4, 0, -EINVAL, "does not contain a reference count table (refcount_table_clusters = 0)"},
        {56, 4, 2049, -EINVAL, "Reference count table too large (refcount_table_clusters = 2049)"},
        {56, 4, UINT32_MAX, -EINVAL, "Reference count table too large (refcount_table_clusters = 4294967295)"},
        {56, 4, 6, -EUCLEAN, "Reference count table lies outside the file"},
        {56, 4, 3, -EUCLEAN, "overlaps Reference count table (refcount_table_offset = 4096)"},
        {60, 4, 65537, -EINVAL, "Snapshot table too large (nb_snapshots = 65537)"},
        {60, 4, UINT32_MAX, -EINVAL, "Snapshot table too large (nb_snapshots = 4294967295)"},
        {60, 4, 1, -EUCLEAN, "Snapshot table (snapshots_offset = 0) overlaps Header"},
        {64, 8, SNAPSHOTS_AT + 8, -EINVAL, "Snapshot table offset invalid (snapshots_offset = 16392)"},
    };
    TRY(2, list);
    TRY(3, list);
}

static void test_version_3(void **state) {
    (void)state;
    static const struct mutation list[] = {
        {72, 8, 1 << 3, -EINVAL, "bit must not be set (compression_type = 0)"},
        {72, 8, 1 << 4, -EINVAL, "Unsupported subcluster size: 128 (cluster_bits = 12)"},
        {72, 8, 1 << 5, -ENOTSUP, "Unknown incompatible feature: 20 (incompatible_features = 0x20)"},
        {72, 8, 1ull << 63, -ENOTSUP, "Unknown incompatible feature: 8000000000000000"},
        {88, 8, 2, -EINVAL, "data-file-raw requires a data file (autoclear_features = 0x2)"},
        {96, 4, 7, -EINVAL, "may not exceed 64 bits (refcount_order = 7)"},
        {96, 4, UINT32_MAX, -EINVAL, "may not exceed 64 bits (refcount_order = 4294967295)"},
        {100, 4, 96, -EINVAL, "qcow2 header too short (header_length = 96"},
        {100, 4, 0, -EINVAL, "qcow2 header too short (header_length = 0"},
        {100, 4, CLUSTER + 8, -EINVAL, "qcow2 header exceeds cluster size (header_length = 4104"},
        {100, 4, UINT32_MAX, -EINVAL, "qcow2 header exceeds cluster size (header_length = 4294967295"},
        {100, 4, 109, -EINVAL, "not a multiple of 8 (header_length = 109)"},
        {104, 1, 1, -EINVAL, "bit must be set (compression_type = 1)"},
        {8, 8, 100, -EINVAL, "Invalid backing file offset (backing_file_offset = 100)"},
        /* in place of the feature name table: any other extension */
        {EXT, 8, 0xe2792aca00000010, -EINVAL, "ext_backing_format: len=16 too large (>=16)"},
        {EXT, 8, 0xe2792aca00000000, -EINVAL, "Backing file format is empty"},
        {EXT, 8, 0x1234567800001000, -EINVAL, "Header extension too large (type = 0x12345678, length = 4096"},
        {EXT, 8, 0x12345678ffffffff, -EINVAL, "Header extension too large (type = 0x12345678, length = 4294967295"},
        {EXT, 8, 0x0537be7700000010, -EINVAL, "CRYPTO header extension only expected with LUKS"},
        {EXT, 8, 0x2385287500000010, -EINVAL, "bitmaps_ext: Invalid extension length (length = 16"},
    };
    TRY(3, list);
}

/* Writes one extension at `offset`, ends the list behind it, and returns the place behind it. */
static unsigned put_extension(struct memory_storage *m, unsigned offset, uint32_t type, const void *data,
                              uint32_t length) {
    memory_put(m, offset, 4, type);
    memory_put(m, offset + 4, 4, length);
    memcpy(m->bytes + offset + 8, data, length);
    offset += 8 + ((length + 7) & ~7u);
    memory_put(m, offset, 8, 0);
    return offset;
}

static void put_bitmaps(struct memory_storage *m, uint32_t count, uint32_t reserved, uint64_t size, uint64_t offset) {
    uint8_t data[24] = {0};
    memory_put(m, 88, 8, QCOW2_AUTOCLEAR_BITMAPS);
    put_extension(m, EXT, QCOW2_EXT_BITMAPS, data, sizeof data);
    memory_put(m, EXT + 8, 4, count);
    memory_put(m, EXT + 12, 4, reserved);
    memory_put(m, EXT + 16, 8, size);
    memory_put(m, EXT + 24, 8, offset);
}

static void test_bitmaps_extension(void **state) {
    (void)state;
    struct memory_storage m;
    make(&m, 3);
    put_bitmaps(&m, 2, 0, 64, DIRECTORY_AT);
    expect_success(&m);
    put_bitmaps(&m, 2, 7, 64, DIRECTORY_AT);
    expect_failure(&m, -EINVAL, "Reserved field is not zero (reserved = 0x7)");
    put_bitmaps(&m, 65536, 0, 64, DIRECTORY_AT);
    expect_failure(&m, -EINVAL, "Image has 65536 bitmaps");
    put_bitmaps(&m, 0, 0, 64, DIRECTORY_AT);
    expect_failure(&m, -EINVAL, "zero bitmaps");
    put_bitmaps(&m, 3, 0, 64, DIRECTORY_AT);
    expect_failure(&m, -EINVAL, "bitmap directory size (64) is too small for 3 bitmaps");
    put_bitmaps(&m, 2, 0, (64 << 20) + 1, DIRECTORY_AT);
    expect_failure(&m, -EINVAL, "bitmap directory size (67108865) exceeds");
    put_bitmaps(&m, 2, 0, 64, DIRECTORY_AT + 8);
    expect_failure(&m, -EINVAL, "Bitmap directory offset invalid (bitmap_directory_offset = 20488)");
    put_bitmaps(&m, 2, 0, CLUSTER + 1, DIRECTORY_AT);
    expect_failure(&m, -EUCLEAN, "Bitmap directory lies outside the file");
    put_bitmaps(&m, 2, 0, 64, L1_AT);
    expect_failure(&m, -EUCLEAN, "Bitmap directory (bitmap_directory_offset = 12288) overlaps Active L1 table");
    /* without the autoclear bit it means nothing */
    memory_put(&m, 88, 8, 0);
    struct qcow2_header h;
    assert_int_equal(header_read(&m.base, &h, false, NULL), 0);
    assert_false(h.has_bitmaps);
    header_free(&h);
    memory_close(&m);
}

static void put_crypto(struct memory_storage *m, uint32_t length, uint64_t offset, uint64_t bytes) {
    uint8_t data[24] = {0};
    memory_put(m, 32, 4, QCOW2_CRYPT_LUKS);
    put_extension(m, EXT, QCOW2_EXT_CRYPTO, data, length);
    memory_put(m, EXT + 8, 8, offset);
    memory_put(m, EXT + 16, 8, bytes);
}

static void test_crypto_extension(void **state) {
    (void)state;
    struct memory_storage m;
    make(&m, 3);
    put_crypto(&m, 16, SNAPSHOTS_AT, 2 * CLUSTER);
    expect_success(&m);
    put_crypto(&m, 24, SNAPSHOTS_AT, 2 * CLUSTER);
    expect_failure(&m, -EINVAL, "CRYPTO header extension size 24, but expected size 16");
    put_crypto(&m, 16, SNAPSHOTS_AT + 512, 592);
    expect_failure(&m, -EINVAL, "Encryption header offset '16896' is not a multiple of cluster size '4096'");
    put_crypto(&m, 16, SNAPSHOTS_AT, 0);
    expect_failure(&m, -EINVAL, "Encryption header is empty");
    put_crypto(&m, 16, SNAPSHOTS_AT, 2 * CLUSTER + 1);
    expect_failure(&m, -EUCLEAN, "Encryption header lies outside the file");
    put_crypto(&m, 16, SNAPSHOTS_AT, UINT64_MAX);
    expect_failure(&m, -EINVAL, "Encryption header too large");
    put_crypto(&m, 16, 0, 592);
    expect_failure(&m, -EUCLEAN, "Encryption header (crypto_offset = 0) overlaps Header");
    memory_close(&m);
}

static void test_names(void **state) {
    (void)state;
    struct memory_storage m;
    struct qcow2_header h;
    make(&m, 3);
    unsigned end = put_extension(&m, EXT, QCOW2_EXT_BACKING_FORMAT, "qcow2", 5);
    memory_put(&m, 72, 8, QCOW2_INCOMPAT_DATA_FILE);
    end = put_extension(&m, end, QCOW2_EXT_DATA_FILE, "a\0b", 3);
    memcpy(m.bytes + end + 8, "ba\x1bse", 5);
    memory_put(&m, 8, 8, end + 8);
    memory_put(&m, 16, 4, 5);
    assert_int_equal(header_read(&m.base, &h, false, NULL), 0);
    assert_string_equal(h.backing_format, "qcow2");
    assert_string_equal(h.data_file, "a");
    assert_string_equal(h.backing_file, "ba\x1bse");
    header_free(&h);

    memory_put(&m, 72, 8, 0); /* a data file's name without its bit is no data file */
    assert_int_equal(header_read(&m.base, &h, false, NULL), 0);
    assert_null(h.data_file);
    header_free(&h);

    memory_put(&m, 16, 4, 1024);
    expect_failure(&m, -EINVAL, "Backing file name too long (backing_file_size = 1024, at most 1023)");
    memory_put(&m, 16, 4, UINT32_MAX);
    expect_failure(&m, -EINVAL, "Backing file name too long (backing_file_size = 4294967295");
    memory_put(&m, 8, 8, CLUSTER - 4);
    memory_put(&m, 16, 4, 5);
    expect_failure(&m, -EINVAL, "Backing file name too long (backing_file_size = 5, at most 4)");
    memory_put(&m, 16, 4, 4); /* only NULs there */
    expect_failure(&m, -EINVAL, "Backing file name is empty (length = 4)");
    memory_put(&m, 8, 8, 0); /* no offset, no name, whatever the length says */
    expect_success(&m);

    uint8_t long_name[1024];
    memset(long_name, 'x', sizeof long_name);
    memory_put(&m, 72, 8, QCOW2_INCOMPAT_DATA_FILE);
    put_extension(&m, EXT, QCOW2_EXT_DATA_FILE, long_name, 1023);
    expect_success(&m);
    put_extension(&m, EXT, QCOW2_EXT_DATA_FILE, long_name, 1024);
    expect_failure(&m, -EINVAL, "Data file name too long (length = 1024");
    put_extension(&m, EXT, QCOW2_EXT_DATA_FILE, long_name, 0);
    expect_failure(&m, -EINVAL, "Data file name is empty");
    end = put_extension(&m, EXT, QCOW2_EXT_DATA_FILE, "d", 1);
    put_extension(&m, end, QCOW2_EXT_DATA_FILE, "e", 1);
    expect_failure(&m, -EINVAL, "Header extension 0x44415441 is there twice");
    memory_close(&m);
}

static void test_extension_count(void **state) {
    (void)state;
    struct qcow2_header h = plain(3);
    struct memory_storage m;
    h.cluster_bits = 16;
    h.l1_offset = 3 << 16;
    h.refcount_table_offset = 1 << 16;
    put_header(&m, &h);
    memory_resize(&m, 4 << 16);
    for (unsigned i = 0; i < 4096; i++)
        memory_put(&m, EXT + 8 * i, 8, 0x7777777700000000);
    memory_put(&m, EXT + 8 * 4096, 8, 0);
    expect_success(&m);
    memory_put(&m, EXT + 8 * 4096, 8, 0x7777777700000000);
    expect_failure(&m, -EINVAL, "More than 4096 header extensions");
    memory_close(&m);
}

/* Unknown features are named by the image's own table, and a terminal gets no control characters from it. */
static void test_feature_names(void **state) {
    (void)state;
    struct memory_storage m;
    make(&m, 3);
    struct qcow2_disk_feature_name table[3] = {
        {0, 40, "time\x1btravel"}, {1, 41, "not this one"}, {0, 64 + 41, "nor this"}};
    memset(table[1].name, 'z', sizeof table[1].name); /* no NUL */
    put_extension(&m, EXT, QCOW2_EXT_FEATURE_NAMES, table, sizeof table);
    memory_put(&m, 72, 8, 1ull << 40 | 1ull << 41);
    expect_failure(&m, -ENOTSUP, "feature(s): time?travel, Unknown incompatible feature: 20000000000 (");
    table[1].type = 0;
    put_extension(&m, EXT, QCOW2_EXT_FEATURE_NAMES, table, sizeof table);
    expect_failure(&m, -ENOTSUP, "time?travel, zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz (incompatible");
    memory_close(&m);
}

/* Every shorter file fails or is as good as the whole; no table is ever half there. */
static void test_truncation(void **state) {
    (void)state;
    for (unsigned version = 2; version <= 3; version++) {
        struct memory_storage m;
        for (uint64_t size = 0; size < L1_AT + 32; size += size < 600 ? 1 : 509) {
            struct img_error err;
            make(&m, version);
            memory_resize(&m, size);
            int r = try_read(&m, false, &err);
            assert_true(size < 72 ? r == -EINVAL : r < 0);
            memory_close(&m);
        }
        make(&m, version);
        memory_resize(&m, L1_AT + 31);
        expect_failure(&m, -EUCLEAN, "Active L1 table lies outside the file");
        struct img_error err;
        assert_int_equal(try_read(&m, true, &err), 0); /* for repair */
        memory_resize(&m, L1_AT + 32);                 /* the last cluster may be partly there */
        expect_success(&m);
        memory_close(&m);
    }
}

static void test_read_error(void **state) {
    (void)state;
    struct memory_storage m;
    make(&m, 3);
    m.fail_reads = -EIO;
    expect_failure(&m, -EIO, "Could not read qcow2 header");
    memory_close(&m);
}

static void test_empty_image(void **state) {
    (void)state;
    struct memory_storage m;
    make(&m, 3);
    memory_put(&m, 24, 8, 0);
    memory_put(&m, 36, 4, 0);
    memory_put(&m, 40, 8, 0);
    expect_success(&m);
    memory_close(&m);
}

static void test_old_extensions(void **state) {
    (void)state;
    struct memory_storage m;
    struct qcow2_header h;
    make(&m, 2);
    put_extension(&m, 72, QCOW2_EXT_BACKING_FORMAT, "raw", 3);
    assert_int_equal(header_read(&m.base, &h, false, NULL), 0);
    assert_string_equal(h.backing_format, "raw");
    assert_int_equal(h.header_length, 72);
    assert_int_equal(h.refcount_order, 4);
    assert_int_equal(h.incompatible, 0);
    header_free(&h);
    memory_close(&m);
}

/* What a reader finds after header_compose is what was asked for. */
static void test_compose(void **state) {
    (void)state;
    for (unsigned version = 2; version <= 3; version++) {
        struct memory_storage m;
        struct qcow2_header h = plain(version), back;
        h.backing_file = (char *)"base.img";
        h.backing_format = (char *)"raw";
        if (version == 3) {
            h.data_file = (char *)"data.raw";
            h.incompatible = QCOW2_INCOMPAT_DATA_FILE | QCOW2_INCOMPAT_COMPRESSION;
            h.compression_type = QCOW2_COMPRESSION_ZSTD;
            h.compatible = QCOW2_COMPAT_LAZY_REFCOUNTS;
            h.autoclear = QCOW2_AUTOCLEAR_BITMAPS;
            h.refcount_order = 6;
            h.has_bitmaps = true;
            h.nb_bitmaps = 1;
            h.bitmap_directory_offset = DIRECTORY_AT;
            h.bitmap_directory_size = 32;
        }
        put_header(&m, &h);
        assert_int_equal(header_read(&m.base, &back, false, NULL), 0);
        assert_int_equal(back.version, version);
        assert_int_equal(back.size, h.size);
        assert_int_equal(back.l1_offset, h.l1_offset);
        assert_int_equal(back.l1_size, h.l1_size);
        assert_int_equal(back.refcount_table_offset, h.refcount_table_offset);
        assert_int_equal(back.refcount_table_clusters, h.refcount_table_clusters);
        assert_int_equal(back.incompatible, h.incompatible);
        assert_int_equal(back.compatible, h.compatible);
        assert_int_equal(back.autoclear, h.autoclear);
        assert_int_equal(back.refcount_order, h.refcount_order);
        assert_int_equal(back.compression_type, h.compression_type);
        assert_int_equal(back.header_length, version == 3 ? 112 : 72);
        assert_string_equal(back.backing_file, "base.img");
        assert_string_equal(back.backing_format, "raw");
        if (version == 3) {
            assert_string_equal(back.data_file, "data.raw");
            assert_int_equal(back.nb_bitmaps, 1);
            assert_int_equal(back.bitmap_directory_offset, DIRECTORY_AT);
        }
        header_free(&back);
        memory_close(&m);
    }
}

static void test_compose_small(void **state) {
    (void)state;
    char name[1100];
    struct img_error err;
    struct qcow2_header h = plain(3);
    h.cluster_bits = 9;
    assert_int_equal(header_compose(&h, &err), 0); /* the feature names just fit */
    assert_memory_equal(h.first + 112, "\x68\x03\xf8\x57", 4);

    memset(name, 'n', sizeof name);
    name[380] = '\0';
    h.backing_file = name;
    assert_int_equal(header_compose(&h, &err), 0); /* they are left out for a name */
    assert_memory_equal(h.first + 112, "\0\0\0\0", 4);
    name[380] = 'n';
    name[393] = '\0';
    assert_int_equal(header_compose(&h, &err), -EINVAL);
    assert_non_null(strstr(err.text, "do not fit into the header (cluster_size = 512)"));
    h.cluster_bits = 16;
    name[393] = 'n';
    name[1024] = '\0';
    assert_int_equal(header_compose(&h, &err), -EINVAL);
    assert_non_null(strstr(err.text, "Backing file name too long (1024 bytes"));
    free(h.first);
}

/* One sector is written, with the new values, and nothing that is not understood changes. */
static void test_write_sector(void **state) {
    (void)state;
    struct memory_storage m;
    struct qcow2_header h;
    make(&m, 3);
    memory_put(&m, 100, 4, 128); /* a longer header: 16 bytes that nobody knows */
    memory_put(&m, 105, 4, 0xabcdef01);
    memory_put(&m, 112, 8, 0x1122334455667788);
    memory_put(&m, 120, 8, 0x99aabbccddeeff00);
    memory_put(&m, 128, 8, 0x7777777700000008); /* an unknown extension */
    memory_put(&m, 136, 8, 0x0102030405060708);
    memory_put(&m, 144, 8, 0);
    assert_int_equal(header_read(&m.base, &h, false, NULL), 0);
    uint8_t before[CLUSTER];
    memcpy(before, m.bytes, CLUSTER);
    unsigned writes = m.writes;
    assert_int_equal(header_write_sector(&m.base, &h), 0);
    assert_int_equal(m.writes, writes + 1);
    assert_memory_equal(m.bytes, before, CLUSTER);

    h.size = 4 << 20;
    h.l1_offset = SNAPSHOTS_AT;
    h.l1_size = 7;
    h.refcount_table_offset = L1_AT;
    h.nb_snapshots = 3;
    h.snapshots_offset = DIRECTORY_AT;
    h.incompatible = QCOW2_INCOMPAT_DIRTY;
    h.autoclear = 1ull << 50;
    assert_int_equal(header_write_sector(&m.base, &h), 0);
    assert_int_equal(memory_get(&m, 24, 8), 4 << 20);
    assert_int_equal(memory_get(&m, 36, 4), 7);
    assert_int_equal(memory_get(&m, 40, 8), SNAPSHOTS_AT);
    assert_int_equal(memory_get(&m, 48, 8), L1_AT);
    assert_int_equal(memory_get(&m, 60, 4), 3);
    assert_int_equal(memory_get(&m, 64, 8), DIRECTORY_AT);
    assert_int_equal(memory_get(&m, 72, 8), 1);
    assert_int_equal(memory_get(&m, 88, 8), 1ull << 50);
    assert_memory_equal(m.bytes + 104, before + 104, CLUSTER - 104);
    header_free(&h);
    memory_close(&m);
}

static void test_l1_entries(void **state) {
    (void)state;
    assert_int_equal(header_l1_entries(0, 16, false), 0);
    assert_int_equal(header_l1_entries(1, 16, false), 1);
    assert_int_equal(header_l1_entries(512ull << 20, 16, false), 1);
    assert_int_equal(header_l1_entries((512ull << 20) + 1, 16, false), 2);
    assert_int_equal(header_l1_entries(512ull << 20, 16, true), 2);
    assert_int_equal(header_l1_entries(1ull << 51, 16, false), 4 << 20);
    assert_int_equal(header_l1_entries((1ull << 51) + 1, 16, false), UINT64_MAX);
    assert_int_equal(header_l1_entries(128ull << 30, 9, false), 4 << 20);
    assert_int_equal(header_l1_entries(1ull << 61, 21, false), 4 << 20);
    assert_int_equal(header_l1_entries(UINT64_MAX, 21, false), UINT64_MAX);
}

static uint64_t random_state;

static uint64_t random_number(void) { /* xorshift */
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Damage of all kinds: an answer every time, an error always with words, and no table outside the file on success. */
static void test_random_damage(void **state) {
    (void)state;
    random_state = 0x9e3779b97f4a7c15;
    unsigned opened = 0;
    for (unsigned round = 0; round < 40000; round++) {
        struct memory_storage m;
        struct qcow2_header h;
        struct img_error err = {0};
        make(&m, 2 + round % 2);
        unsigned hits = 1 + random_number() % 4;
        for (unsigned i = 0; i < hits; i++) {
            unsigned width = 1u << random_number() % 4;
            memory_put(&m, random_number() % (round % 3 == 0 ? 600 : 112), width,
                       random_number() >> random_number() % 64);
        }
        int r = header_read(&m.base, &h, round % 5 == 0, &err);
        if (r == 0) {
            opened++;
            if (round % 5 != 0) {
                assert_true(h.l1_offset + h.l1_size * 8ull <= m.size);
                assert_true(h.refcount_table_offset + ((uint64_t)h.refcount_table_clusters << h.cluster_bits) <=
                            m.size);
            }
            assert_int_equal(h.l1_offset % h.first_size, 0);
            header_free(&h);
        } else {
            assert_true(err.text[0] != '\0');
            assert_int_equal(err.code, r);
        }
        memory_close(&m);
    }
    assert_true(opened > 400);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_versions),
        cmocka_unit_test(test_version_3),
        cmocka_unit_test(test_bitmaps_extension),
        cmocka_unit_test(test_crypto_extension),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_extension_count),
        cmocka_unit_test(test_feature_names),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_read_error),
        cmocka_unit_test(test_empty_image),
        cmocka_unit_test(test_old_extensions),
        cmocka_unit_test(test_compose),
        cmocka_unit_test(test_compose_small),
        cmocka_unit_test(test_write_sector),
        cmocka_unit_test(test_l1_entries),
        cmocka_unit_test(test_random_damage),
    };
    return cmocka_run_group_tests_name("header", tests, NULL, NULL);
}
