// SPDX-License-Identifier: GPL-3.0-or-later
/* test_epoch.c - the pins and the gate of libimg/epoch.h, alone and under threads.
 *
 * The stress test is the protocol in small: writers of one shared slot unlink what it names, stamp it, and scribble
 * over it once the stamp has passed; readers look the slot up inside a plan and must never see a scribbled object.
 * Under ThreadSanitizer it says whether the published words alone order the scribble behind the read.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "epoch.h"

static struct img_epochs epochs;

static int setup(void **state) {
    (void)state;
    return epochs_init(&epochs);
}

static int teardown(void **state) {
    (void)state;
    epochs_destroy(&epochs);
    return 0;
}

static struct img_plan *plans(unsigned count, unsigned writers) {
    struct img_plan *p = calloc(count, sizeof(*p));
    assert_non_null(p);
    for (unsigned i = 0; i < count; i++)
        p[i].writes = writers >> i & 1;
    return p;
}

static void test_nothing_open(void **state) {
    (void)state;
    assert_int_equal(epoch_oldest(&epochs), UINT64_MAX);
    uint64_t stamp = epoch_advance(&epochs);
    assert_int_equal(stamp, 1);
    assert_true(epoch_passed(&epochs, stamp));
    assert_int_equal(epochs_done(&epochs), 0);
}

static void test_oldest_follows_the_open_plans(void **state) {
    (void)state;
    struct img_context *c = context_claim(&epochs);
    struct img_plan *p = plans(3, 0);
    assert_true(plan_open(&epochs, c, &p[0])); /* epoch 1 */
    epoch_advance(&epochs);
    assert_true(plan_open(&epochs, c, &p[1])); /* 2 */
    epoch_advance(&epochs);
    assert_true(plan_open(&epochs, c, &p[2])); /* 3 */
    assert_int_equal(epoch_oldest(&epochs), 1);
    plan_close(&epochs, &p[1]); /* from the middle: nothing changes */
    assert_int_equal(epoch_oldest(&epochs), 1);
    plan_close(&epochs, &p[0]);
    assert_int_equal(epoch_oldest(&epochs), 3);
    plan_close(&epochs, &p[2]);
    assert_int_equal(epoch_oldest(&epochs), UINT64_MAX);
    context_release(&epochs, c);
    free(p);
}

static void test_every_order_of_closing(void **state) {
    (void)state;
    static const unsigned orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {1, 3, 0, 2}, {2, 0, 3, 1}, {0, 3, 1, 2}};
    for (unsigned writers = 0; writers < 16; writers++) {
        for (unsigned o = 0; o < sizeof(orders) / sizeof(*orders); o++) {
            struct img_context *c = context_claim(&epochs);
            struct img_plan *p = plans(4, writers);
            uint64_t opened[4];
            bool open[4] = {true, true, true, true};
            for (unsigned i = 0; i < 4; i++) {
                opened[i] = epoch_advance(&epochs) + 1;
                assert_true(plan_open(&epochs, c, &p[i]));
            }
            for (unsigned i = 0; i < 4; i++) {
                uint64_t oldest[2] = {0, 0}, all = UINT64_MAX;
                plan_close(&epochs, &p[orders[o][i]]);
                open[orders[o][i]] = false;
                for (unsigned k = 4; k-- > 0;)
                    if (open[k])
                        all = oldest[writers >> k & 1] = opened[k];
                assert_int_equal(epoch_oldest(&epochs), all);
                assert_int_equal(atomic_load(&c->oldest[0]), oldest[0]);
                assert_int_equal(atomic_load(&c->oldest[1]), oldest[1]);
            }
            context_release(&epochs, c);
            free(p);
        }
    }
}

static void test_a_stamp_waits_for_older_plans_only(void **state) {
    (void)state;
    struct img_context *a = context_claim(&epochs), *b = context_claim(&epochs);
    struct img_plan *p = plans(2, 2);
    assert_ptr_not_equal(a, b);
    assert_true(plan_open(&epochs, a, &p[0]));
    uint64_t stamp = epoch_advance(&epochs);
    assert_true(plan_open(&epochs, b, &p[1]));
    assert_false(epoch_passed(&epochs, stamp));
    plan_close(&epochs, &p[0]);
    assert_true(epoch_passed(&epochs, stamp)); /* the younger one cannot know what was let go */
    plan_close(&epochs, &p[1]);
    context_release(&epochs, a);
    context_release(&epochs, b);
    free(p);
}

static void test_done_is_the_sum(void **state) {
    (void)state;
    struct img_context *a = context_claim(&epochs), *b = context_claim(&epochs);
    atomic_fetch_add(&a->done, 3);
    atomic_fetch_add(&b->done, 4);
    assert_int_equal(epochs_done(&epochs), 7);
    context_release(&epochs, a);
    context_release(&epochs, b);
    assert_int_equal(epochs_done(&epochs), 7);
}

/* ---- contexts ----------------------------------------------------------------------------------- */

static void short_sleep(void) {
    nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
}

