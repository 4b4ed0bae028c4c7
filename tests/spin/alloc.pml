/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Allocation: reserve, write, link, flush, power cut, recovery.
 *
 * Two writers write halves of two guest clusters that have no host cluster and no L2 table yet; one flusher
 * runs beside them. Checked at EVERY point: whatever a power cut leaves, the recovered image has no entry
 * that points at a free cluster, at a cluster of another entry, at stale bytes or at a garbage table, and
 * every write acknowledged before a completed flush is there.
 *
 * JOIN: host clusters are known to read as zeroes, so nobody fills edges and a second writer writes into the
 * cluster that the first has reserved; whoever completes first links it.
 *
 * Broken on purpose: NO_BARRIER1  L2 written without a barrier after data and refcounts
 *                    NO_BARRIER2  the flush returns without a barrier after L2
 *                    NO_FREEZE    L2 written from the live slice instead of the copy taken before the barrier
 *                    RC_FIRST     refcounts copied before the L2 slices are frozen
 *                    EVICT_NODEP  a dirty slice is written out because the cache is full, at once
 *                    NO_BASE      a new L2 table is linked into L1 before its empty content was written
 *                    LINK_EARLY   linked when the data write is submitted, not when it completes
 *                    NO_RESERVE   a second writer of the same cluster does not wait for the first
 */
#ifndef K
#define K 2            /* writes of each writer */
#endif
#ifndef F
#define F 2            /* flushes */
#endif
#define G 2            /* guest clusters, each in an L2 slice of its own */
#define C 3            /* host data clusters 1..C */
#define GARBAGE 7      /* an L2 entry read from a table cluster that was never initialised */

#define L1     0
#define L2(g)  (1 + (g))
#define RC(c)  (2 + (c))
#define DA(c, h) (4 + 2*(c) + (h))   /* 0 stale bytes, 1 zeroes, 2.. versions written */
#define NCELL  12
#include "disk.pml"

byte m_l1, m_l2[G], m_rc[C+1];   /* what memory holds: the truth while running */
byte resv[G];                    /* reservation: number of requests that hold it */
byte resv_c[G];                  /* with JOIN: its cluster */
bool birth;                      /* lock of the table that is being born */
byte acked[4], flushed[4];       /* [2*g + half]: newest version acknowledged, and flushed */

inline need_table() {
    if
    :: m_l1 == 0 ->
        atomic { !birth -> birth = true };
        if
        :: m_l1 == 0 ->
#ifndef NO_BASE
            d_step { wr_start(L2(0), 0); wr_start(L2(1), 0) };
            d_step { wr_end(L2(0), 0);   wr_end(L2(1), 0) };
#endif
            m_l1 = 1
        :: else
        fi;
        birth = false
    :: else
    fi
}

