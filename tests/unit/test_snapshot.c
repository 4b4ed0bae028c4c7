/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_snapshot.c - the snapshot table and the bitmap directory are read and judged as snapshot.h promises: tables made
 * in memory and damaged field by field, and those of images that qemu-img made.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "qcow2/snapshot.h"
#include "unit/memory_storage.h"

#define CLUSTER 4096u
enum { REFTABLE_AT = 1 * CLUSTER, L1_AT = 3 * CLUSTER, TABLE_AT = 4 * CLUSTER, SECOND_L1_AT = 5 * CLUSTER };

struct image {
    struct memory_storage file;
    struct qcow2_header header;
    unsigned end; /* of the table, while it is written */
};

static void make(struct image *i, uint64_t file_size) {
    memset(i, 0, sizeof *i);
    memory_open(&i->file, file_size);
    i->header = (struct qcow2_header){
        .version = 3,
        .cluster_bits = 12,
        .first_size = CLUSTER,
        .size = 8u << 20,
        .l1_offset = L1_AT,
        .l1_size = 4,
        .refcount_table_offset = REFTABLE_AT,
        .refcount_table_clusters = 1,
        .refcount_order = 4,
        .snapshots_offset = TABLE_AT,
        .bitmap_directory_offset = TABLE_AT,
    };
    i->end = TABLE_AT;
}

static void done(struct image *i) {
    memory_close(&i->file);
}

/* Appends an entry and returns where it begins. */
static unsigned add_snapshot(struct image *i, unsigned extra, const char *id, const char *name) {
    unsigned at = i->end = (i->end + 7) & ~7u;
    struct memory_storage *m = &i->file;
    memory_put(m, at, 8, SECOND_L1_AT);
    memory_put(m, at + 8, 4, 4);
    memory_put(m, at + 12, 2, strlen(id));
    memory_put(m, at + 14, 2, strlen(name));
    memory_put(m, at + 16, 4, 1000);
    memory_put(m, at + 20, 4, 7);
    memory_put(m, at + 24, 8, 123456789012);
    memory_put(m, at + 32, 4, 99);
    memory_put(m, at + 36, 4, extra);
    if (extra >= 8)
        memory_put(m, at + 40, 8, 5000000000);
    if (extra >= 16)
        memory_put(m, at + 48, 8, 8u << 20);
    if (extra >= 24)
        memory_put(m, at + 56, 8, 77);
    memcpy(m->bytes + at + 40 + extra, id, strlen(id));
    memcpy(m->bytes + at + 40 + extra + strlen(id), name, strlen(name));
    i->end = at + 40 + extra + (unsigned)(strlen(id) + strlen(name));
    i->header.nb_snapshots++;
    return at;
}

static void test_fields(void **state) {
    (void)state;
    static const unsigned extras[] = {0, 8, 16, 24, 32, 1024};
    for (size_t n = 0; n < 6; n++) {
        struct image i;
        struct qcow2_snapshots s;
        make(&i, 7 * CLUSTER);
        add_snapshot(&i, extras[n], "1", "first");
        add_snapshot(&i, 16, "2", "");
        assert_int_equal(snapshots_read(&i.file.base, &i.header, &s, NULL), 0);
        assert_int_equal(s.count, 2);
        assert_int_equal(s.bytes, i.end - TABLE_AT);
        assert_string_equal(s.list[0].id, "1");
        assert_string_equal(s.list[0].name, "first");
        assert_string_equal(s.list[1].name, "");
        assert_int_equal(s.list[0].l1_offset, SECOND_L1_AT);
        assert_int_equal(s.list[0].l1_size, 4);
        assert_int_equal(s.list[0].extra_size, extras[n]);
        assert_int_equal(s.list[0].date_ns, 1000000000007);
        assert_int_equal(s.list[0].vm_clock_ns, 123456789012);
        assert_int_equal(s.list[0].vm_state_size, extras[n] >= 8 ? 5000000000 : 99);
        assert_int_equal(s.list[0].disk_size, extras[n] >= 16 ? 8u << 20 : UINT64_MAX);
        assert_int_equal(s.list[0].icount, extras[n] >= 24 ? 77 : UINT64_MAX);
        snapshots_free(&s);
        done(&i);
    }
}

