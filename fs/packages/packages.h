/* SPDX-License-Identifier: GPL-3.0-or-later */
/* packages.h - what is installed in a guest, by the databases of its package managers. Each format is one file or
 * folder that no other knows; packages.c has the table.
 *
 * Databases are hostile as everything on a disk: what is damaged costs the packages in it, and a sentence, not the
 * list. Its length and the bytes of its texts are bounded.
 */
#ifndef FS_PACKAGES_H
#define FS_PACKAGES_H

#include <stddef.h>
#include <stdint.h>

#include "../guest.h"
#include "../text.h"

#define PACKAGES_MAX 200000u
#define PACKAGES_BYTES_MAX (256u << 20) /* of all texts together */
#define PACKAGES_TEXT_MAX (64u << 20)   /* of a database that is a text file */

enum package_field {
    PACKAGE_NAME,
    PACKAGE_DISPLAY_NAME,
    PACKAGE_VERSION,
    PACKAGE_RELEASE,
    PACKAGE_ARCH,
    PACKAGE_INSTALL_PATH,
    PACKAGE_PUBLISHER,
    PACKAGE_URL,
    PACKAGE_SOURCE,
    PACKAGE_SUMMARY,
    PACKAGE_DESCRIPTION,
    PACKAGE_FIELDS,
};

struct package {
    char *fields[PACKAGE_FIELDS]; /* NULL: not known; lines end in a newline, but the last */
    unsigned epoch;
};

struct packages {
    struct package *list;
    size_t count, room;
    size_t bytes;
};

struct package_format {
    const char *name; /* "deb", "rpm" ... */
    /* Adds what it finds. After an error the list has what was found until then. */
    int (*list)(struct guest *guest, struct packages *packages, struct img_error *err);
};

/* Lists what is installed, sorted by name (those of one name stay in the order of the database). -ENOTSUP: `format` is
 * not read here. After another error *packages has what could be read. The caller frees it with packages_free in any
 * case. */
int packages_list(struct guest *guest, const char *format, struct packages *packages,
                  struct img_error *err) IMG_WARN_UNUSED;
void packages_free(struct packages *packages);

/* ---- for the formats ---- */

/* A package that is being put together. Spans must stand until it is added. */
struct package_draft {
    struct span fields[PACKAGE_FIELDS];
    unsigned epoch;
};

/* "[EPOCH:]VERSION[-RELEASE]", parted at the last dash. False: the epoch is no number. */
bool package_set_version(struct package_draft *draft, struct span text);
/* Copies the draft. -E2BIG: the list is full. */
int packages_add(struct packages *packages, const struct package_draft *draft, struct img_error *err) IMG_WARN_UNUSED;

/* The text of each format, for its file and for tests. */
int dpkg_read_status(struct span text, bool all, struct packages *packages, struct img_error *err);
int apk_read_installed(struct span text, struct packages *packages, struct img_error *err);
int pacman_read_desc(struct span text, struct packages *packages, struct img_error *err);
/* The header of an rpm as its databases keep it. */
int rpm_read_header(const uint8_t *blob, size_t length, struct packages *packages, struct img_error *err);

#endif
