/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* deflate.c - compression type 0 of qcow2: a raw deflate stream, without zlib's head and checksum.
 *
 * Writers use a window of 4 KiB because readers may have no larger one; reading accepts any window, which costs nothing
 * as matches are looked up in the output itself. A stream is complete when the output is full: whether its end mark or
 * unrelated bytes of the same sector follow does not matter, and neither is looked at further. libdeflate knows no such
 * rule, but it is much faster: it reads first, and where it does not say that all is well, zlib decides. So all that
 * zlib can read is read, and the same. The other way round libdeflate takes some damaged Huffman codes that zlib
 * refuses (incomplete ones with one symbol, distances and lengths that the format reserves); no encoder writes them.
 *
 * Levels 1 to 3 are ISA-L's (isal.c), 4 to 9 zlib's. The default is the smallest that is fast: 3, which on the files of
 * a system makes 7 % more than zlib's own default and takes a sixth of its time or less. Where there is no ISA-L,
 * levels 1 to 3 are zlib's too.
 *
 * Always holds: the libraries are told the exact sizes of both buffers, so nothing is read or written outside them.
 */
#include "codec.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>

#include <libdeflate.h>
#include <zlib.h>

#include "isal.h"
#include "pool.h"

#define LEVELS 9
#define DEFAULT_LEVEL 3
#define WRITE_WINDOW_BITS (-12) /* negative: raw */
#define READ_WINDOW_BITS (-15)
#define MEMORY_LEVEL 9 /* the largest hash table; 272 KiB for a context */

static void *make_deflater(void) {
    z_stream *z = calloc(1, sizeof *z);
    if (z != NULL && deflateInit2(z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WRITE_WINDOW_BITS, MEMORY_LEVEL,
                                  Z_DEFAULT_STRATEGY) != Z_OK) {
        free(z);
        z = NULL;
    }
    return z;
}

static void destroy_deflater(void *context) {
    deflateEnd(context);
    free(context);
}

static void *make_inflater(void) {
    z_stream *z = calloc(1, sizeof *z);
    if (z != NULL && inflateInit2(z, READ_WINDOW_BITS) != Z_OK) {
        free(z);
        z = NULL;
    }
    return z;
}

static void destroy_inflater(void *context) {
    inflateEnd(context);
    free(context);
}

static void *make_fast_inflater(void) {
    return libdeflate_alloc_decompressor();
}

static void destroy_fast_inflater(void *context) {
    libdeflate_free_decompressor(context);
}

static struct codec_pool deflaters = CODEC_POOL(make_deflater, destroy_deflater);
static struct codec_pool inflaters = CODEC_POOL(make_inflater, destroy_inflater);
static struct codec_pool fast_inflaters = CODEC_POOL(make_fast_inflater, destroy_fast_inflater);

static void set_buffers(z_stream *z, const void *in, size_t in_size, void *out, size_t out_size) {
    z->next_in = (Bytef *)in; /* zlib does not write there; its type is older than const */
    z->avail_in = (uInt)in_size;
    z->next_out = out;
    z->avail_out = (uInt)out_size;
}

/* ---- writing ---- */

static int64_t zlib_compress(int level, const void *in, size_t count, void *out, size_t cap) {
    if (count > UINT_MAX || cap > UINT_MAX)
        return -EINVAL;
    z_stream *z = codec_pool_take(&deflaters);
    if (z == NULL)
        return -ENOMEM;
    int64_t result = -EIO;
    /* one pool for all levels: a context that has seen no input yet takes any */
    if (deflateReset(z) == Z_OK && deflateParams(z, level, Z_DEFAULT_STRATEGY) == Z_OK) {
        set_buffers(z, in, count, out, cap);
        int r = deflate(z, Z_FINISH);
        if (r == Z_STREAM_END)
            result = (int64_t)(cap - z->avail_out);
        else if (r == Z_OK || r == Z_BUF_ERROR)
            result = 0; /* `out` is full */
    }
    codec_pool_give(&deflaters, z);
    return result;
}

#ifdef CODEC_ISAL
/* What shrinks by so little has short matches that ISA-L does not look for. There zlib's fastest level makes a seventh
 * less, and they are few: three clusters in a thousand. Behind 13/16 there is nothing to be had. */
static bool is_worth_zlib(int64_t stored, size_t count) {
    return (uint64_t)stored > count / 16 * 12 && (uint64_t)stored < count / 16 * 13;
}

/* ISA-L's best level. */
static int64_t best_compress(const void *in, size_t count, void *out, size_t cap) {
    int64_t stored = isal_compress(CODEC_ISAL_LEVELS, in, count, out, cap);
    if (stored <= 0 || !is_worth_zlib(stored, count))
        return stored;
    int64_t less = zlib_compress(1, in, count, out, (size_t)stored - 1);
    if (less != 0)
        return less;
    return isal_compress(CODEC_ISAL_LEVELS, in, count, out, cap); /* zlib needs more: as before, which it overwrote */
}

static int64_t fast_compress(int level, const void *in, size_t count, void *out, size_t cap) {
    return level == CODEC_ISAL_LEVELS ? best_compress(in, count, out, cap) : isal_compress(level, in, count, out, cap);
}
#else
#define CODEC_ISAL_LEVELS 0
#define fast_compress zlib_compress
#endif

static int64_t deflate_compress(int level, const void *in, size_t count, void *out, size_t cap) {
    if (level < 0 || level > LEVELS)
        return -EINVAL;
    if (level == 0)
        level = DEFAULT_LEVEL;
    return (level <= CODEC_ISAL_LEVELS ? fast_compress : zlib_compress)(level, in, count, out, cap);
}

/* ---- reading ---- */

static int zlib_decompress(const void *in, size_t stored, void *out, size_t count) {
    if (stored > UINT_MAX || count > UINT_MAX)
        return -EINVAL;
    z_stream *z = codec_pool_take(&inflaters);
    if (z == NULL)
        return -ENOMEM;
    int result = -EIO;
    if (inflateReset(z) == Z_OK) {
        set_buffers(z, in, stored, out, count);
        int r = inflate(z, Z_FINISH);
        if ((r == Z_STREAM_END || r == Z_BUF_ERROR || r == Z_OK) && z->avail_out == 0)
            result = 0;
    }
    codec_pool_give(&inflaters, z);
    return result;
}

static int deflate_decompress(const void *in, size_t stored, void *out, size_t count) {
    struct libdeflate_decompressor *d = codec_pool_take(&fast_inflaters);
    if (d == NULL)
        return -ENOMEM;
    size_t read, written;
    enum libdeflate_result r = libdeflate_deflate_decompress_ex(d, in, stored, out, count, &read, &written);
    codec_pool_give(&fast_inflaters, d);
    if (r == LIBDEFLATE_SUCCESS && written == count)
        return 0;
    return zlib_decompress(in, stored, out, count);
}

/* The tables are for a window of 4 KiB, whatever the cluster. */
static size_t deflate_memory(int level, size_t count) {
    (void)level;
    (void)count;
    return 1u << 20;
}

const struct codec codec_deflate = {"zlib", LEVELS, deflate_compress, deflate_memory, deflate_decompress};
