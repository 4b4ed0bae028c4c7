/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scenarios_failure.c - the host fails: barriers, metadata writes, data writes, growth of the file.
 *
 * A barrier that failed may have lost what it should have covered, and nobody can tell: every later flush must fail and
 * writes are refused. A metadata write for which there is no space fails that flush only. A data write that fails is
 * its request's own affair.
 */
#include <errno.h>

#include "scenario.h"
#include "world.h"

#define CREATE "qemu-img create -q -f qcow2 "
#define IO " && qemu-io -f qcow2 image.qcow2 >/dev/null "

#define REQUIRE(w, condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            DIE("%s: not so: %s", (w)->scenario->name, #condition);                                                    \
    } while (0)

/* After a failure for good: no flush succeeds, no write is taken, reads go on. */
static void require_failed(struct world *w) {
    uint64_t cluster = img_cluster_size(w->image);
    uint8_t byte;
    struct img_error err;
    for (unsigned i = 0; i < 3; i++) {
        REQUIRE(w, guest_flush_may_fail(w) < 0);
        REQUIRE(w, guest_write_may_fail(w, i * cluster, 512) < 0);
    }
    REQUIRE(w, guest_read(w, &byte, 1, 5 * cluster, &err) == 0);
}

static void run_barrier_fails(struct world *w, unsigned which) {
    guest_mix(w, &w->rng, "wwwd", 12, 6, 0, img_size(w->image));
    guest_mix(w, &w->rng, "wwwd", 7, 0, 0, img_size(w->image));
    world_fail(w, RECORD_FLUSH, true, which, -EIO);
    REQUIRE(w, guest_flush_may_fail(w) < 0);
    require_failed(w);
}

static void run_first_barrier_fails(struct world *w) {
    run_barrier_fails(w, 0);
}
static void run_second_barrier_fails(struct world *w) {
    run_barrier_fails(w, 1);
}

static void run_overwrite_barrier_fails(struct world *w) {
    guest_write(w, 0, img_size(w->image));
    guest_flush(w);
    guest_mix(w, &w->rng, "w", 7, 0, 0, img_size(w->image));
    guest_flush(w);
    guest_mix(w, &w->rng, "w", 7, 0, 0, img_size(w->image));
    world_fail(w, RECORD_FLUSH, true, 0, -EIO);
    REQUIRE(w, guest_flush_may_fail(w) < 0);
    require_failed(w);
}

static void run_metadata_write_fails(struct world *w) {
    guest_mix(w, &w->rng, "wwwd", 12, 6, 0, img_size(w->image));
    guest_mix(w, &w->rng, "wwwd", 7, 0, 0, img_size(w->image));
    world_fail(w, RECORD_WRITE, true, 0, -EIO);
    REQUIRE(w, guest_flush_may_fail(w) < 0);
    require_failed(w);
}

/* The n-th metadata write of a flush finds no space; the next flush does all that is left. */
static void run_no_space_for_metadata(struct world *w) {
    unsigned struck = 0;
    for (unsigned n = 0; n < 9; n++) {
        guest_mix(w, &w->rng, "wwdzw", 5, 0, 0, img_size(w->image));
        world_fail(w, RECORD_WRITE, true, n % 3, -ENOSPC);
        int rc = guest_flush_may_fail(w);
        REQUIRE(w, rc == (w->fault.error ? 0 : -ENOSPC));
        struck += rc != 0;
        guest_mix(w, &w->rng, "wd", n % 3, 0, 0, img_size(w->image));
        world_fail(w, RECORD_WRITE, true, 0, 0);
        guest_flush(w);
        guest_verify(w);
    }
    REQUIRE(w, struck >= 3);
}

static void run_data_write_fails(struct world *w) {
    uint64_t cluster = img_cluster_size(w->image);
    for (unsigned n = 0; n < 8; n++) {
        guest_mix(w, &w->rng, "wwdz", 3, 0, 0, img_size(w->image) / 2);
        world_fail(w, RECORD_WRITE, false, 0, n % 2 ? -ENOSPC : -EIO);
        guest_write_may_fail(w, img_size(w->image) / 2 + n * 3 * cluster, 2 * cluster);
        world_fail(w, RECORD_WRITE, false, 0, 0);
        if (n % 3 == 0)
            guest_flush(w);
    }
    guest_flush(w);
}

static void run_file_cannot_grow(struct world *w) {
    guest_mix(w, &w->rng, "www", 4, 2, 0, img_size(w->image) / 4);
    world_fail(w, RECORD_TRUNCATE, false, 0, -ENOSPC);
    for (uint64_t at = 0; at + (96 << 10) <= img_size(w->image); at += 96 << 10) {
        int rc = guest_write_may_fail(w, at, 96 << 10);
        REQUIRE(w, rc == 0 || rc == -ENOSPC);
    }
    world_fail(w, RECORD_TRUNCATE, false, 0, 0);
    guest_write(w, img_size(w->image) - 4096, 4096);
    guest_flush(w);
}

const struct scenario scenarios_failure[] = {
    {
        .name = "first-barrier-fails",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 128k" IO "-c 'write -P 7 0 48k'",
        .run = run_first_barrier_fails,
        .ends_open = true,
    },
    {
        .name = "second-barrier-fails",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 128k" IO "-c 'write -P 7 0 48k'",
        .run = run_second_barrier_fails,
        .ends_open = true,
    },
    {
        .name = "barrier-of-overwrites-fails",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 32k",
        .run = run_overwrite_barrier_fails,
        .ends_open = true,
    },
    {
        .name = "metadata-write-fails",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 128k" IO "-c 'write -P 7 0 48k'",
        .run = run_metadata_write_fails,
        .ends_open = true,
    },
    {
        .name = "no-space-for-metadata",
        .prepare = CREATE "-o cluster_size=512 image.qcow2 128k" IO "-c 'write -P 7 0 48k'",
        .run = run_no_space_for_metadata,
    },
    {
        .name = "data-write-fails",
        .prepare = CREATE "-o cluster_size=1k image.qcow2 128k" IO "-c 'write -P 7 0 48k'",
        .run = run_data_write_fails,
    },
    {
        .name = "file-cannot-grow",
        .prepare = CREATE "-o cluster_size=4k image.qcow2 2M",
        .run = run_file_cannot_grow,
    },
    {0},
};