static void test_find(void **state) {
    (void)state;
    struct image i;
    struct qcow2_snapshots s;
    make(&i, 7 * CLUSTER);
    add_snapshot(&i, 16, "1", "2");
    add_snapshot(&i, 16, "2", "daily");
    add_snapshot(&i, 16, "3", "daily");
    assert_int_equal(snapshots_read(&i.file.base, &i.header, &s, NULL), 0);
    assert_ptr_equal(snapshots_find(&s, "2"), &s.list[1]); /* the id counts before the name */
    assert_ptr_equal(snapshots_find(&s, "daily"), &s.list[1]);
    assert_ptr_equal(snapshots_find(&s, "3"), &s.list[2]);
    assert_null(snapshots_find(&s, "weekly"));
    snapshots_free(&s);
    done(&i);
}

static void expect_failure(struct image *i, int code, const char *words) {
    struct qcow2_snapshots s;
    struct img_error err = {0};
    int r = snapshots_read(&i->file.base, &i->header, &s, &err);
    if (r != code || strstr(err.text, words) == NULL)
        fail_msg("expected %d with \"%s\", got %d with \"%s\"", code, words, r, err.text);
    assert_null(s.list);
}

static void test_damage(void **state) {
    (void)state;
    static const struct {
        unsigned offset, width;
        uint64_t value;
        int code;
        const char *words;
    } list[] = {
        {0, 8, SECOND_L1_AT + 8, -EINVAL, "entry 1: Snapshot L1 table offset invalid (l1_table_offset = 20488)"},
        {0, 8, UINT64_MAX, -EINVAL, "Snapshot L1 table offset invalid"},
        {0, 8, 0, -EUCLEAN, "entry 1: Snapshot L1 table (l1_table_offset = 0) overlaps Header"},
        {0, 8, L1_AT, -EUCLEAN, "overlaps Active L1 table"},
        {0, 8, REFTABLE_AT, -EUCLEAN, "overlaps Reference count table"},
        {0, 8, 7 * CLUSTER, -EUCLEAN, "Snapshot L1 table lies outside the file (l1_table_offset = 28672"},
        {8, 4, 4194305, -EINVAL, "Snapshot L1 table too large (entry 1, l1_size = 4194305)"},
        {8, 4, UINT32_MAX, -EINVAL, "Snapshot L1 table too large (entry 1, l1_size = 4294967295)"},
        {8, 4, 4000, -EUCLEAN, "Snapshot L1 table lies outside the file"},
        {8, 4, 3, -EINVAL, "entry 1: L1 table is too small (l1_size = 3, disk_size = 8388608)"},
        {48, 8, 1ull << 62, -EINVAL, "L1 table is too small (l1_size = 4, disk_size = 4611686018427387904)"},
        {36, 4, 1025, -EINVAL, "Too much extra metadata in snapshot table entry 1 (extra_data_size = 1025"},
        {36, 4, UINT32_MAX, -EINVAL, "Too much extra metadata in snapshot table entry 1"},
        {12, 2, 65535, -EUCLEAN, "Snapshot table ends in entry 1 of 2"},
        {14, 2, 65535, -EUCLEAN, "Snapshot table ends in entry 1 of 2"},
    };
    for (size_t n = 0; n < sizeof list / sizeof list[0]; n++) {
        struct image i;
        make(&i, 7 * CLUSTER);
        add_snapshot(&i, 16, "1", "first");
        unsigned at = add_snapshot(&i, 24, "2", "second");
        memory_put(&i.file, at + list[n].offset, list[n].width, list[n].value);
        expect_failure(&i, list[n].code, list[n].words);
        done(&i);
    }
}

