/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* format.h - qcow2 as it lies on the disk, and nothing that acts on it.
 *
 * All numbers are big endian and wrapped in types of their own, so that none is used without get/put. The names are the
 * specification's (QEMU docs/interop/qcow2). Limits are the ones QEMU has, so that images can be exchanged.
 */
#ifndef LIBIMG_QCOW2_FORMAT_H
#define LIBIMG_QCOW2_FORMAT_H

#include <endian.h>
#include <stdint.h>

typedef struct {
    uint64_t raw;
} be64;
typedef struct {
    uint32_t raw;
} be32;
typedef struct {
    uint16_t raw;
} be16;

static inline uint64_t get64(be64 v) {
    return be64toh(v.raw);
}
static inline uint32_t get32(be32 v) {
    return be32toh(v.raw);
}
static inline uint16_t get16(be16 v) {
    return be16toh(v.raw);
}
static inline be64 put64(uint64_t v) {
    return (be64){htobe64(v)};
}
static inline be32 put32(uint32_t v) {
    return (be32){htobe32(v)};
}
static inline be16 put16(uint16_t v) {
    return (be16){htobe16(v)};
}

#define QCOW2_MAGIC 0x514649fbu /* "QFI\xfb" */

struct qcow2_disk_header {
    be32 magic;
    be32 version;
    be64 backing_file_offset;
    be32 backing_file_size;
    be32 cluster_bits;
    be64 size;
    be32 crypt_method;
    be32 l1_size; /* entries */
    be64 l1_table_offset;
    be64 refcount_table_offset;
    be32 refcount_table_clusters;
    be32 nb_snapshots;
    be64 snapshots_offset;
    /* version 3; byte 72 */
    be64 incompatible_features;
    be64 compatible_features;
    be64 autoclear_features;
    be32 refcount_order;
    be32 header_length;
    /* only when header_length says so; byte 104 */
    uint8_t compression_type;
    uint8_t padding[7];
} __attribute__((packed));

_Static_assert(sizeof(struct qcow2_disk_header) == 112, "the header is 112 bytes");

enum {
    QCOW2_V2_HEADER_SIZE = 72,
    QCOW2_V3_MIN_HEADER_SIZE = 104,

    QCOW2_MIN_CLUSTER_BITS = 9,
    QCOW2_MAX_CLUSTER_BITS = 21,
    QCOW2_MIN_EXTENDED_CLUSTER_BITS = 14,
    QCOW2_SUBCLUSTERS = 32,
    QCOW2_MAX_REFCOUNT_ORDER = 6,

    QCOW2_MAX_L1_BYTES = 32 << 20,
    QCOW2_MAX_REFCOUNT_TABLE_BYTES = 8 << 20,
    QCOW2_MAX_SNAPSHOTS = 65536,
    QCOW2_MAX_SNAPSHOT_TABLE_BYTES = 64 << 20,
    QCOW2_MAX_NAME_BYTES = 4 << 20, /* ours: of all snapshots together, and of all bitmaps */
    QCOW2_MAX_SNAPSHOT_EXTRA = 1024,
    QCOW2_MAX_BITMAPS = 65535,
    QCOW2_MAX_BITMAP_DIRECTORY_BYTES = 64 << 20,
    QCOW2_MAX_BACKING_NAME = 1023,
    QCOW2_MAX_BACKING_FORMAT = 15,
    QCOW2_MAX_EXTENSIONS = 4096,
    QCOW2_MAX_LINEAGE = 128, /* bytes */
};

/* incompatible features */
#define QCOW2_INCOMPAT_DIRTY (1ull << 0)
#define QCOW2_INCOMPAT_CORRUPT (1ull << 1)
#define QCOW2_INCOMPAT_DATA_FILE (1ull << 2)
#define QCOW2_INCOMPAT_COMPRESSION (1ull << 3)
#define QCOW2_INCOMPAT_EXTENDED_L2 (1ull << 4)
#define QCOW2_INCOMPAT_KNOWN 0x1full
/* compatible features */
#define QCOW2_COMPAT_LAZY_REFCOUNTS (1ull << 0)
/* autoclear features */
#define QCOW2_AUTOCLEAR_BITMAPS (1ull << 0)
#define QCOW2_AUTOCLEAR_DATA_FILE_RAW (1ull << 1)
#define QCOW2_AUTOCLEAR_LINEAGE (1ull << 61) /* ours: QCOW2_EXT_LINEAGE is true, nobody else has written since */
#define QCOW2_AUTOCLEAR_KNOWN (0x3ull | QCOW2_AUTOCLEAR_LINEAGE)

enum { QCOW2_CRYPT_NONE = 0, QCOW2_CRYPT_AES = 1, QCOW2_CRYPT_LUKS = 2 };
enum { QCOW2_COMPRESSION_DEFLATE = 0, QCOW2_COMPRESSION_ZSTD = 1 };

