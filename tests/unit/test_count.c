/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_count.c - the sparse counters against plain arithmetic: runs, marks, counts that do not fit a cell, and memory
 * that follows what is counted.
 */
#include "qcow2/count.h"

#include <malloc.h>
#include <stdlib.h>

#include "scratch.h"

static void random_additions(void **state) {
    (void)state;
    enum { CLUSTERS = 3000 };
    static uint64_t expected[CLUSTERS];
    static unsigned marks[CLUSTERS];
    static const unsigned mark[] = {0, COUNT_COPIED, COUNT_PLAIN, COUNT_META};
    const uint64_t base = (1ull << 54) - 1000; /* far out, and across leaves */
    uint64_t seed = 7;
    struct counts c;
    assert_int_equal(counts_init(&c), 0);
    for (int round = 0; round < 5000; round++) {
        uint64_t first = random_next(&seed) % CLUSTERS, n = random_next(&seed) % 200;
        uint64_t weight = random_next(&seed) % 8 ? random_next(&seed) % 4 : random_next(&seed) % 9000;
        unsigned m = mark[random_next(&seed) % 4];
        n = n < CLUSTERS - first ? n : CLUSTERS - first;
        assert_int_equal(counts_add(&c, base + first, n, weight, m), 0);
        for (uint64_t i = first; i < first + n; i++) {
            expected[i] += weight;
            marks[i] |= m;
        }
    }
    for (uint64_t i = 0; i < CLUSTERS; i++) {
        assert_int_equal(counts_get(&c, base + i), expected[i]);
        assert_int_equal(counts_marks(&c, base + i), marks[i]);
    }
    assert_int_equal(counts_get(&c, base - 1), 0);
    assert_int_equal(counts_get(&c, base + CLUSTERS), 0);
    assert_int_equal(counts_get(&c, 0), 0);
    counts_free(&c);
}

static void counts_saturate(void **state) {
    (void)state;
    struct counts c;
    assert_int_equal(counts_init(&c), 0);
    assert_int_equal(counts_add(&c, 5, 1, UINT64_MAX - 1, 0), 0);
    assert_int_equal(counts_add(&c, 5, 1, 1, COUNT_META), 0);
    assert_int_equal(counts_get(&c, 5), UINT64_MAX);
    assert_int_equal(counts_add(&c, 5, 1, 7, 0), 0);
    assert_int_equal(counts_get(&c, 5), UINT64_MAX);
    assert_int_equal(counts_marks(&c, 5), COUNT_META);
    /* around the largest count of a cell */
    for (uint64_t n = 8188; n < 8195; n++) {
        assert_int_equal(counts_add(&c, n, 1, n, 0), 0);
        assert_int_equal(counts_get(&c, n), n);
        assert_int_equal(counts_add(&c, n, 1, 1, 0), 0);
        assert_int_equal(counts_get(&c, n), n + 1);
    }
    counts_free(&c);
}

static void leaves_rise(void **state) {
    (void)state;
    static const uint64_t clusters[] = {1ull << 50, 3, 64, 65, 1ull << 40, 2};
    struct counts c;
    uint64_t *leaves;
    size_t n;
    assert_int_equal(counts_init(&c), 0);
    for (size_t i = 0; i < sizeof clusters / sizeof clusters[0]; i++)
        assert_int_equal(counts_add(&c, clusters[i], 1, 1, 0), 0);
    assert_int_equal(counts_leaves(&c, &leaves, &n), 0);
    assert_int_equal(n, 4);
    assert_int_equal(leaves[0], 0);
    assert_int_equal(leaves[1], 1);
    assert_int_equal(leaves[2], 1ull << 34);
    assert_int_equal(leaves[3], 1ull << 44);
    free(leaves);
    counts_free(&c);
}

/* 16 million clusters in a row in about 2 bytes each; a hundred thousand far apart in less than 256 bytes each. */
static void memory_follows_use(void **state) {
    (void)state;
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
    struct counts c;
    struct mallinfo2 before = mallinfo2();
    assert_int_equal(counts_init(&c), 0);
    assert_int_equal(counts_add(&c, 12345, 1 << 24, 1, COUNT_COPIED), 0);
    struct mallinfo2 dense = mallinfo2();
    assert_true(dense.uordblks + dense.hblkhd - before.uordblks - before.hblkhd < 48u << 20);
    counts_free(&c);
    before = mallinfo2();
    assert_int_equal(counts_init(&c), 0);
    for (uint64_t i = 0; i < 100000; i++)
        assert_int_equal(counts_add(&c, i << 30, 1, 1, 0), 0);
    struct mallinfo2 sparse = mallinfo2();
    assert_true(sparse.uordblks + sparse.hblkhd - before.uordblks - before.hblkhd < 100000 * 256u);
    counts_free(&c);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_additions),
        cmocka_unit_test(counts_saturate),
        cmocka_unit_test(leaves_rise),
        cmocka_unit_test(memory_follows_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
