/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fastcommit.c - fast commits: short notes behind the log of what has happened since its last transaction, in terms of
 * inodes and names instead of blocks.
 *
 * A scan finds how many notes are whole: each commit ends in a tail with the CRC of its notes and the number of the
 * transaction that they follow. Then they are replayed one after another, as the kernel does: an inode's fields go into
 * its place in the table (on the overlay), a range changes a map and a name a directory. The last two are kept in
 * memory as differences (changes.c), for no block could be allocated in a filesystem that is only read.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <linux/types.h> /* before the next */

#include <ext2fs/ext3_extents.h>

#include "changes.h"
#include "journal.h"

enum tag { ADD_RANGE = 1, DEL_RANGE, CREAT, LINK, UNLINK, INODE, PAD, TAIL, HEAD };

#define AREA_MAX (64u << 20) /* bytes of notes */
#define VISITS_MAX 200000    /* blocks of directories that names are looked for in */
#define HEADER 4             /* of a note: what it is, how long it is */
#define EXTRAS_KNOWN 0u      /* features of fast commits */

struct note {
    unsigned tag;
    size_t length;
    const unsigned char *value;
};

static uint16_t get16(const unsigned char *bytes) {
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static uint32_t get32(const unsigned char *bytes) {
    return get16(bytes) | (uint32_t)get16(bytes + 2) << 16;
}

/* ---- one note ---- */

static bool length_possible(const struct ext *ext, const struct note *note) {
    switch (note->tag) {
    case ADD_RANGE:
        return note->length == 16;
    case DEL_RANGE:
        return note->length == 12;
    case CREAT:
    case LINK:
    case UNLINK:
        return note->length > 8 && note->length <= 8 + EXT2_NAME_LEN;
    case INODE:
        return note->length >= 4 + EXT2_GOOD_OLD_INODE_SIZE && note->length <= 4 + ext->inode_size;
    case TAIL:
        return note->length >= 8;
    case HEAD:
        return note->length == 8;
    default:
        return note->tag == PAD;
    }
}

/* The note at *at of a block, which moves on. False: there is no more. */
static bool next_note(const struct ext *ext, const unsigned char *block, size_t *at, struct note *note, bool *right) {
    size_t left = ext->block_size - *at;
    *right = true;
    if (left < HEADER)
        return false;
    *note = (struct note){.tag = get16(block + *at), .length = get16(block + *at + 2), .value = block + *at + HEADER};
    *right = note->length <= left - HEADER && length_possible(ext, note);
    *at += HEADER + note->length;
    return *right;
}

/* ---- the scan ---- */

struct scan {
    uint32_t sequence, sum;
    size_t seen, whole; /* notes */
};

static void add_to_sum(struct scan *scan, const struct note *note, size_t length) {
    scan->seen++;
    scan->sum = ext2fs_crc32c_le(scan->sum, note->value - HEADER, HEADER + length);
}

/* False: the scan ends here. */
static bool scan_note(struct scan *scan, const struct note *note) {
    if (note->tag == HEAD) {
        add_to_sum(scan, note, note->length);
        return !(get32(note->value) & ~EXTRAS_KNOWN) && get32(note->value + 4) == scan->sequence;
    }
    if (note->tag != TAIL) {
        add_to_sum(scan, note, note->length);
        return true;
    }
    add_to_sum(scan, note, 4);
    bool right = get32(note->value) == scan->sequence && get32(note->value + 4) == scan->sum;
    if (right)
        scan->whole = scan->seen;
    scan->sum = 0;
    return right;
}

static bool scan_block(const struct ext *ext, struct scan *scan, const unsigned char *block) {
    struct note note;
    bool right;
    for (size_t at = 0; next_note(ext, block, &at, &note, &right);)
        if (!scan_note(scan, &note))
            return false;
    return right;
}

int fast_scan(struct journal *journal, uint32_t sequence, struct fast_log *log, struct img_error *err) {
    struct scan scan = {.sequence = sequence};
    size_t room = 0, size = journal->block_size;
    bool more = true;
    *log = (struct fast_log){0};
    for (uint32_t i = 0; i < journal->fast_count && more && (i + 1) * size <= AREA_MAX; i++) {
        if (i == room) {
            unsigned char *bytes = realloc(log->bytes, (room = room ? 2 * room : 16) * size);
            if (!bytes)
                return fail_no_memory(err);
            log->bytes = bytes;
        }
        int ret = journal_read(journal, journal->fast_first + i, log->bytes + i * size, err);
        if (ret < 0)
            return ret;
        if (i == 0 && get16(log->bytes) != HEAD)
            break;
        log->blocks = i + 1;
        more = scan_block(journal->ext, &scan, log->bytes + i * size);
    }
    log->tags = scan.whole;
    return 0;
}

/* ---- inodes ---- */

int inode_place(struct ext *ext, uint32_t ino, uint64_t *place, struct img_error *err) {
    struct ext2_super_block *super = super_of(ext);
    if (ino == 0 || ino > super->s_inodes_count)
        return fail(err, -EUCLEAN, "A fast commit has the inode %" PRIu32, ino);
    uint64_t table = ext2fs_inode_table_loc(ext->lib, (ino - 1) / super->s_inodes_per_group);
    if (table <= ext->first_block || table >= ext->blocks || ext->lib->inode_blocks_per_group > ext->blocks - table)
        return fail(err, -EUCLEAN, "The table with inode %" PRIu32 " lies in block %" PRIu64, ino, table);
    *place = (table << ext->block_bits) + (uint64_t)((ino - 1) % super->s_inodes_per_group) * ext->inode_size;
    return 0;
}

/* The inode as it lies in the table, whatever it holds. The bytes are the caller's to free. */
static int load_inode(struct ext *ext, uint32_t ino, struct ext2_inode_large **inode, uint64_t *place,
                      struct img_error *err) {
    size_t size = ext->inode_size > sizeof(**inode) ? ext->inode_size : sizeof(**inode);
    int ret = inode_place(ext, ino, place, err);
    if (ret < 0)
        return ret;
    if (!(*inode = calloc(1, size)))
        return fail_no_memory(err);
    ret = ext_io_read(ext->io, *inode, ext->inode_size, *place, err);
    if (ret < 0)
        free(*inode);
    return ret;
}

static int store_inode(struct ext *ext, uint32_t ino, struct ext2_inode_large *inode, uint64_t place,
                       struct img_error *err) {
    ext2fs_inode_csum_set(ext->lib, ino, inode);
    int ret = ext_io_write(ext->io, inode, ext->inode_size, place, err);
    ext2fs_flush_icache(ext->lib);
    node_forget(ext, ino);
    return ret < 0 ? ret : change_inode(ext, ino, err);
}

/* All but the map, which ranges change. */
static void merge_inode(struct ext2_inode_large *inode, const unsigned char *raw, size_t length) {
    const size_t map = offsetof(struct ext2_inode_large, i_block),
                 behind = offsetof(struct ext2_inode_large, i_generation);
    struct ext3_extent_header *header = (struct ext3_extent_header *)inode->i_block;
    memcpy(inode, raw, map);
    memcpy((unsigned char *)inode + behind, raw + behind, length - behind);
    if (inode->i_flags & EXT4_EXTENTS_FL && le16toh(header->eh_magic) != EXT3_EXT_MAGIC)
        *header = (struct ext3_extent_header){
            .eh_magic = htole16(EXT3_EXT_MAGIC),
            .eh_max = htole16((sizeof(inode->i_block) - sizeof(*header)) / sizeof(struct ext3_extent))};
    else if (inode->i_flags & EXT4_INLINE_DATA_FL)
        memcpy(inode->i_block, raw + map, sizeof(inode->i_block));
}

static int replay_inode(struct ext *ext, const struct note *note, struct img_error *err) {
    struct ext2_inode_large *inode;
    uint64_t place = 0;
    int ret = load_inode(ext, get32(note->value), &inode, &place, err);
    if (ret < 0)
        return ret;
    merge_inode(inode, note->value + 4, note->length - 4);
    ret = store_inode(ext, get32(note->value), inode, place, err);
    free(inode);
    return ret;
}

/* ---- ranges ---- */

static int replay_range(struct ext *ext, const struct note *note, struct img_error *err) {
    struct run run = {.logical = get32(note->value + 4), .length = get32(note->value + 8)};
    struct node *node;
    if (note->tag == ADD_RANGE) {
        unsigned length = get16(note->value + 8);
        bool unwritten = length > EXT_INIT_MAX_LEN;
        run.length = unwritten ? length - EXT_INIT_MAX_LEN : length;
        if (!unwritten)
            run.physical = get32(note->value + 12) | (uint64_t)get16(note->value + 10) << 32;
    }
    int ret = node_get(ext, get32(note->value), &node, err);
    if (ret < 0)
        return ret == -ENOENT || ret == -EUCLEAN ? 0 : ret; /* the kernel passes over it, too */
    ret = change_range(ext, node, &run, err);
    node_put(ext, node);
    node_forget(ext, get32(note->value));
    return ret;
}

/* ---- links ---- */

enum links { ONE_MORE, ONE_LESS, JUST_ONE };

static int change_links(struct ext *ext, uint32_t ino, enum links links, struct img_error *err) {
    struct ext2_inode_large *inode;
    uint64_t place = 0;
    int ret = load_inode(ext, ino, &inode, &place, err);
    if (ret < 0)
        return ret;
    bool last = links == ONE_LESS && inode->i_links_count == 1;
    if (last) /* and with it goes all that it has, which a later note does not bring back */
        ret = change_unmapped(ext, ino, err);
    if (links == JUST_ONE)
        inode->i_links_count = 1;
    else if (links == ONE_MORE)
        inode->i_links_count++;
    else if (inode->i_links_count > 0)
        inode->i_links_count--;
    if (last)
        inode->i_dtime = 1; /* the kernel's clock is not ours */
    if (ret == 0)
        ret = store_inode(ext, ino, inode, place, err);
    free(inode);
    return ret;
}

/* Has the inode a name? The kernel passes over notes of one that has none. */
static int has_links(struct ext *ext, uint32_t ino, bool *has, struct img_error *err) {
    struct ext2_inode_large *inode;
    uint64_t place = 0;
    int ret = load_inode(ext, ino, &inode, &place, err);
    if (ret < 0)
        return ret;
    *has = inode->i_mode != 0 && inode->i_links_count > 0;
    free(inode);
    return 0;
}

/* ---- names ---- */

/* A new directory is empty. One that has a block was made by the transaction before, and its note came too late. */
static int new_directory(struct ext *ext, uint32_t ino, bool *late, struct img_error *err) {
    struct node *node;
    struct run run = {0};
    int ret = node_get(ext, ino, &node, err);
    if (ret < 0)
        return ret;
    bool directory = S_ISDIR(node->inode->i_mode);
    if (directory && !node_has(node, EXT4_INLINE_DATA_FL))
        ret = map_find(ext, node, 0, &run, err);
    node_put(ext, node);
    *late = run.physical != 0;
    return ret < 0 || !directory || *late ? ret : change_emptied(ext, ino, err);
}

static int replay_link(struct ext *ext, const struct note *note, struct img_error *err) {
    uint32_t dir = get32(note->value), ino = get32(note->value + 4);
    const char *name = (const char *)note->value + 8;
    size_t length = note->length - 8;
    uint64_t found;
    bool passed_over = false, has = true;
    int ret = note->tag == CREAT ? new_directory(ext, ino, &passed_over, err) : has_links(ext, ino, &has, err);
    if (ret < 0 || passed_over || !has)
        return ret;
    ret = ext_lookup(&ext->fs, dir, name, length, &found, err);
    if (ret == 0)
        return note->tag == CREAT ? change_links(ext, ino, JUST_ONE, err) : 0;
    if (ret == -ENOENT)
        ret = change_entry(ext, dir, name, length, ino, err);
    return ret < 0 ? ret : change_links(ext, ino, note->tag == CREAT ? JUST_ONE : ONE_MORE, err);
}

/* The inode has one link less even when something else has the name by now. */
static int replay_unlink(struct ext *ext, const struct note *note, struct img_error *err) {
    uint32_t dir = get32(note->value), ino = get32(note->value + 4);
    const char *name = (const char *)note->value + 8;
    uint64_t found;
    bool has = true;
    int ret = has_links(ext, ino, &has, err);
    if (ret < 0 || !has)
        return ret;
    ret = ext_lookup(&ext->fs, dir, name, note->length - 8, &found, err);
    if (ret == -ENOENT)
        return 0;
    if (ret == 0 && found == ino)
        ret = change_entry(ext, dir, name, note->length - 8, 0, err);
    return ret < 0 ? ret : change_links(ext, ino, ONE_LESS, err);
}

/* ---- the replay ---- */

static int replay_note(struct ext *ext, const struct note *note, struct img_error *err) {
    if (ext->visited > VISITS_MAX)
        return fail(err, -EFBIG, "Fast commits look for too many names in large directories");
    switch (note->tag) {
    case ADD_RANGE:
    case DEL_RANGE:
        return replay_range(ext, note, err);
    case CREAT:
    case LINK:
        return replay_link(ext, note, err);
    case UNLINK:
        return replay_unlink(ext, note, err);
    case INODE:
        return replay_inode(ext, note, err);
    default:
        return 0;
    }
}

int fast_replay(struct ext *ext, const struct fast_log *log, struct img_error *err) {
    size_t left = log->tags;
    int ret = 0;
    for (size_t i = 0; i < log->blocks && left > 0 && ret == 0; i++) {
        struct note note;
        bool right;
        for (size_t at = 0;
             left > 0 && ret == 0 && next_note(ext, log->bytes + i * ext->block_size, &at, &note, &right); left--)
            ret = replay_note(ext, &note, err);
    }
    int settled = changes_settle(ext, err);
    return ret < 0 ? ret : settled;
}
