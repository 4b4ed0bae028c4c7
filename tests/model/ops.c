// SPDX-License-Identifier: GPL-3.0-or-later
/* ops.c - one thread's random operations, each followed into the byte array.
 *
 * Offsets gather around a few hot clusters, because the interesting cases are the second and third thing that happens
 * to a cluster: written after a discard, compressed over a shared one, zeroed and written in part.
 */
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool compression_possible(const struct config *c) {
    return !c->layer[0].raw && !c->layer[0].data_file && !c->layer[0].encryption;
}

void open_top(struct run *run, bool vary) {
    const struct config *c = &run->config;
    const struct layer *top = &c->layer[0];
    struct img_error err = {0};
    struct img_open_options options = {
        .flags = IMG_OPEN_WRITE,
        .cache = c->cache,
        .format = top->raw ? "raw" : "qcow2",
        .l2_cache = c->l2_cache,
        .refcount_cache = c->refcount_cache,
        .key = layer_key(top),
    };
    if (vary && !c->on_disk && rng_one_in(&run->rng, 2))
        options.cache = (enum img_cache)rng_below(&run->rng, 5);
    if (vary && !top->raw && rng_one_in(&run->rng, 3))
        options.format = NULL;
    model_note("open %s cache %d", top->name, options.cache);
    if (vary && rng_one_in(&run->rng, 4)) {
        bool direct = options.cache == IMG_CACHE_NONE || options.cache == IMG_CACHE_DIRECTSYNC;
        int fd = open(top->name, O_RDWR | O_CLOEXEC | (direct ? O_DIRECT : 0));
        if (fd < 0)
            model_fail("open %s: %s", top->name, strerror(errno));
        if (img_open_fd(fd, &options, &run->image, &err))
            model_fail("img_open_fd: %s", err.text);
        close(fd);
    } else if (img_open(top->name, &options, &run->image, &err)) {
        model_fail("img_open: %s", err.text);
    }
    uint64_t size = img_size(run->image);
    if (size != run->shadow.size)
        model_fail("the image has %llu bytes, not %llu", (unsigned long long)size,
                   (unsigned long long)run->shadow.size);
    if (strcmp(img_format(run->image), top->raw ? "raw" : "qcow2"))
        model_fail("the format is %s", img_format(run->image));
    bitmaps_start(run);
    bitmaps_check(run);
}

void close_top(struct run *run) {
    struct img_error err = {0};
    model_note("close");
    flow_close(run);
    if (img_close(run->image, &err))
        model_fail("img_close: %s", err.text);
    run->image = NULL;
}

struct range pick_range(const struct config *c, struct rng *rng, uint64_t start, uint64_t end, uint64_t unit) {
    uint64_t cluster = layer_cluster(&c->layer[0]), room = end - start, offset, length;
    if (rng_one_in(rng, 3)) {
        offset = rng_below(rng, room);
    } else { /* near one of eight hot places that depend on the seed alone */
        uint64_t spread = cluster * 4 < room ? cluster * 4 : room;
        offset = mix64(c->seed * 8 + rng_below(rng, 8)) % room + rng_below(rng, spread);
        if (offset >= room)
            offset = rng_below(rng, room);
    }
    switch (rng_below(rng, 6)) {
    case 0:
    case 1:
        length = 1 + rng_below(rng, 2 * SECTOR);
        break;
    case 2:
        length = 1 + rng_below(rng, cluster);
        break;
    case 3: /* exactly one cluster, or two */
        offset = (start + offset) / cluster * cluster;
        offset = offset < start ? 0 : offset - start;
        length = cluster * (1 + rng_below(rng, 2));
        break;
    case 4:
        length = 1 + rng_below(rng, 128u << 10);
        break;
    default:
        length = 1 + rng_below(rng, cluster < 65536 ? cluster * 8 : cluster * 2);
    }
    offset -= (start + offset) % unit < offset ? (start + offset) % unit : offset;
    length = (length + unit - 1) / unit * unit;
    if (length > room - offset)
        length = room - offset;
    return (struct range){start + offset, start + offset + length};
}

