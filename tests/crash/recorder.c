/* SPDX-License-Identifier: GPL-3.0-or-later */
/* recorder.c - the storage that keeps a log (recorder.h). */
#include "recorder.h"

#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "util.h"

struct recorder_storage {
    struct storage storage; /* first */
    struct log *log;
    unsigned device;
};

static struct log_device *device_of(struct storage *s, struct log **log) {
    struct recorder_storage *r = (struct recorder_storage *)s;
    *log = r->log;
    return &r->log->devices[r->device];
}

/* ---- the log --------------------------------------------------------------------------------- */

struct log *log_new(void) {
    struct log *log = xcalloc(1, sizeof(*log));
    pthread_mutex_init(&log->lock, NULL);
    log->clock = 1;
    return log;
}

void log_free(struct log *log) {
    if (!log)
        return;
    for (unsigned i = 0; i < log->nrecords; i++) {
        free(log->records[i]->data);
        free(log->records[i]);
    }
    for (unsigned i = 0; i < log->ndevices; i++) {
        bytes_free(&log->devices[i].start);
        bytes_free(&log->devices[i].now);
        free(log->devices[i].path);
    }
    free(log->records);
    pthread_mutex_destroy(&log->lock);
    free(log);
}

unsigned log_add_device(struct log *log, struct bytes *bytes, const char *path) {
    if (log->ndevices == LOG_DEVICES)
        DIE("too many devices");
    struct log_device *device = &log->devices[log->ndevices];
    device->now = *bytes;
    *bytes = (struct bytes){0};
    device->path = strdup(path);
    return log->ndevices++;
}

void log_start(struct log *log) {
    for (unsigned i = 0; i < log->ndevices; i++) {
        bytes_free(&log->devices[i].start);
        bytes_clone(&log->devices[i].start, &log->devices[i].now);
    }
    log->recording = true;
}

uint64_t log_tick(struct log *log) {
    pthread_mutex_lock(&log->lock);
    uint64_t tick = log->clock++;
    pthread_mutex_unlock(&log->lock);
    return tick;
}

const char *record_kind_name(enum record_kind kind) {
    static const char *const names[] = {"write", "zero", "punch", "truncate", "reserve", "flush", "read"};
    return names[kind];
}

/* A failed barrier between the end of the operation and the barrier that would cover it: the bytes may be gone. */
static bool lost_before(const struct log *log, const struct record *r, const struct record *barrier) {
    for (unsigned i = 0; i < log->nrecords; i++) {
        const struct record *f = log->records[i];
        if (f->kind == RECORD_FLUSH && f->error && f->device == r->device && f->ended > r->applied &&
            f->started < barrier->ended)
            return true;
    }
    return false;
}

static uint64_t durable_from(const struct log *log, const struct record *r) {
    uint64_t best = RECORD_NEVER;
    for (unsigned i = 0; i < log->nrecords; i++) {
        const struct record *f = log->records[i];
        bool covers = f->kind == RECORD_FLUSH && !f->error && f->device == r->device && r->ended < f->started;
        if (covers && f->ended < best && !lost_before(log, r, f))
            best = f->ended;
    }
    return best;
}

void log_seal(struct log *log) {
    log->recording = false;
    for (unsigned i = 0; i < log->nrecords; i++) {
        struct record *r = log->records[i];
        if (r->kind != RECORD_FLUSH)
            r->durable = durable_from(log, r);
    }
}

/* ---- one operation --------------------------------------------------------------------------- */

static void give_way(struct log *log, uint64_t tick) {
    uint64_t chance = mix64(log->jitter ^ tick);
    if (!log->jitter)
        return;
    if (chance % 8 == 0)
        usleep(chance / 8 % 200);
    else if (chance % 2 == 0)
        sched_yield();
}

static void tell_hook(struct log *log, const struct record *r, enum record_stage stage) {
    if (log->recording && log->hook)
        log->hook(log->opaque, r, stage);
}

