/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sink.h - a stream of bytes to a descriptor, compressed on its way if that is wanted. */
#ifndef SINK_H
#define SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum compression { COMPRESS_NONE, COMPRESS_GZIP, COMPRESS_ZSTD };

/* "gzip", "zstd"; false: it is none of these. */
bool sink_compression(const char *name, enum compression *compression);

struct sink;
/* Never NULL. The descriptor stays the caller's. */
struct sink *sink_open(int fd, enum compression compression);
/* False: an earlier write failed, or this one did; sink_close says so. */
bool sink_write(struct sink *sink, const void *bytes, size_t length);
/* Bytes that were written to it. */
uint64_t sink_total(const struct sink *sink);
/* Writes what is left and frees the sink. False after reporting that not all could be written. */
bool sink_close(struct sink *sink);

#endif
