// SPDX-License-Identifier: GPL-3.0-or-later
/* test_fuzz_guest.c - every kept input of the fuzz targets of guest filesystems once, without a fuzzer: what was found
 * once stays found, with any compiler. As test_fuzz_corpus.c does for images.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "corpus.h"

int fat_input(const uint8_t *, size_t);
int ntfs_input(const uint8_t *, size_t);
size_t fat_mutator(uint8_t *, size_t, size_t, unsigned);
size_t ntfs_mutator(uint8_t *, size_t, size_t, unsigned);

/* NOLINTBEGIN(bugprone-suspicious-include) */
#include "../../fuzz/guest/walk.c"

#define LLVMFuzzerTestOneInput fat_input
#define LLVMFuzzerCustomMutator fat_mutator
#include "../../fuzz/fuzz_fat.c"
#undef LLVMFuzzerTestOneInput
#undef LLVMFuzzerCustomMutator
#define LLVMFuzzerTestOneInput ntfs_input
#define LLVMFuzzerCustomMutator ntfs_mutator
#include "../../fuzz/fuzz_ntfs.c"
#undef LLVMFuzzerTestOneInput
#undef LLVMFuzzerCustomMutator
/* NOLINTEND(bugprone-suspicious-include) */

void fuzz_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    abort();
}

/* The fuzzer's own mutation; nothing here mutates. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) {
    (void)data, (void)max_size;
    return size;
}

static void test_fat(void **state) {
    (void)state;
    run_corpus("fat", fat_input);
}

static void test_ntfs(void **state) {
    (void)state;
    run_corpus("ntfs", ntfs_input);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fat), cmocka_unit_test(test_ntfs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
