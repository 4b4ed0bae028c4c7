/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* layout.c - which options of a new image go together, and what lies where in it (layout.h).
 *
 * The refcount blocks must count every cluster in use, themselves and the refcount table among them, so their number is
 * a fixed point. It is reached by going up from none: more clusters never need fewer blocks, so the first number that
 * counts itself is the least.
 *
 * The order of the checks and their words are QEMU's.
 *
 * Specification: "Refcount table structure", "Cluster mapping".
 */
#include "layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../crypto/keyslot.h"
#include "error.h"

#define DEFAULT_CLUSTER_SIZE 65536
#define DEFAULT_REFCOUNT_BITS 16

static bool power_of_two(uint64_t n) {
    return n != 0 && (n & (n - 1)) == 0;
}

static uint64_t divide_up(uint64_t a, uint64_t b) {
    return a / b + (a % b != 0);
}

/* ---- options --------------------------------------------------------------------------------- */

static int choose_geometry(const struct img_create_options *o, struct qcow2_header *h, struct img_error *err) {
    h->version = o->version != 0 ? o->version : 3;
    if (h->version != 2 && h->version != 3)
        return img_fail(err, -EINVAL, "Unsupported qcow2 version %u", o->version);
    uint64_t cluster_size = o->cluster_size != 0 ? o->cluster_size : DEFAULT_CLUSTER_SIZE;
    if (!power_of_two(cluster_size) || cluster_size < 1u << QCOW2_MIN_CLUSTER_BITS ||
        cluster_size > 1u << QCOW2_MAX_CLUSTER_BITS)
        return img_fail(err, -EINVAL, "Cluster size must be a power of two between 512 and 2048k");
    h->cluster_bits = (uint32_t)__builtin_ctzll(cluster_size);
    return 0;
}

static int choose_features(const struct img_create_options *o, struct qcow2_header *h, struct img_error *err) {
    static const char need_v3[] = "with compatibility level 1.1 and above (use version=v3 or greater)";
    if (o->extended_l2) {
        if (h->version < 3)
            return img_fail(err, -EINVAL, "Extended L2 entries are only supported %s", need_v3);
        if (h->cluster_bits < QCOW2_MIN_EXTENDED_CLUSTER_BITS)
            return img_fail(err, -EINVAL,
                            "Extended L2 entries are only supported with cluster sizes of at least %u bytes",
                            1u << QCOW2_MIN_EXTENDED_CLUSTER_BITS);
        h->incompatible |= QCOW2_INCOMPAT_EXTENDED_L2;
    }
    if (o->lazy_refcounts) {
        if (h->version < 3)
            return img_fail(err, -EINVAL, "Lazy refcounts only supported %s", need_v3);
        h->compatible |= QCOW2_COMPAT_LAZY_REFCOUNTS;
    }
    unsigned bits = o->refcount_bits != 0 ? o->refcount_bits : DEFAULT_REFCOUNT_BITS;
    if (!power_of_two(bits) || bits > 64)
        return img_fail(err, -EINVAL, "Refcount width must be a power of two and may not exceed 64 bits");
    if (h->version < 3 && bits != DEFAULT_REFCOUNT_BITS)
        return img_fail(
            err, -EINVAL,
            "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 "
            "or greater)");
    h->refcount_order = (uint32_t)__builtin_ctz(bits);
    if (o->compression != NULL && strcmp(o->compression, "zlib") != 0) {
        if (strcmp(o->compression, "zstd") != 0)
            return img_fail(err, -EINVAL, "Parameter 'compression-type' does not accept value '%s'", o->compression);
        if (h->version < 3)
            return img_fail(err, -EINVAL, "Non-zlib compression type is only supported %s", need_v3);
        h->compression_type = QCOW2_COMPRESSION_ZSTD;
        h->incompatible |= QCOW2_INCOMPAT_COMPRESSION;
    }
    if (o->data_file != NULL && h->version < 3)
        return img_fail(err, -EINVAL, "External data files are only supported %s", need_v3);
    return 0;
}

