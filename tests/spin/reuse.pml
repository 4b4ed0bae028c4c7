/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Discard, quarantine, punch and reuse, with plans in flight.
 *
 * Guest cluster 0 is mapped to host cluster 1 and flushed; guest cluster 1 has none. Running side by side:
 * an overwrite of cluster 0 in flight, a read of it in flight, a discard of it, an allocating write of
 * cluster 1 (which takes any free host cluster), a flusher, and the reclaimer that punches and frees.
 * Checked: nobody reads another guest cluster's bytes or stale bytes, at run time or after a power cut at
 * any point; no entry points at a free or a foreign cluster; flushed data is there.
 *
 * A plan pins through epochs: it publishes the epoch in which it was opened, then looks the entry up. What
 * was unlinked may be reused when (1) the flush that wrote the unlinked entry has passed its second barrier,
 * (2) no plan is open that was opened before the epoch was advanced after (1), (3) its punch has completed.
 *
 * Broken on purpose: NO_QUARANTINE  freed at unlink
 *                    RC_EARLY       count lowered at unlink, cluster kept aside in memory only
 *                    NO_GRACE       plans in flight are not waited for
 *                    EARLY_RELEASE  released after the first barrier instead of the second
 *                    FREE_BEFORE_PUNCH  handed out while the punch is still under way
 *                    TORN_OPEN      a plan looks the entry up before it has published its epoch
 */
#ifndef F
#define F 3
#endif
#define C 2
#define STALE 5
#define L2(g) (g)
#define RC(c) (1 + (c))              /* cells 2, 3 */
#define DA(c) (3 + (c))              /* cells 4, 5. 0 zeroes, 1 old, 2 overwritten, 3 data of guest cluster 1, 5 stale */
#define NCELL 6
#include "disk.pml"

byte m_l2[2], m_rc[C+1];
byte freed[C+1];                     /* 0 no, 1 unlinked in memory, 2 in the running flush, 3 durable */
byte limbo_epoch[C+1];
byte epoch = 1, pub[3];              /* pub[i]: epoch of plan i, 0 when it has none */
byte acked1, flushed1;               /* write of guest cluster 1 */
bool discarded, gone;                /* discard acknowledged, and flushed */

#define UNPINNED(c) ((pub[0] == 0 || pub[0] > limbo_epoch[c]) && \
                     (pub[1] == 0 || pub[1] > limbo_epoch[c]) && (pub[2] == 0 || pub[2] > limbo_epoch[c]))

inline open_plan(i, e) { e = epoch; pub[i] = e; e = 0 }
inline close_plan(i) { pub[i] = 0 }

proctype Overwrite() {               /* of guest cluster 0; a discard that wins the race leaves it nothing to do */
    byte c, e;
#ifdef TORN_OPEN
    e = epoch; c = m_l2[0]; pub[0] = e; e = 0;
#else
    open_plan(0, e);
    c = m_l2[0];
#endif
    if
    :: c != 0 -> d_step { wr_start(DA(c), 2) }; d_step { wr_end(DA(c), 2) }
    :: else
    fi;
    c = 0; close_plan(0)
}

proctype Reader() {                  /* of guest cluster 0 */
    byte c, e;
    open_plan(1, e);
    c = m_l2[0];
    if
    :: c != 0 -> assert(cur[DA(c)] == 1 || cur[DA(c)] == 2)
    :: else
    fi;
    c = 0; close_plan(1)
}

proctype Discard() {
    byte c;
    d_step {
        c = m_l2[0]; m_l2[0] = 0;
#ifdef NO_QUARANTINE
        m_rc[c] = 0;
#else
        freed[c] = 1;
#ifdef RC_EARLY
        m_rc[c] = 0;
#endif
#endif
        c = 0; discarded = true
    }
}

