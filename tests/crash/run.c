/* SPDX-License-Identifier: GPL-3.0-or-later */
/* run.c - one scenario: prepare, record, replay (run.h). */
#include "run.h"

#include <inttypes.h>

void run_name(const struct scenario *s, enum executor executor, char *name, size_t size) {
    static const char *const ways[] = {"", "/ring", "/threads"};
    snprintf(name, size, "%s%s", s->name, ways[executor]);
}

static void prepare(struct world *w) {
    /* Again while QEMU cannot measure its key derivation, as on a busy machine. */
    static const char frame[] = "cd '%s' && for again in 1 2 3 4 5 6 7 8 9 10; do { %s; } >prepare.out 2>&1 && exit; "
                                "grep -q 'accurate CPU' prepare.out || exit 1; done; exit 1";
    char command[2048];
    if (snprintf(command, sizeof(command), frame, w->folder, w->scenario->prepare) >= (int)sizeof(command))
        DIE("%s: the commands are too long", w->scenario->name);
    if (system(command))
        DIE("%s: the image cannot be prepared: see %s/prepare.out", w->scenario->name, w->folder);
}

static void load(struct world *w, const char *file) {
    char path[128];
    struct bytes bytes = {0};
    snprintf(path, sizeof(path), "%s/%s", w->folder, file);
    int rc = bytes_load(&bytes, path);
    if (rc)
        DIE("%s: cannot load %s: %s", w->scenario->name, path, strerror(-rc));
    log_add_device(w->log, &bytes, path);
}

/* Puts the image onto a block device that held something else before. */
static void put_on_device(struct world *w) {
    struct bytes *bytes = &w->log->devices[0].now;
    for (uint64_t at = bytes->length; at < w->scenario->device_size; at++) {
        uint8_t old = (uint8_t)mix64(at) | 1;
        if (bytes_write(bytes, &old, 1, at))
            DIE("the device is too large");
    }
    w->log->fixed_size = true;
}

static struct img *open_as_it_is(struct world *w, const char *snapshot) {
    struct img_open_options options = {
        .format = w->judge.format, .snapshot = snapshot, .key = key_of(w->scenario->key)};
    struct img_error err = {0};
    struct img *image = NULL;
    log_publish(w->log);
    if (image_open_storage(log_open(w->log, 0, false), &options, &image, &err))
        DIE("%s: the prepared image does not open: %s", w->scenario->name, err.text);
    return image;
}

static void watch(struct world *w, struct img *image, uint64_t offset, uint64_t length) {
    struct img_error err = {0};
    uint64_t size = img_size(image);
    uint8_t *original = xcalloc(1, length);
    if (offset < size && img_pread(image, original, min_u64(length, size - offset), offset, &err))
        DIE("%s: the prepared image cannot be read: %s", w->scenario->name, err.text);
    model_watch(w->model, offset, length, original);
    free(original);
}

static void meet_snapshots(struct world *w) {
    const struct scenario *s = w->scenario;
    for (unsigned i = 0; i < sizeof(s->snapshots) / sizeof(s->snapshots[0]) && s->snapshots[i]; i++) {
        struct img *image = open_as_it_is(w, s->snapshots[i]);
        struct img_error err = {0};
        uint8_t *all = xcalloc(1, model_bytes(w->model));
        if (judge_read(w->model, image, all, &err))
            DIE("%s: snapshot %s cannot be read: %s", s->name, s->snapshots[i], err.text);
        w->judge.snapshots[w->judge.nsnapshots].name = s->snapshots[i];
        w->judge.snapshots[w->judge.nsnapshots].content = all;
        w->judge.snapshots[w->judge.nsnapshots].asked_away = w->judge.snapshots[w->judge.nsnapshots].gone = UINT64_MAX;
        w->judge.nsnapshots++;
        img_close(image, NULL);
    }
}

