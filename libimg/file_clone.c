/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* file_clone.c - a range of one host file made a range of another, by the host itself: sharing the blocks where the
 * file system can (FICLONERANGE: XFS, btrfs), or copying inside the kernel or on the server (copy_file_range).
 */
#include "file.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BLOCK_MAX (64u << 10)
/* No file reaches up to here. */
#define BEHIND_ALL (INT64_MAX & ~(int64_t)(BLOCK_MAX - 1))

static int clone_range(int to, uint64_t offset, int from, uint64_t from_offset, uint64_t length) {
    struct file_clone_range range = {
        .src_fd = from, .src_offset = from_offset, .src_length = length, .dest_offset = offset};
    return ioctl(to, FICLONERANGE, &range) < 0 ? -errno : 0;
}

/* Nothing can come of a range behind the end of the source, but a file system that shares blocks finds that out by
 * itself and says so, where others do not even look. */
static bool shares_blocks(const struct file *to, const struct file *from) {
    return clone_range(to->fd, 0, from->fd, BEHIND_ALL, 0) == -EINVAL;
}

uint64_t file_clone_block(struct storage *target, struct storage *source, bool copies) {
    if (source->ops->clone != file_clone)
        return 0;
    const struct file *to = file_of(target), *from = file_of(source);
    struct statfs fs;
    if (to->block_device || from->block_device)
        return 0;
    if (copies)
        return 1;
    if (!shares_blocks(to, from) || fstatfs(to->fd, &fs) < 0)
        return 0;
    uint64_t block = (uint64_t)fs.f_bsize;
    return block && block <= BLOCK_MAX && !(block & (block - 1)) ? block : 0;
}

static int copy_range(const struct file *to, uint64_t offset, const struct file *from, uint64_t from_offset,
                      uint64_t length) {
    loff_t in = (loff_t)from_offset, out = (loff_t)offset;
    while (length) {
        ssize_t n = copy_file_range(from->fd, &in, to->fd, &out, length, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) /* 0: the source ends here, and zeroes follow */
            return n < 0 ? -errno : -ENOTSUP;
        length -= (uint64_t)n;
    }
    return 0;
}

int file_clone(struct storage *target, uint64_t offset, struct storage *source, uint64_t from_offset, uint64_t length,
               bool copies) {
    struct file *to = file_of(target), *from = file_of(source);
    struct range_hold hold;
    if (offset > INT64_MAX - length || from_offset > INT64_MAX - length)
        return -EFBIG;
    if (to->direct)
        rangelock_acquire(to->ranges, &hold, offset, offset + length, false);
    int r = copies ? copy_range(to, offset, from, from_offset, length)
                   : clone_range(to->fd, offset, from->fd, from_offset, length);
    if (r == 0)
        file_raise_length(to, offset + length);
    else
        file_learn_length(to);
    if (to->direct)
        rangelock_release(to->ranges, &hold);
    return r;
}
