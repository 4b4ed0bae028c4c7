/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_hostile.c - images whose tables want to harm who opens them for writing: entries that name metadata or places
 * that do not exist yet, tables that want to be expensive.
 *
 * The images are good ones with some bytes changed, or made here whole. What an entry names must neither be written nor
 * let go, however large the request is that comes by; and nobody's time is given away for a number in a file.
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
#include "image.h"
#include "image_util.h"
#include "qcow2/format.h"
#include "scratch.h"

#define IMAGE "image"

enum { CLUSTER = 65536, HEADER = 104 };

static uint64_t l2_of(unsigned table) {
    return peek64(IMAGE, peek64(IMAGE, 40) + table * 8ull) & QCOW2_OFFSET_MASK;
}

static uint64_t entry_at(unsigned guest_cluster) {
    return l2_of(0) + guest_cluster * 8ull;
}

static uint64_t count_of(uint64_t host) {
    uint64_t counts = peek64(IMAGE, peek64(IMAGE, 48) & QCOW2_OFFSET_MASK);
    return peek64(IMAGE, counts + host / CLUSTER / 4 * 8) >> (3 - host / CLUSTER % 4) * 16 & 0xffff;
}

/* ---- entries that name metadata ----------------------------------------------------------------- */

static uint64_t place_of(unsigned victim) {
    uint64_t l1 = peek64(IMAGE, 40), counts = peek64(IMAGE, 48);
    return victim == 0 ? l1 : victim == 1 ? counts : victim == 2 ? peek64(IMAGE, counts) : l2_of(1);
}

/* Writes many clusters, one of which has an entry that names the victim; then more of everything. The victim keeps its
 * bytes and its count, and nobody else gets it. */
static void attack(uint64_t victim, uint64_t guest, uint64_t length) {
    uint8_t *bytes = malloc(length);
    size_t size, size_after;
    uint8_t *before = load_file(IMAGE, &size);
    struct img *image = open_flags(IMAGE, IMG_OPEN_WRITE);
    memset(bytes, 0x55, length);
    assert_true(img_pwrite(image, bytes, length, guest, &err) < 0);
    for (unsigned i = 0; i < 3; i++) {
        (void)!img_flush(image, NULL);
        assert_true(img_pwrite(image, bytes, length, (16 + 4 * i) * CLUSTER, &err) < 0); /* it is known as corrupt */
    }
    img_close(image, NULL);
    uint8_t *after = load_file(IMAGE, &size_after);
    assert_true(peek64(IMAGE, 72) & QCOW2_INCOMPAT_CORRUPT);
    assert_memory_equal(before + victim, after + victim, CLUSTER);
    assert_int_equal(count_of(victim), 1);
    free(bytes);
    free(before);
    free(after);
}

/* Guest cluster 0 is data, the one at 512 MiB too: there are two L2 tables. */
static void make_victims(void) {
    sh("rm -f " IMAGE "; qemu-img create -q -f qcow2 " IMAGE " 1G; qemu-io -f qcow2 -c 'write -q -P 1 0 64k' -c "
       "'write -q -P 2 512M 64k' " IMAGE);
}

static void test_many_new_clusters_spare_metadata(void **state) {
    (void)state;
    for (unsigned v = 0; v < 4; v++) {
        for (unsigned at = 0; at < 3; at++) { /* the first, the second, the last of the request */
            make_victims();
            uint64_t victim = place_of(v);
            patch64(IMAGE, entry_at(4 + at), victim); /* shared, so that a write lets it go */
            attack(victim, 4 * CLUSTER, 3 * CLUSTER);
        }
    }
}

/* Zero clusters that keep their place on the host are written there. The first two lie in a row: data, and what lies
 * behind it. */
static void test_many_clusters_in_place_spare_metadata(void **state) {
    (void)state;
    make_victims();
    uint64_t data = peek64(IMAGE, entry_at(0)) & QCOW2_OFFSET_MASK, victim = l2_of(1);
    assert_int_equal(victim, data + CLUSTER);
    patch64(IMAGE, entry_at(0), data | QCOW2_COPIED | QCOW2_ZERO);
    patch64(IMAGE, entry_at(1), victim | QCOW2_COPIED | QCOW2_ZERO);
    attack(victim, 0, 2 * CLUSTER);
}

/* ---- an entry past the end ---------------------------------------------------------------------- */

static void test_growth_does_not_make_an_entry_good(void **state) {
    (void)state;
    size_t size;
    uint8_t *bytes = malloc(4 * CLUSTER);
    create_qcow2(IMAGE, 64 * MIB);
    sh("qemu-io -f qcow2 -c 'write -q -P 1 0 64k' " IMAGE);
    free(load_file(IMAGE, &size));
    size = (size + CLUSTER - 1) / CLUSTER * CLUSTER;
    for (unsigned i = 0; i < 4; i++) /* wherever the next clusters go */
        patch64(IMAGE, entry_at(5 + i), (size + i * CLUSTER) | QCOW2_COPIED);
    struct img *image = open_flags(IMAGE, IMG_OPEN_WRITE);
    memset(bytes, 0xaa, 4 * CLUSTER);
    (void)!img_pwrite(image, bytes, 4 * CLUSTER, CLUSTER, NULL); /* grows the file, unless the image is known by now */
    (void)!img_flush(image, NULL);
    for (uint64_t i = 0; i < 4; i++) {
        assert_true(img_pread(image, bytes, 1, (5 + i) * CLUSTER, &err) < 0);
        memset(bytes, 0xbb, CLUSTER);
        assert_true(img_pwrite(image, bytes, CLUSTER, (5 + i) * CLUSTER, &err) < 0);
    }
    assert_int_equal(img_pread(image, bytes, 4 * CLUSTER, CLUSTER, &err), 0);
    for (unsigned i = 0; i < 4 * CLUSTER; i++)
        assert_true(bytes[i] == 0xaa || bytes[i] == 0);
    expect_fill(image, 0, CLUSTER, 1);
    img_close(image, NULL);
    free(bytes);
}