static void test_table_place(void **state) {
    (void)state;
    struct image i;
    make(&i, 7 * CLUSTER);
    add_snapshot(&i, 16, "1", "first");
    i.header.nb_snapshots = 65536; /* a number costs nothing */
    expect_failure(&i, -EUCLEAN, "Snapshot table ends in entry");
    i.header.nb_snapshots = 1;
    i.header.snapshots_offset = 8 * CLUSTER;
    expect_failure(&i, -EUCLEAN, "Snapshot table lies outside the file (snapshots_offset = 32768");
    i.header.snapshots_offset = TABLE_AT;
    i.file.fail_reads = -EIO;
    expect_failure(&i, -EIO, "Could not read snapshot table entry 0");
    done(&i);

    /* a table that runs into the L1 table behind it */
    make(&i, 16 * CLUSTER);
    i.header.l1_offset = TABLE_AT + CLUSTER;
    char name[5000];
    memset(name, 'n', sizeof name);
    name[4999] = '\0';
    unsigned at = add_snapshot(&i, 16, "1", name);
    memory_put(&i.file, at, 8, 10 * CLUSTER);
    expect_failure(&i, -EUCLEAN, "Snapshot table (snapshots_offset = 16384) overlaps Active L1 table");
    done(&i);
}

/* Longer than the window through which it is read, with names of NULs among them. */
static void test_long_table(void **state) {
    (void)state;
    struct image i;
    struct qcow2_snapshots s;
    char name[301], id[16];
    make(&i, 1 << 20);
    i.header.l1_offset = 200 * CLUSTER;
    i.header.refcount_table_offset = 201 * CLUSTER;
    memset(name, 'x', sizeof name);
    for (unsigned n = 0; n < 900; n++) {
        snprintf(id, sizeof id, "%u", n);
        name[n % 300] = '\0';
        unsigned at = add_snapshot(&i, 16, id, name);
        memory_put(&i.file, at, 8, 202 * CLUSTER);
        name[n % 300] = 'x';
    }
    assert_true(i.end - TABLE_AT > 128 << 10);
    assert_int_equal(snapshots_read(&i.file.base, &i.header, &s, NULL), 0);
    assert_int_equal(s.count, 900);
    for (unsigned n = 0; n < 900; n++) {
        snprintf(id, sizeof id, "%u", n);
        assert_string_equal(s.list[n].id, id);
        assert_int_equal(strlen(s.list[n].name), n % 300);
    }
    assert_true(i.file.reads < 8);
    snapshots_free(&s);
    done(&i);
}

/* All names and ids are kept in memory, so there is a limit to them together: 4 MiB, and not a byte more. */
static void test_names_in_all(void **state) {
    (void)state;
    enum { ENTRIES = 64, EACH = 65536 };
    static char name[EACH];
    memset(name, 'n', EACH - 1); /* and an id of one byte */
    for (unsigned more = 0; more < 2; more++) {
        struct image i;
        struct qcow2_snapshots s;
        make(&i, 10 << 20);
        i.header.l1_offset = 9 << 20;
        for (unsigned n = 0; n < ENTRIES; n++)
            memory_put(&i.file, add_snapshot(&i, 16, "1", name), 8, (9 << 20) + CLUSTER);
        memory_put(&i.file, add_snapshot(&i, 16, more ? "2" : "", ""), 8, (9 << 20) + CLUSTER);
        if (more) {
            expect_failure(&i, -EINVAL, "entry 64: the ids and names up to here take 4194305 bytes");
        } else {
            assert_int_equal(snapshots_read(&i.file.base, &i.header, &s, NULL), 0);
            assert_int_equal(s.count, ENTRIES + 1);
            assert_int_equal(strlen(s.list[ENTRIES - 1].name), EACH - 1);
            snapshots_free(&s);
        }
        done(&i);
    }
}

/* ---- bitmaps ----------------------------------------------------------------------------------- */

static unsigned add_bitmap(struct image *i, uint32_t flags, unsigned extra, const char *name) {
    unsigned at = i->end;
    struct memory_storage *m = &i->file;
    memory_put(m, at, 8, SECOND_L1_AT);
    memory_put(m, at + 8, 4, 2);
    memory_put(m, at + 12, 4, flags);
    memory_put(m, at + 16, 1, 1);
    memory_put(m, at + 17, 1, 16);
    memory_put(m, at + 18, 2, strlen(name));
    memory_put(m, at + 20, 4, extra);
    memcpy(m->bytes + at + 24 + extra, name, strlen(name));
    i->end = (at + 24 + extra + (unsigned)strlen(name) + 7) & ~7u;
    i->header.has_bitmaps = true;
    i->header.nb_bitmaps++;
    i->header.bitmap_directory_size = i->end - TABLE_AT;
    return at;
}

