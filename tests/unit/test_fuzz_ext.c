// SPDX-License-Identifier: GPL-3.0-or-later
/* test_fuzz_ext.c - every kept input of the fuzz target for ext filesystems once, without a fuzzer, and then some
 * hundred of them changed by its mutator: no crash, no hang, and an error always says what it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

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

static uint8_t *read_file(const char *path, size_t *size) {
    uint8_t *bytes = malloc(1 << 20);
    FILE *file = fopen(path, "rb");
    assert_non_null(bytes);
    assert_non_null(file);
    *size = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    return bytes;
}

/* Tests run in the project's folder. */
static void test_corpus(void **state) {
    DIR *dir = opendir("fuzz/corpus/ext");
    char path[600];
    unsigned count = 0;
    (void)state;
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        size_t size;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "fuzz/corpus/ext/%s", entry->d_name);
        uint8_t *bytes = read_file(path, &size);
        LLVMFuzzerTestOneInput(bytes, size);
        for (unsigned seed = 0; seed < 100; seed++) {
            size = LLVMFuzzerCustomMutator(bytes, size, 1 << 20, seed);
            LLVMFuzzerTestOneInput(bytes, size);
        }
        free(bytes);
        count++;
    }
    closedir(dir);
    assert_true(count > 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_corpus)};
    return cmocka_run_group_tests_name("fuzz corpus of ext", tests, NULL, NULL);
}
