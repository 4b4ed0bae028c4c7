/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_codec.c - what one codec writes it reads, what QEMU writes is read, and damage is an error.
 *
 * Every output buffer is allocated to the exact size, so that a sanitizer sees a byte too many.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>

#include "codec/codec.h"
#include "qcow2/format.h"

static const struct codec *const codecs[] = {&codec_deflate, &codec_zstd};

static uint64_t random_number(uint64_t *state) { /* xorshift */
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Compressible but not trivial: runs, a counter, and text. */
static void fill(uint8_t *bytes, size_t count, uint64_t seed) {
    uint64_t state = seed * 2 + 1;
    for (size_t i = 0; i < count;) {
        size_t run = 1 + random_number(&state) % 200;
        uint8_t value = (uint8_t)random_number(&state);
        for (; run > 0 && i < count; run--, i++)
            bytes[i] = run % 3 == 0 ? value : (uint8_t)(i >> 5);
    }
}

static void *buffer(size_t count) {
    void *bytes = malloc(count > 0 ? count : 1);
    assert_non_null(bytes);
    return bytes;
}

static void round_trip(const struct codec *codec, int level, size_t count, uint64_t seed) {
    uint8_t *in = buffer(count), *out = buffer(count);
    fill(in, count, seed);
    int64_t stored = codec->compress(level, in, count, out, count);
    assert_true(stored > 0 && (size_t)stored < count);

    /* as it lies on disk: in whole sectors, with somebody else's bytes behind it */
    size_t sectors = ((size_t)stored + 511) & ~(size_t)511;
    uint8_t *disk = buffer(sectors), *back = buffer(count);
    memset(disk, 0xa5, sectors);
    memcpy(disk, out, (size_t)stored);
    memset(back, 0xee, count);
    assert_int_equal(codec->decompress(disk, sectors, back, count), 0);
    assert_memory_equal(back, in, count);
    assert_int_equal(codec->decompress(disk, (size_t)stored, back, count), 0);
    assert_memory_equal(back, in, count);

    /* more than was stored cannot come out, and a piece of it is not enough */
    uint8_t *more = buffer(count + 512);
    memset(disk + stored, 0, sectors - (size_t)stored);
    assert_int_equal(codec->decompress(disk, sectors, more, count + 512), -EIO);
    uint8_t *half = buffer((size_t)stored / 2);
    memcpy(half, out, (size_t)stored / 2);
    assert_int_equal(codec->decompress(half, (size_t)stored / 2, back, count), -EIO);

    /* room for one byte less than it takes: it does not fit, and that is no error. Even to the exact size it need not
     */
    uint8_t *tight = buffer((size_t)stored - 1);
    assert_int_equal(codec->compress(level, in, count, tight, (size_t)stored - 1), 0);
    uint8_t *exact = buffer((size_t)stored);
    int64_t again = codec->compress(level, in, count, exact, (size_t)stored);
    assert_true(again == stored || again == 0);
    free(in), free(out), free(disk), free(back), free(more), free(half), free(tight), free(exact);
}

static void test_round_trips(void **state) {
    (void)state;
    for (size_t c = 0; c < 2; c++)
        for (unsigned bits = 9; bits <= 21; bits += bits < 16 ? 1 : 5)
            for (uint64_t seed = 1; seed <= 3; seed++)
                round_trip(codecs[c], 0, (size_t)1 << bits, seed);
}

static void test_levels(void **state) {
    (void)state;
    for (size_t c = 0; c < 2; c++) {
        assert_int_equal(codecs[c]->levels, c == 0 ? 9 : 19);
        for (int level = 1; level <= codecs[c]->levels; level++)
            for (unsigned bits = 9; bits <= 21; bits += 4)
                round_trip(codecs[c], level, (size_t)1 << bits, (uint64_t)level);
        uint8_t in[512] = {0}, out[512];
        static const int wrong[] = {INT_MIN, -1, 20, INT_MAX};
        for (size_t i = 0; i < 4; i++)
            assert_int_equal(codecs[c]->compress(wrong[i], in, 512, out, 511), -EINVAL);
    }
    uint8_t in[512] = {0}, out[512];
    assert_int_equal(codec_deflate.compress(10, in, 512, out, 511), -EINVAL);
}

/* Several files in a cluster, and one whose matches are short: what the default level of deflate treats in a way of its
 * own. */
static void fill_kind(uint8_t *bytes, size_t count, unsigned kind) {
    uint64_t state = kind + 77;
    fill(bytes, count, kind);
    for (size_t i = 0; kind % 3 == 1 && i < count; i++) /* another kind of bytes every 8 KiB */
        bytes[i] = i >> 13 & 1 ? (uint8_t)(bytes[i] & 15) : (uint8_t)(bytes[i] | 0x80);
    for (size_t i = 0; kind % 3 == 2 && i < count; i++) /* six bits in eight: three quarters are left */
        bytes[i] = (uint8_t)(random_number(&state) >> 32 & 63);
}

/* What a context was used for before does not show: each input gives the same bytes after each other one. */
static void test_contexts_forget(void **state) {
    (void)state;
    enum { KINDS = 6, SIZE = 65536 };
    uint8_t *in[KINDS], *first[KINDS], *again = buffer(SIZE);
    for (unsigned k = 0; k < KINDS; k++) {
        in[k] = buffer(SIZE), first[k] = buffer(SIZE);
        fill_kind(in[k], SIZE, k);
    }
    for (size_t c = 0; c < 2; c++)
        for (int level = 0; level <= codecs[c]->levels; level += c == 0 ? 1 : 3) {
            int64_t stored[KINDS];
            for (unsigned k = 0; k < KINDS; k++)
                stored[k] = codecs[c]->compress(level, in[k], SIZE, first[k], SIZE - 1);
            for (unsigned k = 0; k < KINDS; k++)
                for (unsigned before = 0; before < KINDS; before += level < 4 ? 1 : 3) {
                    /* another size, level and no room: as unlike as can be */
                    codecs[c]->compress((level + 2) % (codecs[c]->levels + 1), in[before], SIZE >> before, again, 3000);
                    memset(again, 0xee, SIZE);
                    assert_int_equal(codecs[c]->compress(level, in[k], SIZE, again, SIZE - 1), stored[k]);
                    assert_true(stored[k] > 0);
                    assert_memory_equal(again, first[k], (size_t)stored[k]);
                }
        }
    for (unsigned k = 0; k < KINDS; k++)
        free(in[k]), free(first[k]);
    free(again);
}

/* The end of `count` bytes lies at the end of memory: the assembly in the libraries shows to no sanitizer. */
static uint8_t *at_edge(size_t count) {
    size_t room = ((count + 4095) & ~(size_t)4095) + 4096;
    uint8_t *map = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    assert_int_equal(mprotect(map + room - 4096, 4096, PROT_NONE), 0);
    return map + room - 4096 - count;
}

static void free_edge(uint8_t *bytes, size_t count) {
    size_t room = ((count + 4095) & ~(size_t)4095) + 4096;
    assert_int_equal(munmap(bytes + count + 4096 - room, room), 0);
}

static void test_edges(void **state) {
    (void)state;
    for (size_t c = 0; c < 2; c++)
        for (int level = 0; level <= codecs[c]->levels; level += level < 9 ? 1 : 5)
            for (unsigned kind = 0; kind < 3; kind++)
                for (size_t count = 512; count <= 65536; count <<= 7) {
                    uint8_t *in = at_edge(count), *out = at_edge(count - 1), *back = at_edge(count);
                    fill_kind(in, count, kind);
                    int64_t stored = codecs[c]->compress(level, in, count, out, count - 1);
                    assert_true(stored >= 0);
                    for (size_t cap = (size_t)stored; stored > 16 && cap > (size_t)stored - 16; cap--) {
                        uint8_t *tight = at_edge(cap);
                        int64_t r = codecs[c]->compress(level, in, count, tight, cap);
                        assert_true(r == 0 || r == (int64_t)cap);
                        if (r > 0) {
                            assert_int_equal(codecs[c]->decompress(tight, cap, back, count), 0);
                            assert_memory_equal(back, in, count);
                        }
                        free_edge(tight, cap);
                    }
                    free_edge(in, count), free_edge(out, count - 1), free_edge(back, count);
                }
}

static void test_incompressible(void **state) {
    (void)state;
    uint64_t seed = 7;
    uint8_t *in = buffer(65536), *out = buffer(65536);
    for (size_t i = 0; i < 65536; i++)
        in[i] = (uint8_t)(random_number(&seed) >> 32);
    for (size_t c = 0; c < 2; c++)
        assert_int_equal(codecs[c]->compress(0, in, 65536, out, 65535), 0);
    free(in), free(out);
}

/* Damage in every place: an answer, and never a byte outside the buffers. */
static void test_damage(void **state) {
    (void)state;
    uint64_t seed = 99;
    uint8_t *in = buffer(4096), *out = buffer(4096), *back = buffer(4096);
    fill(in, 4096, 5);
    for (size_t c = 0; c < 2; c++) {
        int64_t stored = codecs[c]->compress(0, in, 4096, out, 4096);
        assert_true(stored > 0);
        unsigned failed = 0;
        for (int i = 0; i < 4000; i++) {
            uint8_t *bad = buffer((size_t)stored);
            memcpy(bad, out, (size_t)stored);
            for (uint64_t hits = 1 + random_number(&seed) % 3; hits > 0; hits--)
                bad[random_number(&seed) % (size_t)stored] = (uint8_t)random_number(&seed);
            int r = codecs[c]->decompress(bad, (size_t)stored, back, 4096);
            assert_true(r == 0 || r == -EIO);
            failed += r != 0;
            free(bad);
        }
        assert_true(failed > 500);
        uint8_t empty[1];
        assert_int_equal(codecs[c]->decompress(empty, 0, back, 4096), -EIO);
    }
    for (int i = 0; i < 2000; i++) { /* nothing but noise */
        size_t count = 1 + random_number(&seed) % 600;
        uint8_t *noise = buffer(count);
        for (size_t j = 0; j < count; j++)
            noise[j] = (uint8_t)random_number(&seed);
        if (i % 2 == 0 && count > 4)
            memcpy(noise, "\x28\xb5\x2f\xfd", 4); /* the magic of zstd */
        for (size_t c = 0; c < 2; c++) {
            int r = codecs[c]->decompress(noise, count, back, 4096);
            assert_true(r == 0 || r == -EIO);
        }
        free(noise);
    }
    free(in), free(out), free(back);
}

/* A window larger than QEMU writes is read all the same; zlib's head is no raw deflate. */
static void test_deflate_windows(void **state) {
    (void)state;
    uint8_t *in = buffer(65536), *out = buffer(65536), *back = buffer(65536);
    uint64_t seed = 3;
    for (size_t i = 0; i < 20000; i++)
        in[i] = (uint8_t)(random_number(&seed) >> 32);
    for (size_t i = 20000; i < 65536; i++) /* matches 20000 bytes back */
        in[i] = in[i - 20000];
    static const int windows[] = {-15, -12, 15};
    for (size_t i = 0; i < 3; i++) {
        z_stream z = {0};
        assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, windows[i], 8, Z_DEFAULT_STRATEGY), Z_OK);
        z.next_in = in, z.avail_in = 65536, z.next_out = out, z.avail_out = 65536;
        int end = deflate(&z, Z_FINISH);
        deflateEnd(&z);
        if (windows[i] == -12) {
            /* what is written: no match further back than 4 KiB */
            int64_t stored = codec_deflate.compress(0, in, 65536, out, 65536);
            assert_true(stored == 0 || stored > 60000);
            continue;
        }
        assert_int_equal(end, Z_STREAM_END);
        int r = codec_deflate.decompress(out, z.total_out, back, 65536);
        assert_int_equal(r, windows[i] < 0 ? 0 : -EIO);
        if (r == 0)
            assert_memory_equal(back, in, 65536);
    }
    free(in), free(out), free(back);
}

