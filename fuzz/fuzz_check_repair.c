// SPDX-License-Identifier: GPL-3.0-or-later
/* fuzz_check_repair.c - bytes as an image file that is repaired.
 *
 * Held: a repair either fails with a sentence, or the next check finds nothing and the image opens to write; a check
 * that may not repair writes nothing. */
#include "fuzz.h"

#include <string.h>

#include "qcow2/format.h"

static bool check(struct mem *mem, uint32_t flags, struct img_check_result *result) {
    struct img *image = fuzz_open(mem, IMG_OPEN_CHECK | (flags ? IMG_OPEN_WRITE : 0), "qcow2", NULL);
    struct img_error err = {0};
    if (!image)
        return false;
    bool done = fuzz_check(image, flags, result);
    int rc = img_close(image, &err);
    if (rc && !err.text[0])
        fuzz_fail("img_close fails with %d and says nothing", rc);
    return done && rc == 0;
}

static void open_to_write(struct mem *mem) {
    struct img *image = fuzz_open(mem, IMG_OPEN_WRITE, "qcow2", NULL);
    struct img_check_result result;
    if (!image)
        return; /* encrypted, or of a size that this memory cannot hold */
    if (fuzz_check(image, 0, &result) && result.corruptions)
        fuzz_fail("opening a repaired image to write makes %llu corruptions", (unsigned long long)result.corruptions);
    img_close(image, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct img_check_result first, repair, second;
    if (size < 1)
        return 0;
    struct mem *mem = mem_load(data + 1, size - 1);
    fuzz_forget_data_file(mem);
    bool seen = check(mem, 0, &first);
    if (mem->writes)
        fuzz_fail("a check that may not repair has written");
    bool leaks_only = data[0] & 1;
    bool repaired = check(mem, leaks_only ? IMG_CHECK_REPAIR_LEAKS : IMG_CHECK_REPAIR_ALL, &repair);
    if (!seen || !repaired || repair.check_errors || first.check_errors)
        return 0;
    if (!check(mem, 0, &second))
        fuzz_fail("a repaired image cannot be checked");
    if (leaks_only ? second.corruptions > first.corruptions || (!first.corruptions && second.leaks)
                   : second.corruptions || second.leaks || second.check_errors)
        fuzz_fail("after a repair of %llu corruptions and %llu leaks there are %llu and %llu",
                  (unsigned long long)first.corruptions, (unsigned long long)first.leaks,
                  (unsigned long long)second.corruptions, (unsigned long long)second.leaks);
    if (!second.corruptions)
        open_to_write(mem);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    if (seed % 2 || size < 2)
        return LLVMFuzzerMutate(data, size, max_size);
    mutate_image(data + 1, size - 1, seed);
    return size;
}
