/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* zstd.c - compression type 1 of qcow2: one zstd frame for each cluster.
 *
 * Decompression is in one piece: the frame's extent is found first by stepping over its blocks, so that the unrelated
 * bytes behind it in the last sector are never taken for data, and then it is decoded straight into the output, which
 * is its own window. So no window is allocated, whatever size the frame claims.
 *
 * Always holds: output is exactly one cluster or an error; no frame that needs a dictionary, and no second frame,
 * counts.
 */
#include "codec.h"

#include <errno.h>

#include <zstd.h>
#include <zstd_errors.h>

#include "pool.h"

#define LEVELS 19       /* those above are for files, with windows larger than a cluster */
#define DEFAULT_LEVEL 1 /* on clusters of 64 KiB of programs 1.5 to 1.9 times as fast as 3, 5 % larger */
#define KEPT_BYTES (4 << 20)

static void *make_compressor(void) {
    return ZSTD_createCCtx();
}
static void destroy_compressor(void *context) {
    ZSTD_freeCCtx(context);
}
static void *make_decompressor(void) {
    return ZSTD_createDCtx();
}
static void destroy_decompressor(void *context) {
    ZSTD_freeDCtx(context);
}

static struct codec_pool compressors = CODEC_POOL(make_compressor, destroy_compressor);
static struct codec_pool decompressors = CODEC_POOL(make_decompressor, destroy_decompressor);

/* A context grows to what its level needs for its cluster, at the high ones and 2 MiB to tens of MiB. Those are not
 * kept: beside the time that such a level takes, making one is nothing. */
static void give_back(ZSTD_CCtx *context) {
    if (ZSTD_sizeof_CCtx(context) > KEPT_BYTES)
        destroy_compressor(context);
    else
        codec_pool_give(&compressors, context);
}

static int64_t zstd_compress(int level, const void *in, size_t count, void *out, size_t cap) {
    if (level < 0 || level > LEVELS)
        return -EINVAL;
    ZSTD_CCtx *context = codec_pool_take(&compressors);
    if (context == NULL)
        return -ENOMEM;
    size_t r = ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level ? level : DEFAULT_LEVEL);
    if (!ZSTD_isError(r))
        r = ZSTD_compress2(context, out, cap, in, count);
    give_back(context);
    if (!ZSTD_isError(r))
        return (int64_t)r;
    switch (ZSTD_getErrorCode(r)) {
    case ZSTD_error_dstSize_tooSmall:
        return 0;
    case ZSTD_error_memory_allocation:
        return -ENOMEM;
    default:
        return -EIO;
    }
}

/* Seen: the tables of the high levels are up to 15 times as large as what they are for. */
static size_t zstd_memory(int level, size_t count) {
    return (1u << 20) + (level > 4 ? 18 : 3) * count;
}

static int zstd_decompress(const void *in, size_t stored, void *out, size_t count) {
    size_t frame = ZSTD_findFrameCompressedSize(in, stored);
    if (ZSTD_isError(frame) || frame > stored)
        return -EIO;
    ZSTD_DCtx *context = codec_pool_take(&decompressors);
    if (context == NULL)
        return -ENOMEM;
    size_t r = ZSTD_decompressDCtx(context, out, count, in, frame);
    codec_pool_give(&decompressors, context);
    if (ZSTD_isError(r) && ZSTD_getErrorCode(r) == ZSTD_error_memory_allocation)
        return -ENOMEM;
    return ZSTD_isError(r) || r != count ? -EIO : 0;
}

const struct codec codec_zstd = {"zstd", LEVELS, zstd_compress, zstd_memory, zstd_decompress};
