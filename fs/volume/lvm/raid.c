/* SPDX-License-Identifier: GPL-3.0-or-later */
/* raid.c - which copies of a raid1 volume are good. Each has a small device beside it with the superblock of dm-raid:
 * which array positions have failed, how far this copy has been filled, and a count of events by which the newest
 * superblock is known.
 *
 * A copy is good if it has as many events as the newest and that one neither lists it as failed nor is it still being
 * filled. Where no superblock is (the volume has never been used), the copies are as good as their order.
 */
#include <errno.h>

#include "../../ondisk.h"
#include "lvm.h"

#define SUPERBLOCK_BYTES 64
#define MAGIC 0x64526d44u /* "DmRd" */
#define COMPLETE UINT64_MAX

struct superblock {
    bool there;
    uint32_t position;
    uint64_t events, failed, filled;
};

static struct superblock read_superblock(struct device *device) {
    uint8_t b[SUPERBLOCK_BYTES];
    if (!device || device->size < sizeof(b) || device_read(device, b, sizeof(b), 0, NULL) < 0 || get_le32(b) != MAGIC)
        return (struct superblock){0};
    return (struct superblock){.there = true,
                               .position = get_le32(b + 12),
                               .events = get_le64(b + 16),
                               .failed = get_le64(b + 24),
                               .filled = get_le64(b + 32)};
}

unsigned lvm_order_copies(struct device **metadata, struct device **data, unsigned count) {
    struct superblock newest = {0};
    unsigned readable = 0;
    for (unsigned i = 0; i < count; i++) {
        struct superblock sb = read_superblock(metadata[i]);
        if (sb.there && (!newest.there || sb.events > newest.events))
            newest = sb;
    }
    for (unsigned i = 0; i < count; i++) {
        struct superblock sb = read_superblock(metadata[i]);
        bool good = !newest.there;
        if (sb.there)
            good = sb.events == newest.events && sb.filled == COMPLETE &&
                   !(sb.position < 64 && (newest.failed >> sb.position & 1));
        if (data[i] && good)
            data[readable++] = data[i];
    }
    return readable;
}
