/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* codec.h - compression as qcow2 wants it: one buffer in, one buffer out, one small table for each method.
 *
 * Thread-safe: each call takes a context from a small pool of its codec or makes one, so that no call pays for setting
 * one up each time. What comes out depends on the input, the level and the machine's kind of processor, never on what
 * the context was used for before.
 */
#ifndef LIBIMG_CODEC_H
#define LIBIMG_CODEC_H

#include <stddef.h>
#include <stdint.h>

struct codec {
    const char *name; /* "zlib", "zstd" */
    int levels;       /* 1 to this one: the higher the smaller and the slower; 0 is the default */
    /* Bytes written to `out`; 0 when `cap` is too small, or so close that the library gave up; -EINVAL when there is no
     * such level, -errno otherwise. */
    int64_t (*compress)(int level, const void *in, size_t count, void *out, size_t cap);
    /* Bytes that one call of compress on `count` bytes takes at most. */
    size_t (*memory)(int level, size_t count);
    /* Exactly `count` bytes or -EIO. `stored` may reach past the end of the compressed data (whole sectors). */
    int (*decompress)(const void *in, size_t stored, void *out, size_t count);
};

/* Raw deflate, window of 12 bits, and zstd. */
extern const struct codec codec_deflate, codec_zstd;

#endif