/* ---- tables that want to be expensive ----------------------------------------------------------- */

static void put_header(uint8_t *h, unsigned cluster_bits, uint32_t l1_size, uint64_t l1, unsigned refcount_order) {
    be_put(h, 4, QCOW2_MAGIC);
    be_put(h + 4, 4, 3);
    be_put(h + 20, 4, cluster_bits);
    be_put(h + 24, 8, MIB);
    be_put(h + 36, 4, l1_size);
    be_put(h + 40, 8, l1);
    be_put(h + 48, 8, 1ull << cluster_bits);
    be_put(h + 56, 4, 1);
    be_put(h + 96, 4, refcount_order);
    be_put(h + 100, 4, HEADER);
}

/* Refcount blocks that count 16 million clusters each, on a device that has room for eight. */
static void test_a_device_is_searched_no_further_than_it_reaches(void **state) {
    (void)state;
    enum { LARGE = 2 << 20, BLOCKS = 4 };
    struct img_open_options options = {.flags = IMG_OPEN_WRITE, .format = "qcow2"};
    struct faulty f;
    struct img *image, *disk;
    uint8_t *bytes = calloc(2, LARGE);
    assert_non_null(bytes);
    put_header(bytes, 21, 1, 2 * LARGE, 0);
    for (uint64_t i = 0; i < BLOCKS; i++)
        be_put(bytes + LARGE + i * 8, 8, (3 + i) * LARGE);
    write_file(IMAGE, bytes, 2 * LARGE);
    assert_int_equal(truncate(IMAGE, (off_t)(BLOCKS + 4) * LARGE), 0);
    faulty_open(&f, IMAGE);
    f.base.fixed_size = true;
    if (image_open_storage(&f.base, &options, &image, &err))
        fail_msg("%s", err.text);
    assert_true(f.reads < 64); /* four blocks are 2048 pieces of 4 KiB */
    close_image(image);
    disk = open_with(IMAGE, &(struct img_open_options){.flags = IMG_OPEN_WRITE, .format = "raw"});
    assert_int_equal(img_open_range(disk, 0, img_size(disk), &options, &image, &err), 0);
    close_image(image);
    close_image(disk);
    free(bytes);
}

enum { COLLIDING = 150000, HASH_BITS = 20 };

/* Clusters that the engine once put into one slot of its set of metadata, at most `count`: c * K ^ c * K >> 32 ends in
 * zeroes. With c = a + (b << 20), the last bits depend on a alone, and the b are sorted by what they do to those from
 * bit 32 on. */
static unsigned find_colliding(uint64_t *clusters, unsigned count) {
    const uint64_t K = 0x9e3779b97f4a7c15, last = (1u << HASH_BITS) - 1;
    uint32_t *with = calloc(last + 1, sizeof(*with));
    unsigned found = 0;
    assert_non_null(with);
    for (uint64_t b = 1; b <= last; b++)
        with[(b * K >> 12) & last] = (uint32_t)b;
    for (uint64_t a = 1000; a <= last && found < count; a++) {
        uint64_t b = with[(a * K - (a * K >> 32)) & last], cluster = a + (b << HASH_BITS), hash = cluster * K;
        if (b && ((hash ^ hash >> 32) & last) == 0)
            clusters[found++] = cluster;
    }
    free(with);
    return found;
}

static int open_in_short_time(void *argument) {
    struct rlimit cpu = {10, 10}; /* it takes some hundredths of a second */
    struct img *image;
    (void)argument;
    setrlimit(RLIMIT_CPU, &cpu);
    if (img_open(IMAGE, &(struct img_open_options){.flags = IMG_OPEN_WRITE, .format = "qcow2"}, &image, &err)) {
        fprintf(stderr, "# %s\n", err.text);
        return 1;
    }
    img_close(image, NULL);
    return 0;
}

static void test_tables_that_collide_cost_no_more(void **state) {
    (void)state;
    uint64_t *clusters = calloc(COLLIDING, sizeof(*clusters));
    size_t size = 3 * CLUSTER + 8ul * COLLIDING;
    uint8_t *bytes = calloc(1, size);
    assert_true(clusters && bytes);
    assert_int_equal(find_colliding(clusters, COLLIDING), COLLIDING);
    put_header(bytes, 16, COLLIDING, 3 * CLUSTER, 4);
    be_put(bytes + CLUSTER, 8, 2 * CLUSTER);
    for (size_t i = 0; i < COLLIDING; i++)
        be_put(bytes + 3 * CLUSTER + 8 * i, 8, clusters[i] * CLUSTER | QCOW2_COPIED);
    write_file(IMAGE, bytes, size);
    assert_int_equal(child_result(in_child(open_in_short_time, NULL)), 0);
    free(bytes);
    free(clusters);
}

#define HOSTILE(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        HOSTILE(test_many_new_clusters_spare_metadata),   HOSTILE(test_many_clusters_in_place_spare_metadata),
        HOSTILE(test_growth_does_not_make_an_entry_good), HOSTILE(test_a_device_is_searched_no_further_than_it_reaches),
        HOSTILE(test_tables_that_collide_cost_no_more),
    };
    return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