static int choose_files(const struct img_create_options *o, struct qcow2_layout *l, struct img_error *err) {
    struct qcow2_header *h = &l->header;
    l->preallocation = o->preallocation;
    if (l->preallocation > IMG_PREALLOCATION_FULL)
        return img_fail(err, -EINVAL, "Parameter 'preallocation' does not accept value '%u'", o->preallocation);
    if (o->backing_file != NULL && l->preallocation != IMG_PREALLOCATION_OFF && !o->extended_l2)
        return img_fail(err, -EINVAL,
                        "Backing file and preallocation can only be used at the same time if extended_l2 is on");
    if (o->data_file_raw) {
        if (o->data_file == NULL)
            return img_fail(err, -EINVAL, "data-file-raw requires data-file");
        if (o->backing_file != NULL)
            return img_fail(err, -EINVAL, "Backing file and data-file-raw cannot be used at the same time");
        h->autoclear |= QCOW2_AUTOCLEAR_DATA_FILE_RAW;
        if (l->preallocation == IMG_PREALLOCATION_OFF)
            l->preallocation = IMG_PREALLOCATION_METADATA;
    }
    l->external = o->data_file != NULL;
    l->external_raw = o->data_file_raw;
    if (l->external)
        h->incompatible |= QCOW2_INCOMPAT_DATA_FILE;
    return 0;
}

/* Which encryption. The header of LUKS is made last (make_crypto): it takes its time. */
static int choose_encryption(const struct img_create_options *o, struct qcow2_layout *l, struct img_error *err) {
    const struct img_encryption *e = &o->encryption;
    struct qcow2_header *h = &l->header;
    if (e->format == NULL)
        return 0;
    if (strcmp(e->format, "aes") == 0)
        h->crypt_method = QCOW2_CRYPT_AES;
    else if (strcmp(e->format, "luks") == 0)
        h->crypt_method = QCOW2_CRYPT_LUKS;
    else
        return img_fail(err, -EINVAL, "Invalid parameter '%s'", e->format);
    if (e->key.bytes == NULL)
        return img_fail(err, -EINVAL, "Parameter 'encrypt.key-secret' is required for cipher");
    if (o->data_file_raw)
        return img_fail(err, -EINVAL, "Encryption and data-file-raw cannot be used at the same time");
    if (h->version < 3 && o->preallocation != IMG_PREALLOCATION_OFF)
        return img_fail(err, -EINVAL,
                        "Encryption and preallocation can only be used at the same time with compatibility level 1.1 "
                        "and above (use version=v3 or greater)");
    l->encrypted = true;
    return 0;
}

static int make_crypto(const struct img_create_options *o, struct qcow2_layout *l, struct img_error *err) {
    struct luks_header luks;
    if (l->header.crypt_method != QCOW2_CRYPT_LUKS)
        return 0;
    int r = luks_format(&o->encryption, &luks, &l->crypto_bytes, &l->crypto_count, err);
    l->header.has_crypto = r == 0;
    l->header.crypto_length = luks.payload;
    return r;
}

/* The header owns its names. An empty name could not be read back. */
static int copy_name(const char *name, const char *what, char **out, struct img_error *err) {
    if (name == NULL)
        return 0;
    if (*name == '\0')
        return img_fail(err, -EINVAL, "%s is empty", what);
    *out = strdup(name);
    return *out != NULL ? 0 : img_fail_errno(err, -ENOMEM, "Could not lay out the image");
}

static int choose_names(const struct img_create_options *o, struct qcow2_header *h, struct img_error *err) {
    int r = copy_name(o->backing_file, "Backing file name", &h->backing_file, err);
    if (r == 0)
        r = copy_name(o->backing_format, "Backing file format", &h->backing_format, err);
    if (r == 0)
        r = copy_name(o->data_file, "Data file name", &h->data_file, err);
    return r;
}

/* ---- places ---------------------------------------------------------------------------------- */

static int too_large(struct img_error *err) {
    return img_fail(err, -EFBIG,
                    "The image size is too large for file format 'qcow2' (try using a larger cluster size)");
}

/* Finds the numbers of refcount blocks and of clusters of the refcount table (at most `most`) for `others` clusters
 * besides them. */
static int count_blocks(struct qcow2_layout *l, uint64_t others, uint64_t most, struct img_error *err) {
    struct qcow2_header *h = &l->header;
    uint64_t per_block = l->cluster_size * 8 >> h->refcount_order, table = 1, blocks = 1, used;
    for (;;) {
        used = others + table + blocks;
        uint64_t blocks_needed = divide_up(used, per_block),
                 table_needed = divide_up(blocks_needed * 8, l->cluster_size);
        if (blocks_needed <= blocks && table_needed <= table)
            break;
        if (table_needed > most)
            return too_large(err);
        blocks = blocks_needed > blocks ? blocks_needed : blocks;
        table = table_needed > table ? table_needed : table;
    }
    l->refcount_blocks = blocks;
    l->used_clusters = used;
    h->refcount_table_clusters = (uint32_t)table;
    return 0;
}

