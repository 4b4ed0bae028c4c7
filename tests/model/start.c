// SPDX-License-Identifier: GPL-3.0-or-later
/* start.c - the images that a seed starts from, made and filled by QEMU, and QEMU's turn in between.
 *
 * What QEMU stored is not predicted but asked for: `qemu-img convert` of the top image is the first content of the
 * model. So every cluster kind that QEMU writes is also read by us and compared. Snapshots are made by qemu-img while
 * the image is filled, so that the clusters our writes meet later are shared.
 */
#include "model.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *format_of(const struct layer *l) {
    return l->raw ? "raw" : "qcow2";
}

/* How QEMU's programs are told what an image is: options, and the name. */
void args_format(struct args *a, const struct layer *l) {
    if (l->encryption) {
        args_add(a, "--object");
        args_add(a, "secret,id=s0,data=%s", MODEL_KEY);
        args_add(a, "--image-opts");
        return;
    }
    args_add(a, "-f");
    args_add(a, "%s", format_of(l));
}

void args_file(struct args *a, const struct layer *l) {
    args_add(a, l->encryption ? "driver=qcow2,encrypt.key-secret=s0,file.filename=%s" : "%s", l->name);
}

static void make_by_us(const struct run *run, unsigned index) {
    const struct layer *l = &run->config.layer[index];
    bool backed = index + 1 < run->config.nlayers;
    struct img_create_options options = {
        .format = "qcow2",
        .size = l->size,
        .preallocation = l->preallocation,
        .version = l->version,
        .cluster_size = 1ull << l->cluster_bits,
        .refcount_bits = l->refcount_bits,
        .compression = l->zstd ? "zstd" : "zlib",
        .extended_l2 = l->extended_l2,
        .lazy_refcounts = l->lazy,
        .data_file_raw = l->data_file_raw,
        .backing_file = backed ? run->config.layer[index + 1].name : NULL,
        .backing_format = backed ? format_of(&run->config.layer[index + 1]) : NULL,
        .data_file = l->data_file ? l->data_name : NULL,
        .encryption = {.format = l->encryption, .key = layer_key(l), .iter_time = 1},
    };
    struct img_error err = {0};
    if (img_create(l->name, &options, &err))
        model_fail("img_create of %s: %s", l->name, err.text);
}

static void make_by_qemu(const struct run *run, unsigned index) {
    static const char *const preallocations[] = {"off", "metadata", "falloc", "full"};
    const struct layer *l = &run->config.layer[index];
    struct args a = {0};
    args_add(&a, "qemu-img");
    args_add(&a, "create");
    args_add(&a, "-q");
    args_add(&a, "-f");
    args_add(&a, "%s", format_of(l));
    if (l->encryption) {
        args_add(&a, "--object");
        args_add(&a, "secret,id=s0,data=%s", MODEL_KEY);
        args_add(&a, "-o");
        args_add(&a, "encrypt.format=%s,encrypt.key-secret=s0%s", l->encryption,
                 strcmp(l->encryption, "luks") == 0 ? ",encrypt.iter-time=10" : "");
    }
    args_add(&a, "-o");
    if (l->raw)
        args_add(&a, "preallocation=%s", preallocations[l->preallocation]);
    else if (l->version == 2)
        args_add(&a, "compat=0.10,cluster_size=%llu,preallocation=%s", 1ull << l->cluster_bits,
                 preallocations[l->preallocation]);
    else
        args_add(&a,
                 "compat=1.1,cluster_size=%llu,refcount_bits=%u,preallocation=%s,extended_l2=%s,lazy_refcounts=%s,"
                 "compression_type=%s%s%s%s",
                 1ull << l->cluster_bits, l->refcount_bits, preallocations[l->preallocation],
                 l->extended_l2 ? "on" : "off", l->lazy ? "on" : "off", l->zstd ? "zstd" : "zlib",
                 l->data_file ? ",data_file=" : "", l->data_name, l->data_file_raw ? ",data_file_raw=on" : "");
    if (index + 1 < run->config.nlayers) {
        const struct layer *below = &run->config.layer[index + 1];
        args_add(&a, "-b");
        args_add(&a, "%s", below->name);
        args_add(&a, "-F");
        args_add(&a, "%s", format_of(below));
    }
    args_add(&a, "%s", l->name);
    args_add(&a, "%llu", (unsigned long long)l->size);
    must_run(a.argv);
    args_free(&a);
    if (l->odd && truncate(l->name, (off_t)(l->size - l->odd)))
        model_fail("%s: truncate failed", l->name);
}