/* No level looks further back than 4 KiB: a reader with that window, which it fills bit by bit, reads all. */
static void test_written_window(void **state) {
    (void)state;
    enum { SIZE = 32768 };
    uint8_t *in = buffer(SIZE), *out = buffer(SIZE), *back = buffer(SIZE);
    for (unsigned kind = 0; kind < 3; kind++)
        for (int level = 0; level <= codec_deflate.levels; level++) {
            fill_kind(in, SIZE, kind);
            memcpy(in + 20000, in, 3000);                /* matches out of reach */
            memcpy(in + 20000 - 4096, in + 20000, 3000); /* and at its end */
            int64_t stored = codec_deflate.compress(level, in, SIZE, out, SIZE);
            assert_true(stored > 0);
            z_stream z = {.next_in = out, .avail_in = (uInt)stored, .next_out = back};
            assert_int_equal(inflateInit2(&z, -12), Z_OK);
            int r = Z_OK;
            for (; r == Z_OK; r = inflate(&z, Z_SYNC_FLUSH))
                z.avail_out = 1;
            assert_int_equal(r, Z_STREAM_END);
            assert_int_equal(z.total_out, SIZE);
            inflateEnd(&z);
            assert_memory_equal(back, in, SIZE);
        }
    free(in), free(out), free(back);
}

