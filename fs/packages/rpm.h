/* SPDX-License-Identifier: GPL-3.0-or-later */
/* rpm.h - the three kinds of file that rpm has kept its headers in. Each is one file behind struct rpm_store.
 *
 * A store walks over its whole file. The work is bounded by a budget of bytes that follows from the file's length, so
 * that pages which name each other in circles, or all the same one, end the walk with an error.
 */
#ifndef FS_PACKAGES_RPM_H
#define FS_PACKAGES_RPM_H

#include "packages.h"

#define RPM_FILE_MAX (UINT64_C(2) << 30)
#define RPM_HEADER_MAX (64u << 20) /* rpm itself takes no more than 256 MiB, real ones are below 10 */

/* An open database file. */
struct rpm_file {
    struct guest_node node;
    const char *path;
    uint64_t size;
    uint64_t budget; /* bytes that may still be read */
};

/* One blob; not 0 ends the walk, which returns that. */
typedef int (*rpm_blob_call)(void *opaque, const uint8_t *blob, size_t length, struct img_error *err);

struct rpm_store {
    const char *name; /* of the file in the database's folder */
    const char *log;  /* of the file beside it that has its last changes; NULL: there is none */
    /* `log` is NULL if the file is not there. */
    int (*each)(struct rpm_file *file, struct rpm_file *log, rpm_blob_call call, void *opaque, struct img_error *err);
};
extern const struct rpm_store rpm_sqlite, rpm_ndb, rpm_bdb;

/* Exactly these bytes, which must be in the file. -EUCLEAN. */
int rpm_file_read(struct rpm_file *file, void *buffer, size_t count, uint64_t offset, struct img_error *err);

/* A blob that grows piece by piece. */
struct rpm_blob {
    uint8_t *bytes;
    size_t length, room;
};
/* Room for `count` more bytes, which the caller fills. -EUCLEAN: it becomes longer than a header may be. */
int rpm_blob_grow(struct rpm_blob *blob, size_t count, uint8_t **added, struct img_error *err);

static inline uint16_t little16(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline uint32_t little32(const uint8_t *p) {
    return (uint32_t)little16(p) | (uint32_t)little16(p + 2) << 16;
}
static inline uint16_t big16(const uint8_t *p) {
    return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t big32(const uint8_t *p) {
    return (uint32_t)big16(p) << 16 | big16(p + 2);
}

/* sqlite_wal.c: pages that were committed and are not in the database file yet. */
struct wal_page {
    uint32_t number;
    uint32_t frame;
    uint64_t offset; /* of the page in the log */
};
struct wal {
    struct rpm_file *file;
    struct wal_page *pages; /* sorted by number, each once */
    size_t count;
    uint32_t database_pages; /* 0: no change is in it */
};
/* No log (NULL), an empty or a stale one is no error. The caller frees wal->pages. */
int wal_open(struct rpm_file *file, uint32_t page_size, struct wal *wal, struct img_error *err);
/* NULL: the log does not have it. */
const struct wal_page *wal_find(const struct wal *wal, uint32_t number);

#endif