struct range pick_clusters(const struct config *c, struct rng *rng, uint64_t start, uint64_t end, uint64_t size) {
    uint64_t cluster = layer_cluster(&c->layer[0]);
    uint64_t first = (start + cluster - 1) / cluster,
             last = end == size ? (end + cluster - 1) / cluster : end / cluster;
    if (first >= last)
        return (struct range){0, 0};
    uint64_t most = cluster >= 1u << 20 ? 1 : cluster >= 65536 ? 3 : 12;
    struct range r = pick_range(c, rng, first * cluster, last * cluster < size ? last * cluster : size, cluster);
    uint64_t count = 1 + rng_below(rng, most);
    r.start -= r.start % cluster;
    if (r.start < first * cluster)
        r.start = first * cluster;
    r.end = r.start + count * cluster;
    if (r.end > last * cluster)
        r.end = last * cluster;
    if (r.end > size)
        r.end = size;
    return r;
}

/* ---- reads ------------------------------------------------------------------------------------ */

static unsigned split(struct rng *rng, struct iovec *iov, unsigned most, uint8_t *bytes, uint64_t length) {
    unsigned n = 0;
    while (length > 0 && n + 1 < most) {
        uint64_t piece = rng_below(rng, 2 * length / most + 2);
        if (piece > length)
            piece = length;
        iov[n++] = (struct iovec){bytes, piece};
        bytes += piece;
        length -= piece;
    }
    iov[n++] = (struct iovec){bytes, length};
    return n;
}

/* The bytes as a vector, in several buffers or in one. The caller frees it. */
static struct iovec *vector_of(struct rng *rng, unsigned most, uint8_t *bytes, uint64_t length, unsigned *n) {
    struct iovec *iov = must_allocate(most * sizeof(*iov));
    iov[0] = (struct iovec){bytes, length};
    *n = most > 1 ? split(rng, iov, most, bytes, length) : 1;
    return iov;
}

static void compare(struct run *run, void *opaque, const uint8_t *bytes, uint64_t offset, uint64_t length) {
    uint64_t where;
    (void)opaque;
    if (!shadow_check(&run->shadow, bytes, offset, length, &where))
        model_fail("operation %llu: read of %llu at %llu gives 0x%02x at offset %llu (cluster %llu), not 0x%02x",
                   (unsigned long long)run->operations, (unsigned long long)length, (unsigned long long)offset,
                   bytes[where - offset], (unsigned long long)where,
                   (unsigned long long)(where / layer_cluster(&run->config.layer[0])), run->shadow.bytes[where]);
}

void op_read(struct run *run, struct rng *rng, uint64_t offset, uint64_t length) {
    struct img_error err = {0};
    uint8_t *bytes = must_allocate(length + 1);
    bool vectored = rng_one_in(rng, 4);
    unsigned n;
    struct iovec *iov = vector_of(rng, vectored ? 2 + (unsigned)rng_below(rng, 62) : 1, bytes, length, &n);
    memset(bytes, 0xa5, length);
    if (flow_is_used(run)) {
        flow_apart(run, offset, offset + length);
        flow_transfer(run, IMG_IO_READ, iov, n, bytes, offset, length, compare, NULL);
        return;
    }
    if (vectored ? img_preadv(run->image, iov, (int)n, offset, &err)
                 : img_pread(run->image, bytes, length, offset, &err))
        model_fail("%s of %llu at %llu: %s", vectored ? "img_preadv" : "img_pread", (unsigned long long)length,
                   (unsigned long long)offset, err.text);
    compare(run, NULL, bytes, offset, length);
    free(iov);
    free(bytes);
}

void check_read(struct run *run, struct rng *rng, uint64_t offset, uint64_t length) {
    op_read(run, rng, offset, length);
    if (flow_is_used(run))
        flow_apart(run, offset, offset + length);
}

void check_whole(struct run *run) {
    for (uint64_t offset = 0; offset < run->shadow.size; offset += 1u << 20)
        check_read(run, &run->rng, offset, run->shadow.size - offset < 1u << 20 ? run->shadow.size - offset : 1u << 20);
}

