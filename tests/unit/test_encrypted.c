// SPDX-License-Identifier: GPL-3.0-or-later
/* test_encrypted.c - guest data of encrypted images: what is written is what is read, by calls and by queues, in
 * requests that do not begin or end with a sector, over backing files, after discards and zeroes; nothing of it stands
 * in the file; two writers of one sector; keys and key slots.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image_util.h"

enum { SIZE = 2 * MIB, OPS = 150 };

static const struct img_key right = {"correct horse", 13}, wrong = {"correct house", 13}, other = {"battery", 7};

/* How an image is encrypted. */
struct kind {
    const char *name, *format, *encryption, *mode, *ivgen;
    uint64_t cluster_size;
    bool extended, backed, external;
    enum img_preallocation preallocation;
};

static const struct kind kinds[] = {
    {.name = "luks", .format = "luks"},
    {.name = "luks, essiv", .format = "luks", .mode = "cbc", .ivgen = "essiv"},
    {.name = "qcow2", .format = "qcow2", .encryption = "luks"},
    {.name = "small clusters", .format = "qcow2", .encryption = "luks", .cluster_size = 512},
    {.name = "subclusters", .format = "qcow2", .encryption = "luks", .cluster_size = 65536, .extended = true},
    {.name = "backed", .format = "qcow2", .encryption = "luks", .backed = true},
    {.name = "backed subclusters", .format = "qcow2", .encryption = "luks", .extended = true, .backed = true},
    {.name = "external", .format = "qcow2", .encryption = "luks", .external = true},
    {.name = "preallocated", .format = "qcow2", .encryption = "luks", .preallocation = IMG_PREALLOCATION_METADATA},
    {.name = "falloc", .format = "qcow2", .encryption = "luks", .preallocation = IMG_PREALLOCATION_FALLOC},
    {.name = "preallocated subclusters",
     .format = "qcow2",
     .encryption = "luks",
     .extended = true,
     .preallocation = IMG_PREALLOCATION_METADATA},
    {.name = "aes", .format = "qcow2", .encryption = "aes"},
    {.name = "aes backed", .format = "qcow2", .encryption = "aes", .cluster_size = 4096, .backed = true},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static struct img_create_options create_options(const struct kind *k) {
    return (struct img_create_options){
        .format = k->format,
        .size = SIZE,
        .cluster_size = k->cluster_size,
        .extended_l2 = k->extended,
        .preallocation = k->preallocation,
        .backing_file = k->backed ? "below" : NULL,
        .backing_format = k->backed ? "qcow2" : NULL,
        .data_file = k->external ? "data" : NULL,
        .encryption = {.format = k->encryption, .key = right, .mode = k->mode, .ivgen = k->ivgen, .iter_time = 1},
    };
}

static struct img_open_options open_options(uint32_t flags) {
    return (struct img_open_options){.flags = flags, .key = right};
}

static struct img *open_right(uint32_t flags) {
    struct img_open_options options = open_options(flags);
    return open_with("image", &options);
}

/* ---- against a byte array ---------- */

struct disk {
    const struct kind *kind;
    struct img *image;
    struct img_queue *queue; /* NULL: by calls */
    uint8_t *model, *bytes;
    unsigned seed;
    bool known; /* LUKS images begin with anything */
};

static unsigned next_number(struct disk *d, unsigned limit) {
    d->seed = d->seed * 1103515245 + 12345;
    return (d->seed >> 8) % limit;
}

static void by_queue(struct disk *d, const struct img_io *io) {
    struct img_completion c;
    assert_int_equal(img_queue_submit(d->queue, io, 1), 1);
    while (img_queue_reap(d->queue, &c, 1) == 0)
        assert_int_equal(img_queue_wait(d->queue, 10000), 0);
    if (c.result)
        fail_msg("%s: %s", d->kind->name, img_queue_error(d->queue)->text);
}

static void io(struct disk *d, enum img_io_op op, uint64_t offset, size_t count) {
    size_t first = count / 3;
    struct iovec iov[2] = {{d->bytes, first}, {d->bytes + first, count - first}};
    struct img_io request = {.op = op, .iov = iov, .niov = 2, .offset = offset, .length = count};
    int r = 0;
    if (d->queue)
        by_queue(d, &request);
    else if (op == IMG_IO_READ)
        r = img_preadv(d->image, iov, 2, offset, &err);
    else if (op == IMG_IO_WRITE)
        r = img_pwritev(d->image, iov, 2, offset, &err);
    else if (op == IMG_IO_ZERO)
        r = img_write_zeroes(d->image, offset, count, IMG_ZERO_MAY_UNMAP, &err);
    else
        r = img_discard(d->image, offset, count, &err);
    if (r)
        fail_msg("%s: %s", d->kind->name, err.text);
}

static void check_range(struct disk *d, uint64_t offset, size_t count) {
    memset(d->bytes, 0xee, count);
    io(d, IMG_IO_READ, offset, count);
    for (size_t i = 0; i < count; i++)
        if (d->bytes[i] != d->model[offset + i])
            fail_msg("%s: offset %llu reads as 0x%02x, not 0x%02x (seed %u)", d->kind->name,
                     (unsigned long long)(offset + i), d->bytes[i], d->model[offset + i], d->seed);
}

static void one_op(struct disk *d) {
    unsigned unit = next_number(d, 3) ? 1 : 512, kind = next_number(d, 12);
    uint64_t offset = next_number(d, SIZE / unit) * (uint64_t)unit;
    size_t count = (1 + next_number(d, next_number(d, 4) ? 5000 : 300000) / unit) * unit;
    if (count > SIZE - offset)
        count = SIZE - offset;
    if (kind < 6) {
        for (size_t i = 0; i < count; i++)
            d->bytes[i] = (uint8_t)next_number(d, 256);
        memcpy(d->model + offset, d->bytes, count);
        io(d, IMG_IO_WRITE, offset, count);
    } else if (kind < 9) {
        check_range(d, offset, count);
    } else if (kind == 9) {
        memset(d->model + offset, 0, count);
        io(d, IMG_IO_ZERO, offset, count);
    } else if (kind == 10 && d->kind->encryption) { /* whole clusters: what becomes of the rest is known to nobody */
        uint64_t cluster = img_cluster_size(d->image), from = offset / cluster * cluster;
        memset(d->model + from, 0, cluster < SIZE - from ? cluster : SIZE - from);
        io(d, IMG_IO_DISCARD, from, cluster < SIZE - from ? cluster : SIZE - from);
    } else {
        assert_int_equal(img_flush(d->image, &err), 0);
    }
}

static void make(const struct kind *k, uint8_t *model) {
    struct img_create_options options = create_options(k);
    memset(model, 0, SIZE);
    if (k->backed) {
        create_qcow2("below", SIZE);
        struct img *below = open_flags("below", IMG_OPEN_WRITE);
        for (unsigned i = 0; i < SIZE; i += 3 * 4096 + 512) {
            write_fill(below, i, 4096, (int)(i % 251));
            memset(model + i, (int)(i % 251), 4096);
        }
        close_image(below);
    }
    create_image("image", &options);
}

static void run_kind(const struct kind *k, bool queued, uint32_t queue_flags, unsigned seed, enum img_cache cache) {
    struct disk d = {.kind = k, .model = malloc(SIZE + MIB), .bytes = malloc(SIZE), .seed = seed};
    make(k, d.model);
    struct img_open_options options = open_options(IMG_OPEN_WRITE);
    options.cache = cache;
    d.image = open_with("image", &options);
    if (!k->encryption) /* what a new one reads as is anything */
        assert_int_equal(img_write_zeroes(d.image, 0, SIZE, 0, &err), 0);
    if (queued)
        assert_int_equal(
            img_queue_create(d.image, &(struct img_queue_options){.depth = 4, .flags = queue_flags}, &d.queue, &err),
            0);
    check_range(&d, 0, SIZE);
    for (unsigned i = 0; i < OPS; i++)
        one_op(&d);
    check_range(&d, 0, SIZE);
    img_queue_destroy(d.queue);
    d.queue = NULL;
    close_image(d.image);
    d.image = open_right(0);
    check_range(&d, 0, SIZE);
    close_image(d.image);
    free(d.model);
    free(d.bytes);
}

static void test_calls(void **state) {
    (void)state;
    for (size_t i = 0; i < KINDS; i++)
        run_kind(&kinds[i], false, 0, (unsigned)i + 1, IMG_CACHE_WRITEBACK);
}

static void test_queues(void **state) {
    (void)state;
    for (size_t i = 0; i < KINDS; i++)
        run_kind(&kinds[i], true, i % 2 ? IMG_QUEUE_THREADS : 0, (unsigned)i + 100, IMG_CACHE_WRITEBACK);
}

static void test_direct(void **state) {
    (void)state;
    for (size_t i = 0; i < KINDS; i += 2)
        run_kind(&kinds[i], false, 0, (unsigned)i + 200, IMG_CACHE_NONE);
}

/* Nothing of what the guest writes stands in the file, edges of fresh clusters and zeroes in them included. */
static void test_secrecy(void **state) {
    static const char text[] = "THIS MUST NOT BE SEEN IN THE FILE";
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct kind k = kinds[i];
        uint8_t *model = malloc(SIZE);
        k.preallocation = IMG_PREALLOCATION_OFF;
        make(&k, model);
        struct img *image = open_right(IMG_OPEN_WRITE);
        for (unsigned j = 0; j < 40; j++)
            assert_int_equal(img_pwrite(image, text, sizeof(text), j * 50001 + 3, &err), 0);
        close_image(image);
        size_t size;
        uint8_t *bytes = load_file(k.external ? "data" : "image", &size);
        assert_null(memmem(bytes, size, text, sizeof(text) - 1));
        free(bytes);
        free(model);
    }
}