static void test_bitmaps(void **state) {
    (void)state;
    struct image i;
    struct qcow2_bitmaps b;
    make(&i, 7 * CLUSTER);
    unsigned first = add_bitmap(&i, QCOW2_BITMAP_AUTO, 0, "a");
    unsigned second = add_bitmap(&i, 0, 12, "disabled");
    unsigned third = add_bitmap(&i, QCOW2_BITMAP_AUTO | QCOW2_BITMAP_IN_USE, 0, "stale");
    assert_int_equal(bitmaps_read(&i.file.base, &i.header, &b, NULL), 0);
    assert_int_equal(b.count, 3);
    assert_string_equal(b.list[0].name, "a");
    assert_string_equal(b.list[1].name, "disabled");
    assert_string_equal(b.list[2].name, "stale");
    assert_int_equal(b.list[0].granularity_bits, 16);
    assert_int_equal(b.list[1].flags_offset, second + 12);

    unsigned writes = i.file.writes;
    assert_int_equal(bitmaps_mark_in_use(&i.file.base, &b, NULL), 0);
    assert_int_equal(memory_get(&i.file, first + 12, 4), QCOW2_BITMAP_AUTO | QCOW2_BITMAP_IN_USE);
    assert_int_equal(memory_get(&i.file, second + 12, 4), 0);
    assert_int_equal(memory_get(&i.file, third + 12, 4), QCOW2_BITMAP_AUTO | QCOW2_BITMAP_IN_USE);
    assert_int_equal(i.file.writes, writes + 1);
    assert_int_equal(i.file.flushes, 1);
    assert_int_equal(bitmaps_mark_in_use(&i.file.base, &b, NULL), 0); /* once is enough */
    assert_int_equal(i.file.writes, writes + 1);
    assert_int_equal(i.file.flushes, 1);
    bitmaps_free(&b);

    i.header.has_bitmaps = false;
    assert_int_equal(bitmaps_read(&i.file.base, &i.header, &b, NULL), 0);
    assert_int_equal(b.count, 0);
    done(&i);
}

static void test_bitmap_damage(void **state) {
    (void)state;
    static const struct {
        unsigned offset, width;
        uint64_t value;
        int code;
        const char *words;
    } list[] = {
        {0, 8, SECOND_L1_AT + 1, -EINVAL, "Bitmap 'two': Bitmap table offset invalid (bitmap_table_offset = 20481)"},
        {0, 8, L1_AT, -EUCLEAN, "Bitmap 'two': Bitmap table (bitmap_table_offset = 12288) overlaps Active L1 table"},
        {0, 8, 1 << 20, -EUCLEAN, "Bitmap table lies outside the file (bitmap_table_offset = 1048576"},
        {8, 4, UINT32_MAX, -EINVAL, "Bitmap 'two' doesn't satisfy the constraints (bitmap_table_size = 4294967295)"},
        {8, 4, 1 << 20, -EUCLEAN, "Bitmap table lies outside the file"},
        {12, 4, 0x80000001, -EINVAL, "constraints (flags = 2147483649)"},
        {16, 1, 2, -EINVAL, "constraints (type = 2)"},
        {17, 1, 8, -EINVAL, "constraints (granularity_bits = 8)"},
        {17, 1, 64, -EINVAL, "constraints (granularity_bits = 64)"},
        {18, 2, 0, -EINVAL, "Bitmap directory entry 1: name_size = 0 is not between 1 and 1023"},
        {18, 2, 1024, -EINVAL, "name_size = 1024 is not between 1 and 1023"},
        {18, 2, 500, -EUCLEAN, "Broken bitmap directory: entry 1 of 2 does not fit"},
        {20, 4, UINT32_MAX, -EUCLEAN, "Broken bitmap directory: entry 1 of 2 does not fit"},
    };
    for (size_t n = 0; n < sizeof list / sizeof list[0]; n++) {
        struct image i;
        struct qcow2_bitmaps b;
        struct img_error err = {0};
        make(&i, 7 * CLUSTER);
        add_bitmap(&i, 0, 0, "one");
        unsigned at = add_bitmap(&i, 0, 0, "two");
        memory_put(&i.file, at + list[n].offset, list[n].width, list[n].value);
        int r = bitmaps_read(&i.file.base, &i.header, &b, &err);
        if (r != list[n].code || strstr(err.text, list[n].words) == NULL)
            fail_msg("expected %d with \"%s\", got %d with \"%s\"", list[n].code, list[n].words, r, err.text);
        assert_null(b.list);
        done(&i);
    }
    struct image i;
    struct qcow2_bitmaps b;
    struct img_error err = {0};
    make(&i, 7 * CLUSTER);
    add_bitmap(&i, 0, 0, "one");
    add_bitmap(&i, 0, 0, "two");
    i.header.nb_bitmaps = 1;
    assert_int_equal(bitmaps_read(&i.file.base, &i.header, &b, &err), -EUCLEAN);
    assert_non_null(
        strstr(err.text, "More bitmaps found than specified in header extension (nb_bitmaps = 1, 32 bytes"));
    done(&i);
}