static void begin_io(struct args *a, const struct layer *l) {
    args_add(a, "qemu-io");
    args_add(a, "-d");
    args_add(a, "unmap");
    args_format(a, l);
}

/* One qemu-io command on the bytes of [0, size); the range it touches is returned. */
static struct range add_command(struct args *a, struct rng *rng, const struct layer *l, uint64_t size,
                                bool compressed) {
    uint64_t cluster = layer_cluster(l);
    uint64_t most = cluster < 32768 ? 128u << 10 : cluster * 2 < 1u << 20 ? cluster * 4 : 1u << 20;
    unsigned kind = (unsigned)rng_below(rng, 7);
    uint64_t offset = rng_below(rng, size / SECTOR) * SECTOR, length = SECTOR * (1 + rng_below(rng, most / SECTOR));
    if (compressed || rng_one_in(rng, 3)) {
        offset -= offset % cluster;
        length = (length + cluster - 1) / cluster * cluster;
    }
    if (length > size - offset)
        length = size - offset;
    char fill[24] = "-s pattern";
    if (rng_one_in(rng, 2))
        snprintf(fill, sizeof(fill), "-P %u", (unsigned)rng_below(rng, 256));
    args_add(a, "-c");
    if (compressed || kind < 4)
        args_add(a, "write -q %s%s %llu %llu", compressed ? "-c " : "", fill, (unsigned long long)offset,
                 (unsigned long long)length);
    else if (kind < 6)
        args_add(a, "write -q -z%s %llu %llu", rng_one_in(rng, 2) ? " -u" : "", (unsigned long long)offset,
                 (unsigned long long)length);
    else
        args_add(a, "discard -q %llu %llu", (unsigned long long)offset, (unsigned long long)length);
    return (struct range){offset, offset + length};
}

/* Compressed writes come first: QEMU refuses them (EIO) over a cluster that is allocated. That it refuses some is no
 * failure: what was stored is asked for later. */
static void run_io(struct run *run, const struct layer *l, uint64_t size, unsigned count, bool die,
                   struct range *touched) {
    struct args a = {0};
    unsigned compressed = l->compressed && !l->raw ? (unsigned)rng_below(&run->rng, count / 2 + 1) : 0;
    begin_io(&a, l);
    for (unsigned i = 0; i < count; i++) {
        struct range r = add_command(&a, &run->rng, l, size, i < compressed);
        if (touched)
            touched[i] = r;
    }
    if (die) {
        args_add(&a, "-c");
        args_add(&a, "flush");
        args_add(&a, "-c");
        args_add(&a, "sigraise %d", SIGKILL);
    }
    args_file(&a, l);
    must_run_or(a.argv, die ? 128 + SIGKILL : compressed ? 1 : 0);
    args_free(&a);
}

static void fill_layer(struct run *run, unsigned index, unsigned writes, bool die) {
    const struct layer *l = &run->config.layer[index];
    run_io(run, l, l->size - (l->odd ? SECTOR : 0), writes, die, NULL);
}

static void make_snapshot(const struct run *run, unsigned number) {
    char name[16];
    snprintf(name, sizeof(name), "snap%u", number);
    struct args a = {0};
    args_add(&a, "qemu-img");
    args_add(&a, "snapshot");
    if (run->config.layer[0].encryption)
        args_format(&a, &run->config.layer[0]);
    args_add(&a, "-c");
    args_add(&a, "%s", name);
    args_file(&a, &run->config.layer[0]);
    must_run(a.argv);
    args_free(&a);
}

