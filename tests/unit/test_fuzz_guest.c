// SPDX-License-Identifier: GPL-3.0-or-later
/* test_fuzz_guest.c - every kept input of the fuzz targets of guest filesystems once, without a fuzzer: what was found
 * once stays found, with any compiler. As test_fuzz_corpus.c does for images.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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

static void run_file(const char *path, int (*input)(const uint8_t *, size_t)) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    uint8_t *bytes = malloc((size_t)st.st_size + 1);
    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
    close(fd);
    input(bytes, (size_t)st.st_size);
    free(bytes);
}

/* Tests run in the project's folder. */
static void run_corpus(const char *folder, int (*input)(const uint8_t *, size_t)) {
    char path[600];
    unsigned count = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        run_file(path, input);
        count++;
    }
    closedir(dir);
    assert_true(count > 3);
}

static void test_fat(void **state) {
    (void)state;
    run_corpus("fuzz/corpus/fat", fat_input);
}

static void test_ntfs(void **state) {
    (void)state;
    run_corpus("fuzz/corpus/ntfs", ntfs_input);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fat), cmocka_unit_test(test_ntfs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
