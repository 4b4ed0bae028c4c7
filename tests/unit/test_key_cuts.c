// SPDX-License-Identifier: GPL-3.0-or-later
/* test_key_cuts.c - power cuts while the key slots of a LUKS volume change.
 *
 * A storage in memory keeps a list of its writes and barriers. For each moment, what a barrier had covered is there,
 * and of the writes since any may be there, whole or torn at 512 bytes. In each such state the header is read, every
 * slot that it calls active opens with its passphrase, and at least one is active.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/keyslot.h"
#include "image_util.h"
#include "unit/memory_storage.h"

enum { SECTOR = 512, MOST = 32 };

static const struct img_key first = {"first", 5}, second = {"second", 6};

struct operation {
    uint64_t offset;
    size_t count;
    uint8_t *bytes; /* NULL: a barrier */
};

static struct memory_storage volume;
static struct operation done[MOST];
static unsigned ndone;
static int (*plain_write)(struct storage *, const struct iovec *, int, uint64_t);

static int log_write(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    assert_int_equal(niov, 1);
    assert_true(ndone < MOST);
    done[ndone] = (struct operation){offset, iov->iov_len, malloc(iov->iov_len)};
    memcpy(done[ndone++].bytes, iov->iov_base, iov->iov_len);
    return plain_write(s, iov, niov, offset);
}

static int log_flush(struct storage *s) {
    (void)s;
    assert_true(ndone < MOST);
    done[ndone++] = (struct operation){0};
    return 0;
}

/* ---- states ---------- */

struct judge {
    const struct img_key *keys[LUKS_SLOTS]; /* what an active slot opens with */
    uint8_t *before;                        /* the volume when the list began */
    unsigned states;
};

static void judge(struct judge *j, struct memory_storage *state, const char *what) {
    struct luks_place place = {.file = &state->base, .length = state->size};
    struct luks_header h;
    uint8_t master[LUKS_KEY_MAX];
    unsigned active = 0;
    j->states++;
    if (luks_read(&place, &h, &err))
        fail_msg("%s: %s", what, err.text);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        uint64_t budget = UINT64_MAX;
        if (!h.slots[i].active)
            continue;
        active++;
        assert_non_null(j->keys[i]);
        if (luks_try_slot(&place, &h, i, j->keys[i], &budget, master, &err) != 1)
            fail_msg("%s: slot %u is active and does not open", what, i);
    }
    if (!active)
        fail_msg("%s: no slot is left", what);
}

/* The sectors of an operation that `chosen` takes. */
static void apply(struct memory_storage *state, const struct operation *o, bool (*chosen)(uint64_t sector)) {
    for (size_t at = 0; at < o->count; at += SECTOR)
        if (!chosen || chosen(at / SECTOR)) {
            size_t n = o->count - at < SECTOR ? o->count - at : SECTOR;
            memcpy(state->bytes + o->offset + at, o->bytes + at, n);
        }
}

static bool even(uint64_t sector) {
    return sector % 2 == 0;
}
static bool odd(uint64_t sector) {
    return sector % 2 == 1;
}

/* All that may be there when the first `cut` operations had been asked for. */
static void judge_cut(struct judge *j, unsigned cut) {
    static bool (*const torn[])(uint64_t) = {NULL, even, odd};
    unsigned durable = 0;
    for (unsigned i = 0; i < cut; i++)
        if (!done[i].bytes)
            durable = i;
    unsigned flying = cut - durable;
    assert_true(flying <= 4);
    for (unsigned subset = 0; subset < 1u << flying; subset++)
        for (unsigned t = 0; t < (subset ? 3 : 1); t++) {
            struct memory_storage state;
            char what[100];
            memory_open(&state, volume.size);
            memcpy(state.bytes, j->before, volume.size);
            for (unsigned i = 0; i < durable; i++)
                if (done[i].bytes)
                    apply(&state, &done[i], NULL);
            for (unsigned i = 0; i < flying; i++)
                if (subset & 1u << i && done[durable + i].bytes)
                    apply(&state, &done[durable + i], torn[t]);
            snprintf(what, sizeof(what), "cut %u, subset %x, torn %u", cut, subset, t);
            judge(j, &state, what);
            memory_close(&state);
        }
}

static void judge_all(struct judge *j) {
    for (unsigned cut = 0; cut <= ndone; cut++)
        judge_cut(j, cut);
    for (unsigned i = 0; i < ndone; i++)
        free(done[i].bytes);
    ndone = 0;
    memcpy(j->before, volume.bytes, volume.size);
}

/* ---- changes ---------- */

/* `slot` gets a key and the first loses its own: 6 lies across two sectors of the header, 7 in the second. */
static void change(unsigned slot) {
    static struct storage_ops ops;
    struct img_encryption options = {.key = first, .iter_time = 1, .cipher = "aes-128"};
    struct judge j = {.keys = {[0] = &first}};
    struct luks_header h;
    uint8_t *bytes, master[LUKS_KEY_MAX];
    size_t count;
    unsigned opened;
    if (luks_format(&options, &h, &bytes, &count, &err))
        fail_msg("%s", err.text);
    memory_open(&volume, h.payload);
    memcpy(volume.bytes, bytes, count);
    ops = *volume.base.ops;
    plain_write = ops.write;
    ops.write = log_write;
    ops.flush = log_flush;
    volume.base.ops = &ops;
    j.before = malloc(volume.size);
    memcpy(j.before, volume.bytes, volume.size);
    j.keys[slot] = &second;

    struct luks_place place = {.file = &volume.base, .length = volume.size};
    assert_int_equal(luks_unlock(&place, &h, &first, 0, master, &opened, &err), 0);
    assert_int_equal(luks_add(&place, &h, slot, master, &second, 1, &err), 0);
    judge_all(&j);
    assert_int_equal(luks_remove(&place, &h, opened, &err), 0);
    judge_all(&j);
    /* nothing is left of the first key's material */
    for (size_t at = h.slots[0].offset; at < count; at += SECTOR)
        assert_memory_not_equal(volume.bytes + at, bytes + at, SECTOR);
    assert_int_equal(luks_unlock(&place, &h, &first, 0, master, &opened, NULL), -EACCES);
    assert_int_equal(luks_unlock(&place, &h, &second, 0, master, &opened, NULL), 0);
    assert_int_equal(opened, slot);
    assert_true(j.states > 25);
    free(j.before);
    free(bytes);
    memory_close(&volume);
}

static void test_changes(void **state) {
    (void)state;
    change(1);
    change(6);
    change(7);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_changes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