/* zlib alone, as the codec was read before it had a faster reader. */
static int inflate_alone(const uint8_t *in, size_t stored, uint8_t *out, size_t count) {
    z_stream z = {.next_in = (Bytef *)in, .avail_in = (uInt)stored, .next_out = out, .avail_out = (uInt)count};
    assert_int_equal(inflateInit2(&z, -15), Z_OK);
    int r = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    return (r == Z_STREAM_END || r == Z_BUF_ERROR || r == Z_OK) && z.avail_out == 0 ? 0 : -EIO;
}

/* The codec reads all that zlib reads, and the same: with the end mark missing, cut off, more stream than output, other
 * bytes behind it, and with damage anywhere. What zlib refuses is an error, but for damaged Huffman codes that
 * libdeflate takes: few, and no stream that an encoder makes. */
static void test_same_as_zlib(void **state) {
    (void)state;
    enum { SIZE = 4096 };
    uint64_t seed = 5;
    uint8_t *in = buffer(SIZE), *out = buffer(SIZE + 512), *want = buffer(SIZE), *got = buffer(SIZE);
    unsigned good = 0, bad = 0, forgiven = 0;
    for (unsigned i = 0; i < 12000; i++) {
        fill_kind(in, SIZE, i % 7);
        z_stream z = {.next_in = in, .avail_in = SIZE, .next_out = out, .avail_out = SIZE + 512};
        if (i % 4 == 0) { /* one code for all blocks, or the last block without its mark */
            assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, -15, 8, i % 8 ? Z_FIXED : Z_DEFAULT_STRATEGY), Z_OK);
            deflate(&z, i % 16 ? Z_FINISH : Z_SYNC_FLUSH);
            deflateEnd(&z);
        } else {
            int64_t r = codec_deflate.compress((int)(i % 10), in, SIZE, out, SIZE);
            assert_true(r > 0);
            z.total_out = (uLong)r;
        }
        size_t stored = z.total_out, count = i % 5 ? SIZE : SIZE - random_number(&seed) % 600;
        memset(out + stored, (int)i, SIZE + 512 - stored);
        if (i % 3 == 1)
            stored -= random_number(&seed) % 6;
        else if (i % 3 == 2)
            stored += random_number(&seed) % 500;
        size_t where = i % 2 ? 100 : stored; /* the head of a block is what readers differ about */
        for (uint64_t hits = i % 8 ? random_number(&seed) % 4 : 0; hits > 0; hits--)
            out[random_number(&seed) % (where < stored ? where : stored)] ^= (uint8_t)(1 << random_number(&seed) % 8);
        int r = inflate_alone(out, stored, want, count);
        int ours = codec_deflate.decompress(out, stored, got, count);
        if (r == 0)
            assert_memory_equal(got, want, count);
        if (i % 8 == 0 || r == 0) /* not damaged, or not enough to matter */
            assert_int_equal(ours, r);
        forgiven += ours != r;
        *(r == 0 ? &good : &bad) += 1;
    }
    assert_true(good > 2000 && bad > 2000 && forgiven < bad / 100);
    free(in), free(out), free(want), free(got);
}

