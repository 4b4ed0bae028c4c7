/* SPDX-License-Identifier: GPL-3.0-or-later */
/* file.c - one file: what it shows, its contents, its target, its named streams. As ntfs-3g shows it.
 *
 * Most files are plain. Others are marked: a reparse point is a link, or something of Linux's inside Windows; a file of
 * the system whose content begins with a magic word is a node that Interix made. What a reparse point means that is not
 * known here (compressed by the system, deduplicated, in the cloud) its bytes cannot tell, so that it is shown as a
 * link to a text.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "../error.h"
#include "ntfs.h"

/* What a file is for those who look at it. */
struct kind {
    uint32_t type; /* S_IF... */
    dev_t node;
    char *target; /* of a link; freed by whoever asked */
};

static int plain_kind(ntfs_inode *inode, struct kind *kind) {
    kind->type = inode->mrec->flags & MFT_RECORD_IS_DIRECTORY ? S_IFDIR : S_IFREG;
    return 0;
}

/* ---- reparse points ---- */

static int unknown_kind(const REPARSE_POINT *point, struct kind *kind) {
    kind->type = S_IFLNK;
    if (asprintf(&kind->target, "unsupported reparse tag 0x%08" PRIx32, le32toh(point->reparse_tag)) < 0)
        kind->target = NULL;
    return kind->target ? 0 : -ENOMEM;
}

static int reparse_kind(ntfs_inode *inode, struct kind *kind) {
    REPARSE_POINT *point = ntfs_get_reparse_point(inode);
    int ret = 0;
    if (!point)
        return -EUCLEAN;
    switch (point->reparse_tag) {
    case IO_REPARSE_TAG_MOUNT_POINT:
    case IO_REPARSE_TAG_SYMLINK:
    case IO_REPARSE_TAG_LX_SYMLINK:
        kind->type = S_IFLNK;
        kind->target = ntfs_make_symlink(inode, "");
        if (!kind->target)
            ret = unknown_kind(point, kind);
        break;
    case IO_REPARSE_TAG_AF_UNIX:
        kind->type = S_IFSOCK;
        break;
    case IO_REPARSE_TAG_LX_FIFO:
        kind->type = S_IFIFO;
        break;
    case IO_REPARSE_TAG_LX_CHR:
    case IO_REPARSE_TAG_LX_BLK:
        kind->type = point->reparse_tag == IO_REPARSE_TAG_LX_CHR ? S_IFCHR : S_IFBLK;
        if (ntfs_ea_check_wsldev(inode, &kind->node) < 0)
            ret = unknown_kind(point, kind);
        break;
    default:
        ret = unknown_kind(point, kind);
    }
    free(point);
    return ret;
}

/* ---- Interix ---- */

static int interix_target(const INTX_FILE *file, size_t bytes, struct kind *kind) {
    const ntfschar *target = (const ntfschar *)((const uint8_t *)file + sizeof(file->magic));
    int units = (int)((bytes - sizeof(file->magic)) / sizeof(*target));
    kind->type = S_IFLNK;
    return ntfs_ucstombs(target, units, &kind->target, 0) < 0 ? -EUCLEAN : 0;
}

static int interix_kind(ntfs_attr *data, struct kind *kind) {
    enum { MOST = sizeof(INTX_FILE_TYPES) + PATH_MAX * sizeof(ntfschar) };
    size_t size = (size_t)data->data_size;
    int ret = 0;
    if (data->data_size <= (s64)sizeof(INTX_FILE_TYPES) || data->data_size > MOST)
        return 0;
    INTX_FILE *file = calloc(1, MOST);
    if (!file)
        return -ENOMEM;
    if (ntfs_attr_pread(data, 0, data->data_size, file) != data->data_size)
        ret = -EUCLEAN;
    else if (file->magic == INTX_SYMBOLIC_LINK)
        ret = interix_target(file, size, kind);
    else if ((file->magic == INTX_BLOCK_DEVICE || file->magic == INTX_CHARACTER_DEVICE) &&
             size == offsetof(INTX_FILE, device_end)) {
        kind->type = file->magic == INTX_BLOCK_DEVICE ? S_IFBLK : S_IFCHR;
        kind->node = makedev((unsigned)le64toh(file->major), (unsigned)le64toh(file->minor));
    }
    free(file);
    return ret;
}

