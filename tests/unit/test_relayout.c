/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_relayout.c - names and extensions of an image change by one write of sector 0, whatever stands there.
 *
 * Headers are made with random names, extensions of others and cluster sizes, and changed again and again. After each
 * change the power is cut at random: some of the sectors outside of sector 0 have reached the disk, sector 0 has not,
 * and the disk must say what it said before; or it has, and must say what was asked for. What others put there stays.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "qcow2/extension.h"
#include "unit/memory_storage.h"

#define SECTOR 512u
#define OTHERS 4

static unsigned seed;

static unsigned below(unsigned n) {
    return (unsigned)rand_r(&seed) % n;
}

static char *random_name(unsigned longest) {
    unsigned length = 1 + below(longest);
    char *name = malloc(length + 1);
    assert_non_null(name);
    for (unsigned i = 0; i < length; i++)
        name[i] = (char)('a' + below(26));
    name[length] = '\0';
    return name;
}

static void replace(char **name, unsigned longest) {
    free(*name);
    *name = below(3) ? random_name(longest) : NULL;
}

/* Extensions of others, as they lie in a header: type, length, bytes, one after the other. */
struct others {
    uint8_t bytes[8192];
    size_t used;
};

static void collect_others(const struct qcow2_header *h, struct others *out) {
    struct qcow2_extension e;
    size_t at = h->header_length;
    out->used = 0;
    while (extension_next(h, &at, &e, NULL) == 1) {
        if (e.type >> 8 != 0x777777)
            continue;
        memcpy(out->bytes + out->used, &e.type, sizeof e.type);
        memcpy(out->bytes + out->used + 4, &e.length, sizeof e.length);
        memcpy(out->bytes + out->used + 8, e.data, e.length);
        out->used += 8 + e.length;
    }
}

static struct qcow2_header plain(unsigned bits, unsigned version) {
    return (struct qcow2_header){
        .version = version,
        .cluster_bits = bits,
        .size = 4096,
        .l1_offset = 3ull << bits,
        .l1_size = 1,
        .refcount_table_offset = 1ull << bits,
        .refcount_table_clusters = 1,
        .refcount_order = 4,
    };
}

/* An image with a few extensions that nobody knows in front of its own; false: they do not fit. */
static bool make(struct memory_storage *m, unsigned bits, unsigned version) {
    struct qcow2_header h = plain(bits, version);
    uint8_t others[OTHERS * 128];
    size_t used = 0, from = version >= 3 ? 112 : 72;
    replace(&h.backing_file, below(2) ? 40 : 1023);
    replace(&h.backing_format, 15);
    bool fits = header_compose(&h, NULL) == 0;
    for (unsigned i = below(OTHERS); i > 0; i--) {
        unsigned length = below(2) ? below(16) : below(100);
        be32 head[2] = {put32(0x77777700 + i), put32(length)};
        memcpy(others + used, head, 8);
        memset(others + used + 8, 0x40 + (int)i, (length + 7) & ~7u);
        used += 8 + ((length + 7) & ~7u);
    }
    uint64_t name = fits ? get64(((struct qcow2_disk_header *)h.first)->backing_file_offset) : 0;
    fits = fits && (name ? name + strlen(h.backing_file) : 0) + used + 600 <= h.first_size;
    if (fits) {
        memory_open(m, 6ull << bits);
        memcpy(m->bytes, h.first, from);
        memcpy(m->bytes + from, others, used);
        memcpy(m->bytes + from + used, h.first + from, h.first_size - from - used);
        if (name)
            memory_put(m, 8, 8, name + used);
    }
    h.size = 0;
    header_free(&h);
    return fits;
}

/* Some of the fields that a switch may change. */
static void change(struct qcow2_header *h) {
    if (below(2))
        replace(&h->backing_file, below(2) ? 40 : 1023);
    if (below(2))
        replace(&h->backing_format, 15);
    if (below(2)) {
        h->lineage_length = below(3) ? below(QCOW2_MAX_LINEAGE + 1) : 0;
        memset(h->lineage, (int)below(256), sizeof h->lineage);
    }
    if (h->version >= 3 && below(2)) {
        h->incompatible ^= QCOW2_INCOMPAT_DATA_FILE;
        free(h->data_file);
        h->data_file = h->incompatible & QCOW2_INCOMPAT_DATA_FILE ? random_name(below(2) ? 30 : 700) : NULL;
    }
    if (h->version >= 3 && below(2)) {
        h->has_bitmaps = !h->has_bitmaps;
        h->autoclear ^= QCOW2_AUTOCLEAR_BITMAPS;
        h->nb_bitmaps = 1 + below(3);
        h->bitmap_directory_offset = 5ull << h->cluster_bits;
        h->bitmap_directory_size = h->nb_bitmaps * 32;
    }
    if (below(4) == 0 && !(h->incompatible | h->autoclear | h->has_bitmaps)) {
        h->version = h->version == 2 ? 3 : 2;
    }
}

static void same_string(const char *a, const char *b) {
    if (!a || !b)
        assert_true(a == b);
    else
        assert_string_equal(a, b);
}

/* The disk says what the fields say. */
static void expect(struct memory_storage *m, const struct qcow2_header *h, const struct others *others) {
    struct qcow2_header seen;
    struct img_error err;
    struct others left;
    if (header_read(&m->base, &seen, false, &err) < 0)
        fail_msg("unreadable: %s", err.text);
    assert_int_equal(seen.version, h->version);
    same_string(seen.backing_file, h->backing_file);
    same_string(seen.backing_format, h->backing_format);
    same_string(seen.data_file, h->data_file);
    assert_int_equal(seen.has_bitmaps, h->has_bitmaps);
    if (h->has_bitmaps)
        assert_int_equal(seen.nb_bitmaps, h->nb_bitmaps);
    assert_int_equal(seen.lineage_length, h->lineage_length);
    assert_memory_equal(seen.lineage, h->lineage, h->lineage_length);
    collect_others(&seen, &left);
    assert_int_equal(left.used, others->used);
    assert_memory_equal(left.bytes, others->bytes, others->used);
    header_free(&seen);
}

