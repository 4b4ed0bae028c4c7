/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fuzz.h - what the fuzz targets share: a file in memory, a budget, and a mutator that knows where a qcow2 has its
 * tables. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "img.h"
#include "storage.h"

/* libFuzzer's calls, declared for -Wmissing-prototypes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* ---- a file in memory (mem.c) ---- */

/* No file grows beyond this: a write behind it is -ENOSPC. */
#define MEM_MOST (64u << 20)

struct mem {
    uint8_t *bytes; /* MEM_MOST of address space, zero behind `size` */
    uint64_t size;
    uint64_t touched;     /* bytes from the front that may be other than zero */
    unsigned long writes; /* writes, zeroings, punches and truncates so far */
};

/* The one file of a run; the former one's bytes are gone. One thread uses it. */
struct mem *mem_load(const uint8_t *data, size_t size);
/* A storage on it; `mem` must live longer. NULL: out of memory. */
struct storage *mem_storage(struct mem *mem, bool writable);

/* ---- helpers (common.c) ---- */

/* Says what is wrong and aborts, so that the fuzzer keeps the input. */
_Noreturn void fuzz_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Opens the memory as an image without backing file, in no other format than `format` (NULL: probed). NULL: it is none.
 */
struct img *fuzz_open(struct mem *mem, uint32_t flags, const char *format, const char *snapshot);
/* Clears the header bit of an external data file: its name would be opened on this machine. */
void fuzz_forget_data_file(struct mem *mem);
/* Sums up what a check of the image finds. False: the check, or the repair, could not be made or says that it goes no
 * further. */
bool fuzz_check(struct img *image, uint32_t flags, struct img_check_result *result);

/* Bytes taken one after the other from an input; zeroes when it is used up. */
struct input {
    const uint8_t *data;
    size_t size;
};
uint64_t input_number(struct input *in, unsigned bytes);

/* Changes a field of the header or an entry of a table into something worth trying; `size` stays (mutate.c). */
void mutate_image(uint8_t *image, size_t size, unsigned seed);

#endif