proctype Writer(byte w) {
    byte g, c, k; bool own;
    do
    :: k < K ->
        if :: g = 0 :: g = 1 fi;
        need_table();
#if defined(NO_RESERVE) || defined(JOIN)
        atomic { true ->
#else
        atomic { resv[g] == 0 ->
#endif
            if
            :: m_l2[g] != 0 -> c = m_l2[g]; own = false
#ifdef JOIN
            :: m_l2[g] == 0 && resv[g] != 0 -> c = resv_c[g]; resv[g]++; own = true
#endif
            :: else ->
                c = 1;
                do :: m_rc[c] != 0 -> c++ :: else -> break od;
                assert(c <= C);
                m_rc[c] = 1; resv[g] = 1; own = true;
#ifdef JOIN
                resv_c[g] = c
#endif
            fi
        };
        /* move: my half; a fresh cluster also gets its other half, as zeroes, in the same request */
        d_step {
            wr_start(DA(c, w), 2 + k);
#ifndef JOIN
            if :: own -> wr_start(DA(c, 1 - w), 1) :: else fi;
#endif
#ifdef LINK_EARLY
            if :: own -> m_l2[g] = c; resv[g] = 0 :: else fi;
#endif
        };
        d_step {
            wr_end(DA(c, w), 2 + k);
#ifndef JOIN
            if :: own -> wr_end(DA(c, 1 - w), 1) :: else fi
#endif
        };
        /* commit, then acknowledge */
        d_step {
#ifdef JOIN
            if :: own && m_l2[g] == 0 -> m_l2[g] = c :: else fi;
            if :: own -> resv[g] = resv[g] - 1 :: else fi;
            if :: resv[g] == 0 -> resv_c[g] = 0 :: else fi;
#else
            if :: own -> m_l2[g] = c; resv[g] = 0 :: else fi;
#endif
            acked[2*g + w] = 2 + k;
            k++; g = 0; c = 0; own = false
        }
    :: else -> break
    od
}

proctype Flusher() {
    byte r, i, want[4], f_l1, f_l2[G], f_rc[C+1];
    do
    :: r < F ->
        d_step { i = 0; do :: i < 4 -> want[i] = acked[i]; i++ :: else -> break od; i = 0 };
#ifdef RC_FIRST
        d_step { f_rc[1] = m_rc[1]; f_rc[2] = m_rc[2]; f_rc[3] = m_rc[3] };
#endif
        f_l1 = m_l1;                     /* freeze, slice by slice, each under its own lock */
        f_l2[0] = m_l2[0];
        f_l2[1] = m_l2[1];
#ifndef RC_FIRST
        d_step { f_rc[1] = m_rc[1]; f_rc[2] = m_rc[2]; f_rc[3] = m_rc[3] };
#endif
        d_step { wr(RC(1), f_rc[1]); wr(RC(2), f_rc[2]); wr(RC(3), f_rc[3]) };
#ifndef NO_BARRIER1
        barrier();
#endif
        d_step {
#ifdef NO_FREEZE
            f_l2[0] = m_l2[0]; f_l2[1] = m_l2[1];
#endif
            wr(L1, f_l1);
            if :: f_l2[0] != 0 -> wr(L2(0), f_l2[0]) :: else fi;
            if :: f_l2[1] != 0 -> wr(L2(1), f_l2[1]) :: else fi
        };
#ifndef NO_BARRIER2
        barrier();
#endif
        d_step {
            i = 0;
            do :: i < 4 -> flushed[i] = want[i]; want[i] = 0; i++ :: else -> break od;
            i = 0; f_l1 = 0; f_l2[0] = 0; f_l2[1] = 0; f_rc[1] = 0; f_rc[2] = 0; f_rc[3] = 0; r++
        }
    :: else -> break
    od
}

#ifdef EVICT_NODEP
active proctype Evictor() { d_step { m_l2[0] != 0 -> wr(L2(0), m_l2[0]) } }
#endif

/* Power cut, recovery and the first write after it, for every combination the disk may be left in. */
active proctype PowerCut() {
    byte a, e0, e1, c, v, g, h;
end:
    do
    :: d_step {
        a = 0;
        do
        :: a < 2 ->
            e0 = 0;
            do
            :: e0 < 8 ->
                e1 = 0;
                do
                :: e1 < 8 ->
                    if
                    :: MAY(L1, a) && MAY(L2(0), e0) && MAY(L2(1), e1) ->
                        assert(a == 0 || (e0 != GARBAGE && e1 != GARBAGE));
                        assert(a == 0 || e0 == 0 || e0 != e1);
                        g = 0;
                        do
                        :: g < 2 ->
                            c = (a == 0 -> 0 : (g == 0 -> e0 : e1));
                            if
                            :: c == 0 -> assert(flushed[2*g] == 0 && flushed[2*g+1] == 0)
                            :: else ->
                                assert(!MAY(RC(c), 0));      /* recovery must not hand it out again */
                                h = 0;
                                do
                                :: h < 2 ->
                                    assert(!MAY(DA(c, h), 0));
                                    v = 1;
                                    do
                                    :: v < 2 + K ->
                                        assert(!MAY(DA(c, h), v) || v >= flushed[2*g + h]);
                                        v++
                                    :: else -> break
                                    od;
                                    h++
                                :: else -> break
                                od
                            fi;
                            g++
                        :: else -> break
                        od
                    :: else
                    fi;
                    e1++
                :: else -> break
                od;
                e0++
            :: else -> break
            od;
            a++
        :: else -> break
        od;
        a = 0; e0 = 0; e1 = 0; c = 0; v = 0; g = 0; h = 0
       }
    od
}

init {
    atomic {
        cell(L1, 0); cell(L2(0), GARBAGE); cell(L2(1), GARBAGE);
        cell(RC(1), 0); cell(RC(2), 0); cell(RC(3), 0);
#ifdef JOIN
#define OLD 1
#else
#define OLD 0
#endif
        cell(DA(1,0), OLD); cell(DA(1,1), OLD); cell(DA(2,0), OLD); cell(DA(2,1), OLD); cell(DA(3,0), OLD); cell(DA(3,1), OLD);
        run Writer(0); run Writer(1); run Flusher()
    }
}
