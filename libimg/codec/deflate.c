/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* deflate.c - compression type 0 of qcow2: a raw deflate stream, without zlib's head and checksum.
 *
 * Writers use a window of 4 KiB because readers may have no larger one; reading accepts any window, which costs nothing
 * as matches are looked up in the output itself. A stream is complete when the output is full: whether its end mark or
 * unrelated bytes of the same sector follow does not matter, and neither is looked at further.
 *
 * Always holds: zlib is told the exact sizes of both buffers, so nothing is read or written outside them.
 */
#include "codec.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include <zlib.h>

#include "pool.h"

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

static struct codec_pool deflaters = CODEC_POOL(make_deflater, destroy_deflater);
static struct codec_pool inflaters = CODEC_POOL(make_inflater, destroy_inflater);

static void set_buffers(z_stream *z, const void *in, size_t in_size, void *out, size_t out_size) {
    z->next_in = (Bytef *)in; /* zlib does not write there; its type is older than const */
    z->avail_in = (uInt)in_size;
    z->next_out = out;
    z->avail_out = (uInt)out_size;
}

static int64_t deflate_compress(const void *in, size_t count, void *out, size_t cap) {
    if (count > UINT_MAX || cap > UINT_MAX)
        return -EINVAL;
    z_stream *z = codec_pool_take(&deflaters);
    if (z == NULL)
        return -ENOMEM;
    int64_t result = -EIO;
    if (deflateReset(z) == Z_OK) {
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

static int deflate_decompress(const void *in, size_t stored, void *out, size_t count) {
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

const struct codec codec_deflate = {"zlib", deflate_compress, deflate_decompress};