/* header extensions: 8 bytes of head, the data padded to a multiple of 8 */
struct qcow2_disk_extension {
    be32 type;
    be32 length;
} __attribute__((packed));
#define QCOW2_EXT_END 0u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURE_NAMES 0x6803f857u
#define QCOW2_EXT_BITMAPS 0x23852875u
#define QCOW2_EXT_CRYPTO 0x0537be77u
#define QCOW2_EXT_DATA_FILE 0x44415441u
#define QCOW2_EXT_LINEAGE 0x696d6770u /* "imgp", ours: what the active state descends from (header.h) */

struct qcow2_disk_feature_name {
    uint8_t type; /* 0 incompatible, 1 compatible, 2 autoclear */
    uint8_t bit;
    char name[46];
} __attribute__((packed));

struct qcow2_disk_bitmaps_extension {
    be32 nb_bitmaps;
    be32 reserved;
    be64 directory_size;
    be64 directory_offset;
} __attribute__((packed));

struct qcow2_disk_crypto_extension {
    be64 offset;
    be64 length;
} __attribute__((packed));

/* bitmap directory entry, followed by extra data, name, padding to 8 */
struct qcow2_disk_bitmap {
    be64 table_offset;
    be32 table_size; /* entries */
    be32 flags;
    uint8_t type; /* 1: dirty tracking */
    uint8_t granularity_bits;
    be16 name_size;
    be32 extra_data_size;
} __attribute__((packed));
#define QCOW2_BITMAP_IN_USE (1u << 0)
#define QCOW2_BITMAP_AUTO (1u << 1)
#define QCOW2_BITMAP_EXTRA_COMPATIBLE (1u << 2)

/* snapshot table entry, followed by extra data, id, name, padding to 8 */
struct qcow2_disk_snapshot {
    be64 l1_table_offset;
    be32 l1_size; /* entries */
    be16 id_size;
    be16 name_size;
    be32 date_sec;
    be32 date_nsec;
    be64 vm_clock_nsec;
    be32 vm_state_size;
    be32 extra_data_size;
} __attribute__((packed));
struct qcow2_disk_snapshot_extra {
    be64 vm_state_size_large;
    be64 disk_size;
    be64 icount;
} __attribute__((packed));

/* Ours: which snapshot a state descends from. In the extra data of a snapshot table entry, behind room for what others
 * may add, and as QCOW2_EXT_LINEAGE for the active state. */
#define QCOW2_LINEAGE_MAGIC "imgline1"
enum { QCOW2_MAX_PARENT_ID = 64, QCOW2_LINEAGE_GAP = 64 };
struct qcow2_disk_lineage {
    char magic[8];
    be32 date_sec, date_nsec; /* of that snapshot, as an id may be given again */
    be16 id_size;             /* 0: it descends from none */
    be16 reserved[3];
    char id[QCOW2_MAX_PARENT_ID];
} __attribute__((packed));

/* L1 and L2 entries */
#define QCOW2_COPIED (1ull << 63)
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO 1ull
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull
#define QCOW2_L1_RESERVED 0x7f000000000001ffull
#define QCOW2_L2_RESERVED                                                                                              \
    0x3f000000000001feull /* of a standard descriptor; bit 0 too without version 3 or with subclusters */
/* refcount table entries */
#define QCOW2_REFTABLE_RESERVED 0x1ffull
#define QCOW2_MAX_HOST_OFFSET ((1ull << 56) - 1)

/* A compressed descriptor: bits 0..x-1 host offset in bytes, x..61 additional 512-byte sectors; x = 62 - (cluster_bits
 * - 8). */
static inline unsigned qcow2_compressed_shift(unsigned cluster_bits) {
    return 62 - (cluster_bits - 8);
}
static inline uint64_t qcow2_compressed_offset(uint64_t entry, unsigned cluster_bits) {
    return entry & ((1ull << qcow2_compressed_shift(cluster_bits)) - 1);
}
/* Bytes from the host offset to the end of its last sector. */
static inline uint64_t qcow2_compressed_bytes(uint64_t entry, unsigned cluster_bits) {
    unsigned x = qcow2_compressed_shift(cluster_bits);
    uint64_t sectors = ((entry >> x) & ((1ull << (62 - x)) - 1)) + 1;
    return sectors * 512 - (qcow2_compressed_offset(entry, cluster_bits) & 511);
}
static inline uint64_t qcow2_compressed_entry(uint64_t host, uint64_t bytes, unsigned cluster_bits) {
    uint64_t sectors = ((host + bytes - 1) >> 9) - (host >> 9);
    return QCOW2_COMPRESSED | host | sectors << qcow2_compressed_shift(cluster_bits);
}

#endif
