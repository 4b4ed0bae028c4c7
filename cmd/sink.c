/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sink.c - see sink.h. */
#include "sink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "report.h"

#define BUFFER (256u << 10)
#define GZIP_WINDOW (15 + 16) /* 32 KiB, in a gzip frame */
#define ZSTD_WORKERS 2

struct sink {
    int fd, error;
    enum compression compression;
    z_stream gzip;
    ZSTD_CCtx *zstd;
    uint64_t total;
    size_t used; /* of the buffer */
    unsigned char buffer[BUFFER];
};

bool sink_compression(const char *name, enum compression *compression) {
    if (strcmp(name, "gzip") == 0)
        *compression = COMPRESS_GZIP;
    else if (strcmp(name, "zstd") == 0)
        *compression = COMPRESS_ZSTD;
    else
        return false;
    return true;
}

struct sink *sink_open(int fd, enum compression compression) {
    struct sink *sink = memory(1, sizeof(*sink));
    sink->fd = fd;
    sink->compression = compression;
    if (compression == COMPRESS_GZIP &&
        deflateInit2(&sink->gzip, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        out_of_memory();
    if (compression == COMPRESS_ZSTD) {
        sink->zstd = ZSTD_createCCtx();
        if (!sink->zstd)
            out_of_memory();
        ZSTD_CCtx_setParameter(sink->zstd, ZSTD_c_checksumFlag, 1);
        /* a library without threads refuses, and works without */
        ZSTD_CCtx_setParameter(sink->zstd, ZSTD_c_nbWorkers, ZSTD_WORKERS);
    }
    return sink;
}

static void put(struct sink *sink, const unsigned char *bytes, size_t length) {
    while (length > 0 && sink->error == 0) {
        ssize_t wrote = write(sink->fd, bytes, length);
        if (wrote < 0 && errno != EINTR)
            sink->error = errno;
        if (wrote > 0) {
            bytes += wrote;
            length -= (size_t)wrote;
        }
    }
}

static void put_buffer(struct sink *sink) {
    put(sink, sink->buffer, sink->used);
    sink->used = 0;
}

static void compress_gzip(struct sink *sink, const unsigned char *bytes, size_t length, bool end) {
    z_stream *z = &sink->gzip;
    z->next_in = (unsigned char *)bytes;
    z->avail_in = (unsigned)length;
    int ret = Z_OK;
    do {
        z->next_out = sink->buffer + sink->used;
        z->avail_out = (unsigned)(BUFFER - sink->used);
        ret = deflate(z, end ? Z_FINISH : Z_NO_FLUSH);
        sink->used = BUFFER - z->avail_out;
        if (z->avail_out == 0)
            put_buffer(sink);
    } while (sink->error == 0 && (end ? ret == Z_OK || ret == Z_BUF_ERROR : z->avail_in > 0));
}

static void compress_zstd(struct sink *sink, const unsigned char *bytes, size_t length, bool end) {
    ZSTD_inBuffer in = {bytes, length, 0};
    size_t left;
    do {
        ZSTD_outBuffer out = {sink->buffer, BUFFER, sink->used};
        left = ZSTD_compressStream2(sink->zstd, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
        sink->used = out.pos;
        if (ZSTD_isError(left))
            sink->error = ENOMEM;
        if (out.pos == BUFFER)
            put_buffer(sink);
    } while (sink->error == 0 && (end ? left > 0 : in.pos < in.size));
}

static void pass_on(struct sink *sink, const unsigned char *bytes, size_t length, bool end) {
    if (sink->compression == COMPRESS_GZIP)
        compress_gzip(sink, bytes, length, end);
    else if (sink->compression == COMPRESS_ZSTD)
        compress_zstd(sink, bytes, length, end);
    else if (length >= BUFFER) {
        put_buffer(sink);
        put(sink, bytes, length);
    } else {
        if (length > BUFFER - sink->used)
            put_buffer(sink);
        if (length > 0)
            memcpy(sink->buffer + sink->used, bytes, length);
        sink->used += length;
    }
}

bool sink_write(struct sink *sink, const void *bytes, size_t length) {
    sink->total += length;
    if (sink->error == 0)
        pass_on(sink, bytes, length, false);
    return sink->error == 0;
}

uint64_t sink_total(const struct sink *sink) {
    return sink->total;
}

bool sink_close(struct sink *sink) {
    if (sink->error == 0)
        pass_on(sink, (const unsigned char *)"", 0, true);
    put_buffer(sink);
    if (sink->compression == COMPRESS_GZIP)
        deflateEnd(&sink->gzip);
    ZSTD_freeCCtx(sink->zstd);
    int error = sink->error;
    free(sink);
    if (error)
        report("The archive cannot be written: %s", strerror(error));
    return error == 0;
}