/* ---- two writers of one sector ---------- */

struct writer {
    struct img *image;
    unsigned number;
};

static void *write_bytes(void *opaque) {
    const struct writer *w = opaque;
    for (unsigned round = 1; round <= 200; round++) {
        uint8_t bytes[100];
        memset(bytes, (int)round, sizeof(bytes));
        for (unsigned sector = 0; sector < 4; sector++)
            if (img_pwrite(w->image, bytes, 100, sector * 512 + w->number * 128, NULL))
                return "a write failed";
    }
    return NULL;
}

static void test_neighbours(void **state) {
    (void)state;
    for (size_t i = 0; i < KINDS; i += 2) {
        uint8_t *model = malloc(SIZE);
        pthread_t threads[4];
        struct writer writers[4];
        make(&kinds[i], model);
        struct img *image = open_right(IMG_OPEN_WRITE);
        for (unsigned t = 0; t < 4; t++) {
            writers[t] = (struct writer){image, t};
            assert_int_equal(pthread_create(&threads[t], NULL, write_bytes, &writers[t]), 0);
        }
        for (unsigned t = 0; t < 4; t++) {
            void *failure;
            pthread_join(threads[t], &failure);
            assert_null(failure);
        }
        for (unsigned at = 0; at < 2048; at += 128)
            expect_fill(image, at, 100, 200);
        close_image(image);
        free(model);
    }
}