/* A discarded part that may be old or zero must be known before an operation covers it in part. */
void settle(struct run *run, struct rng *rng, uint64_t offset, uint64_t length) {
    struct shadow *s = &run->shadow;
    for (uint64_t i = offset / SECTOR; i * SECTOR < offset + length; i++) {
        uint64_t first = i;
        while (i * SECTOR < offset + length && s->maybe[i])
            i++;
        if (i > first)
            check_read(run, rng, first * SECTOR, (i - first) * SECTOR);
    }
}

/* ---- writes ------------------------------------------------------------------------------------ */

void do_write(struct run *run, struct rng *rng, uint8_t *bytes, uint64_t offset, uint64_t length) {
    static const unsigned counts[] = {2, 3, 8, 40, IOV_MAX};
    struct img_error err = {0};
    bool vectored = rng_one_in(rng, 4);
    unsigned n;
    bitmaps_changed(run, offset, length, true);
    struct iovec *iov = vector_of(rng, vectored ? counts[rng_below(rng, 5)] : 1, bytes, length, &n);
    if (flow_is_used(run)) {
        flow_transfer(run, IMG_IO_WRITE, iov, n, bytes, offset, length, NULL, NULL);
        return;
    }
    if (vectored ? img_pwritev(run->image, iov, (int)n, offset, &err)
                 : img_pwrite(run->image, bytes, length, offset, &err))
        model_fail("%s of %llu at %llu: %s", vectored ? "img_pwritev" : "img_pwrite", (unsigned long long)length,
                   (unsigned long long)offset, err.text);
    free(iov);
    free(bytes);
}

/* Nothing of this thread touches the range, and what it holds is known. */
static void prepare(struct run *run, struct rng *rng, uint64_t offset, uint64_t length) {
    flow_apart(run, offset, offset + length);
    settle(run, rng, offset, length);
}

void op_write(struct run *run, struct rng *rng, struct range r) {
    uint64_t length = r.end - r.start;
    uint8_t *bytes = must_allocate(length);
    fill_random(rng, bytes, length);
    prepare(run, rng, r.start, length);
    shadow_write(&run->shadow, bytes, r.start, length);
    do_write(run, rng, bytes, r.start, length);
}

void do_clear(struct run *run, enum img_io_op op, uint32_t flags, uint64_t offset, uint64_t length) {
    struct img_error err = {0};
    bitmaps_changed(run, offset, length, false);
    if (flow_is_used(run))
        flow_clear(run, op, flags, offset, length);
    else if (op == IMG_IO_ZERO ? img_write_zeroes(run->image, offset, length, flags, &err)
                               : img_discard(run->image, offset, length, &err))
        model_fail("%s of %llu at %llu: %s", op == IMG_IO_ZERO ? "img_write_zeroes" : "img_discard",
                   (unsigned long long)length, (unsigned long long)offset, err.text);
}

void op_zero(struct run *run, struct rng *rng, struct range r) {
    uint32_t flags = rng_one_in(rng, 2) ? IMG_ZERO_MAY_UNMAP : 0;
    prepare(run, rng, r.start, r.end - r.start);
    do_clear(run, IMG_IO_ZERO, flags, r.start, r.end - r.start);
    bitmaps_cleared(run, r);
    shadow_zero(&run->shadow, r.start, r.end - r.start);
}

void op_discard(struct run *run, struct rng *rng, struct range r) {
    prepare(run, rng, r.start, r.end - r.start);
    do_clear(run, IMG_IO_DISCARD, 0, r.start, r.end - r.start);
    bitmaps_cleared(run, discard_certain(&run->config, run->shadow.size, r.start, r.end - r.start));
    shadow_discard(&run->shadow, &run->config, r.start, r.end - r.start);
}

