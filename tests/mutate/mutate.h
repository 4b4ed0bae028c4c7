/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mutate.h - disks that were changed where it hurts, and what reading them must hold: what the files here share.
 *
 * A base is one or two small disks that real tools made. Its places are the bytes that a reader takes decisions from. A
 * mutation changes some of these, puts every checksum right that the format has, and is printed: all that the tool
 * would tell of such a disk goes into one number, errors as well. Then what was changed is taken back. Everything
 * follows from type and seed alone.
 */
#ifndef TESTS_MUTATE_H
#define TESTS_MUTATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fs/device.h"

#define DISKS_MOST 2
#define PASSPHRASE "mutant"
#define CONTENT_MARK "=content=" /* begins every sector of a file's contents */

struct disk {
    struct device device; /* first; its size may be cut by a mutation */
    uint8_t *bytes;       /* as they are now, private to this process */
    uint8_t *base;        /* as the tools left them; cannot be written */
    uint64_t size;
    uint64_t *touched; /* pages that may differ */
    size_t ntouched, room;
    uint8_t *flags; /* of each page: touched; of each sector: read, while that is recorded */
    uint8_t *read;
};

/* A run of bytes that matter. */
struct place {
    unsigned disk;
    uint64_t at;
    uint32_t length;
};

struct base {
    const char *name;
    struct disk disks[DISKS_MOST];
    unsigned ndisks;
    struct place *places;
    size_t nplaces, room;
    uint64_t divided; /* it is of volumes: what lies in them does not matter, nor what lies behind this byte */
    void (*sign)(struct base *base); /* NULL: the format has no checksums */
    void *signs;                     /* its own: what is to be signed; freed in one piece */
};

/* ---- image.c: disks in memory ---- */

/* Exits with a message if it cannot. `sector`: bytes. */
void base_load(struct base *base, const char *folder, const char *name, unsigned ndisks, unsigned sector);
void base_free(struct base *base);
/* All changes of a disk go through here. */
void disk_put(struct disk *disk, uint64_t at, const void *bytes, size_t count);
void base_restore(struct base *base);
void base_place(struct base *base, unsigned disk, uint64_t at, uint64_t length);
/* Until it is off again, sectors that are read are noted ... */
void base_record(bool on);
bool base_recording(void);
/* ... and those that are neither empty nor contents become places. */
void base_take_read(struct base *base);
/* How often a disk was asked for bytes that it does not have. */
extern unsigned long outside_reads;

/* ---- print.c ---- */

/* Everything that the tool would tell, as one number. `show`: also on stdout. */
uint64_t print_all(struct base *base, bool show);

/* ---- change.c ---- */

struct random {
    uint64_t state;
};
uint64_t random_next(struct random *random);
/* Below `limit`, which is not 0. */
uint64_t random_below(struct random *random, uint64_t limit);
/* `show`: tells what it does on stdout. */
void change_some(struct base *base, struct random *random, bool show);

/* ---- sign_*.c: finds what is to be signed, sets base->sign, may add places ---- */

void ext_prepare(struct base *base, const char *path);
void xfs_prepare(struct base *base, const char *path);
void ntfs_prepare(struct base *base, const char *path);
void volumes_prepare_signs(struct base *base, const char *path);

/* ---- peak.c: memory ---- */

/* Bytes that were allocated at once, at most, since peak_begin. Where the sanitizer cannot tell, what the process has
 * grown by. */
void peak_begin(void);
uint64_t peak_bytes(void);

#endif
