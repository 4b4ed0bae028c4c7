/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_packages.c - package databases: the texts of dpkg, apk and pacman, the header of an rpm, and the three kinds of
 * file that rpm keeps them in, whole and with one field damaged after the other. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/packages/rpm.h"

static const char *field(const struct packages *packages, size_t index, enum package_field which) {
    assert_true(index < packages->count);
    const char *text = packages->list[index].fields[which];
    return text ? text : "";
}

/* ---- texts ---- */

#define DPKG                                                                                                           \
    "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2.15-2+b2\n"                         \
    "Source: bash (5.2.15-2)\nHomepage: http://x/\nDescription: a shell\n first line\n .\n  third\nTag: a::b,\n "      \
    "c::d\n"                                                                                                           \
    "\n\n"                                                                                                             \
    "Package: gone\nStatus: deinstall ok config-files\nVersion: 1:0.9-1\n\n"                                           \
    "Package: bad\nStatus: install ok installed\nVersion: x:1\n\n"                                                     \
    "Package: vim\nStatus: install ok installed\nVersion: 2:9.0-rc-2\nDescription: no more"

static void dpkg(void **state) {
    struct packages packages = {0};
    struct img_error err = {0};
    (void)state;
    assert_int_equal(dpkg_read_status(span_of(DPKG), false, &packages, &err), 0);
    assert_int_equal(packages.count, 2);
    assert_string_equal(field(&packages, 0, PACKAGE_NAME), "bash");
    assert_string_equal(field(&packages, 0, PACKAGE_VERSION), "5.2.15");
    assert_string_equal(field(&packages, 0, PACKAGE_RELEASE), "2+b2");
    assert_string_equal(field(&packages, 0, PACKAGE_SOURCE), "bash");
    assert_string_equal(field(&packages, 0, PACKAGE_URL), "http://x/");
    assert_string_equal(field(&packages, 0, PACKAGE_SUMMARY), "a shell");
    assert_string_equal(field(&packages, 0, PACKAGE_DESCRIPTION), "first line\n.\n third");
    assert_string_equal(field(&packages, 1, PACKAGE_NAME), "vim");
    assert_int_equal(packages.list[1].epoch, 2);
    assert_string_equal(field(&packages, 1, PACKAGE_VERSION), "9.0-rc");
    assert_string_equal(field(&packages, 1, PACKAGE_RELEASE), "2");
    packages_free(&packages);
    assert_int_equal(dpkg_read_status(span_of("Package: a\nVersion: 1\n"), true, &packages, &err), 0);
    assert_int_equal(packages.count, 1);
    packages_free(&packages);
}

static void apk(void **state) {
    struct packages packages = {0};
    struct img_error err = {0};
    (void)state;
    assert_int_equal(apk_read_installed(span_of("C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\nT:the libc\nU:https://m/\n"
                                                "o:musl-src\nF:lib\nR:ld.so\n\nP:none\n\nP:zlib\nV:1.3-r0"),
                                        &packages, &err),
                     0);
    assert_int_equal(packages.count, 2);
    assert_string_equal(field(&packages, 0, PACKAGE_RELEASE), "2");
    assert_string_equal(field(&packages, 0, PACKAGE_DESCRIPTION), "the libc");
    assert_string_equal(field(&packages, 0, PACKAGE_SOURCE), "musl-src");
    assert_string_equal(field(&packages, 1, PACKAGE_NAME), "zlib");
    packages_free(&packages);
}

static void pacman(void **state) {
    struct packages packages = {0};
    struct img_error err = {0};
    (void)state;
    assert_int_equal(pacman_read_desc(span_of("%NAME%\nfoo\n\n%VERSION%\n1:2.3-4\n\n%DESC%\nA foo\n\n%ARCH%\nany\n"),
                                      &packages, &err),
                     0);
    assert_int_equal(pacman_read_desc(span_of("%NAME%\nfoo\n\n%VERSION%"), &packages, &err), 0);
    assert_int_equal(packages.count, 1);
    assert_int_equal(packages.list[0].epoch, 1);
    assert_string_equal(field(&packages, 0, PACKAGE_VERSION), "2.3");
    assert_string_equal(field(&packages, 0, PACKAGE_RELEASE), "4");
    assert_string_equal(field(&packages, 0, PACKAGE_DESCRIPTION), "A foo");
    packages_free(&packages);
}

/* ---- a header of an rpm ---- */

