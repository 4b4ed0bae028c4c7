/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A refcount block is born: the block before the refcount table entry, the entry before the L2 entry.
 *
 * The file grows into an area that no refcount block covers. The allocator writes a block that counts itself
 * and passes a barrier of its own (phase 0, rare), sets the refcount table entry in memory, and only then
 * hands out clusters of the area. A flush writes the table entry with the refcount blocks (phase 1) and the
 * L2 entry in phase 2. Checked after a power cut at any point: a block that the table names counts itself and
 * is not garbage; an L2 entry's cluster has a count of at least one that can be found through the table.
 *
 * Broken on purpose: NO_PHASE0  table entry set without the barrier
 *                    RT_LATE    table entry written together with L2, in phase 2
 */
#ifndef F
#define F 2
#endif
#define GARBAGE 7
#define RT   0        /* refcount table entry: 0 none, 1 the block */
#define SELF 1        /* the block's count of itself */
#define RD   2        /* the block's count of the data cluster */
#define L2   3
#define DA   4        /* 0 stale, 1 data */
#define NCELL 5
#include "disk.pml"

byte m_rt, m_rd, m_l2, acked, flushed; bool flushing;

proctype Writer() {
#ifndef NO_PHASE0
    atomic { !flushing -> flushing = true };
    d_step { wr_start(SELF, 1); wr_start(RD, 0) };
    d_step { wr_end(SELF, 1); wr_end(RD, 0) };
    barrier();
    flushing = false;
#else
    d_step { wr_start(SELF, 1); wr_start(RD, 0) };
    d_step { wr_end(SELF, 1); wr_end(RD, 0) };
#endif
    m_rt = 1;
    m_rd = 1;
    d_step { wr_start(DA, 1) };
    d_step { wr_end(DA, 1) };
    m_l2 = 1;
    acked = 1
}

proctype Flusher() {
    byte r, f2, frt, frd, want;
    do
    :: r < F ->
        atomic { !flushing -> flushing = true };
        want = acked;
        f2 = m_l2;
        d_step { frd = m_rd; frt = m_rt };
        d_step {
            if :: frt != 0 -> wr(RD, frd) :: else fi;
#ifndef RT_LATE
            wr(RT, frt)
#endif
        };
        barrier();
        d_step {
            wr(L2, f2);
#ifdef RT_LATE
            wr(RT, frt)
#endif
        };
        barrier();
        d_step { flushed = want; want = 0; f2 = 0; frt = 0; frd = 0; r++; flushing = false }
    :: else -> break
    od
}

active proctype PowerCut() {
end:
    do
    :: d_step {
        assert(!MAY(RT, 1) || poss[SELF] == BIT(1));
        assert(!MAY(RT, 1) || !MAY(RD, GARBAGE));
        assert(!MAY(L2, 1) || (!MAY(RT, 0) && !MAY(RD, 0) && !MAY(RD, GARBAGE) && !MAY(DA, 0)));
        assert(!flushed || !MAY(L2, 0))
       }
    od
}

init { atomic { cell(RT, 0); cell(SELF, GARBAGE); cell(RD, GARBAGE); cell(L2, 0); cell(DA, 0); run Writer(); run Flusher() } }