static void meet_image(struct world *w) {
    const struct scenario *s = w->scenario;
    struct img *image = open_as_it_is(w, NULL);
    uint64_t size = img_size(image);
    w->model = model_new(w->log, size);
    if (s->cache == IMG_CACHE_WRITETHROUGH || s->cache == IMG_CACHE_DIRECTSYNC)
        model_write_through(w->model);
    watch(w, image, 0, s->watch ? s->watch : size);
    if (s->far)
        watch(w, image, s->far, s->far_length);
    bitmaps_meet(&w->judge.bitmaps, image);
    keys_meet(&w->judge.keys, s->key);
    img_close(image, NULL);
    w->judge.original = xcalloc(1, model_bytes(w->model));
    model_newest(w->model, w->judge.original);
    meet_snapshots(w);
}

static void record(struct world *w) {
    const struct scenario *s = w->scenario;
    log_start(w->log);
    w->log->jitter = s->jitter;
    w->log->without_zero = s->without_zero;
    world_open(w);
    s->run(w);
    if (s->ends_open) {
        guest_leave(w);
        img_close(w->image, NULL);
    } else {
        struct model_event *last = model_flush(w->model);
        world_close(w);
        model_done(w->model, last, true);
    }
    w->log->hook = NULL;
    w->log->fault = NULL;
    log_seal(w->log);
    model_seal(w->model);
}

static unsigned qemu_every(const struct run_options *o) {
    if (o->qemu >= 0)
        return (unsigned)o->qemu;
    return o->all || o->state >= 0 ? 1 : 50;
}

static bool report(struct world *w, const struct run_options *o, const struct replay_result *r) {
    char name[128];
    run_name(w->scenario, w->executor, name, sizeof(name));
    unsigned wanted = w->scenario->states_wanted ? w->scenario->states_wanted : STATES_WANTED;
    bool enough = !o->all || r->states >= wanted || o->state >= 0;
    if (r->failing) {
        printf("# state %u: %s\n# %s\n", r->first_failing, w->judge.why, r->first_choice);
        printf("# again: crash_test --scenario %s --seed %" PRIu64 " --state %u --dump FILE\n", name, o->seed,
               r->first_failing);
    }
    if (!enough)
        printf("# %u states are fewer than %u\n", r->states, wanted);
    printf("= %u states of %u choices at %u cuts, %u failing; qemu-img was asked %u times, %u of them afresh\n",
           r->states, r->choices, r->cuts, r->failing, w->judge.qemu.asked, w->judge.qemu.fresh);
    return r->failing == 0 && enough && r->states > 0;
}

bool run_scenario(const struct scenario *s, enum executor executor, const struct run_options *o, const char *folder) {
    struct world w = {.scenario = s, .executor = executor, .log = log_new(), .rng = {mix64(o->seed)}};
    snprintf(w.folder, sizeof(w.folder), "%s", folder);
    w.judge = (struct judge){
        .log = w.log,
        .folder = w.folder,
        .qemu_every = qemu_every(o),
        .keep = o->keep,
        .dump = o->dump,
        .format = s->format ? s->format : "qcow2",
    };
    prepare(&w);
    load(&w, "image.qcow2");
    if (s->data_file)
        load(&w, "data.raw");
    if (s->base_file)
        load(&w, "base.qcow2");
    if (s->device_size)
        put_on_device(&w);
    meet_image(&w);
    w.judge.model = w.model;
    record(&w);

    struct replay_options options = {
        .seed = o->seed,
        .sample = o->all ? 0 : o->sample,
        .only = o->state,
        .stop_after = o->stop,
    };
    options.nmarks = model_marks(w.model, &options.marks);
    struct replay_result result;
    replay(w.log, &options, judge_state, &w.judge, &result);
    bool good = report(&w, o, &result);

    qemu_end(&w.judge.qemu);
    for (unsigned i = 0; i < w.judge.nsnapshots; i++)
        free(w.judge.snapshots[i].content);
    for (unsigned i = 0; i < w.judge.nswitches; i++) {
        free(w.judge.switches[i].before);
        free(w.judge.switches[i].after);
    }
    bitmaps_forget(&w.judge.bitmaps);
    free(w.judge.original);
    model_free(w.model);
    log_free(w.log);
    return good;
}
