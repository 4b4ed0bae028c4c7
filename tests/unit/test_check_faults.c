/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_check_faults.c - the check where things fail, and where an image wants to be expensive.
 *
 * A storage that stops working after a number of writes gives every prefix of a repair: each must be an error, must not
 * have cost data, and the next repair must finish the work. Hostile images are made here because they are large; the
 * check must not spend more on them than their data is worth.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "check_util.h"
#include "faulty_storage.h"
#include "scratch.h"

/* ---- repairs that are cut short ------------------------------------------------------------------------------ */

/* Guest data by the library's reader of the test: the first `n` bytes through the tables, all of them standard. */
static void assert_guest_is(const char *path, uint8_t value, uint64_t n, const char *what) {
    int status =
        shell(NULL, "qemu-io -r -f qcow2 -c 'read -q -P %u 0 %" PRIu64 "' '%s' 2>&1 | grep -q .", value, n, path);
    if (status == 0)
        fail_msg("%s: guest data is lost", what);
}

/* Whoever opens the image must see that a repair was under way, unless there is nothing to see. */
static void assert_told(const char *path, const uint8_t *before, size_t size, const char *what) {
    size_t now_size;
    struct check_run run;
    uint8_t *now = read_file(path, &now_size);
    bool same = now_size == size && memcmp(now, before, size) == 0, dirty = be_get(now + 72, 8) & 1;
    check_path(path, 0, &run);
    if (!same && !dirty && run.result.corruptions > 0)
        fail_msg("%s: half repaired and not marked", what);
    check_run_free(&run);
    free(now);
}

/* Cuts the repair of a fixture after each of its writes and barriers. `data`: bytes of 1 at the start of the disk that
 * no state may lose; `always`: they are readable in the states between, too. */
static void cut_repair(const char *fixture, uint64_t data, bool always) {
    char source[128], what[160];
    struct check_run run;
    size_t size;
    snprintf(source, sizeof source, "fixtures/%s.qcow2", fixture);
    uint8_t *bytes = read_file(source, &size);
    char *path = scratch_path("cut");
    unsigned cuts = 0;
    for (bool done = false; !done; cuts++) {
        struct faulty f;
        write_file(path, bytes, size);
        faulty_open(&f, path);
        f.writes_left = cuts;
        check_storage(&f.base, IMG_CHECK_REPAIR_ALL, &run);
        storage_close(&f.base);
        snprintf(what, sizeof what, "%s cut after %u writes", fixture, cuts);
        if (f.out_of_order > 0)
            fail_msg("%s: the header is written without a barrier before or behind it", what);
        assert_told(path, bytes, size, what);
        done = run.code == 0;
        if (!done && (run.code != -EIO || run.result.check_errors == 0 || run.error.text[0] == '\0'))
            fail_msg("%s: the failed write is not reported", what);
        if (cuts > 1 && !run.repaired)
            fail_msg("%s: the caller is not told that the file was changed", what);
        check_run_free(&run);
        if (always && data > 0)
            assert_guest_is(path, 1, data, what);
        check_path(path, IMG_CHECK_REPAIR_ALL, &run);
        if (strcmp(check_verdict(&run), "clean") != 0) {
            check_show(&run);
            fail_msg("%s: the next repair leaves it %s", what, check_verdict(&run));
        }
        check_run_free(&run);
        if (strcmp(peer_verdict(path, NULL), "clean") != 0)
            fail_msg("%s: qemu-img is not content after the next repair", what);
        if (data > 0)
            assert_guest_is(path, 1, data, what);
    }
    assert_true(cuts >= 3);
    free(bytes);
    free(path);
}

static void repair_in_place_may_be_cut(void **state) {
    (void)state;
    cut_repair("count-low", 2048, true);
    cut_repair("copied-missing", 2048, true);
    cut_repair("leaks", 2048, true);
    cut_repair("entry-past-end", 1024, true);
}

static void rebuild_may_be_cut(void **state) {
    (void)state;
    cut_repair("block-on-data", 2048, false);
    cut_repair("block-zero", 2048, false);
    cut_repair("snapshot-l1-misaligned", 2048, true);
    cut_repair("l1-self", 2048, true);
}

/* ---- what cannot be read or written ----------------------------------------------------------------------------- */

