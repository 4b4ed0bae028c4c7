/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A live snapshot between writers, and copy-on-write after it.
 *
 * Two writers (two queues) write one guest cluster while a snapshot is created. The snapshot shadows the
 * tables: a new L2 with COPIED clear and new refcount blocks are written aside; one header sector selects
 * both and the new snapshot at once. The old L2 is the snapshot's from then on.
 * Checked after a power cut at any point: the image is as before or as after; the snapshot holds exactly the
 * bytes of its moment; refcount >= references; COPIED set exactly where the refcount is one (what a strict
 * check demands); the first write after recovery (in place when COPIED) cannot touch the snapshot.
 *
 * Broken on purpose: INPLACE RC_FIRST     in place: counts raised, header, and only then COPIED cleared
 *                    INPLACE FLAGS_FIRST  in place: COPIED cleared durably first (safe for data; a strict check
 *                                         complains; with LAX the model passes)
 *                    NO_GATE              writes in flight are not waited for
 *                    NO_SWITCH_BARRIER    header written without a barrier after the tables
 *                    NO_FIRST_FLUSH       tables copied from memory without flushing before
 */
#ifndef K
#define K 2
#endif
#ifndef F
#define F 1
#endif
#define C 4                       /* host clusters 1..C */
#define HDR   0                   /* 0 before, 1 after */
#define TO    1                   /* entry in the table that is active before */
#define TN    2                   /* entry in the table written aside */
#define RO(c) (2 + (c))           /* counts: old structure, 3..6 */
#define RN(c) (6 + (c))           /* counts: new structure, 7..10 */
#define DA(c) (10 + (c))          /* 11..14: 0 stale, 1 content at start, 2.. written */
#define NCELL 15
#include "disk.pml"

#define WV(w, k) (2 + 2*(k) + (w))
#define ENT(c, copied) ((c) - 1 + 4*(copied))       /* an L2 entry: cluster 1..4 and COPIED, codes 0..7 */
#define CL(e)          ((e) % 4 + 1)
#define CP(e)          ((e) / 4)

byte m_e, m_rc[C+1];              /* memory: active entry, counts */
bool st;                          /* memory: which tables are active: false old, true new */
byte resv, nwp;                   /* reservation on the guest cluster; write plans open */
bool gate, flushing;
byte q[C+1];                      /* clusters that lost a reference: 1 in memory, 2 in the running flush */
byte snap_v;                      /* content of the snapshot at its moment */
byte seq, endseq[8];              /* order in which versions reached the file */
byte ackmax, mark;                /* newest acknowledged; newest acknowledged before the last completed flush */

#ifdef INPLACE
#define ACT_OLD true
#else
#define ACT_OLD (!st)
#endif

inline flush() {
    byte w0, fe, i;
    d_step { w0 = ackmax };
    d_step {
        fe = m_e; i = 1;
        do :: i <= C -> if :: q[i] == 1 -> q[i] = 2 :: else fi; i++ :: else -> break od;
        i = 0
    };
    d_step {
        if
        :: !st -> wr(RO(1), m_rc[1]); wr(RO(2), m_rc[2]); wr(RO(3), m_rc[3]); wr(RO(4), m_rc[4])
        :: else -> wr(RN(1), m_rc[1]); wr(RN(2), m_rc[2]); wr(RN(3), m_rc[3]); wr(RN(4), m_rc[4])
        fi
    };
    barrier();
    d_step { if :: ACT_OLD -> wr(TO, fe) :: else -> wr(TN, fe) fi };
    barrier();
    d_step {
        i = 1;
        do
        :: i <= C -> if :: q[i] == 2 -> m_rc[i] = m_rc[i] - 1; q[i] = 0 :: else fi; i++
        :: else -> break
        od;
        mark = w0; w0 = 0; fe = 0; i = 0
    }
}

