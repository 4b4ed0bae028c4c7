// SPDX-License-Identifier: GPL-3.0-or-later
/* fuzz_codec.c - bytes as a compressed cluster, and as a cluster to be compressed. Byte 0 chooses the codec and what to
 * do, byte 1 the cluster size.
 *
 * Held: decompression writes exactly the cluster or fails; what was compressed comes back the same, also when whole
 * sectors are read behind it. */
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "codec/codec.h"

static void decompress(const struct codec *codec, const uint8_t *in, size_t stored, size_t count) {
    uint8_t *out = malloc(count);
    if (!out)
        return;
    int rc = codec->decompress(in, stored, out, count);
    if (rc > 0)
        fuzz_fail("%s: decompress gives %d", codec->name, rc);
    free(out);
}

static void round_trip(const struct codec *codec, const uint8_t *in, size_t count, size_t cap) {
    uint8_t *packed = calloc(1, cap + 512), *out = malloc(count ? count : 1);
    if (packed && out && count) {
        int64_t stored = codec->compress(in, count, packed, cap);
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
    if (data[0] & 2)
        round_trip(codec, data + 2, size - 2, data[0] & 4 ? size : size / 2);
    else
        decompress(codec, data + 2, size - 2, count);
    return 0;
}
