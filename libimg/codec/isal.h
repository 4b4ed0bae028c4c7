/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* isal.h - the fast deflate encoder, where there is one.
 *
 * ISA-L is ten times as fast as zlib, and Debian has it for the 64-bit machines that run KVM, but not for all others
 * (i386). CODEC_ISAL says whether it is there to build with; without it zlib does all levels.
 */
#ifndef LIBIMG_CODEC_ISAL_H
#define LIBIMG_CODEC_ISAL_H

#include <stddef.h>
#include <stdint.h>

#if __has_include(<isa-l/igzip_lib.h>)
#define CODEC_ISAL 1
#define CODEC_ISAL_LEVELS 3

/* As the codec's compress, levels 1 to CODEC_ISAL_LEVELS. */
int64_t isal_compress(int level, const void *in, size_t count, void *out, size_t cap);
#endif

#endif
