/* SPDX-License-Identifier: GPL-3.0-or-later */
/* judge.c - opens, checks, reads and goes on writing a state (judge.h). */
#include "judge.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>

#include "image.h"
#include "util.h"

/* Notes why the state fails; always false. */
static bool fails(struct judge *j, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fails(struct judge *j, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(j->last, sizeof(j->last), format, args);
    va_end(args);
    return false;
}

/* A state under judgement: its own devices, which may be written. */
struct trial {
    struct judge *judge;
    struct log *disk;
    uint64_t cut;
    uint64_t leaks;
    uint64_t size;
    uint8_t *all; /* what its windows hold */
    const char *passphrase;
    char finding[400];
    char changes[300]; /* what was done to it */
};

int judge_read(const struct model *m, struct img *image, uint8_t *all, struct img_error *err) {
    uint64_t size = img_size(image);
    memset(all, 0, model_bytes(m));
    for (unsigned i = 0; i < model_nwindows(m); i++) {
        uint64_t offset, length;
        model_window(m, i, &offset, &length);
        int rc = 0;
        if (offset >= MODEL_STATE)
            rc = img_vmstate_read(image, all, length, offset - MODEL_STATE, err);
        else if (offset < size)
            rc = img_pread(image, all, min_u64(length, size - offset), offset, err);
        if (rc)
            return rc;
        all += length;
    }
    return 0;
}

int judge_open(const struct judge *j, struct log *disk, uint32_t flags, const char *snapshot, const char *passphrase,
               struct img **image, struct img_error *err) {
    struct img_open_options options = {
        .flags = flags,
        .format = j->format,
        .snapshot = snapshot,
        .key = key_of(passphrase),
        .l2_cache = JUDGE_CACHE,
        .refcount_cache = JUDGE_CACHE,
    };
    log_publish(disk);
    *err = (struct img_error){0};
    return image_open_storage(log_open(disk, 0, flags & IMG_OPEN_WRITE), &options, image, err);
}

static int open_disk(const struct trial *t, uint32_t flags, const char *snapshot, struct img **image,
                     struct img_error *err) {
    return judge_open(t->judge, t->disk, flags, snapshot, t->passphrase, image, err);
}

static void note_finding(void *opaque, const struct img_finding *finding) {
    struct trial *t = opaque;
    if (finding->kind == IMG_FINDING_CORRUPTION || finding->kind == IMG_FINDING_ERROR)
        snprintf(t->finding, sizeof(t->finding), "%s", finding->text);
}

static bool check_image(struct trial *t, struct img *image, uint64_t max_leaks, const char *when) {
    struct judge *j = t->judge;
    struct img_error err = {0};
    struct img_check_options options = {.report = note_finding, .opaque = t};
    struct img_check_result result = {0};
    int rc = img_check(image, &options, &result, &err);
    if (rc == -ENOTSUP && strcmp(j->format, "qcow2"))
        return true;
    if (rc)
        return fails(j, "%s: img_check cannot run: %s", when, err.text);
    if (result.corruptions || result.check_errors)
        return fails(j, "%s: %" PRIu64 " corruptions, %" PRIu64 " errors: %s", when, result.corruptions,
                     result.check_errors, t->finding);
    if (result.leaks > max_leaks)
        return fails(j, "%s: %" PRIu64 " leaks, at most %" PRIu64 " expected", when, result.leaks, max_leaks);
    t->leaks = result.leaks;
    return true;
}

/* Opens for a check, and then as a reader does, and reads everything into `all` (may be NULL). */
static bool look(struct trial *t, uint64_t max_leaks, uint8_t *all, const char *when) {
    struct judge *j = t->judge;
    struct img *image = NULL;
    struct img_error err = {0};
    if (open_disk(t, IMG_OPEN_CHECK, NULL, &image, &err))
        return fails(j, "%s: does not open for a check: %s", when, err.text);
    bool good = check_image(t, image, max_leaks, when);
    if (img_close(image, &err) && good)
        good = fails(j, "%s: closing after a check fails: %s", when, err.text);
    if (!good || !all)
        return good;
    if (open_disk(t, 0, NULL, &image, &err))
        return fails(j, "%s: does not open: %s", when, err.text);
    t->size = img_size(image);
    if (judge_read(j->model, image, all, &err))
        good = fails(j, "%s: cannot be read: %s", when, err.text);
    if (img_close(image, &err) && good)
        good = fails(j, "%s: closing after reading fails: %s", when, err.text);
    return good;
}

static bool look_at_snapshots(struct trial *t, const char *when) {
    struct judge *j = t->judge;
    uint8_t *all = xcalloc(1, model_bytes(j->model));
    bool good = true;
    for (unsigned i = 0; i < j->nsnapshots && good; i++) {
        struct img *image = NULL;
        struct img_error err = {0};
        int rc = open_disk(t, 0, j->snapshots[i].name, &image, &err);
        bool must = t->cut >= j->snapshots[i].born && t->cut < j->snapshots[i].asked_away;
        bool may = t->cut >= j->snapshots[i].asked && t->cut < j->snapshots[i].gone;
        if (rc == -ENOENT && !must)
            continue;
        if (!rc && !may) {
            img_close(image, NULL);
            good = fails(j, "%s: snapshot %s is there", when, j->snapshots[i].name);
            break;
        }
        if (rc) {
            good = fails(j, "%s: snapshot %s does not open: %s", when, j->snapshots[i].name, err.text);
            break;
        }
        if (judge_read(j->model, image, all, &err))
            good = fails(j, "%s: snapshot %s cannot be read: %s", when, j->snapshots[i].name, err.text);
        else if (memcmp(all, j->snapshots[i].content, model_bytes(j->model)))
            good = fails(j, "%s: snapshot %s has changed", when, j->snapshots[i].name);
        img_close(image, NULL);
    }
    free(all);
    return good;
}

/* Before guest data change, what does not know of it is marked; what is not marked is complete. Byte 88 of the header:
 * autoclear_features. */
static bool look_at_marks(struct trial *t) {
    struct judge *j = t->judge;
    struct img *image = NULL;
    struct img_error err = {0};
    uint8_t head[104];
    bytes_read(&t->disk->devices[0].now, head, sizeof(head), 0);
    if (memcmp(t->all, j->original, model_bytes(j->model)) && head[7] == 3 && head[88] & 0x80)
        return fails(j, "guest data have changed, but an unknown autoclear bit is still set");
    if (open_disk(t, IMG_OPEN_CHECK, NULL, &image, &err))
        return fails(j, "does not open for information: %s", err.text);
    bool good = bitmaps_hold(j, image, t->cut, t->all, t->size, j->last, sizeof(j->last));
    img_close(image, NULL);
    return good;
}

/* What a cut inside a full switch may leave. */
static bool look_at_switches(struct trial *t) {
    struct judge *j = t->judge;
    size_t bytes = model_bytes(j->model);
    for (unsigned i = 0; i < j->nswitches; i++) {
        const struct judge_switch *s = &j->switches[i];
        if (t->cut < s->begin || t->cut >= s->end)
            continue;
        if (t->leaks)
            return fails(j, "%" PRIu64 " leaks inside full switch %u", t->leaks, i);
        if ((t->size != s->size_before || memcmp(t->all, s->before, bytes)) &&
            (t->size != s->size_after || memcmp(t->all, s->after, bytes)))
            return fails(j, "full switch %u is there in part", i);
    }
    return true;
}

bool judge_discards(struct img *image) {
    struct img_info info;
    if (strcmp(img_format(image), "luks") == 0)
        return false;
    if (!img_has_backing(image)) /* img_info waits for changes of the whole image, which may wait for a queue of ours */
        return true;
    return img_info(image, &info, NULL) < 0 || info.version != 2;
}

/* ---- going on ------------------------------------------------------------------------------------- */

/* A place for a change: sector aligned, inside one window and the image. */
struct place {
    uint64_t offset, length;
    uint8_t *bytes; /* in `all` */
};

static struct place choose_place(struct trial *t, struct rng *rng, uint64_t longest) {
    const struct model *m = t->judge->model;
    unsigned window = (unsigned)rng_below(rng, model_nwindows(m));
    uint64_t offset, length;
    model_window(m, window, &offset, &length);
    if (offset >= t->size)
        model_window(m, window = 0, &offset, &length);
    uint8_t *bytes = t->all;
    for (unsigned i = 0; i < window; i++) {
        uint64_t other, skip;
        model_window(m, i, &other, &skip);
        bytes += skip;
    }
    uint64_t sectors = min_u64(length, t->size - offset) / MODEL_SECTOR;
    uint64_t first = rng_below(rng, sectors);
    uint64_t count = min_u64(1 + rng_below(rng, longest / MODEL_SECTOR), sectors - first);
    return (struct place){offset + first * MODEL_SECTOR, count * MODEL_SECTOR, bytes + first * MODEL_SECTOR};
}

static int change_once(struct trial *t, struct img *image, struct rng *rng, unsigned turn, struct img_error *err) {
    uint64_t cluster = max_u64(img_cluster_size(image), MODEL_SECTOR);
    struct place p = choose_place(t, rng, 3 * cluster);
    size_t used = strlen(t->changes);
    snprintf(t->changes + used, sizeof(t->changes) - used, " %s %#" PRIx64 "+%" PRIu64,
             turn % 4 < 2    ? "write"
             : turn % 4 == 2 ? "zero"
                             : "discard",
             p.offset, p.length);
    if (turn % 4 == 2) {
        memset(p.bytes, 0, p.length);
        return img_write_zeroes(image, p.offset, p.length, IMG_ZERO_MAY_UNMAP, err);
    }
    if (turn % 4 == 3) {
        uint64_t from = (p.offset + cluster - 1) / cluster * cluster, to = p.offset + p.length;
        if (to != t->size) /* the image's last cluster may be short */
            to = to / cluster * cluster;
        if (from < to && judge_discards(image))
            memset(p.bytes + (from - p.offset), 0, to - from);
        return img_discard(image, p.offset, p.length, err);
    }
    for (uint64_t i = 0; i < p.length; i++)
        p.bytes[i] = (uint8_t)(rng_next(rng) | 1);
    return img_pwrite(image, p.bytes, p.length, p.offset, err);
}

static bool same(struct trial *t, const uint8_t *found, const char *when) {
    const struct model *m = t->judge->model;
    for (size_t i = 0; i < model_bytes(m); i++)
        if (found[i] != t->all[i])
            return fails(t->judge, "%s: byte %#zx of the windows is %02x, expected %02x;%s", when, i, found[i],
                         t->all[i], t->changes);
    return true;
}

static void trial_begin(struct trial *t, struct judge *j, const struct bytes *devices) {
    *t = (struct trial){.judge = j, .disk = log_new()};
    t->disk->fixed_size = j->log->fixed_size;
    for (unsigned d = 0; d < j->log->ndevices; d++) {
        struct bytes copy;
        bytes_clone(&copy, &devices[d]);
        log_add_device(t->disk, &copy, j->log->devices[d].path);
    }
    t->all = xcalloc(1, j->model ? model_bytes(j->model) : 1);
    t->passphrase = keys_now(&j->keys);
    j->last[0] = 0;
}

static void trial_end(struct trial *t) {
    log_publish(NULL);
    log_free(t->disk);
    free(t->all);
}

/* What going on leaked: nothing. But counts that a cut left behind the end of the file are no leaks until the file has
 * grown: when there seem to be more, the state is counted again at the length that the file has now. */
static bool leaks_nothing(struct trial *t, const struct bytes *devices, uint64_t before) {
    struct trial again;
    if (t->leaks <= before)
        return true;
    trial_begin(&again, t->judge, devices);
    if (again.disk->devices[0].now.length < t->disk->devices[0].now.length)
        bytes_truncate(&again.disk->devices[0].now, t->disk->devices[0].now.length);
    bool good = look(&again, UINT64_MAX, NULL, "after the cut, lengthened");
    if (good && t->leaks > again.leaks)
        good = fails(t->judge, "%" PRIu64 " leaks after changes and closing, %" PRIu64 " before;%s", t->leaks,
                     again.leaks, t->changes);
    trial_end(&again);
    return good;
}

enum { MORE_ROOM = 256 << 10 };

/* Writes on, and looks that nothing else changes. */
static bool go_on(struct trial *t, const struct bytes *devices, uint64_t seed) {
    struct judge *j = t->judge;
    struct img *image = NULL;
    struct img_error err = {0};
    struct rng rng = {seed};
    uint64_t leaks = t->leaks;
    if (t->disk->fixed_size) /* the device may have been full */
        bytes_truncate(&t->disk->devices[0].now, t->disk->devices[0].now.length + MORE_ROOM);
    if (open_disk(t, IMG_OPEN_WRITE, NULL, &image, &err))
        return fails(j, "does not open for writing: %s", err.text);
    bool good = true;
    for (unsigned turn = 0; turn < 8 && good; turn++)
        if (change_once(t, image, &rng, turn, &err))
            good = fails(j, "change %u after the cut fails: %s", turn, err.text);
    if (good && img_flush(image, &err))
        good = fails(j, "the flush after the cut fails: %s", err.text);
    uint8_t *found = xcalloc(1, model_bytes(j->model));
    if (good && judge_read(j->model, image, found, &err))
        good = fails(j, "cannot be read after changes: %s", err.text);
    good = good && same(t, found, "after changes");
    if (img_close(image, &err) && good)
        good = fails(j, "closing after changes fails: %s", err.text);
    good = good && look(t, UINT64_MAX, found, "after changes and closing");
    good = good && same(t, found, "after changes and closing");
    good = good && leaks_nothing(t, devices, leaks);
    free(found);
    return good;
}

/* ---- qemu-img ------------------------------------------------------------------------------------- */

static bool ask_qemu(const struct trial *t, const char *when) {
    struct judge *j = t->judge;
    const struct log *disk = t->disk;
    char image[512], why[512];
    snprintf(image, sizeof(image), "%s/state.qcow2", j->folder);
    int rc = bytes_save(&disk->devices[0].now, image);
    for (unsigned d = 1; d < disk->ndevices && rc == 0; d++)
        rc = bytes_save(&disk->devices[d].now, disk->devices[d].path);
    if (rc)
        DIE("cannot write a state into %s: %s", j->folder, strerror(-rc));
    return strcmp(j->format, "qcow2") || qemu_check(&j->qemu, image, t->passphrase, why, sizeof(why)) ||
           fails(j, "%s: %s", when, why);
}

/* ---- the whole ------------------------------------------------------------------------------------- */

static void keep_state(const struct judge *j, const struct replay_state *state) {
    char path[512];
    for (unsigned d = 0; d < j->log->ndevices; d++) {
        snprintf(path, sizeof(path), "%s/state-%u%s", j->keep, state->number, d ? ".data" : ".qcow2");
        bytes_save(&state->devices[d], path);
    }
}

bool judge_state(void *opaque, const struct replay_state *state) {
    struct judge *j = opaque;
    struct trial t;
    trial_begin(&t, j, state->devices);
    t.cut = state->cut;
    bool ask = j->qemu_every && j->judged++ % j->qemu_every == 0;
    if (j->dump)
        bytes_save(&state->devices[0], j->dump);
    bool good = keys_hold(j, t.disk, t.cut, &t.passphrase, j->last, sizeof(j->last));
    good = good && look(&t, UINT64_MAX, t.all, "after the cut");
    if (good && !model_allows(j->model, state->cut, t.size, t.all, j->last, sizeof(j->last)))
        good = false;
    good = good && look_at_switches(&t);
    good = good && look_at_snapshots(&t, "after the cut");
    good = good && look_at_marks(&t);
    good = good && (!ask || ask_qemu(&t, "after the cut"));
    good = good && go_on(&t, state->devices, mix64(state->number));
    good = good && look_at_snapshots(&t, "after changes");
    good = good && look_at_marks(&t);
    good = good && (!ask || state->number % 4 || ask_qemu(&t, "after changes"));
    trial_end(&t);
    if (!good && !j->why[0])
        memcpy(j->why, j->last, sizeof(j->why));
    if (!good && j->keep)
        keep_state(j, state);
    return good;
}

bool judge_clean(struct judge *j, const struct bytes *devices, uint64_t max_leaks) {
    struct trial t;
    trial_begin(&t, j, devices);
    bool good = look(&t, max_leaks, NULL, "after closing") && ask_qemu(&t, "after closing");
    trial_end(&t);
    return good;
}
