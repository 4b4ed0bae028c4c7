/* SPDX-License-Identifier: GPL-3.0-or-later */
/* selftest.c - the recorder, the replayer and the model on toys whose answers are known; and that the peer is asked.
 *
 * A toy keeps a record of two sectors behind a pointer in sector 0. One version orders its writes, the others each
 * break one rule: the replayer must fail exactly those. The model is asked about cuts with a known verdict.
 */
#include "selftest.h"

#include <errno.h>
#include <unistd.h>

#include "model.h"
#include "qemu.h"
#include "replayer.h"
#include "util.h"

enum { SECTOR = 512, POINTER = 0, PLACES = 4 };

#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            printf("# %s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                           \
            return false;                                                                                              \
        }                                                                                                              \
    } while (0)

/* ---- the toy ------------------------------------------------------------------------------------ */

static struct log *toy_log(uint64_t length) {
    struct bytes bytes = {0};
    struct log *log = log_new();
    bytes_truncate(&bytes, length);
    log_add_device(log, &bytes, "toy");
    log_start(log);
    return log;
}

static void put(struct storage *s, uint64_t offset, uint8_t value, size_t sectors) {
    uint8_t data[8 * SECTOR];
    memset(data, value, sizeof(data));
    if (storage_write(s, data, sectors * SECTOR, offset))
        DIE("a write to memory fails");
}

/* The pointer names a record (place times two sectors); both its sectors hold the place's number, or there is none. */
static bool toy_is_sound(void *opaque, const struct replay_state *state) {
    (void)opaque;
    uint8_t pointer, record[2 * SECTOR];
    bytes_read(&state->devices[0], &pointer, 1, POINTER);
    if (!pointer)
        return true;
    uint64_t at = (1 + 2 * (uint64_t)pointer) * SECTOR;
    bytes_read(&state->devices[0], record, sizeof(record), at);
    return record[0] == pointer && memcmp(record, record + 1, sizeof(record) - 1) == 0;
}

enum toy { TOY_RIGHT, TOY_NO_BARRIER, TOY_POINTER_FIRST, TOY_BARRIER_TOO_EARLY };

static void toy_store(struct storage *s, uint8_t place, enum toy toy) {
    if (toy == TOY_POINTER_FIRST)
        put(s, POINTER, place, 1);
    if (toy == TOY_BARRIER_TOO_EARLY && storage_flush(s))
        DIE("a flush of memory fails");
    put(s, (1 + 2 * (uint64_t)place) * SECTOR, place, 2);
    if (toy != TOY_NO_BARRIER && toy != TOY_BARRIER_TOO_EARLY && storage_flush(s))
        DIE("a flush of memory fails");
    put(s, POINTER, place, 1);
    if (storage_flush(s))
        DIE("a flush of memory fails");
}

static struct replay_result replay_all(struct log *log, replay_judge judge, void *opaque) {
    struct replay_options options = {.only = -1};
    struct replay_result result;
    log_seal(log);
    replay(log, &options, judge, opaque, &result);
    return result;
}

static unsigned toy_failing(enum toy toy) {
    struct log *log = toy_log(16 * SECTOR);
    struct storage *s = log_open(log, 0, true);
    for (unsigned place = 1; place < PLACES; place++)
        toy_store(s, (uint8_t)place, toy);
    storage_close(s);
    struct replay_result result = replay_all(log, toy_is_sound, NULL);
    log_free(log);
    return result.failing;
}

static bool test_right_order(void) {
    EXPECT(toy_failing(TOY_RIGHT) == 0);
    return true;
}

static bool test_wrong_orders(void) {
    EXPECT(toy_failing(TOY_NO_BARRIER) > 0);
    EXPECT(toy_failing(TOY_POINTER_FIRST) > 0);
    EXPECT(toy_failing(TOY_BARRIER_TOO_EARLY) > 0);
    return true;
}

/* ---- what the replayer builds --------------------------------------------------------------------- */

/* A set of states seen, by the first byte of sectors 0 to 5 in decimal and the length. */
struct seen {
    uint64_t keys[1024];
    unsigned count;
};

static bool note_state(void *opaque, const struct replay_state *state) {
    struct seen *seen = opaque;
    uint64_t key = state->devices[0].length / SECTOR;
    for (uint64_t sector = 0; sector < 6; sector++) {
        uint8_t byte;
        bytes_read(&state->devices[0], &byte, 1, sector * SECTOR);
        key = key * 10 + byte;
    }
    if (seen->count < 1024)
        seen->keys[seen->count++] = key;
    return true;
}

static bool was_seen(const struct seen *seen, uint64_t key) {
    for (unsigned i = 0; i < seen->count; i++)
        if (seen->keys[i] == key)
            return true;
    return false;
}

static bool test_every_subset(void) {
    struct log *log = toy_log(6 * SECTOR);
    struct storage *s = log_open(log, 0, true);
    put(s, 0, 1, 1);
    put(s, SECTOR, 2, 1);
    put(s, 2 * SECTOR, 3, 2); /* two units */
    storage_close(s);
    struct seen seen = {.count = 0};
    struct replay_result result = replay_all(log, note_state, &seen);
    log_free(log);
    EXPECT(result.states == 16 && seen.count == 16);
    EXPECT(was_seen(&seen, 6000000) && was_seen(&seen, 6123300) && was_seen(&seen, 6020300) &&
           was_seen(&seen, 6003000));
    return true;
}