/* ---- keys ---------- */

static int give_wrong(void *opaque, const char *path, struct img_key *key) {
    (void)path;
    *key = wrong;
    ++*(unsigned *)opaque;
    return 0;
}

static int give_right(void *opaque, const char *path, struct img_key *key) {
    *key = strstr(path, "encrypted-below") ? other : right;
    ++*(unsigned *)opaque;
    return 0;
}

static int give_none(void *opaque, const char *path, struct img_key *key) {
    (void)opaque, (void)path, (void)key;
    return -ENOKEY;
}

static void test_keys(void **state) {
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *model = malloc(SIZE);
        const struct kind *k = &kinds[i ? 2 : 0];
        unsigned asked = 0;
        make(k, model);
        open_fails("image", NULL, -ENOKEY,
                   i ? "Parameter 'encrypt.key-secret' is required for cipher"
                     : "Parameter 'key-secret' is required for cipher");
        open_fails("image", &(struct img_open_options){.key = wrong}, -EACCES,
                   "Invalid password, cannot unlock any keyslot");
        open_fails("image", &(struct img_open_options){.ask_key = give_none}, -ENOKEY, "is required");
        open_fails("image", &(struct img_open_options){.ask_key = give_wrong, .opaque = &asked}, -EACCES, "password");
        open_fails("image", &(struct img_open_options){.key = right, .key_iterations = 100}, -E2BIG,
                   "but only 100 are allowed");
        close_image(open_with("image", &(struct img_open_options){.ask_key = give_right, .opaque = &asked}));
        assert_int_equal(asked, 2);
        /* who wants no data needs no key */
        struct img *image = open_flags("image", IMG_OPEN_INFO);
        struct img_info info;
        assert_int_equal(img_info(image, &info, &err), 0);
        assert_true(info.encrypted && info.luks && info.luks->slots[0].active && !info.luks->slots[1].active);
        assert_string_equal(info.luks->cipher, "aes-256");
        close_image(image);
        free(model);
    }
}