static void record_append(struct log *log, struct record *r) {
    pthread_mutex_lock(&log->lock);
    if (log->nrecords == log->room) {
        log->room = log->room * 2 + 256;
        log->records = xrealloc(log->records, log->room * sizeof(*log->records));
    }
    r->started = log->clock++;
    r->id = log->nrecords;
    log->records[log->nrecords++] = r;
    pthread_mutex_unlock(&log->lock);
}

static int apply(struct bytes *b, const struct record *r) {
    switch (r->kind) {
    case RECORD_WRITE:
        return bytes_write(b, r->data, r->length, r->offset);
    case RECORD_ZERO:
    case RECORD_PUNCH:
        bytes_zero(b, r->offset, r->length);
        return 0;
    case RECORD_TRUNCATE:
        return bytes_truncate(b, r->length);
    case RECORD_RESERVE:
        return r->offset + r->length > b->length ? bytes_truncate(b, r->offset + r->length) : 0;
    case RECORD_FLUSH:
    case RECORD_READ:
        return 0;
    }
    return -EINVAL;
}

/* Runs one changing operation through fault, log and hook. `model` is copied; its data are taken over. */
static int perform(struct storage *s, const struct record *model) {
    struct log *log;
    struct log_device *device = device_of(s, &log);
    if (!s->writable && model->kind != RECORD_FLUSH) {
        free(model->data);
        return -EBADF;
    }
    int error = log->fault ? log->fault(log->opaque, model) : 0;
    if ((error && model->kind != RECORD_FLUSH) || !log->recording) {
        if (!error) {
            pthread_mutex_lock(&log->lock);
            error = apply(&device->now, model);
            pthread_mutex_unlock(&log->lock);
        }
        free(model->data);
        return error;
    }

    struct record *r = xcalloc(1, sizeof(*r));
    *r = *model;
    r->applied = r->ended = r->durable = RECORD_NEVER;
    r->error = error;
    record_append(log, r);
    tell_hook(log, r, RECORD_STARTED);
    give_way(log, r->started);

    pthread_mutex_lock(&log->lock);
    int rc = log->fixed_size && r->offset + r->length > device->now.length ? -ENOSPC : apply(&device->now, r);
    if (rc)
        DIE("a %s at %#llx, length %#llx, is beyond what a test may do", record_kind_name(r->kind),
            (unsigned long long)r->offset, (unsigned long long)r->length);
    r->applied = log->clock++;
    pthread_mutex_unlock(&log->lock);

    tell_hook(log, r, RECORD_APPLIED);
    give_way(log, r->applied);
    r->ended = log_tick(log);
    tell_hook(log, r, RECORD_ENDED);
    return error;
}

/* ---- the storage ----------------------------------------------------------------------------- */

static int recorder_read(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct log *log;
    struct log_device *device = device_of(s, &log);
    struct record r = {.kind = RECORD_READ, .device = (unsigned)(device - log->devices), .offset = offset};
    for (int i = 0; i < niov; i++)
        r.length += iov[i].iov_len;
    tell_hook(log, &r, RECORD_STARTED);
    pthread_mutex_lock(&log->lock);
    for (int i = 0; i < niov; i++) {
        bytes_read(&device->now, iov[i].iov_base, iov[i].iov_len, offset);
        offset += iov[i].iov_len;
    }
    pthread_mutex_unlock(&log->lock);
    tell_hook(log, &r, RECORD_ENDED);
    return 0;
}

