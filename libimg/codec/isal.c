/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* isal.c - raw deflate by ISA-L, with the 4 KiB window of qcow2.
 *
 * ISA-L ends a deflate block when its buffer of symbols is full, wherever that is. A cluster is often several small
 * files, or a piece of a program with its code and its tables, and one Huffman code for all of that costs more than a
 * second header. So at the highest level the input is looked at first: where the bytes of the next 4 KiB are of another
 * kind than those of the block so far, a block is ended. Other levels are there for speed and leave that out.
 *
 * Always holds: the stream is started anew for each call and sees nothing of an earlier one; ISA-L is told the exact
 * sizes of both buffers.
 */
#include "isal.h"

#ifdef CODEC_ISAL

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <isa-l/igzip_lib.h>

#include "pool.h"

#define WINDOW_BITS 12
#define PIECE 4096          /* what is looked at for a change */
#define LONGEST_BLOCK 65536 /* its sample, of a quarter, fits into 15 bits */

/* The level buffer has room for 32768 symbols, as many as zlib's largest. Level 3 asks for the most. */
struct encoder {
    struct isal_zstream stream;
    _Alignas(64) uint8_t level_buffer[ISAL_DEF_LVL3_MEDIUM];
};
_Static_assert(ISAL_DEF_LVL3_MEDIUM >= ISAL_DEF_LVL1_MEDIUM && ISAL_DEF_LVL3_MEDIUM >= ISAL_DEF_LVL2_MEDIUM,
               "the level buffer serves all levels");

static void *make_encoder(void) {
    return calloc(1, sizeof(struct encoder));
}

static struct codec_pool encoders = CODEC_POOL(make_encoder, free);

/* ---- where a block ends ---- */

/* How often each byte occurs, in a sample: 8 bytes of every 32, so that each place of a table's entries is seen. */
struct sample {
    int16_t of[256], pieces;
};

static void take_sample(struct sample *s, const uint8_t *bytes) {
    memset(s, 0, sizeof *s);
    for (size_t i = 0; i < PIECE; i += 32)
        for (size_t j = 0; j < 8; j++)
            s->of[bytes[i + j]]++;
    s->pieces = 1;
}

static void add_sample(struct sample *to, const struct sample *s) {
    for (int i = 0; i < 256; i++)
        to->of[i] = (int16_t)(to->of[i] + s->of[i]);
    to->pieces++;
}

/* The differences of the shares of all bytes add up to more than 0.9, where 2 says that no byte is in both: found by
 * trying on /usr, where three blocks in a cluster come of it. Products in 16 bits, for the vector unit. */
static bool differ(const struct sample *block, const struct sample *next) {
    int32_t sum = 0;
    for (int i = 0; i < 256; i++)
        sum += abs((int16_t)(block->of[i] - (int16_t)(next->of[i] * block->pieces)));
    return sum * 10 > PIECE / 4 * block->pieces * 9;
}

/* The length of the block at `in`. */
static size_t block_length(const uint8_t *in, size_t count) {
    struct sample block, next;
    size_t length = PIECE;
    if (count < 2 * PIECE)
        return count;
    take_sample(&block, in);
    for (; count - length >= PIECE; length += PIECE) {
        take_sample(&next, in + length);
        if (length >= LONGEST_BLOCK || differ(&block, &next))
            return length;
        add_sample(&block, &next);
    }
    return count;
}

/* ---- the stream ---- */

static void start(struct encoder *e, int level, void *out, size_t cap) {
    struct isal_zstream *s = &e->stream;
    isal_deflate_init(s);
    s->level = (uint32_t)level;
    s->level_buf = e->level_buffer;
    s->level_buf_size = sizeof e->level_buffer;
    s->hist_bits = WINDOW_BITS;
    s->gzip_flag = IGZIP_DEFLATE;
    s->next_out = out;
    s->avail_out = (uint32_t)cap;
}

/* The next block. False when `out` is full. */
static bool add_block(struct isal_zstream *s, const uint8_t *in, size_t length, bool last, int *result) {
    s->next_in = (uint8_t *)in; /* only read */
    s->avail_in = (uint32_t)length;
    s->end_of_stream = last;
    s->flush = last ? NO_FLUSH : SYNC_FLUSH;
    *result = isal_deflate(s);
    if (*result != COMP_OK)
        return false;
    return last ? s->internal_state.state == ZSTATE_END : s->avail_in == 0 && s->avail_out > 0;
}

int64_t isal_compress(int level, const void *in, size_t count, void *out, size_t cap) {
    if (count > UINT_MAX || cap > UINT_MAX)
        return -EINVAL;
    struct encoder *e = codec_pool_take(&encoders);
    if (e == NULL)
        return -ENOMEM;
    const uint8_t *bytes = in;
    int result = COMP_OK;
    bool more = true;
    start(e, level, out, cap);
    for (size_t length; more && count > 0; bytes += length, count -= length) {
        length = level == CODEC_ISAL_LEVELS ? block_length(bytes, count) : count;
        more = add_block(&e->stream, bytes, length, length == count, &result);
    }
    int64_t stored = more ? (int64_t)e->stream.total_out : 0;
    codec_pool_give(&encoders, e);
    return result == COMP_OK ? stored : -EIO;
}

#endif
