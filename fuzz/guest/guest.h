/* SPDX-License-Identifier: GPL-3.0-or-later */
/* guest.h - what the fuzz targets of guest filesystems share: a device made of a small input, and a walk over all that
 * a filesystem shows.
 *
 * A volume can be large where nothing is, so an input has only the pieces of it that are not zero (pack-volume):
 * the size of the device in units of 512 bytes (4 bytes), and for each piece where it begins, in the same units
 * (4 bytes), and how many bytes it has (2 bytes), little-endian, then the bytes.
 */
#ifndef FUZZ_GUEST_H
#define FUZZ_GUEST_H

#include "../../fs/vfs.h"
#include "../fuzz.h"

#define GUEST_MOST (64u << 20) /* bytes of a device */

/* The one device of a run. */
struct device *guest_device(const uint8_t *data, size_t size);
/* Another piece of it. */
void guest_put(uint64_t at, const void *bytes, size_t count);
/* Opens with the driver, and looks at every file, name and byte within a limit. Aborts on what must not be: a name that
 * leads out of its directory, an error without a sentence, more bytes than were asked for. */
void walk_everything(const struct fs_driver *driver, struct device *device);
/* Changes a few bytes of a piece, or whatever the fuzzer likes. */
size_t guest_mutate(uint8_t *data, size_t size, size_t max_size, unsigned seed);

#endif