static bool test_durable_stays(void) {
    struct log *log = toy_log(6 * SECTOR);
    struct storage *s = log_open(log, 0, true);
    put(s, 0, 1, 1);
    EXPECT(storage_flush(s) == 0);
    put(s, 0, 2, 1);
    put(s, SECTOR, 3, 1);
    storage_close(s);
    struct seen seen = {.count = 0};
    replay_all(log, note_state, &seen);
    log_free(log);
    EXPECT(was_seen(&seen, 6000000) && was_seen(&seen, 6100000)); /* before the barrier both, */
    EXPECT(was_seen(&seen, 6130000) && was_seen(&seen, 6200000)); /* behind it only with sector 0 */
    EXPECT(!was_seen(&seen, 6030000));
    return true;
}

static bool test_lengths_are_operations(void) {
    struct log *log = toy_log(2 * SECTOR);
    struct storage *s = log_open(log, 0, true);
    EXPECT(s->ops->truncate(s, 5 * SECTOR) == 0);
    put(s, 3 * SECTOR, 7, 1);
    EXPECT(s->ops->punch(s, 3 * SECTOR, SECTOR) == 0);
    EXPECT(s->ops->truncate(s, SECTOR) == 0);
    storage_close(s);
    struct seen seen = {.count = 0};
    replay_all(log, note_state, &seen);
    log_free(log);
    EXPECT(was_seen(&seen, 2000000)); /* nothing */
    EXPECT(was_seen(&seen, 4000700)); /* the write without the new length */
    EXPECT(was_seen(&seen, 5000700) && was_seen(&seen, 5000000) && was_seen(&seen, 1000000));
    return true;
}

struct overlap {
    struct log *log;
    struct storage *s;
    bool inside;
};

/* A barrier that starts and ends while the first write is under way. */
static void flush_inside(void *opaque, const struct record *r, enum record_stage stage) {
    struct overlap *o = opaque;
    if (o->inside || r->kind != RECORD_WRITE || stage != RECORD_APPLIED)
        return;
    o->inside = true;
    if (storage_flush(o->s))
        DIE("a flush of memory fails");
    o->inside = false;
}

static bool test_barrier_covers_what_ended(void) {
    struct log *log = toy_log(6 * SECTOR);
    struct overlap o = {log, log_open(log, 0, true), false};
    log->hook = flush_inside;
    log->opaque = &o;
    put(o.s, 0, 1, 1);
    put(o.s, SECTOR, 2, 1);
    storage_close(o.s);
    log_seal(log);
    EXPECT(log->nrecords == 4);
    EXPECT(log->records[1]->kind == RECORD_FLUSH && log->records[0]->ended > log->records[1]->ended);
    EXPECT(log->records[0]->durable == log->records[3]->ended); /* by the second, not by the first */
    EXPECT(log->records[2]->durable == RECORD_NEVER);
    log_free(log);
    return true;
}

static int fail_first_flush(void *opaque, const struct record *r) {
    unsigned *flushes = opaque;
    return r->kind == RECORD_FLUSH && (*flushes)++ == 0 ? -EIO : 0;
}

static bool test_failed_barrier_loses(void) {
    struct log *log = toy_log(6 * SECTOR);
    struct storage *s = log_open(log, 0, true);
    unsigned flushes = 0;
    log->fault = fail_first_flush;
    log->opaque = &flushes;
    put(s, 0, 1, 1);
    EXPECT(storage_flush(s) == -EIO);
    put(s, SECTOR, 2, 1);
    EXPECT(storage_flush(s) == 0);
    storage_close(s);
    log_seal(log);
    EXPECT(log->records[0]->durable == RECORD_NEVER);
    EXPECT(log->records[2]->durable == log->records[3]->ended);
    log_free(log);
    return true;
}

/* ---- the model ------------------------------------------------------------------------------------- */

static bool allows(const struct model *m, uint64_t cut, uint8_t value) {
    uint8_t all[SECTOR];
    char why[512];
    memset(all, value, sizeof(all));
    return model_allows(m, cut, SECTOR, all, why, sizeof(why));
}

static struct model_event *ask(struct model *m, uint8_t value) {
    uint8_t data[SECTOR];
    memset(data, value, sizeof(data));
    return model_write(m, 0, SECTOR, data);
}

static bool test_model_of_flush(void) {
    struct log *clock = log_new();
    struct model *m = model_new(clock, SECTOR);
    model_watch(m, 0, SECTOR, NULL);
    uint64_t at_start = log_tick(clock);
    model_done(m, ask(m, 1), true);
    uint64_t written = log_tick(clock);
    struct model_event *flush = model_flush(m);
    struct model_event *during = ask(m, 2);
    model_done(m, during, true);
    uint64_t running = log_tick(clock);
    model_done(m, flush, true);
    uint64_t flushed = log_tick(clock);
    model_seal(m);
    EXPECT(allows(m, at_start, 0) && !allows(m, at_start, 1));
    EXPECT(allows(m, written, 0) && allows(m, written, 1) && !allows(m, written, 2));
    EXPECT(allows(m, running, 0) && allows(m, running, 1) && allows(m, running, 2));
    EXPECT(!allows(m, flushed, 0) && allows(m, flushed, 1) && allows(m, flushed, 2) && !allows(m, flushed, 3));
    model_free(m);
    log_free(clock);
    return true;
}