static void put_big32(uint8_t *p, uint32_t n) {
    p[0] = (uint8_t)(n >> 24), p[1] = (uint8_t)(n >> 16), p[2] = (uint8_t)(n >> 8), p[3] = (uint8_t)n;
}

static void put_little32(uint8_t *p, uint32_t n) {
    p[3] = (uint8_t)(n >> 24), p[2] = (uint8_t)(n >> 16), p[1] = (uint8_t)(n >> 8), p[0] = (uint8_t)n;
}

static void put_little16(uint8_t *p, uint32_t n) {
    p[1] = (uint8_t)(n >> 8), p[0] = (uint8_t)n;
}

static void put_big16(uint8_t *p, uint32_t n) {
    p[0] = (uint8_t)(n >> 8), p[1] = (uint8_t)n;
}

/* Name "pkg", version "1", epoch 7, and a description of `filler` bytes. Returns the length. */
static size_t make_header(uint8_t *blob, size_t filler) {
    static const uint32_t entries[4][4] = {{1000, 6, 0, 1}, {1001, 6, 4, 1}, {1003, 4, 8, 1}, {1005, 9, 12, 1}};
    size_t data = 8 + sizeof(entries), length = 12 + filler + 1;
    put_big32(blob, 4);
    put_big32(blob + 4, (uint32_t)length);
    for (size_t i = 0; i < 16; i++)
        put_big32(blob + 8 + 4 * i, entries[i / 4][i % 4]);
    memcpy(blob + data, "pkg\0001\0\0\0\0\0\0\7", 12);
    memset(blob + data + 12, 'd', filler);
    blob[data + 12 + filler] = '\0';
    return data + length;
}

static void header(void **state) {
    uint8_t blob[512];
    struct packages packages = {0};
    struct img_error err = {0};
    size_t length = make_header(blob, 100);
    (void)state;
    assert_int_equal(rpm_read_header(blob, length, &packages, &err), 0);
    assert_string_equal(field(&packages, 0, PACKAGE_NAME), "pkg");
    assert_string_equal(field(&packages, 0, PACKAGE_VERSION), "1");
    assert_int_equal(packages.list[0].epoch, 7);
    assert_int_equal(strlen(field(&packages, 0, PACKAGE_DESCRIPTION)), 100);
    packages_free(&packages);
    for (size_t cut = 0; cut < length; cut++) {
        uint8_t *copy = malloc(cut ? cut : 1); /* of this length, for the sanitizer */
        memcpy(copy, blob, cut);
        assert_int_equal(rpm_read_header(copy, cut, &packages, &err), -EUCLEAN);
        free(copy);
    }
    put_big32(blob + 8 + 8, 0xffffffff); /* the name lies outside: the package has none */
    assert_int_equal(rpm_read_header(blob, length, &packages, &err), 0);
    assert_int_equal(packages.count, 0);
    packages_free(&packages);
}

/* ---- database files ---- */

struct memory_fs {
    struct fs base;
    const uint8_t *bytes;
    size_t size;
};

static int read_memory(struct fs *fs, uint64_t ino, void *buffer, size_t count, uint64_t offset, size_t *got,
                       struct img_error *err) {
    const struct memory_fs *m = (struct memory_fs *)fs;
    (void)ino, (void)err;
    *got = offset >= m->size ? 0 : count < m->size - offset ? count : m->size - offset;
    memcpy(buffer, m->bytes + offset, *got);
    return 0;
}

static const struct fs_ops memory_ops = {.read = read_memory};

struct found {
    unsigned count;
    size_t length;
};

static int count_blob(void *opaque, const uint8_t *blob, size_t length, struct img_error *err) {
    struct found *found = opaque;
    struct packages packages = {0};
    found->count++;
    found->length = length;
    (void)!rpm_read_header(blob, length, &packages, err);
    packages_free(&packages);
    return 0;
}

static int walk(const struct rpm_store *store, const uint8_t *bytes, size_t size, const uint8_t *log, size_t log_size,
                struct found *found) {
    struct memory_fs m = {.base = {.ops = &memory_ops}, .bytes = bytes, .size = size};
    struct memory_fs l = {.base = {.ops = &memory_ops}, .bytes = log, .size = log_size};
    struct rpm_file file = {.node.fs = &m.base, .path = "db", .size = size, .budget = 4 * size + 1024};
    struct rpm_file wal = {.node.fs = &l.base, .path = "log", .size = log_size, .budget = 4 * log_size + 1024};
    struct img_error err = {0};
    *found = (struct found){0};
    int ret = store->each(&file, log ? &wal : NULL, count_blob, found, &err);
    if (ret < 0)
        assert_true(err.text[0] != '\0');
    return ret;
}