static _Atomic(struct img_context *) claimed_late;

static void *claim_one(void *opaque) {
    (void)opaque;
    atomic_store(&claimed_late, context_claim(&epochs));
    return NULL;
}

static void test_a_full_house_waits(void **state) {
    (void)state;
    struct img_context *all[IMG_CONTEXTS];
    pthread_t thread;
    for (unsigned i = 0; i < IMG_CONTEXTS; i++) {
        all[i] = context_claim(&epochs);
        for (unsigned k = 0; k < i; k++)
            assert_ptr_not_equal(all[i], all[k]);
    }
    atomic_store(&claimed_late, NULL);
    assert_int_equal(pthread_create(&thread, NULL, claim_one, NULL), 0);
    short_sleep();
    assert_null(atomic_load(&claimed_late));
    context_release(&epochs, all[17]);
    pthread_join(thread, NULL);
    assert_ptr_equal(atomic_load(&claimed_late), all[17]);
    for (unsigned i = 0; i < IMG_CONTEXTS; i++)
        context_release(&epochs, all[i]);
}

/* ---- the gate ------------------------------------------------------------------------------------ */

static void test_gate_for_writes(void **state) {
    (void)state;
    struct img_context *c = context_claim(&epochs);
    struct img_plan *p = plans(3, 6); /* the first reads */
    gate_close(&epochs, false);
    assert_true(plan_open(&epochs, c, &p[0]));
    assert_false(plan_open(&epochs, c, &p[1]));
    assert_int_equal(atomic_load(&c->oldest[1]), 0); /* a plan that was turned away pins nothing */
    p[2].inner = true;
    assert_true(plan_open(&epochs, c, &p[2]));
    plan_close(&epochs, &p[2]);
    gate_open(&epochs, false);
    assert_true(plan_open(&epochs, c, &p[1]));
    plan_close(&epochs, &p[0]);
    plan_close(&epochs, &p[1]);
    context_release(&epochs, c);
    free(p);
}

static void test_gate_for_all(void **state) {
    (void)state;
    struct img_context *c = context_claim(&epochs);
    struct img_plan *p = plans(2, 2);
    gate_close(&epochs, true);
    assert_false(plan_open(&epochs, c, &p[0]));
    assert_false(plan_open(&epochs, c, &p[1]));
    assert_int_equal(epoch_oldest(&epochs), UINT64_MAX);
    gate_open(&epochs, true);
    assert_true(plan_open(&epochs, c, &p[0]));
    plan_close(&epochs, &p[0]);
    context_release(&epochs, c);
    free(p);
}

static void test_closings_nest(void **state) {
    (void)state;
    struct img_context *c = context_claim(&epochs);
    struct img_plan *p = plans(2, 2);
    gate_close(&epochs, false);
    gate_close(&epochs, true);
    gate_close(&epochs, false);
    gate_open(&epochs, false);
    assert_false(plan_open(&epochs, c, &p[0])); /* closed to all still */
    gate_open(&epochs, true);
    assert_true(plan_open(&epochs, c, &p[0])); /* to writes only */
    assert_false(plan_open(&epochs, c, &p[1]));
    gate_open(&epochs, false);
    assert_true(plan_open(&epochs, c, &p[1]));
    plan_close(&epochs, &p[0]);
    plan_close(&epochs, &p[1]);
    context_release(&epochs, c);
    free(p);
}

struct closer {
    bool all;
    atomic_bool through;
};

static void *close_gate(void *opaque) {
    struct closer *closer = opaque;
    gate_close(&epochs, closer->all);
    atomic_store(&closer->through, true);
    return NULL;
}

static void test_closing_waits_for_open_plans(void **state) {
    (void)state;
    for (unsigned all = 0; all < 2; all++) {
        struct img_context *a = context_claim(&epochs), *b = context_claim(&epochs);
        struct img_plan *p = plans(3, 3); /* two that write, one that reads */
        struct closer closer = {.all = all};
        pthread_t thread;
        assert_true(plan_open(&epochs, a, &p[0]));
        assert_true(plan_open(&epochs, b, &p[1]));
        assert_true(plan_open(&epochs, b, &p[2]));
        assert_int_equal(pthread_create(&thread, NULL, close_gate, &closer), 0);
        short_sleep();
        assert_false(atomic_load(&closer.through));
        plan_close(&epochs, &p[0]);
        short_sleep();
        assert_false(atomic_load(&closer.through));
        plan_close(&epochs, &p[1]);
        short_sleep();
        assert_int_equal(atomic_load(&closer.through), !all); /* readers hold back the closing to all only */
        plan_close(&epochs, &p[2]);
        pthread_join(thread, NULL);
        gate_open(&epochs, all);
        context_release(&epochs, a);
        context_release(&epochs, b);
        free(p);
    }
}

static atomic_bool waited;

static void *wait_at_gate(void *opaque) {
    (void)opaque;
    gate_wait(&epochs, true);
    atomic_store(&waited, true);
    return NULL;
}