static int system_kind(ntfs_inode *inode, struct kind *kind) {
    ntfs_attr *data = ntfs_attr_open(inode, AT_DATA, AT_UNNAMED, 0);
    int ret = plain_kind(inode, kind);
    if (!data)
        return ret;
    bool hidden = inode->flags & FILE_ATTR_HIDDEN;
    if (!hidden && data->data_size == 0)
        kind->type = S_IFIFO;
    else if (!hidden && data->data_size == 1)
        kind->type = S_IFSOCK;
    else
        ret = interix_kind(data, kind);
    ntfs_attr_close(data);
    return ret;
}

static int find_kind(struct ntfs *ntfs, ntfs_inode *inode, struct kind *kind, struct img_error *err) {
    int ret;
    *kind = (struct kind){0};
    errno = 0;
    if (inode->flags & FILE_ATTR_REPARSE_POINT)
        ret = reparse_kind(inode, kind);
    else if ((inode->flags & FILE_ATTR_SYSTEM) && !(inode->mrec->flags & MFT_RECORD_IS_DIRECTORY))
        ret = system_kind(inode, kind);
    else
        ret = plain_kind(inode, kind);
    if (ret == -ENOMEM)
        return fail_no_memory(err);
    return ret < 0 ? ntfs_error(ntfs, inode->mft_no, err) : 0;
}

/* ---- what a file shows ---- */

#define UNITS_PER_SECOND 10000000

/* The library's own conversion overflows where a time is more than a disk should have. As there, what is before 1970
 * has no part of a second. */
static struct fs_time shown_time(ntfs_time time) {
    int64_t units;
    if (__builtin_sub_overflow((int64_t)sle64_to_cpu(time), (int64_t)NTFS_TIME_OFFSET, &units))
        units = INT64_MIN;
    int64_t rest = units % UNITS_PER_SECOND;
    return (struct fs_time){units / UNITS_PER_SECOND, rest > 0 ? (uint32_t)rest * 100 : 0};
}

/* Of a directory the size of its index outside of its record. */
static void show_index(ntfs_inode *inode, struct fs_stat *stat) {
    ntfs_attr *index = ntfs_attr_open(inode, AT_INDEX_ALLOCATION, NTFS_INDEX_I30, 4);
    stat->size = stat->blocks = 0;
    if (!index)
        return;
    stat->size = (uint64_t)index->data_size;
    stat->blocks = (uint64_t)index->allocated_size >> 9;
    ntfs_attr_close(index);
}

static void show(ntfs_inode *inode, const struct kind *kind, struct fs_stat *stat) {
    *stat = (struct fs_stat){.ino = inode->mft_no,
                             .mode = kind->type | 0777,
                             .nlink = le16toh(inode->mrec->link_count),
                             .rdev_major = major(kind->node),
                             .rdev_minor = minor(kind->node),
                             .size = (uint64_t)inode->data_size,
                             .blocks = ((uint64_t)inode->allocated_size + 511) >> 9,
                             .atime = shown_time(inode->last_access_time),
                             .mtime = shown_time(inode->last_data_change_time),
                             .ctime = shown_time(inode->last_mft_change_time),
                             .btime = shown_time(inode->creation_time)};
    if (kind->type == S_IFDIR)
        show_index(inode, stat);
    else if (kind->target)
        stat->size = strlen(kind->target);
}

int ntfs_stat(struct fs *fs, uint64_t ino, struct fs_stat *stat, struct img_error *err) {
    struct ntfs *ntfs = ntfs_of(fs);
    struct kind kind = {0};
    int ret;
    uint64_t saved = ntfs_begin(ntfs, NTFS_BUDGET);
    ntfs_inode *inode = ntfs_enter(ntfs, ino, &ret, err);
    if (inode) {
        ret = find_kind(ntfs, inode, &kind, err);
        if (ret == 0)
            show(inode, &kind, stat);
        free(kind.target);
        ntfs_inode_close(inode);
    }
    ntfs_end(ntfs, saved);
    return ret;
}

int ntfs_readlink(struct fs *fs, uint64_t ino, char *target, size_t size, size_t *length, struct img_error *err) {
    struct ntfs *ntfs = ntfs_of(fs);
    struct kind kind = {0};
    int ret;
    uint64_t saved = ntfs_begin(ntfs, NTFS_BUDGET);
    ntfs_inode *inode = ntfs_enter(ntfs, ino, &ret, err);
    *length = 0;
    if (inode) {
        ret = find_kind(ntfs, inode, &kind, err);
        ntfs_inode_close(inode);
    }
    ntfs_end(ntfs, saved);
    if (ret == 0 && !kind.target)
        return fail(err, -EINVAL, "NTFS: file %" PRIu64 " is no symbolic link", ino);
    if (ret == 0) {
        *length = strlen(kind.target);
        memcpy(target, kind.target, *length < size ? *length : size);
    }
    free(kind.target);
    return ret;
}

