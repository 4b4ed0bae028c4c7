// SPDX-License-Identifier: GPL-3.0-or-later
/* fuzz_codec.c - bytes as a compressed cluster, and as a cluster to be compressed. Byte 0 chooses the codec and what to
 * do, byte 1 the cluster size and the level.
 *
 * Held: decompression writes exactly the cluster or fails; what was compressed comes back the same, also when whole
 * sectors are read behind it. What zlib alone can read of a deflate stream, the codec reads the same. */
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include "codec/codec.h"

/* zlib decides what a stream says; the faster reader in front of it must not change that. */
static void compare_with_zlib(const uint8_t *in, size_t stored, const uint8_t *got, int rc, size_t count) {
    uint8_t *want = malloc(count);
    z_stream z = {.next_in = (Bytef *)in, .avail_in = (uInt)stored, .next_out = want, .avail_out = (uInt)count};
    if (want && inflateInit2(&z, -15) == Z_OK) {
        int r = inflate(&z, Z_FINISH);
        bool good = (r == Z_STREAM_END || r == Z_BUF_ERROR || r == Z_OK) && z.avail_out == 0;
        if (good && rc == 0 && memcmp(got, want, count))
            fuzz_fail("zlib reads other bytes");
        if (good && rc && rc != -ENOMEM)
            fuzz_fail("zlib reads what gives %d here", rc);
        inflateEnd(&z);
    }
    free(want);
}

static void decompress(const struct codec *codec, const uint8_t *in, size_t stored, size_t count) {
    uint8_t *out = malloc(count);
    if (!out)
        return;
    int rc = codec->decompress(in, stored, out, count);
    if (rc > 0)
        fuzz_fail("%s: decompress gives %d", codec->name, rc);
    if (codec == &codec_deflate)
        compare_with_zlib(in, stored, out, rc, count);
    free(out);
}

/* The stream that an encoder makes of `in`, with a few bits turned: as close to a valid one as damage gets. */
static void damage(const struct codec *codec, int level, const uint8_t *in, size_t size) {
    uint8_t *packed = size > 16 ? malloc(size) : NULL;
    int64_t stored = packed ? codec->compress(level, in + 6, size - 6, packed, size) : 0;
    for (size_t i = 0; stored > 0 && i < 6; i += 2)
        packed[(in[i] | in[i + 1] >> 3 << 8) % (size_t)stored] ^= (uint8_t)(1 << (in[i + 1] & 7));
    if (stored > 0)
        decompress(codec, packed, (size_t)stored, size - 6);
    free(packed);
}

static void round_trip(const struct codec *codec, int level, const uint8_t *in, size_t count, size_t cap) {
    uint8_t *packed = calloc(1, cap + 512), *out = malloc(count ? count : 1);
    if (packed && out && count) {
        int64_t stored = codec->compress(level, in, count, packed, cap);
        if (stored > (int64_t)cap)
            fuzz_fail("%s: %lld bytes in room for %zu", codec->name, (long long)stored, cap);
        if (stored < 0 && stored != -ENOMEM)
            fuzz_fail("%s: compress gives %lld", codec->name, (long long)stored);
        /* with and without a tail of other bytes */
        for (size_t more = 0; stored > 0 && more <= 511; more += 511)
            if (codec->decompress(packed, (size_t)stored + more, out, count) || memcmp(out, in, count))
                fuzz_fail("%s: %zu bytes come back different with %zu more", codec->name, count, more);
    }
    free(packed);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    const struct codec *codec = data[0] & 1 ? &codec_zstd : &codec_deflate;
    size_t count = (size_t)512 << data[1] % 8;
    int level = data[1] / 8 % (codec->levels + 1);
    if ((data[0] & 10) == 10)
        damage(codec, level, data + 2, size - 2);
    else if (data[0] & 2)
        round_trip(codec, level, data + 2, size - 2, data[0] & 4 ? size : size / 2);
    else
        decompress(codec, data + 2, size - 2, count);
    return 0;
}