static void test_gate_wait_sleeps_until_it_opens(void **state) {
    (void)state;
    pthread_t thread;
    gate_wait(&epochs, true); /* open: comes back at once */
    gate_close(&epochs, false);
    gate_wait(&epochs, false); /* a reader may pass */
    atomic_store(&waited, false);
    assert_int_equal(pthread_create(&thread, NULL, wait_at_gate, NULL), 0);
    short_sleep();
    assert_false(atomic_load(&waited));
    gate_open(&epochs, false);
    pthread_join(thread, NULL);
    assert_true(atomic_load(&waited));
}

/* ---- threads --------------------------------------------------------------------------------------- */

#define OBJECTS 64
#define READERS 3
#define LET_GO 20000

/* An object holds the same number everywhere while the slot names it. */
struct object {
    uint64_t words[8]; /* plain on purpose: the epochs alone must order their readers and the scribbler */
};
static struct object objects[OBJECTS];
static _Atomic(struct object *) slot;
static atomic_bool stop;
static atomic_uint bad, between;

static void *read_objects(void *opaque) {
    struct img_plan plan = {.writes = opaque != NULL};
    while (!atomic_load(&stop)) {
        struct img_context *c = context_claim(&epochs);
        while (!plan_open(&epochs, c, &plan))
            gate_wait(&epochs, plan.writes);
        struct object *o = atomic_load(&slot);
        uint64_t first = o->words[0];
        for (unsigned i = 1; i < 8; i++)
            if (o->words[i] != first || first == 0)
                atomic_fetch_add(&bad, 1);
        plan_close(&epochs, &plan);
        context_release(&epochs, c);
    }
    return NULL;
}

static void fill(struct object *o, uint64_t word) {
    for (unsigned i = 0; i < 8; i++)
        o->words[i] = word;
}

static void *close_and_open(void *opaque) {
    (void)opaque;
    while (!atomic_load(&stop)) {
        bool all = atomic_fetch_add(&between, 1) % 2;
        gate_close(&epochs, all);
        gate_open(&epochs, all);
        sched_yield();
    }
    return NULL;
}

static void test_nothing_is_reused_under_a_plan(void **state) {
    (void)state;
    pthread_t readers[READERS], closer;
    uint64_t stamps[OBJECTS] = {0};
    unsigned now = 0, reused = 0;
    for (unsigned i = 0; i < OBJECTS; i++)
        fill(&objects[i], 1);
    atomic_store(&slot, &objects[0]);
    atomic_store(&stop, false);
    for (uintptr_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_objects, i == 2 ? &stop : NULL), 0);
    assert_int_equal(pthread_create(&closer, NULL, close_and_open, NULL), 0);
    for (unsigned i = 0; i < LET_GO; i++) {
        unsigned next = (now + 1) % OBJECTS;
        while (stamps[next] && !epoch_passed(&epochs, stamps[next]))
            sched_yield();
        reused += stamps[next] != 0;
        fill(&objects[next], 0); /* what a reader must not see */
        fill(&objects[next], i + 2);
        atomic_store(&slot, &objects[next]);
        stamps[now] = epoch_advance(&epochs);
        now = next;
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    pthread_join(closer, NULL);
    assert_int_equal(atomic_load(&bad), 0);
    assert_true(reused > LET_GO / 2);
    assert_int_equal(epoch_oldest(&epochs), UINT64_MAX);
}

/* A counter that only plans that write may change, and that must stand still while the gate is closed to them. */
static uint64_t guarded[READERS];

static void *write_guarded(void *opaque) {
    struct img_plan plan = {.writes = true};
    uint64_t *mine = opaque;
    while (!atomic_load(&stop)) {
        struct img_context *c = context_claim(&epochs);
        while (!plan_open(&epochs, c, &plan))
            gate_wait(&epochs, true);
        ++*mine; /* plain: the gate orders it with its reader */
        plan_close(&epochs, &plan);
        context_release(&epochs, c);
    }
    return NULL;
}

static void test_nothing_moves_behind_the_gate(void **state) {
    (void)state;
    pthread_t writers[READERS];
    atomic_store(&stop, false);
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_guarded, &guarded[i]), 0);
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t before = 0, after = 0;
        gate_close(&epochs, false);
        for (unsigned k = 0; k < READERS; k++)
            before += guarded[k];
        sched_yield();
        for (unsigned k = 0; k < READERS; k++)
            after += guarded[k];
        gate_open(&epochs, false);
        assert_int_equal(before, after);
    }
    atomic_store(&stop, true);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(writers[i], NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_open, setup, teardown),
        cmocka_unit_test_setup_teardown(test_oldest_follows_the_open_plans, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_order_of_closing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_stamp_waits_for_older_plans_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_done_is_the_sum, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_full_house_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gate_for_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gate_for_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_closings_nest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_closing_waits_for_open_plans, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gate_wait_sleeps_until_it_opens, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_reused_under_a_plan, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_moves_behind_the_gate, setup, teardown),
    };
    return cmocka_run_group_tests_name("epoch", tests, NULL, NULL);
}
