/* SPDX-License-Identifier: GPL-3.0-or-later */
/* copy_records.h - what the process that reads a guest's files tells the one that makes them on the host (chute.h).
 *
 * Each chunk is one record and its payload. Files come one after the other, in the tree's order:
 *
 *   directory    DIRECTORY ... all that is below ... UP OWNER XATTR* END
 *   other file   FILE DATA* | SYMLINK | NODE    then OWNER XATTR* END, or DROP
 *   another name of a file    HARDLINK
 *
 * and DONE at last. A name is one name, never a path: where a file goes follows from DIRECTORY and UP alone.
 */
#ifndef COPY_RECORDS_H
#define COPY_RECORDS_H

#include <stdint.h>

#include "fs/vfs.h"

#define COPY_DATA_MAX (256u << 10)       /* bytes in one DATA */
#define COPY_XATTR_MAX (64u << 10)       /* bytes of an attribute's value, as in Linux */
#define COPY_XATTR_NAME_MAX 255u         /* the same of its name */
#define COPY_TARGET_MAX 4095u            /* of a symbolic link */
#define COPY_PAYLOAD_MAX (COPY_DATA_MAX) /* of all records */

enum copy_kind {
    COPY_DIRECTORY = 1, /* payload: its name */
    COPY_UP,            /* the directory is complete; OWNER to END are its own */
    COPY_FILE,          /* payload: name; number: 1 if HARDLINKs may follow */
    COPY_SYMLINK,       /* payload: name, NUL, target */
    COPY_NODE,          /* payload: name; mode: type and permissions; major, minor */
    COPY_HARDLINK,      /* payload: name; number: of the FILE, counting from 0 those that may be linked */
    COPY_DATA,          /* payload: bytes; number: their offset */
    COPY_OWNER,         /* uid, gid, mode; number: the size of a FILE */
    COPY_XATTR,         /* payload: name, NUL, value */
    COPY_END,           /* atime, mtime */
    COPY_DROP,          /* the FILE could not be read and is to be removed again */
    COPY_DONE,          /* all was sent */
};

struct copy_record {
    uint32_t kind;
    uint32_t length; /* of the payload, which follows */
    uint64_t number;
    uint32_t mode, uid, gid, major, minor;
    uint32_t unused;
    struct fs_time atime, mtime;
};

#endif