/* One frame is one cluster: neither two halves, nor a frame to be skipped, nor one that promises more. */
static void test_zstd_frames(void **state) {
    (void)state;
    uint8_t *in = buffer(8192), *out = buffer(16384), *back = buffer(8192);
    fill(in, 8192, 11);
    size_t first = ZSTD_compress(out, 8192, in, 4096, 3);
    size_t second = ZSTD_compress(out + first, 8192, in + 4096, 4096, 3);
    assert_int_equal(codec_zstd.decompress(out, first + second, back, 8192), -EIO);
    assert_int_equal(codec_zstd.decompress(out, first + second, back, 4096), 0);
    assert_memory_equal(back, in, 4096);

    memcpy(out, "\x50\x2a\x4d\x18\x04\x00\x00\x00skip", 12);
    size_t count = ZSTD_compress(out + 12, 8192, in, 4096, 3);
    assert_int_equal(codec_zstd.decompress(out, 12 + count, back, 4096), -EIO);

    /* a window of 2 GiB and no size in the head: decoded without that memory, in 4096 bytes */
    ZSTD_CCtx *context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
    ZSTD_inBuffer source = {in, 4096, 0};
    ZSTD_outBuffer target = {out, 16384, 0};
    assert_int_equal(ZSTD_compressStream2(context, &target, &source, ZSTD_e_end), 0);
    ZSTD_freeCCtx(context);
    assert_int_equal(out[4] & 0x20, 0); /* not in one segment: a window is told */
    out[5] = (31 - 10) << 3;
    assert_int_equal(codec_zstd.decompress(out, target.pos, back, 4096), 0);
    assert_memory_equal(back, in, 4096);
    assert_int_equal(codec_zstd.decompress(out, target.pos, back, 4095), -EIO);
    free(in), free(out), free(back);
}

