/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A disk that loses power. Included by every model.
 *
 * Each cell is something the disk writes in one piece (a table entry, a count, half a data cluster).
 *   cur   what a read returns now (page cache)
 *   poss  set of values that the cell may hold after a power cut now, one bit per value
 *   since what it may hold once the running barrier has ended
 *   infl  values of writes that were started and have not completed
 * Cells are independent of each other, so every subset of the writes not yet covered by a barrier is a
 * possible outcome. A barrier promises something only for writes that completed before it STARTED, and
 * only once it has ENDED; a write that is under way may land before, during or after it.
 */
byte cur[NCELL], poss[NCELL], since[NCELL], infl[NCELL];
bool barrier_on;

#define BIT(v)        (1 << (v))
#define MAY(x, v)     ((poss[x] & BIT(v)) != 0)

inline wr_start(x, v) {
    infl[x] = infl[x] | BIT(v);
    poss[x] = poss[x] | BIT(v);
    if :: barrier_on -> since[x] = since[x] | BIT(v) :: else fi
}
inline wr_end(x, v) {
    infl[x] = infl[x] & (255 - BIT(v));
    cur[x] = v;
    poss[x] = poss[x] | BIT(v);
    if :: barrier_on -> since[x] = since[x] | BIT(v) :: else fi
}
inline wr(x, v) { cur[x] = v; poss[x] = poss[x] | BIT(v); if :: barrier_on -> since[x] = since[x] | BIT(v) :: else fi }

byte bi;
inline barrier_start() {
    d_step {
        barrier_on = true; bi = 0;
        do :: bi < NCELL -> since[bi] = BIT(cur[bi]) | infl[bi]; bi++ :: else -> break od;
        bi = 0
    }
}
inline barrier_end() {
    d_step {
        bi = 0;
        do :: bi < NCELL -> poss[bi] = since[bi]; since[bi] = 0; bi++ :: else -> break od;
        barrier_on = false; bi = 0
    }
}
inline barrier() { barrier_start(); barrier_end() }
inline cell(x, v) { cur[x] = v; poss[x] = BIT(v) }