static void store_pattern(struct run *run) {
    uint8_t *bytes = must_allocate(256 << 10);
    for (unsigned i = 0; i < 8; i++)
        fill_random(&run->rng, bytes + i * (32u << 10), 32u << 10);
    file_store("pattern", bytes, 256 << 10);
    free(bytes);
}

uint8_t *qemu_content(const struct run *run, const char *snapshot, uint64_t *size) {
    const struct layer *top = &run->config.layer[0];
    struct args a = {0};
    args_add(&a, "qemu-img");
    args_add(&a, "convert");
    args_format(&a, top);
    args_add(&a, "-O");
    args_add(&a, "raw");
    if (snapshot) {
        args_add(&a, "-l");
        args_add(&a, "%s", snapshot);
    }
    args_file(&a, top);
    args_add(&a, "converted");
    must_run(a.argv);
    args_free(&a);
    uint8_t *bytes = file_load("converted", size);
    unlink("converted");
    return bytes;
}

uint64_t lower_layers_hash(const struct run *run) {
    uint64_t hash = 0;
    for (unsigned i = 1; i < run->config.nlayers; i++) {
        hash = mix64(hash) ^ file_hash(run->config.layer[i].name);
        if (run->config.layer[i].data_file)
            hash = mix64(hash) ^ file_hash(run->config.layer[i].data_name);
    }
    return hash;
}

static void keep_snapshots(struct run *run) {
    for (unsigned i = 0; i < run->config.nsnapshots; i++) {
        char name[16], kept[24];
        snprintf(name, sizeof(name), "snap%u", i);
        snprintf(kept, sizeof(kept), "%s.raw", name);
        uint8_t *bytes = qemu_content(run, name, &run->snapshot_size[i]);
        file_store(kept, bytes, run->snapshot_size[i]);
        free(bytes);
    }
}

void start_images(struct run *run) {
    struct config *c = &run->config;
    store_pattern(run);
    for (unsigned i = c->nlayers; i-- > 0;) {
        const struct layer *l = &c->layer[i];
        if (l->made_by_us && !l->raw)
            make_by_us(run, i);
        else
            make_by_qemu(run, i);
        bool last = i > 0 || c->nsnapshots == 0;
        fill_layer(run, i, l->writes, last && l->left_dirty);
    }
    for (unsigned i = 0; i < c->nsnapshots; i++) {
        make_snapshot(run, i);
        fill_layer(run, 0, c->layer[0].writes / 2, false);
    }
    keep_snapshots(run);
    run->started = lower_layers_hash(run);

    uint64_t size;
    uint8_t *bytes = qemu_content(run, NULL, &size);
    if (size != c->layer[0].size)
        model_fail("the start image has %llu bytes, not %llu", (unsigned long long)size,
                   (unsigned long long)c->layer[0].size);
    shadow_make(&run->shadow, c->max_size);
    shadow_resize(&run->shadow, size);
    memcpy(run->shadow.bytes, bytes, size);
    free(bytes);
}

void hand_over_to_qemu(struct run *run) {
    const struct layer *top = &run->config.layer[0];
    struct range touched[8];
    unsigned count = 1 + (unsigned)rng_below(&run->rng, 8);
    uint64_t size, where;
    run_io(run, top, run->shadow.size, count, false, touched);

    uint8_t *bytes = qemu_content(run, NULL, &size);
    if (size != run->shadow.size)
        model_fail("QEMU sees %llu bytes, not %llu", (unsigned long long)size, (unsigned long long)run->shadow.size);
    for (unsigned i = 0; i < count; i++)
        bitmaps_rewritten(run, touched[i], bytes);
    for (unsigned i = 0; i < count; i++)
        shadow_write(&run->shadow, bytes + touched[i].start, touched[i].start, touched[i].end - touched[i].start);
    if (!shadow_check(&run->shadow, bytes, 0, size, &where))
        model_fail("QEMU reads 0x%02x at offset %llu, where 0x%02x was written", bytes[where],
                   (unsigned long long)where, run->shadow.bytes[where]);
    free(bytes);
}