static void unreadable_tables_stop_a_repair(void **state) {
    (void)state;
    size_t size, after;
    uint8_t *bytes = read_file("fixtures/leaks.qcow2", &size);
    char *path = scratch_path("unreadable");
    write_file(path, bytes, size);
    uint64_t l1 = be_get(bytes + 40, 8), reftable = be_get(bytes + 48, 8);
    uint64_t places[] = {l1, be_get(bytes + l1, 8) & QCOW2_OFFSET_MASK, reftable, be_get(bytes + reftable, 8)};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct faulty f;
        struct check_run run;
        faulty_open(&f, path);
        f.bad_start = places[i];
        f.bad_end = places[i] + 512;
        check_storage(&f.base, IMG_CHECK_REPAIR_ALL, &run);
        assert_true(run.code == 0 && run.result.check_errors > 0 && !run.repaired);
        assert_non_null(check_find(&run, "could not read"));
        assert_int_equal(f.writes, 0);
        check_run_free(&run);
        storage_close(&f.base);
    }
    uint8_t *now = read_file(path, &after);
    assert_true(after == size && memcmp(now, bytes, size) == 0);
    free(now);
    free(bytes);
    free(path);
}

static void repair_needs_a_writable_file(void **state) {
    (void)state;
    struct storage *file = open_storage("fixtures/leaks.qcow2", 0, IMG_CACHE_WRITEBACK);
    struct check_run run;
    check_storage(file, IMG_CHECK_REPAIR_LEAKS, &run);
    assert_int_equal(run.code, -EACCES);
    check_run_free(&run);
    storage_close(file);
}

/* Damaged tables may be why clusters look unused: then lowering counts alone would free what can still be saved. */
static void leaks_stay_while_references_are_hidden(void **state) {
    (void)state;
    size_t size, after;
    uint8_t *bytes = read_file("fixtures/l1-past-end.qcow2", &size);
    char *path = scratch_path("hidden");
    write_file(path, bytes, size);
    struct check_run run;
    check_path(path, IMG_CHECK_REPAIR_LEAKS, &run);
    assert_true(run.code == 0 && !run.repaired && run.result.leaks > 0 && run.result.leaks_fixed == 0);
    check_run_free(&run);
    uint8_t *now = read_file(path, &after);
    assert_true(after == size && memcmp(now, bytes, size) == 0);
    free(now);
    free(bytes);
    free(path);
}

/* ---- images that want to be expensive -----------------------------------------------------------------------------
 */

enum { HEADER = 104 };

static void put_header(uint8_t *h, unsigned cluster_bits, uint64_t size, uint64_t l1, uint32_t l1_size,
                       uint64_t reftable, uint32_t reftable_clusters, uint64_t snapshots, uint32_t nsnapshots) {
    memset(h, 0, HEADER);
    be_put(h, 4, QCOW2_MAGIC);
    be_put(h + 4, 4, 3);
    be_put(h + 20, 4, cluster_bits);
    be_put(h + 24, 8, size);
    be_put(h + 36, 4, l1_size);
    be_put(h + 40, 8, l1);
    be_put(h + 48, 8, reftable);
    be_put(h + 56, 4, reftable_clusters);
    be_put(h + 60, 4, nsnapshots);
    be_put(h + 64, 8, snapshots);
    be_put(h + 96, 4, 4);
    be_put(h + 100, 4, HEADER);
}

/* The check as a child with 20 s of CPU and 512 MiB of memory; it must find corruption. */
struct limited {
    const char *path;
    uint64_t at_most; /* findings */
};

static int check_limited(void *argument) {
    const struct limited *l = argument;
    struct rlimit cpu = {20, 20}, memory = {512u << 20, 512u << 20};
    struct storage *file;
    struct qcow2_header header;
    struct img_check_result result;
    struct img_error error;
    bool repaired;
    setrlimit(RLIMIT_CPU, &cpu);
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
    setrlimit(RLIMIT_AS, &memory);
#else
    (void)memory;
#endif
    if (file_open(l->path, 0, IMG_CACHE_WRITEBACK, &file, &error) < 0 || header_read(file, &header, true, &error) < 0 ||
        qcow2_check_file(file, NULL, &header, NULL, &result, &repaired, &error) < 0) {
        fprintf(stderr, "# %s\n", error.text);
        return 2;
    }
    header_free(&header);
    storage_close(file);
    return result.corruptions > 0 && result.corruptions <= l->at_most ? 0 : 1;
}

