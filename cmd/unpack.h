/* SPDX-License-Identifier: GPL-3.0-or-later */
/* unpack.h - a tar archive's files put into a guest. */
#ifndef UNPACK_H
#define UNPACK_H

#include "guest.h"

/* Unpacks the archive that comes out of `fd`, packed or not, below the guest's directory `dir`, in the way of tar as
 * root: owners by their numbers; what is there under the same name is replaced, but a directory is kept and given new
 * attributes; links on the way are followed inside the guest. Nothing is committed, but what a filesystem could not
 * hold back (vfs_write.h); after an error it is said how much that was. With `show` the path of each is printed, behind
 * a '+' if it is new and a '=' if there is something of that name. False after reporting. */
bool unpack(struct guest *guest, int fd, const char *dir, bool show);

#endif
