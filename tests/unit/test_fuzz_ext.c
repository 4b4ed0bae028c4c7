// SPDX-License-Identifier: GPL-3.0-or-later
/* test_fuzz_ext.c - every kept input of the fuzz target for ext filesystems once, without a fuzzer, and then some
 * hundred of them changed by its mutator: no crash, no hang, and an error always says what it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "corpus.h"

#define ROOM (1u << 20)

/* NOLINTBEGIN(bugprone-suspicious-include) */
#include "../../fuzz/common.c"
#include "../../fuzz/fuzz_ext.c"
#include "../../fuzz/mem.c"
/* NOLINTEND(bugprone-suspicious-include) */

/* In place of the fuzzer's own mutation: some of the bytes. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) {
    (void)max_size;
    for (size_t i = 0; i < size; i++)
        if (rand() % 3 == 0)
            data[i] = (uint8_t)(rand() % 4 ? rand() : 0xff);
    return size;
}

static int input_and_changes(const uint8_t *kept, size_t size) {
    uint8_t *bytes = malloc(ROOM);
    assert_true(bytes && size <= ROOM);
    memcpy(bytes, kept, size);
    LLVMFuzzerTestOneInput(bytes, size);
    for (unsigned seed = 0; seed < 100; seed++) {
        size = LLVMFuzzerCustomMutator(bytes, size, ROOM, seed);
        LLVMFuzzerTestOneInput(bytes, size);
    }
    free(bytes);
    return 0;
}

static void test_corpus(void **state) {
    (void)state;
    run_corpus("ext", input_and_changes);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_corpus)};
    return cmocka_run_group_tests_name("fuzz corpus of ext", tests, NULL, NULL);
}
