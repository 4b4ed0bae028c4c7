/* SPDX-License-Identifier: GPL-3.0-or-later */
/* write.h - what the files that change a FAT volume share.
 *
 *   alloc.c   the table: clusters taken and given back    put.c   slots of directories, names
 *   write.c   the operations (vfs_write.h), and the commit
 *
 * FAT has no journal, and nothing of it can be changed in two places at once. So a transaction is kept in memory and
 * goes to the disk in this order, with a flush behind each step:
 *   1. contents of files and of new directories: into clusters that are free on the disk, at once
 *   2. the table, all copies of it: clusters that were taken
 *   3. slots that disappear because their file takes the slot of another one (rename over a file)
 *   4. slots that appear or change
 *   5. slots that disappear
 *   6. the table: clusters that were given back
 * A cut before 4 leaves lost clusters and all files as they were; one within 4 and 5 some of the changes, each whole
 * slot for slot, and lost clusters. A file that gets another name in another sector can be seen under both for that
 * moment; the other order could lose it.
 */
#ifndef FS_FAT_WRITE_H
#define FS_FAT_WRITE_H

#include "../names.h"
#include "../vfs_write.h"
#include "fat.h"

#define FAT_UNIT 512u /* of the table: what is written of it when a byte of it changed */

enum fat_phase { FAT_REPLACED, FAT_PUT, FAT_REMOVED, FAT_PHASES };

struct fat_change { /* of a slot */
    uint64_t at;
    enum fat_phase phase;
    struct fat_slot slot; /* as it is then */
};

/* A window of the table that has changes: it stays in memory until the commit. */
struct fat_pinned {
    struct fat_window window;
    uint8_t changed[FAT_WINDOW / FAT_UNIT / 8]; /* a bit for each unit */
};

struct fat_writer {
    struct fat_pinned **pinned; /* by number of the window */
    size_t windows;
    struct fat_change *changes; /* sorted by `at` */
    size_t change_count, change_room;
    uint32_t *given_back; /* first clusters of chains */
    size_t given_count, given_room;
    uint32_t next_free; /* where the search for a free cluster begins */
    uint64_t free;      /* clusters that are free on the disk and not taken */
    uint32_t info_sector;
    /* Of the directory that got a name last: where the search for room goes on, and which names it may have: as they
     * are compared, and the short ones as they are in the slots. */
    struct fat_dir *room;
    uint64_t room_ino;
    struct names names, aliases;
    bool broken; /* a commit failed */
};

/* ---- alloc.c ---- */

/* The window of the table that holds byte `at`, if it is pinned. */
struct fat_window *fat_pinned_window(const struct fat *fat, uint64_t number);
int fat_set_entry(struct fat *fat, uint32_t cluster, uint32_t value, struct img_error *err);
/* A free cluster becomes the last of a chain: behind `before`, or the first of one (0). -ENOSPC. */
int fat_take(struct fat *fat, uint32_t before, uint32_t *cluster, struct img_error *err);
/* The chain is free after the next commit; 0: there is none. */
int fat_give_back(struct fat *fat, uint32_t first, struct img_error *err);
int fat_write_table(struct fat *fat, struct img_error *err);
/* Marks what was given back as free, in memory. */
int fat_free_chains(struct fat *fat, struct img_error *err);
/* After the commit: what is in memory of the table may go. */
void fat_unpin(struct fat *fat);

/* ---- put.c ---- */

/* What is to be written there, or NULL. */
const struct fat_change *fat_changed_slot(const struct fat *fat, uint64_t at);
int fat_put_slot(struct fat *fat, uint64_t at, const struct fat_slot *slot, enum fat_phase phase,
                 struct img_error *err);
/* Writes the slots of one phase. */
int fat_write_slots(struct fat *fat, enum fat_phase phase, bool *any, struct img_error *err);
/* A new entry with all but the name taken from `slot`. -EINVAL: FAT has no such names. -ENOSPC. */
int fat_add_entry(struct fat *fat, uint64_t dir, const char *name, size_t length, const struct fat_slot *slot,
                  uint64_t *ino, struct img_error *err);
/* True: the directory has no such name, and need not be read for it. */
bool fat_lacks(struct fat *fat, uint64_t dir, const char *name, size_t length);
/* What is remembered of directories. */
void fat_forget(struct fat *fat);
int fat_remove_entry(struct fat *fat, const struct fat_entry *entry, enum fat_phase phase, struct img_error *err);

/* ---- write.c ---- */

int fat_open_writer(struct fat *fat, struct img_error *err);
void fat_close_writer(struct fat *fat);

#endif