static uint64_t be_at(FILE *file, uint64_t offset, unsigned width) {
    uint8_t bytes[8];
    uint64_t value = 0;
    assert_int_equal(fseeko(file, (off_t)offset, SEEK_SET), 0);
    assert_int_equal(fread(bytes, 1, width, file), width);
    for (unsigned i = 0; i < width; i++)
        value = value << 8 | bytes[i];
    return value;
}

/* Reads every compressed cluster of an image that qemu-img made of `guest` and compares. */
static unsigned compare_clusters(const char *path, const struct codec *codec, const uint8_t *guest, size_t count) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    unsigned bits = (unsigned)be_at(file, 20, 4), seen = 0;
    size_t cluster = (size_t)1 << bits;
    uint64_t l2 = be_at(file, be_at(file, 40, 8), 8) & QCOW2_OFFSET_MASK;
    for (size_t i = 0; i < count / cluster; i++) {
        uint64_t entry = be_at(file, l2 + 8 * i, 8);
        if (!(entry & QCOW2_COMPRESSED))
            continue;
        uint64_t bytes = qcow2_compressed_bytes(entry, bits);
        uint8_t *stored = buffer(bytes), *out = buffer(cluster);
        assert_int_equal(fseeko(file, (off_t)qcow2_compressed_offset(entry, bits), SEEK_SET), 0);
        memset(stored, 0, bytes);
        assert_true(fread(stored, 1, bytes, file) > 0);
        assert_int_equal(codec->decompress(stored, bytes, out, cluster), 0);
        assert_memory_equal(out, guest + i * cluster, cluster);
        seen++;
        free(stored), free(out);
    }
    fclose(file);
    return seen;
}

static void test_qemu_clusters(void **state) {
    (void)state;
    char folder[] = "/tmp/codec-XXXXXX", command[1024], raw[64], image[64];
    assert_non_null(mkdtemp(folder));
    snprintf(raw, sizeof raw, "%s/raw", folder);
    snprintf(image, sizeof image, "%s/image", folder);
    size_t count = 1 << 20;
    uint8_t *guest = buffer(count);
    fill(guest, count, 21);
    FILE *file = fopen(raw, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(guest, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
    for (size_t c = 0; c < 2; c++) {
        snprintf(command, sizeof command,
                 "qemu-img convert -c -f raw -O qcow2 -o compression_type=%s,cluster_size=64k %s %s", codecs[c]->name,
                 raw, image);
        assert_int_equal(system(command), 0);
        assert_int_equal(compare_clusters(image, codecs[c], guest, count), 16);
    }
    unlink(raw), unlink(image), rmdir(folder);
    free(guest);
}

static void *hammer(void *arg) {
    const struct codec *codec = arg;
    uint8_t in[4096], out[4096], back[4096];
    for (uint64_t i = 0; i < 200; i++) {
        fill(in, sizeof in, i);
        int level = (int)(i % ((uint64_t)codec->levels + 1));
        int64_t stored = codec->compress(level, in, sizeof in, out, sizeof out);
        if (stored <= 0 || codec->decompress(out, (size_t)stored, back, sizeof back) != 0 ||
            memcmp(in, back, sizeof in) != 0)
            return arg;
    }
    return NULL;
}

/* More threads than a pool keeps contexts. */
static void test_threads(void **state) {
    (void)state;
    pthread_t threads[40];
    for (size_t i = 0; i < 40; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, (void *)codecs[i % 2]), 0);
    for (size_t i = 0; i < 40; i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),     cmocka_unit_test(test_levels),
        cmocka_unit_test(test_contexts_forget), cmocka_unit_test(test_edges),
        cmocka_unit_test(test_incompressible),  cmocka_unit_test(test_damage),
        cmocka_unit_test(test_same_as_zlib),    cmocka_unit_test(test_deflate_windows),
        cmocka_unit_test(test_written_window),  cmocka_unit_test(test_zstd_frames),
        cmocka_unit_test(test_qemu_clusters),   cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests_name("codec", tests, NULL, NULL);
}