static bool test_model_of_concurrency(void) {
    struct log *clock = log_new();
    struct model *m = model_new(clock, SECTOR);
    model_watch(m, 0, SECTOR, NULL);
    struct model_event *a = ask(m, 1), *b = ask(m, 2);
    model_done(m, b, true);
    model_done(m, a, true);
    model_done(m, ask(m, 3), false); /* failed: may show, settles nothing */
    model_done(m, model_flush(m), true);
    uint64_t end = log_tick(clock);
    model_seal(m);
    EXPECT(allows(m, end, 1) && allows(m, end, 2) && allows(m, end, 3) && !allows(m, end, 0));
    model_free(m);
    log_free(clock);
    return true;
}

static bool test_model_of_sizes(void) {
    struct log *clock = log_new();
    struct model *m = model_new(clock, SECTOR);
    uint8_t one[SECTOR], zero[SECTOR] = {0};
    char why[512];
    memset(one, 1, sizeof(one));
    model_watch(m, 0, SECTOR, one);
    struct model_event *shrink = model_resize(m, 0);
    uint64_t running = log_tick(clock);
    model_done(m, shrink, true);
    uint64_t shrunk = log_tick(clock);
    model_done(m, model_resize(m, SECTOR), true);
    uint64_t grown = log_tick(clock);
    model_seal(m);
    EXPECT(model_allows(m, running, SECTOR, one, why, sizeof(why)));
    EXPECT(!model_allows(m, running, SECTOR, zero, why, sizeof(why))); /* the old size has the old bytes */
    EXPECT(model_allows(m, running, 0, zero, why, sizeof(why)));
    EXPECT(!model_allows(m, shrunk, SECTOR, one, why, sizeof(why)));
    EXPECT(!model_allows(m, grown, 0, zero, why, sizeof(why)));
    EXPECT(model_allows(m, grown, SECTOR, zero, why, sizeof(why)));
    EXPECT(!model_allows(m, grown, SECTOR, one, why, sizeof(why))); /* cut off is gone */
    model_free(m);
    log_free(clock);
    return true;
}

/* ---- the peer ----------------------------------------------------------------------------------- */

static bool test_kept_qemu_img(void) {
    char path[] = "/dev/shm/crash-self.XXXXXX", command[256], why[512] = "";
    struct qemu qemu = {0};
    int fd = mkstemp(path);
    snprintf(command, sizeof(command), "qemu-img create -q -f qcow2 -o cluster_size=512 %s 1M", path);
    EXPECT(fd >= 0 && system(command) == 0);
    bool answers[5];
    pid_t kept[5];
    for (int i = 0; i < 5; i++) {
        /* the fourth time the L1 table has an entry that is not aligned */
        EXPECT(pwrite(fd, i == 3 ? "\1" : "", 1, 3 * 512 + 6) == 1);
        answers[i] = qemu_check(&qemu, path, NULL, why, sizeof(why));
        kept[i] = qemu.kept;
    }
    qemu_end(&qemu);
    close(fd);
    unlink(path);
    EXPECT(answers[0] && answers[1] && answers[2] && answers[4]);
    EXPECT(!answers[3] && strstr(why, "exits with 2"));
    EXPECT(kept[0] && kept[0] == kept[4]);
    EXPECT(qemu.fresh == 2); /* the first, and the bad one */
    return true;
}

static const struct {
    const char *name;
    bool (*run)(void);
} tests[] = {
    {"a toy that orders its writes passes", test_right_order},
    {"toys that do not are caught", test_wrong_orders},
    {"every subset of few units in flight is built, and nothing twice", test_every_subset},
    {"what is durable is in every state", test_durable_stays},
    {"changes of length, punches and writes are lost one by one", test_lengths_are_operations},
    {"a barrier covers what had ended before it started", test_barrier_covers_what_ended},
    {"a failed barrier loses what it should have covered", test_failed_barrier_loses},
    {"model: what a flush promises", test_model_of_flush},
    {"model: concurrent and failed writes", test_model_of_concurrency},
    {"model: sizes", test_model_of_sizes},
    {"the kept qemu-img finds what is wrong, and goes on", test_kept_qemu_img},
};

unsigned selftest_count(void) {
    return sizeof(tests) / sizeof(tests[0]);
}

int selftest(unsigned first, unsigned *count) {
    int bad = 0;
    for (unsigned i = 0; i < selftest_count(); i++) {
        bool good = tests[i].run();
        printf("%sok %u - self-test: %s\n", good ? "" : "not ", first + i, tests[i].name);
        bad += !good;
    }
    *count = selftest_count();
    return bad;
}
