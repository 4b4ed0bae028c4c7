/* SPDX-License-Identifier: GPL-3.0-or-later */
/* pack.h - files of the host as a tar archive that another process makes, so that whoever reads it needs no paths. */
#ifndef PACK_H
#define PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct packer {
    int fd; /* the archive comes out of here */
    pid_t pid;
};

/* Starts a process that packs these files and folders, with all below them, each under the last part of its name. False
 * after reporting. */
bool pack_start(struct packer *packer, char *const *paths, size_t npaths);
/* Waits for its end; false when it could not pack all, which it has reported. */
bool pack_end(struct packer *packer);

#endif
