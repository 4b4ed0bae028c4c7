/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* extension.h - the variable part of the first cluster: header extensions and the backing file's name.
 *
 * Private to header.c, extension.c and compose.c; everybody else asks header.h.
 */
#ifndef LIBIMG_QCOW2_EXTENSION_H
#define LIBIMG_QCOW2_EXTENSION_H

#include "header.h"

struct qcow2_extension {
    uint32_t type, length;
    const uint8_t *data; /* in header->first */
};

/* Takes the extension at *offset and moves behind it: 1, or 0 at the end, or -errno. */
int extension_next(const struct qcow2_header *header, size_t *offset, struct qcow2_extension *extension,
                   struct img_error *err);

/* Reads the extensions and the backing name out of header->first into the header's fields. The fixed fields must have
 * been read and checked; what lies where in the file is checked by the caller. */
int extensions_read(struct qcow2_header *header, struct img_error *err);

/* Fails with -ENOTSUP, with the names that the image itself has for the incompatible features that nobody here knows.
 */
int extensions_name_features(const struct qcow2_header *header, struct img_error *err);

#endif
