// SPDX-License-Identifier: GPL-3.0-or-later
/* fuzz_ntfs.c - bytes as an NTFS volume: four with the place of the table of capital letters in units of 512 bytes,
 * which is the same on all volumes and would be most of the input, then pieces (guest/guest.h). Opened, every file
 * looked at.
 */
#include <stdlib.h>

#include "../fs/ntfs/library.h"
#include "guest/guest.h"

extern const struct fs_driver ntfs_driver;

#define PLACE 4u

/* The library forgets what it took when a volume that it cannot mount makes it stop. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
    return "leak:libntfs-3g";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static ntfschar *capitals;
    static uint32_t count;
    if (!capitals)
        count = ntfs_upcase_build_default(&capitals);
    if (size < PLACE || !capitals)
        return 0;
    struct device *device = guest_device(data + PLACE, size - PLACE);
    guest_put((uint64_t)(data[0] | data[1] << 8 | data[2] << 16) * 512, capitals, count * sizeof(*capitals));
    walk_everything(&ntfs_driver, device);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    if (size <= PLACE)
        return LLVMFuzzerMutate(data, size, max_size);
    return PLACE + guest_mutate(data + PLACE, size - PLACE, max_size - PLACE, seed);
}
