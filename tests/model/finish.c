// SPDX-License-Identifier: GPL-3.0-or-later
/* finish.c - the last judgement over a closed image: QEMU's check and ours, QEMU's reading and ours, the snapshots,
 * and what nobody may have touched. After a clean close neither errors nor leaks are allowed.
 */
#include "model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void print_finding(void *opaque, const struct img_finding *f) {
    unsigned *count = opaque;
    if ((*count)++ < 10)
        printf("#   finding: %s\n", f->text);
}

void own_check(struct run *run, bool live) {
    struct img_error err = {0};
    struct img_check_result result = {0};
    unsigned count = 0;
    struct img_check_options options = {.report = print_finding, .opaque = &count};
    flow_collect(run);
    int rc = img_check(run->image, &options, &result, &err);
    if (rc == -ENOTSUP && run->config.layer[0].raw)
        return;
    if (rc)
        model_fail("img_check: %s", err.text);
    if (result.corruptions || result.check_errors || (!live && result.leaks))
        model_fail("img_check%s: %llu corruptions, %llu leaks, %llu errors", live ? " of the open image" : "",
                   (unsigned long long)result.corruptions, (unsigned long long)result.leaks,
                   (unsigned long long)result.check_errors);
}

static void qemu_check(const struct run *run) {
    struct args a = {0};
    if (run->config.layer[0].raw)
        return;
    args_add(&a, "qemu-img");
    args_add(&a, "check");
    args_format(&a, &run->config.layer[0]);
    args_file(&a, &run->config.layer[0]);
    must_run(a.argv);
    args_free(&a);
}

static void compare_with_qemu(struct run *run) {
    uint64_t size, where;
    uint8_t *bytes = qemu_content(run, NULL, &size);
    if (size != run->shadow.size)
        model_fail("QEMU sees %llu bytes, not %llu", (unsigned long long)size, (unsigned long long)run->shadow.size);
    if (!shadow_check(&run->shadow, bytes, 0, size, &where))
        model_fail("QEMU reads 0x%02x at offset %llu, where 0x%02x was written", bytes[where],
                   (unsigned long long)where, run->shadow.bytes[where]);
    free(bytes);
}

static void compare_raw_data_file(struct run *run) {
    const struct layer *top = &run->config.layer[0];
    uint64_t size;
    if (!top->data_file_raw)
        return;
    uint8_t *bytes = file_load(top->data_name, &size);
    if (size < run->shadow.size || memcmp(bytes, run->shadow.bytes, run->shadow.size))
        model_fail("the raw data file does not hold what the guest sees");
    free(bytes);
}

static void compare_snapshot(const struct run *run, unsigned number) {
    char name[16], kept[24];
    uint64_t size, now_size;
    struct img_error err = {0};
    struct img *image;
    snprintf(name, sizeof(name), "snap%u", number);
    snprintf(kept, sizeof(kept), "%s.raw", name);
    uint8_t *bytes = file_load(kept, &size);

    /* QEMU shows a snapshot in the size of the active state */
    uint8_t *now = qemu_content(run, name, &now_size);
    if (memcmp(bytes, now, size < now_size ? size : now_size))
        model_fail("QEMU reads snapshot %s differently than before", name);
    free(now);

    struct img_open_options options = {.snapshot = name, .key = layer_key(&run->config.layer[0])};
    if (img_open(run->config.layer[0].name, &options, &image, &err))
        model_fail("img_open of snapshot %s: %s", name, err.text);
    if (run->config.layer[0].version == 3 && img_size(image) != size)
        model_fail("snapshot %s has %llu bytes, not %llu", name, (unsigned long long)img_size(image),
                   (unsigned long long)size);
    uint64_t common = img_size(image) < size ? img_size(image) : size;
    now = must_allocate(common);
    if (img_pread(image, now, common, 0, &err))
        model_fail("read of snapshot %s: %s", name, err.text);
    if (memcmp(bytes, now, common))
        model_fail("we read snapshot %s differently than before", name);
    if (img_close(image, &err))
        model_fail("img_close of snapshot %s: %s", name, err.text);
    free(now);
    free(bytes);
}

/* Reading changes no byte of the file. */
static void read_only_pass(struct run *run) {
    const char *name = run->config.layer[0].name;
    struct img_error err = {0};
    struct img_open_options options = {.cache = IMG_CACHE_WRITEBACK, .key = layer_key(&run->config.layer[0])};
    uint64_t before = file_hash(name);
    if (img_open(name, &options, &run->image, &err))
        model_fail("img_open to read: %s", err.text);
    check_whole(run);
    own_check(run, false);
    close_top(run);
    if (file_hash(name) != before)
        model_fail("%s changed while it was open to read", name);
}

void finish(struct run *run) {
    qemu_check(run);
    compare_with_qemu(run);
    compare_raw_data_file(run);
    for (unsigned i = 0; i < run->config.nsnapshots; i++)
        compare_snapshot(run, i);
    compare_own_states(run);
    read_only_pass(run);
    bitmaps_finish(run);
    if (lower_layers_hash(run) != run->started)
        model_fail("a file below the top image changed");
}