/* Any byte of the file may be anything: that is an error or another list, never more. */
static void damage(const struct rpm_store *store, uint8_t *bytes, size_t size) {
    static const uint8_t values[] = {0, 1, 0x7f, 0xff};
    struct found found;
    for (size_t i = 0; i < size; i += i < 600 || size < 8192 ? 1 : 13)
        for (size_t v = 0; v < sizeof(values); v++) {
            uint8_t old = bytes[i];
            bytes[i] = values[v];
            (void)walk(store, bytes, size, NULL, 0, &found);
            bytes[i] = old;
        }
}

#define NDB_SIZE 16384

static void ndb(void **state) {
    uint8_t *bytes = calloc(1, NDB_SIZE);
    struct found found;
    (void)state;
    put_little32(bytes, 0x506d7052);
    put_little32(bytes + 12, 1);
    for (size_t at = 32; at < 4096; at += 16)
        put_little32(bytes + at, 0x746f6c53);
    put_little32(bytes + 32 + 4, 5);
    put_little32(bytes + 32 + 8, 4096 / 16);
    size_t length = make_header(bytes + 4096 + 16, 3000);
    put_little32(bytes + 4096, 0x53626c42);
    put_little32(bytes + 4096 + 4, 5);
    put_little32(bytes + 4096 + 12, (uint32_t)length);
    assert_int_equal(walk(&rpm_ndb, bytes, NDB_SIZE, NULL, 0, &found), 0);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.length, length);
    damage(&rpm_ndb, bytes, NDB_SIZE);
    free(bytes);
}

#define BDB_PAGE 512
#define BDB_SIZE (8 * BDB_PAGE)

/* Meta page, a page with a record 0 and a long value, which is in two overflow pages. */
static void bdb(void **state) {
    uint8_t *bytes = calloc(1, BDB_SIZE), blob[1024], *page = bytes + BDB_PAGE;
    struct found found;
    size_t length = make_header(blob, 600), first = BDB_PAGE - 26;
    (void)state;
    put_little32(bytes + 12, 0x61561);
    put_little32(bytes + 20, BDB_PAGE);
    bytes[25] = 8;
    page[25] = 13;
    put_little16(page + 20, 4);
    put_little16(page + 26, 507); /* key */
    put_little16(page + 28, 502); /* the record 0 */
    put_little16(page + 30, 497); /* key */
    put_little16(page + 32, 485);
    page[507] = page[502] = page[497] = 1;
    page[485] = 3;
    put_little32(page + 485 + 4, 2);
    put_little32(page + 485 + 8, (uint32_t)length);
    for (unsigned i = 2; i < 4; i++) {
        size_t count = i == 2 ? first : length - first;
        page = bytes + (size_t)i * BDB_PAGE;
        page[25] = 7;
        put_little32(page + 16, i == 2 ? 3 : 0);
        put_little16(page + 22, (uint32_t)count);
        memcpy(page + 26, blob + (i == 2 ? 0 : first), count);
    }
    assert_int_equal(walk(&rpm_bdb, bytes, BDB_SIZE, NULL, 0, &found), 0);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.length, length);
    put_little32(bytes + 2 * BDB_PAGE + 16, 2); /* a chain in a circle ends at the value's length */
    put_little32(bytes + BDB_PAGE + 485 + 8, 60 << 20);
    assert_int_equal(walk(&rpm_bdb, bytes, BDB_SIZE, NULL, 0, &found), -EUCLEAN);
    put_little32(bytes + BDB_PAGE + 485 + 8, (uint32_t)length);
    put_little32(bytes + 2 * BDB_PAGE + 16, 3);
    damage(&rpm_bdb, bytes, BDB_SIZE);
    free(bytes);
}

#define LITE_PAGE 512

/* Page 1: a row of the table of tables; page 2: `cells` pointers to page 3, or rows without anything. */
static void make_sqlite(uint8_t *bytes) {
    static const char row[] = "\x06\x17\x1d\x1d\x01\x0d"
                              "tablePackagesPackages\x02";
    size_t at = 400, length = sizeof(row) - 1;
    memcpy(bytes, "SQLite format 3", 16);
    put_big16(bytes + 16, LITE_PAGE);
    bytes[100] = 0x0d;
    put_big16(bytes + 103, 1);
    put_big16(bytes + 108, (uint32_t)at);
    bytes[at] = (uint8_t)length;
    bytes[at + 1] = 1;
    memcpy(bytes + at + 2, row, length);
}

