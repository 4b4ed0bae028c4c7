// SPDX-License-Identifier: GPL-3.0-or-later
/* fuzz_fat.c - bytes as a FAT volume, in pieces (guest/guest.h): probed, opened, every file looked at. */
#include "guest/guest.h"

extern const struct fs_driver fat_driver;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    walk_everything(&fat_driver, guest_device(data, size));
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    return guest_mutate(data, size, max_size, seed);
}
