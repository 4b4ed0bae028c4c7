// SPDX-License-Identifier: GPL-3.0-or-later
/* test_xfs.c - what the comparison with the kernel (tests/cli/xfs.t) cannot reach: maps that no kernel writes, and the
 * arithmetic of addresses at its edges. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fs/xfs/xfs.h"

static const struct xfs_geometry geometry = {
    .block_log = 12,
    .block_size = 4096,
    .blocks = 2500,
    .ag_blocks = 1000,
    .ag_count = 3,
    .ag_block_log = 10,
};

static struct xfs_disk_extent record(uint64_t start, uint64_t fsblock, uint64_t count, bool unwritten) {
    return (struct xfs_disk_extent){put64((uint64_t)unwritten << 63 | start << 9 | fsblock >> 43),
                                    put64(fsblock << 21 | count)};
}

static int map(const struct xfs_disk_extent *records, size_t count, uint64_t block, struct xfs_extent *extent) {
    static struct xfs xfs;
    static struct xfs_inode inode;
    struct xfs_fork fork = {.format = XFS_FORMAT_EXTENTS, .extents = count, .bytes = (const uint8_t *)records};
    struct img_error err = {0};
    xfs.geo = geometry;
    int ret = xfs_map(&xfs, &inode, &fork, block, extent, &err);
    assert_int_equal(ret, err.code);
    return ret;
}

static void finds_extents(void **state) {
    (void)state;
    const struct xfs_disk_extent records[] = {record(2, 5, 3, false), record(5, 1024 + 7, 10, true),
                                              record(1ull << 50, 2048 + 1, 1, false)};
    struct xfs_extent e;
    assert_int_equal(map(records, 3, 0, &e), 0);
    assert_true(e.hole && e.start == 0 && e.count == 2);
    assert_int_equal(map(records, 3, 4, &e), 0);
    assert_true(!e.hole && !e.unwritten && e.start == 2 && e.count == 3 && e.fsblock == 5);
    assert_int_equal(map(records, 3, 5, &e), 0);
    assert_true(e.unwritten && e.fsblock == 1024 + 7);
    assert_int_equal(map(records, 3, 15, &e), 0);
    assert_true(e.hole && e.start + e.count == 1ull << 50);
    assert_int_equal(map(records, 3, (1ull << 50) + 1, &e), 0);
    assert_true(e.hole && e.start + e.count == UINT64_MAX);
    assert_int_equal(map(records, 0, 7, &e), 0);
    assert_true(e.hole);
}

static void refuses_bad_extents(void **state) {
    (void)state;
    struct xfs_extent e;
    struct xfs_disk_extent r = record(0, 0, 1, false); /* a superblock */
    assert_int_equal(map(&r, 1, 0, &e), -EUCLEAN);
    r = record(0, 999, 2, false); /* goes on in the next group */
    assert_int_equal(map(&r, 1, 0, &e), -EUCLEAN);
    r = record(0, 2048 + 499, 2, false); /* behind the end */
    assert_int_equal(map(&r, 1, 0, &e), -EUCLEAN);
    r = record(0, 3 << 10 | 1, 1, false); /* no such group */
    assert_int_equal(map(&r, 1, 0, &e), -EUCLEAN);
    r = record(0, (1ull << 52) - 1, (1 << 21) - 1, false);
    assert_int_equal(map(&r, 1, 0, &e), -EUCLEAN);
    r = record(3, 7, 0, false); /* of no length: as if it were not there */
    assert_int_equal(map(&r, 1, 3, &e), 0);
    assert_true(e.hole);
}

/* One real block mapped many times would make endless names of few. */
static void refuses_repeats(void **state) {
    (void)state;
    static struct xfs xfs;
    static struct xfs_inode inode;
    struct img_error err = {0};
    const struct xfs_disk_extent twice[] = {record(0, 5, 1, false), record(1, 100, 3, false), record(9, 102, 1, false)};
    xfs.geo = geometry;
    inode.size = 10 << 12;
    inode.data = (struct xfs_fork){.format = XFS_FORMAT_EXTENTS, .extents = 2, .bytes = (const uint8_t *)twice};
    assert_int_equal(xfs_dir_check_map(&xfs, &inode, &err), 0);
    inode.data.extents = 3;
    assert_int_equal(xfs_dir_check_map(&xfs, &inode, &err), -EUCLEAN);
    assert_non_null(strstr(err.text, "0x66 twice"));
    /* what lies behind the end of the directory is no part of it */
    inode.size = 9 << 12;
    assert_int_equal(xfs_dir_check_map(&xfs, &inode, &err), 0);
}

static void always_goes_on(void **state) {
    (void)state;
    struct xfs_disk_extent records[4];
    uint32_t seed = 1;
    for (unsigned round = 0; round < 2000; round++) {
        for (unsigned i = 0; i < 4; i++) {
            seed = seed * 1664525 + 1013904223;
            records[i] = record(seed >> 28, 1 + (seed >> 12) % 8, (seed >> 20) % 6, seed & 1);
        }
        for (uint64_t block = 0, steps = 0; block < 64; steps++) {
            struct xfs_extent e;
            if (map(records, 4, block, &e) < 0)
                break;
            assert_true(e.start <= block && e.start + e.count > block && steps < 64);
            block = e.start + e.count;
        }
    }
}

static void hashes_names(void **state) {
    (void)state;
    assert_int_equal(xfs_name_hash(".", 1), 0x2e);
    assert_int_equal(xfs_name_hash("..", 2), 0x172e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_extents),  cmocka_unit_test(refuses_bad_extents), cmocka_unit_test(refuses_repeats),
        cmocka_unit_test(always_goes_on), cmocka_unit_test(hashes_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
