/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Concurrent flushes share one barrier; a failed barrier is never forgotten.
 *
 * Each of three clients writes its own cell and then flushes, twice. A caller of flush needs a round that
 * STARTED after its call: it starts one when none is running, else it waits for the round after the running
 * one; the first waiter to wake starts that round for all. The skip rule returns at once when no write has
 * completed since the START of the last successful round. A barrier may fail: the failure is sticky, and what
 * was dirty then may be lost although a later barrier would succeed (the page cache drops it).
 * Checked whenever a flush returns 0: everything any client had acknowledged before the call is durable.
 *
 * Broken on purpose: JOIN_RUNNING   a caller is content with the round that is already running
 *                    SYNCED_AT_END  the skip rule counts writes that completed during the round as covered
 *                    FORGET         the failure is reported once and then forgotten
 */
#ifndef N
#define N 3
#endif
#ifndef K
#define K 2
#endif
#define NCELL N
#include "disk.pml"

byte done, synced;                 /* writes completed; covered by successful rounds */
byte started, ended;               /* rounds */
bool running, failed, may_fail = true;
byte acked[N];
bool lost[NCELL];

inline failing_barrier_end() {     /* dirty cells keep their old possibilities for good */
    d_step {
        bi = 0;
        do
        :: bi < NCELL -> if :: poss[bi] != BIT(cur[bi]) -> lost[bi] = true :: else fi; since[bi] = 0; bi++
        :: else -> break
        od;
        barrier_on = false; bi = 0
    }
}
inline good_barrier_end() {
    d_step {
        bi = 0;
        do
        :: bi < NCELL -> if :: !lost[bi] -> poss[bi] = since[bi] :: else fi; since[bi] = 0; bi++
        :: else -> break
        od;
        barrier_on = false; bi = 0
    }
}

inline flush() {
    /* want[]: what was acknowledged at the call, for the check only */
    atomic {
        i = 0;
        do :: i < N -> want[i] = acked[i]; i++ :: else -> break od;
        i = 0;
        if
        :: failed -> rc = 1; need = 0
        :: !failed && done == synced -> rc = 0; need = 0
        :: else ->
            rc = 2;
#ifdef JOIN_RUNNING
            need = (running -> started : started + 1)
#else
            need = started + 1
#endif
        fi
    };
    do
    :: rc != 2 -> break
    :: rc == 2 ->
        atomic {
            (failed || ended >= need || !running) ->
            if
            :: failed -> rc = 1
            :: !failed && ended >= need -> rc = 0
            :: else -> running = true; started++; mine = true; cap = done
            fi
        };
        if
        :: mine ->
            barrier_start();
            if
            :: may_fail -> may_fail = false; failing_barrier_end();
#ifdef FORGET
                atomic { running = false; mine = false; ended = started; synced = cap; rc = 1 }
#else
                atomic { running = false; mine = false; failed = true; rc = 1 }
#endif
            :: true -> good_barrier_end();
#ifdef SYNCED_AT_END
                cap = done;
#endif
                atomic { running = false; mine = false; ended = started; synced = cap; cap = 0 }
            fi
        :: else
        fi
    od;
    atomic {
        i = 0;
        do
        :: i < N -> assert(rc != 0 || want[i] == 0 || (poss[i] & (BIT(want[i]) - 1)) == 0); want[i] = 0; i++
        :: else -> break
        od;
        i = 0; need = 0; cap = 0
    }
}

proctype Client(byte w) {
    byte k, i, need, cap, rc, want[N]; bool mine;
    do
    :: k < K ->
        d_step { wr_start(w, 1 + k) };
        d_step { wr_end(w, 1 + k) };
        d_step { done++; acked[w] = 1 + k };
        flush();
        rc = 0; k++
    :: else -> break
    od
}

init {
    byte j;
    atomic {
        j = 0;
        do :: j < N -> cell(j, 0); run Client(j); j++ :: else -> break od
    }
}