void op_compressed(struct run *run, struct rng *rng, uint64_t start, uint64_t end) {
    struct img_error err = {0};
    struct range r = pick_clusters(&run->config, rng, start, end, run->shadow.size);
    uint64_t length = r.end - r.start;
    if (length == 0)
        return;
    flow_collect(run);
    model_note("%llu: compressed %llu+%llu", (unsigned long long)run->operations, (unsigned long long)r.start,
               (unsigned long long)length);
    uint8_t *bytes = must_allocate(length);
    fill_random(rng, bytes, length);
    int rc = img_pwrite_compressed(run->image, bytes, length, r.start, &err);
    bitmaps_changed(run, r.start, length, rc == 0);
    if (rc == 0 && !run->config.layer[0].raw)
        shadow_write(&run->shadow, bytes, r.start, length);
    else if (rc != -ENOTSUP || compression_possible(&run->config))
        model_fail("img_pwrite_compressed of %llu at %llu: %d %s", (unsigned long long)length,
                   (unsigned long long)r.start, rc, err.text);
    free(bytes);
}

/* ---- what is not data ---------------------------------------------------------------------------- */

/* An image that was opened by descriptor has no name that could be opened: its layer's is known here. */
static void check_extent_host(const struct run *run, const struct img_extent *e) {
    const struct shadow *s = &run->shadow;
    const char *name = strncmp(e->file, "descriptor ", 11) ? e->file : run->config.layer[e->depth].name;
    uint64_t length = e->length < 65536 ? e->length : 65536;
    uint8_t *bytes = must_allocate(length);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        model_fail("img_map names the file %s: %s", name, strerror(errno));
    ssize_t n = pread(fd, bytes, length, (off_t)e->host_offset);
    if (n < 0)
        model_fail("img_map: host offset %llu cannot be read", (unsigned long long)e->host_offset);
    if (memcmp(bytes, s->bytes + e->start, length))
        model_fail("img_map: offset %llu is not at %llu in %s", (unsigned long long)e->start,
                   (unsigned long long)e->host_offset, e->file);
    close(fd);
    free(bytes);
}

void op_map(struct run *run, struct rng *rng, uint64_t start, uint64_t end, bool alone) {
    struct img_error err = {0};
    struct img_extent e = {0};
    struct range r = pick_range(&run->config, rng, start, end, rng_one_in(rng, 2) ? 1 : SECTOR);
    if (rng_one_in(rng, 2))
        r.end = end;
    flow_collect(run);
    if (img_map(run->image, r.start, r.end - r.start, false, &e, &err))
        model_fail("img_map at %llu: %s", (unsigned long long)r.start, err.text);
    if (e.start != r.start || e.length == 0 || e.length > r.end - r.start)
        model_fail("img_map of %llu+%llu gives %llu+%llu", (unsigned long long)r.start,
                   (unsigned long long)(r.end - r.start), (unsigned long long)e.start, (unsigned long long)e.length);
    settle(run, rng, e.start, e.length);
    flow_collect(run);
    if ((e.flags & IMG_EXTENT_ZERO || !(e.flags & IMG_EXTENT_PRESENT)) &&
        !img_is_zero(run->shadow.bytes + e.start, e.length))
        model_fail("img_map says that %llu+%llu reads as zeroes", (unsigned long long)e.start,
                   (unsigned long long)e.length);
    if (e.depth >= run->config.nlayers)
        model_fail("img_map: depth %u in a chain of %u", e.depth, run->config.nlayers);
    if (alone && e.flags & IMG_EXTENT_OFFSET && e.flags & IMG_EXTENT_DATA &&
        !(e.flags & (IMG_EXTENT_COMPRESSED | IMG_EXTENT_ZERO)))
        check_extent_host(run, &e);
}