proctype Writer(byte w) {
    byte c, k; bool own;
    do
    :: k < K ->
#ifdef NO_GATE
        atomic { resv == 0 ->
#else
        atomic { resv == 0 && !gate ->
#endif
            nwp++;
            if
            :: CP(m_e) -> c = CL(m_e); own = false
            :: else ->
                c = 1;
                do :: c < C && m_rc[c] != 0 -> c++ :: else -> break od;
                assert(m_rc[c] == 0);
                m_rc[c] = 1; resv = w + 1; own = true
            fi
        };
        d_step { wr_start(DA(c), WV(w, k)) };
        d_step { wr_end(DA(c), WV(w, k)); seq++; endseq[WV(w, k)] = seq };
        d_step {
            if :: own -> q[CL(m_e)] = 1; m_e = ENT(c, 1); resv = 0 :: else fi;
            if :: endseq[WV(w, k)] > ackmax -> ackmax = endseq[WV(w, k)] :: else fi;
            nwp--; k++; c = 0; own = false
        }
    :: else -> break
    od
}

proctype Flusher() {
    byte r;
    do
    :: r < F -> atomic { !flushing -> flushing = true }; flush(); flushing = false; r++
    :: else -> break
    od
}

proctype Snapshot() {
    byte e, c;
    atomic { !flushing -> flushing = true };
    gate = true;
#ifndef NO_GATE
    nwp == 0;
#endif
#ifndef NO_FIRST_FLUSH
    flush();
#endif
    d_step { e = m_e; c = CL(e); snap_v = cur[DA(c)] };
#ifdef INPLACE
    wr(TN, ENT(c, 0));                                   /* the snapshot's own copy of the table */
#ifdef FLAGS_FIRST
    d_step { m_e = ENT(c, 0); wr(TO, m_e) };
    barrier();
#endif
    d_step { m_rc[c] = m_rc[c] + 1; wr(RO(c), m_rc[c]) };
    barrier();
    wr(HDR, 1);
    barrier();
#ifdef RC_FIRST
    d_step { m_e = ENT(c, 0); wr(TO, m_e) };
    barrier();
#endif
#else
    d_step {
        wr(TN, ENT(c, 0));
        wr(RN(1), m_rc[1] + (c == 1 -> 1 : 0)); wr(RN(2), m_rc[2] + (c == 2 -> 1 : 0));
        wr(RN(3), m_rc[3] + (c == 3 -> 1 : 0)); wr(RN(4), m_rc[4] + (c == 4 -> 1 : 0))
    };
#ifndef NO_SWITCH_BARRIER
    barrier();
#endif
    wr(HDR, 1);
    barrier();
    d_step { m_rc[c] = m_rc[c] + 1; m_e = ENT(c, 0); st = true };
#endif
    d_step { e = 0; c = 0 };
    gate = false;
    flushing = false
}

#ifdef INPLACE
#define ACTIVE(h) TO
#define SNAPT(h)  TN
#define RCX(h, c) RO(c)
#else
#define ACTIVE(h) ((h) -> TN : TO)
#define SNAPT(h)  TO
#define RCX(h, c) ((h) -> RN(c) : RO(c))
#endif

active proctype PowerCut() {
    byte h, e, s, r, v, c;
end:
    do
    :: d_step {
        h = 0;
        do
        :: h < 2 ->
            e = 0;
            do
            :: e < 8 ->
                if
                :: MAY(HDR, h) && MAY(ACTIVE(h), e) ->
                    c = CL(e);
                    /* active content: never stale, never older than what the last flush covered */
                    assert(!MAY(DA(c), 0));
                    v = 1;
                    do
                    :: v < 8 -> assert(!MAY(DA(c), v) || (v >= 2 && endseq[v] == 0) || endseq[v] >= mark); v++
                    :: else -> break
                    od;
                    r = 0;
                    do
                    :: r < 4 ->
                        if
                        :: MAY(RCX(h, c), r) ->
                            assert(r >= 1 + (c == 1 -> 1 : 0));        /* an older snapshot holds cluster 1 */
#ifndef LAX
                            assert((r == 1) == (CP(e) == 1));
#endif
                            s = 0;
                            do
                            :: h == 1 && s < 8 ->
                                if
                                :: MAY(SNAPT(h), s) ->
                                    assert(r >= 1 + (c == 1 -> 1 : 0) + (CL(s) == c -> 1 : 0));
                                    assert(CP(e) == 0 || CL(s) != c)   /* first write after recovery */
                                :: else
                                fi;
                                s++
                            :: else -> break
                            od
                        :: else
                        fi;
                        r++
                    :: else -> break
                    od
                :: else
                fi;
                e++
            :: else -> break
            od;
            s = 0;
            do
            :: h == 1 && MAY(HDR, 1) && s < 8 ->
                if
                :: MAY(SNAPT(h), s) ->
                    assert(!MAY(RCX(h, CL(s)), 0));
                    assert(poss[DA(CL(s))] == BIT(snap_v))
                :: else
                fi;
                s++
            :: else -> break
            od;
            h++
        :: else -> break
        od;
        h = 0; e = 0; s = 0; r = 0; v = 0; c = 0
       }
    od
}

init {
    atomic {                      /* cluster 1 is shared with an older snapshot: the first write copies */
        cell(HDR, 0); cell(TO, ENT(1, 0)); cell(TN, 0);
        cell(RO(1), 2); cell(RO(2), 0); cell(RO(3), 0); cell(RO(4), 0);
        cell(RN(1), 0); cell(RN(2), 0); cell(RN(3), 0); cell(RN(4), 0);
        cell(DA(1), 1); cell(DA(2), 0); cell(DA(3), 0); cell(DA(4), 0);
        m_e = ENT(1, 0); m_rc[1] = 2;
        run Writer(0); run Writer(1); run Flusher(); run Snapshot()
    }
}