/* Layers with keys of their own. */
static void test_chain(void **state) {
    unsigned asked = 0;
    struct img_create_options options = create_options(&kinds[2]);
    (void)state;
    options.encryption.key = other;
    create_image("encrypted-below", &options);
    struct img *image = open_with("encrypted-below", &(struct img_open_options){.flags = IMG_OPEN_WRITE, .key = other});
    write_fill(image, 1000, 100000, 7);
    close_image(image);
    options.encryption.key = right;
    options.backing_file = "encrypted-below";
    options.backing_format = "qcow2";
    options.backing_unchecked = true;
    create_image("image", &options);
    image = open_with("image",
                      &(struct img_open_options){.flags = IMG_OPEN_WRITE, .ask_key = give_right, .opaque = &asked});
    assert_int_equal(asked, 2);
    write_fill(image, 50001, 3, 9);
    expect_fill(image, 1000, 49001, 7);
    expect_fill(image, 50001, 3, 9);
    expect_fill(image, 50004, 50996, 7);
    expect_fill(image, 101000, 5000, 0);
    close_image(image);
}

static void opens(const struct img_key *key, bool does) {
    struct img *image;
    int r = img_open("image", &(struct img_open_options){.flags = IMG_OPEN_FORCE_SHARE, .key = *key}, &image, &err);
    assert_int_equal(r, does ? 0 : -EACCES);
    if (does) {
        expect_fill(image, 4000, 100, 5);
        close_image(image);
    }
}

static void test_slots(void **state) {
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        uint8_t *model = malloc(SIZE);
        make(&kinds[i ? 2 : 0], model);
        struct img *image = open_right(IMG_OPEN_WRITE);
        struct img_info info;
        write_fill(image, 4000, 100, 5);
        assert_int_equal(img_flush(image, &err), 0);
        assert_int_equal(img_key_add(image, &other, -1, 1, &err), 1);
        opens(&right, true);
        opens(&other, true);
        assert_int_equal(img_key_add(image, &wrong, 1, 1, &err), -EEXIST);
        assert_int_equal(img_key_add(image, &wrong, 8, 1, &err), -EINVAL);
        assert_int_equal(img_key_remove(image, NULL, 5, false, &err), -ENOENT);
        assert_int_equal(img_key_remove(image, &wrong, -1, false, &err), -EACCES);
        for (int slot = 2; slot < 8; slot++)
            assert_int_equal(img_key_add(image, &other, slot, 1, &err), slot);
        assert_int_equal(img_key_add(image, &wrong, -1, 1, &err), -ENOSPC);
        assert_int_equal(img_key_remove(image, &other, -1, false, &err), 0);
        opens(&right, true);
        opens(&other, false);
        assert_int_equal(img_key_remove(image, &right, -1, false, &err), -EPERM);
        assert_int_equal(img_key_remove(image, NULL, 0, false, &err), -EPERM);
        assert_int_equal(img_key_change(image, &wrong, &other, 1, &err), -EACCES);
        assert_int_equal(img_key_change(image, &right, &other, 1, &err), 1);
        opens(&right, false);
        opens(&other, true);
        assert_int_equal(img_info(image, &info, &err), 0);
        assert_true(!info.luks->slots[0].active && info.luks->slots[1].active);
        /* the data stands although nobody can open it again */
        assert_int_equal(img_key_remove(image, NULL, 1, true, &err), 0);
        expect_fill(image, 4000, 100, 5);
        close_image(image);
        opens(&other, false);
        free(model);
    }
    struct img *image;
    create_qcow2("plain", MIB);
    image = open_flags("plain", IMG_OPEN_WRITE);
    assert_int_equal(img_key_add(image, &other, -1, 1, &err), -ENOTSUP);
    close_image(image);
}