/* ---- what qemu-img makes ----------------------------------------------------------------------- */

static void run(const char *folder, const char *command) {
    char line[1024];
    snprintf(line, sizeof line, "cd %s && { %s; } >/dev/null", folder, command);
    if (system(line) != 0)
        fail_msg("failed: %s", command);
}

static void load(struct memory_storage *m, const char *folder, const char *name) {
    char path[128];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    memory_open(m, (uint64_t)st.st_size);
    assert_int_equal(read(fd, m->bytes, (size_t)st.st_size), st.st_size);
    close(fd);
}

static void test_qemu_tables(void **state) {
    (void)state;
    static const char *const versions[] = {"0.10", "1.1"};
    char folder[] = "/tmp/snapshot-XXXXXX", command[512];
    assert_non_null(mkdtemp(folder));
    for (int v = 0; v < 2; v++) {
        struct memory_storage m;
        struct qcow2_header h;
        struct qcow2_snapshots s;
        struct qcow2_bitmaps b;
        struct img_error err = {0};
        snprintf(command, sizeof command,
                 "qemu-img create -q -f qcow2 -o compat=%s i 64M && qemu-img snapshot -c one i && "
                 "qemu-io -c 'write 1M 1M' i && qemu-img snapshot -c 'two words' i",
                 versions[v]);
        run(folder, command);
        if (v == 1)
            run(folder, "qemu-img bitmap --add -g 512 i fine && qemu-img bitmap --add --disable i coarse");
        load(&m, folder, "i");
        if (header_read(&m.base, &h, false, &err) != 0 || snapshots_read(&m.base, &h, &s, &err) != 0)
            fail_msg("%s", err.text);
        assert_int_equal(s.count, 2);
        assert_string_equal(s.list[0].id, "1");
        assert_string_equal(s.list[1].name, "two words");
        assert_int_equal(s.list[1].disk_size, 64 << 20);
        assert_int_equal(s.list[1].vm_state_size, 0);
        assert_true(s.list[1].date_ns > 1700000000ull * 1000000000);
        if (bitmaps_read(&m.base, &h, &b, &err) != 0)
            fail_msg("%s", err.text);
        assert_int_equal(b.count, v == 1 ? 2 : 0);
        if (v == 1) {
            assert_string_equal(b.list[0].name, "fine");
            assert_int_equal(b.list[0].granularity_bits, 9);
            assert_int_equal(b.list[0].flags, QCOW2_BITMAP_AUTO);
            assert_string_equal(b.list[1].name, "coarse");
            assert_int_equal(b.list[1].flags, 0);
        }
        bitmaps_free(&b);
        snapshots_free(&s);
        header_free(&h);
        memory_close(&m);
    }
    run(folder, "rm -f i");
    rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields),        cmocka_unit_test(test_find),         cmocka_unit_test(test_damage),
        cmocka_unit_test(test_table_place),   cmocka_unit_test(test_long_table),   cmocka_unit_test(test_bitmaps),
        cmocka_unit_test(test_bitmap_damage), cmocka_unit_test(test_names_in_all), cmocka_unit_test(test_qemu_tables),
    };
    return cmocka_run_group_tests_name("snapshot", tests, NULL, NULL);
}