static int recorder_write(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct log *log;
    struct record r = {.kind = RECORD_WRITE, .device = (unsigned)(device_of(s, &log) - log->devices), .offset = offset};
    for (int i = 0; i < niov; i++)
        r.length += iov[i].iov_len;
    if (r.length == 0)
        return 0;
    r.data = xcalloc(1, r.length);
    size_t at = 0;
    for (int i = 0; i < niov; i++) {
        memcpy(r.data + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    return perform(s, &r);
}

static int perform_range(struct storage *s, enum record_kind kind, uint64_t offset, uint64_t length) {
    struct log *log;
    unsigned device = (unsigned)(device_of(s, &log) - log->devices);
    return perform(s, &(struct record){.kind = kind, .device = device, .offset = offset, .length = length});
}

static int recorder_flush(struct storage *s) {
    return perform_range(s, RECORD_FLUSH, 0, 0);
}

static int recorder_zero(struct storage *s, uint64_t offset, uint64_t length, bool unmap) {
    struct log *log;
    device_of(s, &log);
    return log->without_zero ? -ENOTSUP : perform_range(s, unmap ? RECORD_PUNCH : RECORD_ZERO, offset, length);
}

static int recorder_punch(struct storage *s, uint64_t offset, uint64_t length) {
    return recorder_zero(s, offset, length, true);
}

static int recorder_truncate(struct storage *s, uint64_t length) {
    if (s->fixed_size)
        return -ENOTSUP;
    return perform_range(s, RECORD_TRUNCATE, 0, length);
}

static int recorder_reserve(struct storage *s, uint64_t offset, uint64_t length) {
    return perform_range(s, RECORD_RESERVE, offset, length);
}

static int recorder_extent(struct storage *s, uint64_t offset, uint64_t length, struct storage_extent *extent) {
    struct log *log;
    struct log_device *device = device_of(s, &log);
    pthread_mutex_lock(&log->lock);
    extent->length = bytes_extent(&device->now, offset, length, &extent->zero);
    pthread_mutex_unlock(&log->lock);
    return 0;
}

static uint64_t recorder_size(struct storage *s) {
    struct log *log;
    struct log_device *device = device_of(s, &log);
    pthread_mutex_lock(&log->lock);
    uint64_t length = device->now.length;
    pthread_mutex_unlock(&log->lock);
    return length;
}

static uint64_t recorder_allocated(struct storage *s) {
    struct log *log;
    struct log_device *device = device_of(s, &log);
    pthread_mutex_lock(&log->lock);
    uint64_t allocated = bytes_allocated(&device->now);
    pthread_mutex_unlock(&log->lock);
    return allocated;
}

static void recorder_close(struct storage *s) {
    free(s->name);
    free(s);
}

static const struct storage_ops recorder_ops = {
    .read = recorder_read,
    .write = recorder_write,
    .flush = recorder_flush,
    .zero = recorder_zero,
    .punch = recorder_punch,
    .truncate = recorder_truncate,
    .reserve = recorder_reserve,
    .extent = recorder_extent,
    .size = recorder_size,
    .allocated = recorder_allocated,
    .close = recorder_close,
};

struct storage *log_open(struct log *log, unsigned device, bool writable) {
    struct recorder_storage *r = xcalloc(1, sizeof(*r));
    r->storage.ops = &recorder_ops;
    r->storage.name = strdup(log->devices[device].path);
    r->storage.writable = writable;
    r->storage.fixed_size = log->fixed_size;
    r->log = log;
    r->device = device;
    return &r->storage;
}

/* ---- files that the engine opens by itself ------------------------------------------------------ */

static struct log *published;

void log_publish(struct log *log) {
    published = log;
}

/* The same but for steps that go nowhere ("/./"). */
static bool same_path(const char *a, const char *b) {
    while (*a && *b) {
        while (strncmp(a, "/./", 3) == 0)
            a += 2;
        while (strncmp(b, "/./", 3) == 0)
            b += 2;
        if (*a != *b)
            return false;
        a++;
        b++;
    }
    return *a == *b;
}

int __real_file_open(const char *path, uint32_t flags, enum img_cache cache, struct storage **out,
                     struct img_error *err);
int __wrap_file_open(const char *path, uint32_t flags, enum img_cache cache, struct storage **out,
                     struct img_error *err);

int __wrap_file_open(const char *path, uint32_t flags, enum img_cache cache, struct storage **out,
                     struct img_error *err) {
    for (unsigned i = 0; published && i < published->ndevices; i++) {
        if (same_path(path, published->devices[i].path)) {
            *out = log_open(published, i, flags & IMG_OPEN_WRITE);
            return 0;
        }
    }
    return __real_file_open(path, flags, cache, out, err);
}