static void op_resize(struct run *run) {
    struct img_error err = {0};
    const struct config *c = &run->config;
    uint64_t size = run->shadow.size;
    flow_collect(run);
    bool shrink = rng_one_in(&run->rng, 2);
    if (shrink)
        size -= rng_below(&run->rng, size / 4);
    else
        size += rng_below(&run->rng, c->max_size - size + 1);
    size -= size % SECTOR;
    enum img_preallocation how = IMG_PREALLOCATION_OFF;
    if (!shrink && rng_one_in(&run->rng, 3) && c->nlayers == 1 && !c->layer[0].encryption)
        how = (enum img_preallocation)rng_below(&run->rng, 4);
    if (c->layer[0].raw && how == IMG_PREALLOCATION_METADATA)
        how = IMG_PREALLOCATION_OFF;
    model_note("%llu: resize %llu -> %llu preallocation %d", (unsigned long long)run->operations,
               (unsigned long long)run->shadow.size, (unsigned long long)size, how);
    if (shrink && size < run->shadow.size && img_resize(run->image, size, how, 0, NULL) == 0)
        model_fail("img_resize shrinks without IMG_RESIZE_SHRINK");
    int rc = img_resize(run->image, size, how, IMG_RESIZE_SHRINK, &err);
    if (rc == -ENOTSUP && (c->nsnapshots || run->own_made) && c->layer[0].version == 2)
        return;
    if (rc)
        model_fail("img_resize from %llu to %llu: %s", (unsigned long long)run->shadow.size, (unsigned long long)size,
                   err.text);
    bitmaps_resized(run, size);
    shadow_resize(&run->shadow, size);
    if (img_size(run->image) != size)
        model_fail("img_size is %llu after img_resize to %llu", (unsigned long long)img_size(run->image),
                   (unsigned long long)size);
}

static void op_reopen(struct run *run) {
    close_top(run);
    if (rng_one_in(&run->rng, 3)) {
        model_note("QEMU's turn");
        hand_over_to_qemu(run);
    }
    open_top(run, true);
    if (rng_one_in(&run->rng, 3))
        check_whole(run);
}

void op_flush(struct run *run) {
    struct img_error err = {0};
    if (flow_is_used(run))
        flow_clear(run, IMG_IO_FLUSH, 0, 0, 0);
    else if (img_flush(run->image, &err))
        model_fail("img_flush: %s", err.text);
}

static void op_out_of_range(struct run *run) {
    uint8_t byte[SECTOR] = {0};
    uint64_t size = run->shadow.size;
    if (img_pread(run->image, byte, SECTOR, size - SECTOR + 1, NULL) != -EINVAL ||
        img_pwrite(run->image, byte, SECTOR, UINT64_MAX - 10, NULL) != -EINVAL ||
        img_discard(run->image, size, 1, NULL) != -EINVAL ||
        img_write_zeroes(run->image, 1, UINT64_MAX, 0, NULL) != -EINVAL)
        model_fail("a range past the end is not refused with -EINVAL");
}

static void one_operation(struct run *run) {
    static const char *const names[] = {"read", "write", "zero", "discard"};
    struct rng *rng = &run->rng;
    unsigned dice = (unsigned)rng_below(rng, 1000);
    unsigned what = dice < 300 ? 0 : dice < 600 ? 1 : dice < 690 ? 2 : dice < 790 ? 3 : 4;
    run->operations++;
    if (run->config.bitmaps && rng_one_in(rng, 8)) {
        op_bitmap(run);
    } else if (what < 4) {
        struct range r = pick_range(&run->config, rng, 0, run->shadow.size, rng_one_in(rng, 2) ? 1 : SECTOR);
        model_note("%llu: %s %llu+%llu", (unsigned long long)run->operations, names[what], (unsigned long long)r.start,
                   (unsigned long long)(r.end - r.start));
        if (what == 0)
            op_read(run, rng, r.start, r.end - r.start);
        else
            (what == 1 ? op_write : what == 2 ? op_zero : op_discard)(run, rng, r);
    } else if (dice < 860) {
        op_compressed(run, rng, 0, run->shadow.size);
    } else if (dice < 920) {
        model_note("%llu: flush", (unsigned long long)run->operations);
        op_flush(run);
    } else if (dice < 960) {
        op_map(run, rng, 0, run->shadow.size, true);
    } else if (dice < 975) {
        op_reopen(run);
    } else if (dice < 984) {
        op_resize(run);
    } else if (dice < 992) {
        op_states(run);
    } else if (dice < 996) {
        op_out_of_range(run);
    } else if (!run->config.layer[0].raw) {
        own_check(run, true);
    }
}

void single_thread(struct run *run) {
    open_top(run, false);
    check_whole(run);
    for (unsigned i = 0; i < run->config.ops; i++)
        one_operation(run);
    check_whole(run);
    close_top(run);
}