proctype Allocate() {                /* write of guest cluster 1 */
    byte c, e;
    open_plan(2, e);
    atomic {
        if
        :: m_rc[1] == 0 && freed[1] == 0 -> c = 1
        :: m_rc[2] == 0 && freed[2] == 0 -> c = 2
        fi;
        m_rc[c] = 1
    };
    d_step { wr_start(DA(c), 3) };
    d_step { wr_end(DA(c), 3) };
    d_step { m_l2[1] = c; acked1 = 3; c = 0 };
    close_plan(2)
}

proctype Flusher() {
    byte r, want, f0, f1, r1, r2; bool wantd;
    do
    :: r < F ->
        d_step { want = acked1; wantd = discarded };
        d_step {                     /* freeze the slice of cluster 0, with its list of freed clusters */
            f0 = m_l2[0];
            if :: freed[1] == 1 -> freed[1] = 2 :: else fi;
            if :: freed[2] == 1 -> freed[2] = 2 :: else fi
        };
        f1 = m_l2[1];
        d_step { r1 = m_rc[1]; r2 = m_rc[2] };
        d_step { wr(RC(1), r1); wr(RC(2), r2) };
        barrier();
#ifdef EARLY_RELEASE
        d_step {
            if :: freed[1] == 2 -> freed[1] = 3; limbo_epoch[1] = epoch; epoch++ :: else fi;
            if :: freed[2] == 2 -> freed[2] = 3; limbo_epoch[2] = epoch; epoch++ :: else fi
        };
#endif
        d_step { wr(L2(0), f0); wr(L2(1), f1) };
        barrier();
        d_step {
            if :: freed[1] == 2 -> freed[1] = 3; limbo_epoch[1] = epoch; epoch++ :: else fi;
            if :: freed[2] == 2 -> freed[2] = 3; limbo_epoch[2] = epoch; epoch++ :: else fi;
            flushed1 = want; gone = wantd; want = 0; wantd = false; f0 = 0; f1 = 0; r1 = 0; r2 = 0; r++
        }
    :: else -> break
    od
}

active proctype Reclaimer() {
    byte c;
end:
    do
    :: atomic {
#ifdef NO_GRACE
        if :: freed[1] == 3 -> c = 1 :: freed[2] == 3 -> c = 2 fi
#else
        if :: freed[1] == 3 && UNPINNED(1) -> c = 1 :: freed[2] == 3 && UNPINNED(2) -> c = 2 fi
#endif
       };
#ifdef FREE_BEFORE_PUNCH
       d_step { m_rc[c] = 0; freed[c] = 0 };
       d_step { wr_start(DA(c), 0) };
       d_step { wr_end(DA(c), 0); c = 0 }
#else
       d_step { wr_start(DA(c), 0) };
       d_step { wr_end(DA(c), 0) };
       d_step { m_rc[c] = 0; freed[c] = 0; limbo_epoch[c] = 0; c = 0 }
#endif
    od
}

active proctype PowerCut() {
    byte e0, e1;
end:
    do
    :: d_step {
        e0 = 0;
        do
        :: e0 <= C ->
            e1 = 0;
            do
            :: e1 <= C ->
                if
                :: MAY(L2(0), e0) && MAY(L2(1), e1) ->
                    assert(e0 == 0 || e0 != e1);
                    if
                    :: e0 != 0 ->
                        assert(!gone && !MAY(RC(e0), 0));
                        assert(!MAY(DA(e0), 3) && !MAY(DA(e0), STALE) && !MAY(DA(e0), 0))
                    :: else -> assert(discarded)
                    fi;
                    if
                    :: e1 != 0 -> assert(!MAY(RC(e1), 0)); assert(poss[DA(e1)] == BIT(3))
                    :: else -> assert(flushed1 == 0)
                    fi
                :: else
                fi;
                e1++
            :: else -> break
            od;
            e0++
        :: else -> break
        od;
        e0 = 0; e1 = 0
       }
    od
}

init {
    atomic {
        cell(L2(0), 1); cell(L2(1), 0); cell(RC(1), 1); cell(RC(2), 0); cell(DA(1), 1); cell(DA(2), STALE);
        m_l2[0] = 1; m_rc[1] = 1;
        run Overwrite(); run Reader(); run Discard(); run Allocate(); run Flusher()
    }
}