/* ---- contents ---- */

void ntfs_forget_file(struct ntfs *ntfs) {
    if (ntfs->data)
        ntfs_attr_close(ntfs->data);
    if (ntfs->inode)
        ntfs_inode_close(ntfs->inode);
    ntfs->data = NULL;
    ntfs->inode = NULL;
}

static int check_readable(struct ntfs *ntfs, ntfs_inode *inode, struct img_error *err) {
    struct kind kind;
    int ret = find_kind(ntfs, inode, &kind, err);
    free(kind.target);
    if (ret < 0)
        return ret;
    if (kind.type == S_IFDIR)
        return fail(err, -EISDIR, "NTFS: file %" PRIu64 " is a directory", inode->mft_no);
    if (kind.type != S_IFREG)
        return fail(err, -EINVAL, "NTFS: file %" PRIu64 " is no regular file", inode->mft_no);
    return 0;
}

/* Makes a file the one that is being read. It stays open: a file in many pieces is found only once. */
static int choose_file(struct ntfs *ntfs, uint64_t ino, struct img_error *err) {
    int ret = 0;
    if (ntfs->inode && ntfs->inode->mft_no == ino)
        return 0;
    ntfs_forget_file(ntfs);
    ntfs->inode = ntfs_enter(ntfs, ino, &ret, err);
    if (!ntfs->inode)
        return ret;
    ret = check_readable(ntfs, ntfs->inode, err);
    if (ret == 0) {
        errno = 0;
        ntfs->data = ntfs_attr_open(ntfs->inode, AT_DATA, AT_UNNAMED, 0);
        if (!ntfs->data)
            ret = ntfs_error(ntfs, ino, err);
    }
    if (ret == 0 && (ntfs->data->data_flags & ATTR_IS_ENCRYPTED))
        ret = fail(err, -EACCES, "NTFS: file %" PRIu64 " is encrypted", ino);
    if (ret < 0)
        ntfs_forget_file(ntfs);
    return ret;
}

static int read_data(struct ntfs *ntfs, uint8_t *buffer, size_t count, uint64_t offset, size_t *got,
                     struct img_error *err) {
    uint64_t size = (uint64_t)ntfs->data->data_size;
    if (offset >= size)
        return 0;
    if (count > size - offset)
        count = (size_t)(size - offset);
    while (*got < count) {
        errno = 0;
        s64 n = ntfs_attr_pread(ntfs->data, (s64)(offset + *got), (s64)(count - *got), buffer + *got);
        if (n <= 0)
            return ntfs_error(ntfs, ntfs->inode->mft_no, err);
        *got += (size_t)n;
    }
    return 0;
}

int ntfs_read(struct fs *fs, uint64_t ino, void *buffer, size_t count, uint64_t offset, size_t *got,
              struct img_error *err) {
    struct ntfs *ntfs = ntfs_of(fs);
    *got = 0;
    /* what is compressed is read in whole units, each again for what the caller wants of it */
    uint64_t saved = ntfs_begin(ntfs, NTFS_BUDGET + 4 * (uint64_t)count);
    int ret = choose_file(ntfs, ino, err);
    if (ret == 0)
        ret = read_data(ntfs, buffer, count, offset, got, err);
    if (ret < 0)
        *got = 0;
    ntfs_end(ntfs, saved);
    return ret;
}

/* The next run of clusters from byte `offset` on; what was never written reads as zeroes although it has clusters. */
static int next_run(const ntfs_attr *data, unsigned cluster_bits, uint64_t offset, uint64_t *start, uint64_t *length) {
    uint64_t end = (uint64_t)data->initialized_size, size = (uint64_t)data->data_size;
    if (end > size)
        end = size;
    for (const runlist_element *run = data->rl; run && run->length; run++) {
        uint64_t from = (uint64_t)run->vcn << cluster_bits, to = (uint64_t)(run->vcn + run->length) << cluster_bits;
        if (to > end)
            to = end;
        if (run->lcn < 0 || to <= offset || from >= to)
            continue;
        *start = from > offset ? from : offset;
        *length = to - *start;
        return 0;
    }
    return -ENXIO;
}