/* Random sectors of [offset, offset + length) reach the disk, then all of them. */
static void write_outside(struct memory_storage *m, const struct qcow2_header *h, const struct header_outside *outside,
                          const struct qcow2_header *before, const struct others *others) {
    size_t end = outside->offset + outside->length;
    assert_true(outside->length == 0 || outside->offset >= SECTOR);
    for (unsigned round = 0; round < 2; round++)
        for (size_t at = outside->offset; at < end;) {
            size_t stop = (at / SECTOR + 1) * SECTOR < end ? (at / SECTOR + 1) * SECTOR : end;
            if (round || below(2))
                memcpy(m->bytes + at, h->first + at, stop - at);
            expect(m, before, others);
            at = stop;
        }
}

/* One change; false: there was no room for it. */
static bool change_once(struct memory_storage *m, struct qcow2_header *h) {
    struct qcow2_header before;
    struct header_outside outside;
    struct img_error err = {0};
    struct others others;
    assert_int_equal(header_read(&m->base, &before, false, NULL), 0);
    collect_others(&before, &others);
    change(h);
    int r = header_relayout(h, &outside, &err);
    if (r < 0) {
        assert_int_equal(r, -ENOSPC);
        assert_non_null(strstr(err.text, "has no room for the new names and extensions"));
        assert_memory_equal(h->first, m->bytes, h->first_size);
    } else {
        write_outside(m, h, &outside, &before, &others);
        assert_int_equal(header_write_sector(&m->base, h), 0);
        expect(m, h, &others);
        memset(h->first + outside.stale, 0, outside.stale_length);
        memset(m->bytes + outside.stale, 0, outside.stale_length);
        expect(m, h, &others);
        assert_memory_equal(h->first, m->bytes, h->first_size);
        assert_int_equal(header_relayout(h, &outside, &err), 0); /* nothing is left to do */
        assert_int_equal(outside.length, 0);
    }
    header_free(&before);
    return r == 0;
}

static void test_random_changes(void **state) {
    (void)state;
    unsigned done = 0, refused = 0;
    for (unsigned number = 0; number < 3000; number++) {
        struct memory_storage m;
        struct qcow2_header h;
        seed = number + 1;
        if (!make(&m, 9 + below(8), 2 + below(2)))
            continue;
        assert_int_equal(header_read(&m.base, &h, false, NULL), 0);
        for (unsigned i = 0; i < 8; i++) {
            if (change_once(&m, &h)) {
                done++;
                continue;
            }
            refused++;
            header_free(&h);
            assert_int_equal(header_read(&m.base, &h, false, NULL), 0);
        }
        header_free(&h);
        memory_close(&m);
    }
    assert_true(done > 10000);
    assert_true(refused < done / 3);
}

/* Fields that nobody here knows stay, and so do the names of features when there is room. */
static void test_kept(void **state) {
    (void)state;
    struct memory_storage m;
    struct qcow2_header h = plain(12, 3), back;
    struct header_outside outside;
    h.incompatible = QCOW2_INCOMPAT_EXTENDED_L2;
    h.cluster_bits = 14;
    h.l1_offset = 3 << 14;
    h.refcount_table_offset = 1 << 14;
    assert_int_equal(header_compose(&h, NULL), 0);
    memory_open(&m, 6 << 14);
    memcpy(m.bytes, h.first, h.first_size);
    memory_put(&m, 100, 4, 128);
    memmove(m.bytes + 128, m.bytes + 112, 1000);
    memory_put(&m, 112, 8, 0x1122334455667788);
    memory_put(&m, 120, 8, 0);
    header_free(&h);

    assert_int_equal(header_read(&m.base, &h, false, NULL), 0);
    h.backing_file = strdup("base.qcow2");
    h.backing_format = strdup("qcow2");
    assert_int_equal(header_relayout(&h, &outside, NULL), 0);
    assert_int_equal(outside.length, 0); /* short enough for sector 0 */
    assert_int_equal(header_write_sector(&m.base, &h), 0);
    assert_int_equal(header_read(&m.base, &back, false, NULL), 0);
    assert_int_equal(back.header_length, 120); /* what was zero behind the last known byte is spared */
    assert_int_equal(memory_get(&m, 112, 8), 0x1122334455667788);
    assert_string_equal(back.backing_file, "base.qcow2");
    struct qcow2_extension e;
    size_t at = back.header_length, names = 0;
    while (extension_next(&back, &at, &e, NULL) == 1)
        if (e.type == QCOW2_EXT_FEATURE_NAMES)
            names = e.length / sizeof(struct qcow2_disk_feature_name);
    assert_int_equal(names, 1); /* that of the feature in use */
    header_free(&back);
    header_free(&h);
    memory_close(&m);
}

/* A name that is too long is refused before anything is touched. */
static void test_too_long(void **state) {
    (void)state;
    struct qcow2_header h = plain(16, 3);
    struct header_outside outside;
    struct img_error err;
    assert_int_equal(header_compose(&h, NULL), 0);
    uint8_t *first = h.first;
    h.backing_file = malloc(1025);
    memset(h.backing_file, 'n', 1024);
    h.backing_file[1024] = '\0';
    assert_int_equal(header_relayout(&h, &outside, &err), -EINVAL);
    assert_non_null(strstr(err.text, "Backing file name too long (1024 bytes"));
    assert_ptr_equal(h.first, first);
    header_free(&h);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_changes),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