static void expect_limited(const char *path, uint64_t at_most) {
    struct limited l = {path, at_most};
    assert_int_equal(child_result(in_child(check_limited, &l)), 0);
    remove(path);
}

/* Four million L1 entries, each naming the same L2 table, which names itself. */
static void one_table_for_all(void **state) {
    (void)state;
    enum { ENTRIES = 4 << 20, CLUSTER = 1 << 16 };
    size_t l1 = 4 * CLUSTER, size = l1 + 8ul * ENTRIES;
    uint8_t *image = calloc(1, size);
    assert_non_null(image);
    put_header(image, 16, 1ull << 50, l1, ENTRIES, CLUSTER, 1, 0, 0);
    be_put(image + CLUSTER, 8, 2 * CLUSTER);
    for (unsigned i = 0; i < CLUSTER / 8; i++)
        be_put(image + 3 * CLUSTER + 8 * i, 8, 3 * CLUSTER);
    for (size_t i = 0; i < ENTRIES; i++)
        be_put(image + l1 + 8 * i, 8, 3 * CLUSTER);
    char *path = scratch_file("one-table", image, size, size);
    expect_limited(path, 10000);
    free(image);
    free(path);
}

/* A million refcount table entries that name one block, in a file of 1 PiB that holds 8 MiB. */
static void one_block_for_all(void **state) {
    (void)state;
    enum { ENTRIES = 1 << 20, CLUSTER = 512 };
    size_t block = CLUSTER + 8ul * ENTRIES, size = block + CLUSTER;
    uint8_t *image = calloc(1, size);
    assert_non_null(image);
    put_header(image, 9, 0, 0, 0, CLUSTER, 8 * ENTRIES / CLUSTER, 0, 0);
    for (size_t i = 0; i < ENTRIES; i++)
        be_put(image + CLUSTER + 8 * i, 8, block);
    memset(image + block, 1, CLUSTER);
    char *path = scratch_file("one-block", image, size, 1ull << 43);
    expect_limited(path, 2 * ENTRIES);
    free(image);
    free(path);
}

/* 65536 snapshots, each with an L1 table of 32 MiB in the hole of a sparse file; then all with the same one. */
static void tables_in_holes(void **state) {
    (void)state;
    enum { SNAPSHOTS = 65536, ENTRY = 56, CLUSTER = 512 };
    for (int same = 0; same < 2; same++) {
        size_t table = 1 << 20, size = table + (size_t)SNAPSHOTS * ENTRY;
        uint8_t *image = calloc(1, size);
        assert_non_null(image);
        put_header(image, 9, 1 << 20, 2 * CLUSTER, 32, CLUSTER, 1, table, SNAPSHOTS);
        for (uint64_t i = 0; i < SNAPSHOTS; i++) {
            uint8_t *entry = image + table + i * ENTRY;
            be_put(entry, 8, (1ull << 30) + (same ? 0 : i << 25));
            be_put(entry + 8, 4, 4 << 20);
            be_put(entry + 36, 4, 16);
        }
        char *path = scratch_file("holes", image, size, same ? 1ull << 31 : 1ull << 42);
        expect_limited(path, 1 << 20);
        free(image);
        free(path);
    }
}

/* 65536 L2 tables of 2 MiB, all in the hole of a sparse file: 128 GiB to read for who reads holes. */
static void empty_tables_in_a_hole(void **state) {
    (void)state;
    enum { TABLES = 65536, CLUSTER = 2 << 20 };
    uint8_t *image = calloc(4, CLUSTER);
    assert_non_null(image);
    put_header(image, 21, 1ull << 55, 3ul * CLUSTER, TABLES, CLUSTER, 1, 0, 0);
    be_put(image + CLUSTER, 8, 2ul * CLUSTER);
    for (int i = 0; i < 4; i++)
        be_put(image + 2ul * CLUSTER + 2 * i, 2, 1);
    for (uint64_t i = 0; i < TABLES; i++)
        be_put(image + 3ul * CLUSTER + 8 * i, 8, (4 + i) * CLUSTER);
    char *path = scratch_file("empty", image, 4ul * CLUSTER, (uint64_t)(4 + TABLES) * CLUSTER);
    expect_limited(path, TABLES);
    free(image);
    free(path);
}

