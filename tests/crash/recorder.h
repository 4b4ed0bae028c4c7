/* SPDX-License-Identifier: GPL-3.0-or-later */
/* recorder.h - a storage in memory that keeps a log of all that was done to it.
 *
 * A log has one or two devices (an image and its external data file). Each operation gets three ticks of one clock:
 * when it was submitted, when its bytes arrived, when its caller was told. A barrier covers what had ended before it
 * started, from the moment it ends: so the log judges many threads as rightly as one. The model of the guest uses the
 * same clock.
 *
 * To the engine it is one more storage (libimg/storage.h); nothing in the engine knows about it. A hook is called
 * without any lock at each stage of an operation, so that a test may do something else at just that moment, or hold it
 * there; a fault function may fail any operation before it has an effect.
 */
#ifndef CRASH_RECORDER_H
#define CRASH_RECORDER_H

#include <pthread.h>

#include "bytes.h"
#include "storage.h"

enum record_kind {
    RECORD_WRITE,
    RECORD_ZERO,
    RECORD_PUNCH,
    RECORD_TRUNCATE, /* `length` is the new length */
    RECORD_RESERVE,
    RECORD_FLUSH,
    RECORD_READ, /* told to the hook only, never in the log */
};

#define RECORD_NEVER UINT64_MAX

struct record {
    enum record_kind kind;
    unsigned id, device;
    uint64_t offset, length; /* bytes */
    uint8_t *data;           /* RECORD_WRITE: owned */
    uint64_t started, applied, ended;
    int error;        /* of a flush: 0 or -errno. Other operations that fail are not recorded */
    uint64_t durable; /* from this tick on it survives a power cut; set by log_seal */
};

/* Submitted; its bytes have arrived; the log has it ended, and its caller is about to learn it. */
enum record_stage { RECORD_STARTED, RECORD_APPLIED, RECORD_ENDED };

enum { LOG_DEVICES = 2 };

struct log_device {
    struct bytes start, now; /* when recording began, and now */
    char *path;              /* owned; what the engine believes to open */
};

struct log {
    pthread_mutex_t lock;
    uint64_t clock;
    struct record **records; /* by start */
    unsigned nrecords, room;
    struct log_device devices[LOG_DEVICES];
    unsigned ndevices;

    /* set between operations only */
    bool recording;    /* else it is plain memory */
    bool fixed_size;   /* a block device: its length cannot change, and fresh space holds anything */
    bool without_zero; /* the storage has no way to zero or punch: the engine must write */
    uint64_t jitter;   /* not 0: give way to other threads at places that this seed chooses */
    void (*hook)(void *opaque, const struct record *record, enum record_stage stage);
    int (*fault)(void *opaque, const struct record *record); /* 0, or the -errno to fail with */
    void *opaque;
};

struct log *log_new(void);
void log_free(struct log *log);
/* Adds a device with these bytes (taken over); returns its number. */
unsigned log_add_device(struct log *log, struct bytes *bytes, const char *path);
/* From now on everything is recorded; what the devices hold now is what surely survives. */
void log_start(struct log *log);
/* No operation runs any more: works out from when on each one is durable. A barrier that failed loses what it should
 * have covered: no later barrier covers that (as Linux does it). */
void log_seal(struct log *log);
/* The next tick of the clock. */
uint64_t log_tick(struct log *log);

/* A device as a storage; the log outlives it. */
struct storage *log_open(struct log *log, unsigned device, bool writable);

/* While set, the engine's own opening of a device's path gives the device of this log (the program is linked with
 * --wrap=file_open): external data files. NULL: only the host's files. */
void log_publish(struct log *log);

const char *record_kind_name(enum record_kind kind);
#endif
