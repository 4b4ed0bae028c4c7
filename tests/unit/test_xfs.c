// SPDX-License-Identifier: GPL-3.0-or-later
/* test_xfs.c - what the comparison with the kernel (tests/cli/xfs.t) cannot reach: maps that no kernel writes, the
 * arithmetic of addresses at its edges, and what a log leaves undone only at rare moments. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fs/xfs/replay.h"

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

/* ---- changes of maps that are not done ---- */

static int announce(struct xfs *xfs, struct xlog_disk_map disk, uint32_t length) {
    struct img_error err = {0};
    struct xlog_item *item = calloc(1, sizeof(*item) + sizeof(item->regions[0]));
    item->regions[0] = (struct xlog_region){(uint8_t *)&disk, length};
    int ret =
        get_le16(disk.type) == XLOG_ITEM_MAP ? xlog_replay_map(xfs, item, &err) : xlog_replay_map_done(xfs, item, &err);
    assert_int_equal(ret, err.code);
    free(item);
    return ret;
}

static struct xlog_disk_map change(uint64_t id, uint64_t start, uint64_t fsblock, uint32_t count, uint32_t flags) {
    return (struct xlog_disk_map){.type = {htole16(XLOG_ITEM_MAP)},
                                  .extents = put_le32(1),
                                  .id = {htole64(id)},
                                  .ino = {htole64(77)},
                                  .fsblock = {htole64(fsblock)},
                                  .start = {htole64(start)},
                                  .count = put_le32(count),
                                  .flags = put_le32(flags)};
}

/* `block` of a file that has 100 blocks from block 1 of the filesystem on. */
static struct xfs_extent changed(const struct xfs *xfs, uint64_t block) {
    struct xfs_extent extent = {.count = 100, .fsblock = 1};
    if (block >= 100)
        extent = (struct xfs_extent){.start = block, .count = UINT64_MAX - block, .hole = true};
    xfs_remap(xfs, 77, false, block, &extent);
    assert_true(extent.start <= block && extent.count > block - extent.start);
    return extent;
}

static void lays_changes_over_maps(void **state) {
    (void)state;
    struct xfs xfs = {.geo = geometry};
    const uint32_t whole = sizeof(struct xlog_disk_map);
    assert_int_equal(announce(&xfs, change(1, 10, 1024 + 5, 20, XLOG_MAP_REMOVE), whole), 0);
    assert_int_equal(announce(&xfs, change(2, 15, 1024 + 50, 5, XLOG_MAP_ADD | XLOG_MAP_UNWRITTEN), whole), 0);
    assert_int_equal(announce(&xfs, change(3, 200, 2048 + 7, 3, XLOG_MAP_ADD), whole), 0);
    assert_int_equal(announce(&xfs, change(4, 0, 1024 + 9, 90, XLOG_MAP_ADD | XLOG_MAP_ATTR), whole), 0);
    struct xfs_extent e = changed(&xfs, 3);
    assert_true(!e.hole && e.start == 0 && e.count == 10 && e.fsblock == 1);
    e = changed(&xfs, 12);
    assert_true(e.hole && e.start == 12 && e.count == 3);
    e = changed(&xfs, 17);
    assert_true(!e.hole && e.unwritten && e.start == 15 && e.count == 5 && e.fsblock == 1024 + 50);
    e = changed(&xfs, 20);
    assert_true(e.hole && e.start + e.count == 30);
    e = changed(&xfs, 30);
    assert_true(!e.hole && e.start == 30 && e.count == 70 && e.fsblock == 31);
    e = changed(&xfs, 150);
    assert_true(e.hole && e.start == 150 && e.count == 50);
    e = changed(&xfs, 202);
    assert_true(!e.hole && e.start == 200 && e.count == 3 && e.fsblock == 2048 + 7);
    assert_true(changed(&xfs, 203).hole);
    struct xlog_disk_map done = {.type = {htole16(XLOG_ITEM_MAP_DONE)}, .id = {htole64(1)}};
    assert_int_equal(announce(&xfs, done, sizeof(struct xlog_disk_map_done)), 0);
    assert_int_equal(announce(&xfs, done, sizeof(struct xlog_disk_map_done)), 0); /* announced before the tail */
    assert_true(!changed(&xfs, 12).hole && changed(&xfs, 17).unwritten);
    free(xfs.remaps);
}

static void refuses_bad_changes(void **state) {
    (void)state;
    struct xfs xfs = {.geo = geometry};
    const uint32_t whole = sizeof(struct xlog_disk_map);
    struct xlog_disk_map two = change(1, 0, 5, 1, XLOG_MAP_ADD);
    two.extents = put_le32(2);
    assert_int_equal(announce(&xfs, two, whole), -EUCLEAN);
    assert_int_equal(announce(&xfs, change(1, 0, 5, 1, XLOG_MAP_ADD), whole - 1), -EUCLEAN);
    assert_int_equal(announce(&xfs, change(1, 0, 5, 0, XLOG_MAP_ADD), whole), -EUCLEAN);
    assert_int_equal(announce(&xfs, change(1, 0, 5, 1, 3), whole), -EUCLEAN);
    assert_int_equal(announce(&xfs, change(1, 1ull << 54, 5, 1, XLOG_MAP_REMOVE), whole), -EUCLEAN);
    assert_int_equal(announce(&xfs, change(1, 0, 999, 2, XLOG_MAP_ADD), whole), -EUCLEAN);
    assert_int_equal(announce(&xfs, change(1, 0, 5, 1, XLOG_MAP_ADD | XLOG_MAP_REALTIME), whole), -ENOTSUP);
    assert_int_equal(xfs.remap_count, 0);
    for (unsigned i = 0; i < 1024; i++)
        assert_int_equal(announce(&xfs, change(i, i, 5, 1, XLOG_MAP_ADD), whole), 0);
    assert_int_equal(announce(&xfs, change(1, 0, 5, 1, XLOG_MAP_ADD), whole), -EFBIG);
    free(xfs.remaps);
}

static void hashes_names(void **state) {
    (void)state;
    assert_int_equal(xfs_name_hash(".", 1), 0x2e);
    assert_int_equal(xfs_name_hash("..", 2), 0x172e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_extents),          cmocka_unit_test(refuses_bad_extents),
        cmocka_unit_test(refuses_repeats),        cmocka_unit_test(always_goes_on),
        cmocka_unit_test(lays_changes_over_maps), cmocka_unit_test(refuses_bad_changes),
        cmocka_unit_test(hashes_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