static void test_resize(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i += 2) {
        uint8_t *model = malloc(SIZE);
        make(&kinds[i], model);
        struct img *image = open_right(IMG_OPEN_WRITE);
        write_fill(image, SIZE - 1000, 1000, 3);
        assert_int_equal(img_resize(image, SIZE - 512, IMG_PREALLOCATION_OFF, 0, NULL), -EINVAL);
        assert_int_equal(img_resize(image, 2 * SIZE, IMG_PREALLOCATION_OFF, 0, &err), 0);
        expect_fill(image, SIZE - 1000, 1000, 3);
        if (kinds[i].encryption)
            expect_fill(image, SIZE, SIZE, 0);
        write_fill(image, 2 * SIZE - 700, 700, 4);
        close_image(image);
        image = open_right(IMG_OPEN_WRITE);
        assert_int_equal(img_size(image), 2 * SIZE);
        expect_fill(image, 2 * SIZE - 700, 700, 4);
        assert_int_equal(img_resize(image, SIZE - 512, IMG_PREALLOCATION_OFF, IMG_RESIZE_SHRINK, &err), 0);
        expect_fill(image, SIZE - 1000, 488, 3);
        close_image(image);
        free(model);
    }
}

/* What cannot be is refused before anything is made. */
static void test_refusals(void **state) {
    struct kind k = kinds[2];
    struct img_create_options o = create_options(&k);
    uint8_t bytes[65536] = {1};
    (void)state;
    o.encryption.key = (struct img_key){0};
    assert_int_equal(img_create("image", &o, &err), -EINVAL);
    assert_string_equal(err.text, "Parameter 'encrypt.key-secret' is required for cipher");
    o = create_options(&k);
    o.encryption.cipher = "rot-13";
    assert_int_equal(img_create("image", &o, &err), -EINVAL);
    o.encryption.cipher = "serpent-256";
    assert_int_equal(img_create("image", &o, &err), -ENOTSUP);
    assert_non_null(strstr(err.text, "is not available"));
    o = create_options(&k);
    o.encryption.hash = "md5";
    assert_int_equal(img_create("image", &o, &err), -ENOTSUP);
    o = create_options(&k);
    o.version = 2;
    o.preallocation = IMG_PREALLOCATION_FULL;
    assert_int_equal(img_create("image", &o, &err), -EINVAL);
    o = create_options(&kinds[0]);
    o.preallocation = IMG_PREALLOCATION_METADATA;
    assert_int_equal(img_create("image", &o, &err), -ENOTSUP);
    assert_int_equal(access("image", F_OK), -1);
    create_image("image", &(struct img_create_options){.format = "qcow2",
                                                       .size = SIZE,
                                                       .encryption = {.format = "luks", .key = right, .iter_time = 1}});
    struct img *image = open_right(IMG_OPEN_WRITE);
    assert_int_equal(img_pwrite_compressed(image, bytes, sizeof(bytes), 0, &err), -ENOTSUP);
    assert_int_equal(img_resize(image, 2 * SIZE, IMG_PREALLOCATION_FALLOC, 0, &err), -ENOTSUP);
    close_image(image);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, enter_folder, leave_folder)
    const struct CMUnitTest tests[] = {
        TEST(test_calls), TEST(test_queues), TEST(test_direct), TEST(test_secrecy), TEST(test_neighbours),
        TEST(test_keys),  TEST(test_chain),  TEST(test_slots),  TEST(test_resize),  TEST(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
