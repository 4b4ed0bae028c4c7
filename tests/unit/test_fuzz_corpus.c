// SPDX-License-Identifier: GPL-3.0-or-later
/* test_fuzz_corpus.c - every kept fuzz input once, through the targets as they are, without a fuzzer: what was found
 * once stays found, with any compiler.
 *
 * The targets are included here under names of their own, since each defines the same entry point. They abort on what
 * must not be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "corpus.h"

int image_input(const uint8_t *, size_t);
int header_input(const uint8_t *, size_t);
int repair_input(const uint8_t *, size_t);
int ops_input(const uint8_t *, size_t);
int codec_input(const uint8_t *, size_t);
int luks_input(const uint8_t *, size_t);
size_t image_mutator(uint8_t *, size_t, size_t, unsigned);
size_t header_mutator(uint8_t *, size_t, size_t, unsigned);
size_t repair_mutator(uint8_t *, size_t, size_t, unsigned);
size_t ops_mutator(uint8_t *, size_t, size_t, unsigned);

/* NOLINTBEGIN(bugprone-suspicious-include) */
#include "../../fuzz/common.c"
#include "../../fuzz/mem.c"
#define next mutate_next
#define load mutate_load
#define store mutate_store
#include "../../fuzz/mutate.c"
#undef next
#undef load
#undef store

#define LLVMFuzzerTestOneInput header_input
#define LLVMFuzzerCustomMutator header_mutator
#include "../../fuzz/fuzz_header.c"
#undef LLVMFuzzerTestOneInput
#undef LLVMFuzzerCustomMutator
#define LLVMFuzzerTestOneInput image_input
#define LLVMFuzzerCustomMutator image_mutator
#include "../../fuzz/fuzz_image.c"
#undef LLVMFuzzerTestOneInput
#undef LLVMFuzzerCustomMutator
#define LLVMFuzzerTestOneInput repair_input
#define LLVMFuzzerCustomMutator repair_mutator
#include "../../fuzz/fuzz_check_repair.c"
#undef LLVMFuzzerTestOneInput
#undef LLVMFuzzerCustomMutator
#define LLVMFuzzerTestOneInput ops_input
#define LLVMFuzzerCustomMutator ops_mutator
#include "../../fuzz/fuzz_ops.c"
#undef LLVMFuzzerTestOneInput
#undef LLVMFuzzerCustomMutator
#define LLVMFuzzerTestOneInput codec_input
#include "../../fuzz/fuzz_codec.c"
#undef LLVMFuzzerTestOneInput
#define LLVMFuzzerTestOneInput luks_input
#include "../../fuzz/fuzz_luks.c"
#undef LLVMFuzzerTestOneInput
/* NOLINTEND(bugprone-suspicious-include) */

/* The fuzzer's own mutation; nothing here mutates. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) {
    (void)data, (void)max_size;
    return size;
}

static void test_header(void **state) {
    (void)state;
    run_corpus("header", header_input);
}

static void test_image(void **state) {
    (void)state;
    run_corpus("image", image_input);
}

static void test_check_repair(void **state) {
    (void)state;
    run_corpus("check_repair", repair_input);
}

static void test_ops(void **state) {
    (void)state;
    run_corpus("ops", ops_input);
}

static void test_codec(void **state) {
    (void)state;
    run_corpus("codec", codec_input);
}

static void test_luks(void **state) {
    (void)state;
    run_corpus("luks", luks_input);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header), cmocka_unit_test(test_image), cmocka_unit_test(test_check_repair),
        cmocka_unit_test(test_ops),    cmocka_unit_test(test_codec), cmocka_unit_test(test_luks),
    };
    return cmocka_run_group_tests_name("fuzz corpus", tests, NULL, NULL);
}
