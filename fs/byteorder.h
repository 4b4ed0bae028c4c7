/* SPDX-License-Identifier: GPL-3.0-or-later */
/* byteorder.h - numbers in structures that lie on a disk, wrapped in types of their own, so that none is used without
 * get and put. At any address. Where a format is read without structures, ondisk.h has what takes a pointer.
 */
#ifndef FS_BYTEORDER_H
#define FS_BYTEORDER_H

#include <endian.h>
#include <stdint.h>

typedef struct {
    uint64_t raw;
} __attribute__((packed)) be64;
typedef struct {
    uint32_t raw;
} __attribute__((packed)) be32;
typedef struct {
    uint16_t raw;
} __attribute__((packed)) be16;
typedef struct {
    uint32_t raw;
} __attribute__((packed)) le32;
typedef struct {
    uint16_t raw;
} __attribute__((packed)) le16;
typedef struct {
    uint64_t raw;
} __attribute__((packed)) le64;

static inline uint64_t get64(be64 v) {
    return be64toh(v.raw);
}
static inline uint32_t get32(be32 v) {
    return be32toh(v.raw);
}
static inline uint16_t get16(be16 v) {
    return be16toh(v.raw);
}
static inline uint32_t get_le32(le32 v) {
    return le32toh(v.raw);
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
static inline le32 put_le32(uint32_t v) {
    return (le32){htole32(v)};
}
static inline uint16_t get_le16(le16 v) {
    return le16toh(v.raw);
}
static inline uint64_t get_le64(le64 v) {
    return le64toh(v.raw);
}

#endif