int ntfs_next_data(struct fs *fs, uint64_t ino, uint64_t offset, uint64_t *start, uint64_t *length,
                   struct img_error *err) {
    struct ntfs *ntfs = ntfs_of(fs);
    uint64_t saved = ntfs_begin(ntfs, NTFS_BUDGET);
    int ret = choose_file(ntfs, ino, err);
    if (ret == 0 && offset >= (uint64_t)ntfs->data->data_size) {
        ret = -ENXIO;
    } else if (ret == 0 && (!NAttrNonResident(ntfs->data) || ntfs->data->compression_block_size)) {
        *start = offset;
        *length = (uint64_t)ntfs->data->data_size - offset;
    } else if (ret == 0) {
        errno = 0;
        if (ntfs_attr_map_whole_runlist(ntfs->data) < 0)
            ret = ntfs_error(ntfs, ino, err);
        else
            ret = next_run(ntfs->data, ntfs->volume->cluster_size_bits, offset, start, length);
    }
    ntfs_end(ntfs, saved);
    return ret == -ENXIO ? fail(err, -ENXIO, "NTFS: file %" PRIu64 " has no data there", ino) : ret;
}

/* ---- named streams ---- */

/* What is longer is no attribute for Linux. */
#define MOST_STREAM 65536

/* One stream, whose name is that of a search. */
static int show_stream(struct ntfs *ntfs, ntfs_inode *inode, ntfs_attr_search_ctx *search, fs_xattr_call call,
                       void *opaque, struct img_error *err) {
    unsigned length = search->attr->name_length;
    ntfschar *name = (ntfschar *)((uint8_t *)search->attr + le16toh(search->attr->name_offset));
    char shown[FS_NAME_MAX + 6] = "user.", *text = NULL;
    uint8_t *value = malloc(MOST_STREAM);
    ntfs_attr *stream = ntfs_attr_open(inode, AT_DATA, name, length);
    int ret = 0;
    if (!value)
        ret = fail_no_memory(err);
    else if (!stream || ntfs_ucstombs(name, (int)length, &text, 0) < 0)
        ret = ntfs_error(ntfs, inode->mft_no, err);
    else if (stream->data_size <= MOST_STREAM && !(stream->data_flags & ATTR_IS_ENCRYPTED)) {
        s64 size = stream->data_size;
        snprintf(shown + 5, sizeof(shown) - 5, "%s", text);
        if (size && ntfs_attr_pread(stream, 0, size, value) != size)
            ret = ntfs_error(ntfs, inode->mft_no, err);
        else
            ret = call(opaque, shown, value, (size_t)size);
    }
    if (stream)
        ntfs_attr_close(stream);
    free(text);
    free(value);
    return ret;
}

static int show_streams(struct ntfs *ntfs, ntfs_inode *inode, fs_xattr_call call, void *opaque, struct img_error *err) {
    ntfs_attr_search_ctx *search = ntfs_attr_get_search_ctx(inode, NULL);
    int ret = 0;
    if (!search)
        return fail_no_memory(err);
    errno = 0;
    while (ret == 0 && ntfs_attr_lookup(AT_DATA, NULL, 0, CASE_SENSITIVE, 0, NULL, 0, search) == 0) {
        const ATTR_RECORD *attr = search->attr;
        bool first = !attr->non_resident || attr->lowest_vcn == 0;
        if (attr->name_length && first)
            ret = show_stream(ntfs, inode, search, call, opaque, err);
        errno = 0;
    }
    if (ret == 0 && errno && errno != ENOENT)
        ret = ntfs_error(ntfs, inode->mft_no, err);
    ntfs_attr_put_search_ctx(search);
    return ret;
}

int ntfs_xattrs(struct fs *fs, uint64_t ino, fs_xattr_call call, void *opaque, struct img_error *err) {
    struct ntfs *ntfs = ntfs_of(fs);
    int ret;
    uint64_t saved = ntfs_begin(ntfs, NTFS_BUDGET);
    ntfs_inode *inode = ntfs_enter(ntfs, ino, &ret, err);
    if (inode) {
        ret = show_streams(ntfs, inode, call, opaque, err);
        ntfs_inode_close(inode);
    }
    ntfs_end(ntfs, saved);
    return ret;
}
