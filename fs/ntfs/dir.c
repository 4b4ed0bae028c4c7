/* SPDX-License-Identifier: GPL-3.0-or-later */
/* dir.c - directories: names are UTF-16 on the disk, and UTF-8 here. A file may have a second name for DOS, by which it
 * is found but not listed. The files of NTFS itself are found and not listed either.
 *
 * A name is looked for as it stands, and then whatever the case of its letters: most names were made by Windows, which
 * does not tell them apart.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../error.h"
#include "ntfs.h"

static bool leads_elsewhere(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static ntfs_inode *enter_directory(struct ntfs *ntfs, uint64_t ino, int *ret, struct img_error *err) {
    ntfs_inode *inode = ntfs_enter(ntfs, ino, ret, err);
    if (inode && (inode->mrec->flags & MFT_RECORD_IS_DIRECTORY))
        return inode;
    if (inode) {
        *ret = fail(err, -ENOTDIR, "NTFS: file %" PRIu64 " is not a directory", ino);
        ntfs_inode_close(inode);
    }
    return NULL;
}

/* ---- one name ---- */

static uint64_t find_name(struct ntfs *ntfs, ntfs_inode *inode, const ntfschar *name, int length) {
    NVolSetCaseSensitive(ntfs->volume);
    errno = 0;
    uint64_t found = ntfs_inode_lookup_by_name(inode, name, length);
    if (found == UINT64_MAX && errno == ENOENT) {
        NVolClearCaseSensitive(ntfs->volume);
        errno = 0;
        found = ntfs_inode_lookup_by_name(inode, name, length);
        int code = errno;
        NVolSetCaseSensitive(ntfs->volume);
        errno = code;
    }
    return found;
}

int ntfs_lookup(struct fs *fs, uint64_t dir, const char *name, size_t length, uint64_t *ino, struct img_error *err) {
    struct ntfs *ntfs = ntfs_of(fs);
    char text[FS_NAME_MAX + 1];
    ntfschar *units = NULL;
    int count = -1, ret;
    if (length && length < sizeof(text)) {
        memcpy(text, name, length);
        text[length] = 0;
        count = leads_elsewhere(text) ? -1 : ntfs_mbstoucs(text, &units);
    }
    uint64_t saved = ntfs_begin(ntfs, NTFS_BUDGET);
    ntfs_inode *inode = enter_directory(ntfs, dir, &ret, err);
    if (inode && (count <= 0 || count > NTFS_MAX_NAME_LEN)) {
        ret = fail(err, -ENOENT, "There is no such file in the directory");
    } else if (inode) {
        uint64_t found = find_name(ntfs, inode, units, count);
        if (found != UINT64_MAX)
            *ino = MREF(found);
        else
            ret = errno == ENOENT ? fail(err, -ENOENT, "There is no such file in the directory")
                                  : ntfs_error(ntfs, dir, err);
    }
    if (inode)
        ntfs_inode_close(inode);
    ntfs_end(ntfs, saved);
    free(units);
    return ret;
}

/* ---- all names ---- */

struct listing {
    struct ntfs *ntfs;
    fs_entry_call call;
    void *opaque;
    int ret; /* what the call returned, not 0 */
};

static bool is_shown(const char *text, int length) {
    return length > 0 && (size_t)length == strlen(text) && !memchr(text, '/', (size_t)length) && !leads_elsewhere(text);
}

static int list_entry(void *opaque, const ntfschar *name, const int name_length, const int name_type, const s64 pos,
                      const MFT_REF reference, const unsigned type) {
    struct listing *listing = opaque;
    char *text = NULL;
    (void)pos;
    if (name_type == FILE_NAME_DOS || MREF(reference) < FILE_first_user)
        return 0;
    int length = ntfs_ucstombs(name, name_length, &text, 0);
    if (length >= 0 && length <= FS_NAME_MAX && is_shown(text, length)) {
        struct fs_entry entry = {.name = text,
                                 .length = (size_t)length,
                                 .ino = MREF(reference),
                                 .type = type == NTFS_DT_DIR   ? S_IFDIR
                                         : type == NTFS_DT_REG ? S_IFREG
                                                               : 0};
        listing->ret = listing->call(listing->opaque, &entry);
    }
    free(text);
    return listing->ret ? -1 : 0;
}

/* Bytes of an attribute of the index; -EUCLEAN: more than there can be. */
static int index_bytes(struct ntfs *ntfs, ntfs_inode *inode, ATTR_TYPES type, uint64_t *bytes, struct img_error *err) {
    ntfs_attr *attr = ntfs_attr_open(inode, type, NTFS_INDEX_I30, 4);
    *bytes = 0;
    if (!attr)
        return 0;
    *bytes = (uint64_t)attr->data_size;
    ntfs_attr_close(attr);
    if (*bytes > ntfs->fs.device->size)
        return fail(err, -EUCLEAN, "NTFS: directory %" PRIu64 " has an index of %" PRIu64 " bytes", inode->mft_no,
                    *bytes);
    return 0;
}

static int list_directory(struct ntfs *ntfs, ntfs_inode *inode, struct listing *listing, struct img_error *err) {
    uint64_t blocks = 0, bitmap = 0;
    s64 position = 0;
    int ret = index_bytes(ntfs, inode, AT_INDEX_ALLOCATION, &blocks, err);
    if (ret == 0)
        ret = index_bytes(ntfs, inode, AT_BITMAP, &bitmap, err);
    if (ret < 0)
        return ret;
    ntfs->budget = NTFS_BUDGET + 2 * (blocks + bitmap);
    errno = 0;
    ret = ntfs_readdir(inode, &position, listing, list_entry);
    if (listing->ret)
        return listing->ret;
    return ret < 0 ? ntfs_error(ntfs, inode->mft_no, err) : 0;
}

int ntfs_list(struct fs *fs, uint64_t dir, fs_entry_call call, void *opaque, struct img_error *err) {
    struct ntfs *ntfs = ntfs_of(fs);
    struct listing listing = {ntfs, call, opaque, 0};
    int ret;
    uint64_t saved = ntfs_begin(ntfs, NTFS_BUDGET);
    ntfs_inode *inode = enter_directory(ntfs, dir, &ret, err);
    if (inode) {
        ret = list_directory(ntfs, inode, &listing, err);
        ntfs_inode_close(inode);
    }
    ntfs_end(ntfs, saved);
    return ret;
}