static int place(struct qcow2_layout *l, struct img_error *err) {
    struct qcow2_header *h = &l->header;
    uint64_t entries = header_l1_entries(h->size, h->cluster_bits, header_extended_l2(h));
    if (entries == UINT64_MAX)
        return too_large(err);
    bool allocated = l->preallocation != IMG_PREALLOCATION_OFF;
    uint64_t l1_clusters = divide_up(entries * 8, l->cluster_size);
    uint64_t crypto = divide_up(h->crypto_length, l->cluster_size);
    l->data_clusters = allocated ? divide_up(h->size, l->cluster_size) : 0;
    l->l2_tables = allocated ? entries : 0;
    uint64_t stored = l->external ? 0 : l->data_clusters;
    int r = count_blocks(l, 1 + l1_clusters + crypto + l->l2_tables + stored,
                         QCOW2_MAX_REFCOUNT_TABLE_BYTES / l->cluster_size, err);
    if (r < 0)
        return r;

    h->l1_size = (uint32_t)entries;
    h->refcount_table_offset = l->cluster_size;
    l->blocks_offset = h->refcount_table_offset + h->refcount_table_clusters * l->cluster_size;
    uint64_t l1 = l->blocks_offset + l->refcount_blocks * l->cluster_size;
    h->l1_offset = entries > 0 ? l1 : 0;
    h->crypto_offset = crypto > 0 ? l1 + l1_clusters * l->cluster_size : 0;
    l->l2_offset = l1 + (l1_clusters + crypto) * l->cluster_size;
    l->data_offset = l->l2_offset + l->l2_tables * l->cluster_size;
    /* An L1 table that is the last thing in the file need not fill its cluster. */
    l->file_length =
        allocated || crypto > 0 ? l->used_clusters * l->cluster_size : l1 + divide_up(entries * 8, 512) * 512;
    return 0;
}

int layout_plan(const struct img_create_options *o, uint64_t size, struct qcow2_layout *l, struct img_error *err) {
    memset(l, 0, sizeof *l);
    l->header.size = size;
    int r = choose_geometry(o, &l->header, err);
    if (r == 0)
        r = choose_files(o, l, err);
    if (r == 0)
        r = choose_features(o, &l->header, err);
    if (r == 0)
        r = choose_encryption(o, l, err);
    if (r == 0)
        r = choose_names(o, &l->header, err);
    if (r == 0)
        r = make_crypto(o, l, err);
    if (r == 0) {
        l->cluster_size = 1ull << l->header.cluster_bits;
        r = place(l, err);
    }
    if (r == 0)
        r = header_compose(&l->header, err);
    if (r < 0)
        layout_free(l);
    return r;
}

/* A refcount table that is too long to be read counts as well: nobody need fill the image. */
int layout_measure(const struct img_create_options *o, uint64_t size, uint64_t *cluster_size, uint64_t *file_length,
                   struct img_error *err) {
    struct qcow2_layout l = {0};
    struct qcow2_header *h = &l.header;
    struct img_create_options features = {.refcount_bits = o->refcount_bits, .extended_l2 = o->extended_l2};
    int r = choose_geometry(o, h, err);
    if (r == 0 && h->version < 3 && o->refcount_bits != 0 && o->refcount_bits != DEFAULT_REFCOUNT_BITS)
        r = img_fail(err, -EINVAL,
                     "Different refcount widths than 16 bits require compatibility level 1.1 or above (use compat=1.1 "
                     "or greater)");
    h->version = 3; /* version 2 is no smaller */
    if (r == 0)
        r = choose_features(&features, h, err);
    if (r < 0)
        return r;
    l.cluster_size = 1ull << h->cluster_bits;
    uint64_t entries = header_l1_entries(size, h->cluster_bits, o->extended_l2);
    if (entries == UINT64_MAX)
        return too_large(err);
    uint64_t others = 1 + divide_up(entries * 8, l.cluster_size) + entries + divide_up(size, l.cluster_size);
    count_blocks(&l, others, UINT32_MAX, NULL);
    *cluster_size = l.cluster_size;
    *file_length = l.used_clusters * l.cluster_size;
    return 0;
}

void layout_free(struct qcow2_layout *l) {
    header_free(&l->header);
    free(l->crypto_bytes);
    l->crypto_bytes = NULL;
}
