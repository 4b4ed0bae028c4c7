/* SPDX-License-Identifier: GPL-3.0-or-later */
/* libarchive.h - libarchive, which is loaded by the commands that read or make archives: la.archive_read_new(). */
#ifndef LIBARCHIVE_H
#define LIBARCHIVE_H

#include <archive.h>
#include <archive_entry.h>

#include "fs/late.h"

#define LIBARCHIVE(F)                                                                                                  \
    F(archive_entry_acl_next)                                                                                          \
    F(archive_entry_acl_reset)                                                                                         \
    F(archive_entry_atime)                                                                                             \
    F(archive_entry_atime_is_set)                                                                                      \
    F(archive_entry_atime_nsec)                                                                                        \
    F(archive_entry_clear)                                                                                             \
    F(archive_entry_clone)                                                                                             \
    F(archive_entry_free)                                                                                              \
    F(archive_entry_gid)                                                                                               \
    F(archive_entry_hardlink)                                                                                          \
    F(archive_entry_linkify)                                                                                           \
    F(archive_entry_linkresolver_new)                                                                                  \
    F(archive_entry_linkresolver_set_strategy)                                                                         \
    F(archive_entry_mode)                                                                                              \
    F(archive_entry_mtime)                                                                                             \
    F(archive_entry_mtime_nsec)                                                                                        \
    F(archive_entry_new)                                                                                               \
    F(archive_entry_pathname)                                                                                          \
    F(archive_entry_rdevmajor)                                                                                         \
    F(archive_entry_rdevminor)                                                                                         \
    F(archive_entry_set_pathname)                                                                                      \
    F(archive_entry_size)                                                                                              \
    F(archive_entry_sourcepath)                                                                                        \
    F(archive_entry_symlink)                                                                                           \
    F(archive_entry_uid)                                                                                               \
    F(archive_entry_xattr_add_entry)                                                                                   \
    F(archive_entry_xattr_clear)                                                                                       \
    F(archive_entry_xattr_count)                                                                                       \
    F(archive_entry_xattr_next)                                                                                        \
    F(archive_entry_xattr_reset)                                                                                       \
    F(archive_errno)                                                                                                   \
    F(archive_error_string)                                                                                            \
    F(archive_read_close)                                                                                              \
    F(archive_read_data_block)                                                                                         \
    F(archive_read_disk_descend)                                                                                       \
    F(archive_read_disk_new)                                                                                           \
    F(archive_read_disk_open)                                                                                          \
    F(archive_read_disk_set_symlink_physical)                                                                          \
    F(archive_read_free)                                                                                               \
    F(archive_read_new)                                                                                                \
    F(archive_read_next_header)                                                                                        \
    F(archive_read_next_header2)                                                                                       \
    F(archive_read_open_fd)                                                                                            \
    F(archive_read_support_filter_bzip2)                                                                               \
    F(archive_read_support_filter_gzip)                                                                                \
    F(archive_read_support_filter_xz)                                                                                  \
    F(archive_read_support_filter_zstd)                                                                                \
    F(archive_read_support_format_empty)                                                                               \
    F(archive_read_support_format_tar)                                                                                 \
    F(archive_write_close)                                                                                             \
    F(archive_write_data)                                                                                              \
    F(archive_write_header)                                                                                            \
    F(archive_write_new)                                                                                               \
    F(archive_write_open_fd)                                                                                           \
    F(archive_write_set_bytes_in_last_block)                                                                           \
    F(archive_write_set_bytes_per_block)                                                                               \
    F(archive_write_set_format_pax)                                                                                    \
    F(archive_write_set_options)

extern struct libarchive { LIBARCHIVE(LATE_POINTER) } la;

/* Before the sandbox. False after reporting. */
bool libarchive_load(void);

#endif