/* A row of Packages with a blob that fits into the page. */
static size_t make_row(uint8_t *page, size_t filler) {
    uint8_t *cell = page + 200;
    size_t length = make_header(cell + 2 + 2 + 4, filler);
    uint64_t type = 12 + 2 * length, total = 4 + length;
    page[0] = 0x0d;
    put_big16(page + 3, 1);
    put_big16(page + 8, 200);
    cell[0] = (uint8_t)(0x80 | total >> 7);
    cell[1] = total & 0x7f;
    cell[2] = 1;
    cell[3] = 4; /* length of the row's header: itself, a NULL, the blob */
    cell[4] = 0;
    cell[5] = (uint8_t)(0x80 | type >> 7);
    cell[6] = type & 0x7f;
    memmove(cell + 7, cell + 8, length);
    return length;
}

static void sqlite(void **state) {
    uint8_t *bytes = calloc(3, LITE_PAGE);
    struct found found;
    (void)state;
    make_sqlite(bytes);
    size_t length = make_row(bytes + LITE_PAGE, 100);
    assert_int_equal(walk(&rpm_sqlite, bytes, 3 * LITE_PAGE, NULL, 0, &found), 0);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.length, length);
    damage(&rpm_sqlite, bytes, 3 * LITE_PAGE);
    /* a page that is its own child, many times: not deeper than trees are, and not for ever */
    uint8_t *page = bytes + LITE_PAGE;
    memset(page, 0, LITE_PAGE);
    page[0] = 0x05;
    put_big16(page + 3, 100);
    for (size_t i = 0; i < 100; i++)
        put_big16(page + 12 + 2 * i, 400);
    put_big32(page + 8, 2);
    put_big32(page + 400, 2);
    assert_int_equal(walk(&rpm_sqlite, bytes, 3 * LITE_PAGE, NULL, 0, &found), -EUCLEAN);
    free(bytes);
}

static void checksum(uint32_t sum[2], const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i += 8) {
        sum[0] += little32(bytes + i) + sum[1];
        sum[1] += little32(bytes + i + 4) + sum[0];
    }
}

/* A log with two frames for page 2; only transactions that were committed count. */
static void sqlite_log(void **state) {
    enum { FRAME = 24 + LITE_PAGE, LOG = 32 + 2 * FRAME };
    uint8_t *bytes = calloc(3, LITE_PAGE), *log = calloc(1, LOG);
    uint32_t sum[2] = {0};
    size_t lengths[2];
    struct found found;
    (void)state;
    make_sqlite(bytes);
    size_t old = make_row(bytes + LITE_PAGE, 50);
    put_big32(log, 0x377f0682);
    put_big32(log + 4, 3007000);
    put_big32(log + 8, LITE_PAGE);
    put_big32(log + 16, 0x11111111);
    checksum(sum, log, 24);
    put_big32(log + 24, sum[0]);
    put_big32(log + 28, sum[1]);
    for (size_t i = 0; i < 2; i++) {
        uint8_t *frame = log + 32 + i * FRAME;
        put_big32(frame, 2);
        put_big32(frame + 4, 3);
        put_big32(frame + 8, 0x11111111);
        lengths[i] = make_row(frame + 24, 100 + 20 * i);
        checksum(sum, frame, 8);
        checksum(sum, frame + 24, LITE_PAGE);
        put_big32(frame + 16, sum[0]);
        put_big32(frame + 20, sum[1]);
    }
    assert_int_equal(walk(&rpm_sqlite, bytes, 3 * LITE_PAGE, log, LOG, &found), 0);
    assert_int_equal(found.length, lengths[1]);
    log[LOG - 1] ^= 1; /* the last frame was not written to its end */
    assert_int_equal(walk(&rpm_sqlite, bytes, 3 * LITE_PAGE, log, LOG, &found), 0);
    assert_int_equal(found.length, lengths[0]);
    log[32 + 16] ^= 1;
    assert_int_equal(walk(&rpm_sqlite, bytes, 3 * LITE_PAGE, log, LOG, &found), 0);
    assert_int_equal(found.length, old);
    free(log);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dpkg), cmocka_unit_test(apk), cmocka_unit_test(pacman), cmocka_unit_test(header),
        cmocka_unit_test(ndb),  cmocka_unit_test(bdb), cmocka_unit_test(sqlite), cmocka_unit_test(sqlite_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