/* Entries far behind the end of the file must not make anything large. */
static void references_far_out(void **state) {
    (void)state;
    enum { CLUSTER = 1 << 16 };
    uint8_t *image = calloc(5, CLUSTER);
    assert_non_null(image);
    put_header(image, 16, (uint64_t)CLUSTER * CLUSTER / 8, 3 * CLUSTER, 1, CLUSTER, 1, 0, 0);
    be_put(image + CLUSTER, 8, 2 * CLUSTER);
    for (int i = 0; i < 5; i++)
        be_put(image + 2 * CLUSTER + 2 * i, 2, 1);
    be_put(image + 3 * CLUSTER, 8, QCOW2_COPIED | 4 * CLUSTER);
    for (uint64_t i = 0; i < CLUSTER / 8; i++)
        be_put(image + 4 * CLUSTER + 8 * i, 8, QCOW2_COPIED | (QCOW2_OFFSET_MASK - (i << 40)) >> 16 << 16);
    char *path = scratch_file("far", image, 5 * CLUSTER, 5 * CLUSTER);
    expect_limited(path, CLUSTER / 8);
    free(image);
    free(path);
}

/* ---- placing the new refcounts -------------------------------------------------------------------------------------
 */

/* On a device of fixed size the new structure goes behind what is named, and there must be room for it. */
static void fixed_size_storage(void **state) {
    (void)state;
    size_t size;
    uint8_t *bytes = read_file("fixtures/block-zero.qcow2", &size);
    for (int room = 0; room < 2; room++) {
        char *path = scratch_file("device", bytes, size, room ? 1 << 20 : size);
        struct faulty f;
        struct check_run run;
        faulty_open(&f, path);
        f.base.fixed_size = true;
        check_storage(&f.base, IMG_CHECK_REPAIR_ALL, &run);
        if (room)
            assert_string_equal(check_verdict(&run), "clean");
        else
            assert_int_equal(run.code, -ENOSPC);
        assert_int_equal(storage_size(&f.base), room ? 1 << 20 : size);
        check_run_free(&run);
        storage_close(&f.base);
        if (room)
            assert_string_equal(peer_verdict(path, NULL), "clean");
        free(path);
    }
    free(bytes);
}

/* More references than the width can hold: version 3 gets a wider one. */
static void counts_that_do_not_fit(void **state) {
    (void)state;
    size_t size;
    uint8_t *bytes = read_file("fixtures/width-1.qcow2", &size);
    uint64_t l2 = be_get(bytes + be_get(bytes + 40, 8), 8) & QCOW2_OFFSET_MASK;
    for (int i = 1; i < 40; i++)
        memcpy(bytes + l2 + 8 * i, bytes + l2, 8);
    char *path = scratch_path("narrow");
    write_file(path, bytes, size);
    struct check_run run;
    check_path(path, IMG_CHECK_REPAIR_ALL, &run);
    assert_string_equal(check_verdict(&run), "clean");
    assert_true(run.result.corruptions_fixed > 0);
    check_run_free(&run);
    assert_string_equal(peer_verdict(path, NULL), "clean");
    free(bytes);
    bytes = read_file(path, &size);
    assert_int_equal(be_get(bytes + 96, 4), 3); /* 40 references: 8 bits */
    free(bytes);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(repair_in_place_may_be_cut),
        cmocka_unit_test(rebuild_may_be_cut),
        cmocka_unit_test(unreadable_tables_stop_a_repair),
        cmocka_unit_test(repair_needs_a_writable_file),
        cmocka_unit_test(leaks_stay_while_references_are_hidden),
        cmocka_unit_test(one_table_for_all),
        cmocka_unit_test(one_block_for_all),
        cmocka_unit_test(tables_in_holes),
        cmocka_unit_test(empty_tables_in_a_hole),
        cmocka_unit_test(references_far_out),
        cmocka_unit_test(fixed_size_storage),
        cmocka_unit_test(counts_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
