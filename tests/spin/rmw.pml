/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Read-modify-write of a block that is larger than the request (O_DIRECT, or a cipher's sector).
 *
 * One request changes sector 0 of a two-sector block by reading the block and writing it back; another writes
 * the whole block, aligned, without reading; a third changes sector 1 as the first does. They may overlap in
 * time, so for a sector that two of them write either value is right; what is wrong is that a sector goes back
 * to an older value through a request that was never asked to write it. Block writes are atomic here, to show
 * that the fault lies in the protocol and not in torn writes.
 *
 * Broken on purpose: RMW_ONLY  the lock keeps two read-modify-writes apart, but not a plain write of the block
 */
byte s[2] = 1;              /* content of the file: 1 old, 2 and 3 by read-modify-write, 4 by the whole-block write */
byte legal[2];              /* the value that the last completed request wrote to each sector */
bool excl;
byte plain;

proctype Rmw(byte which) {
    byte a, b;
#ifdef RMW_ONLY
    atomic { !excl -> excl = true };
#else
    atomic { !excl && plain == 0 -> excl = true };
#endif
    d_step { a = s[0]; b = s[1] };
    if :: which == 0 -> a = 2 :: else -> b = 3 fi;
    d_step { s[0] = a; s[1] = b; legal[which] = 2 + which; assert(s[1 - which] == legal[1 - which]) };
    d_step { excl = false; a = 0; b = 0 }
}

proctype Whole() {
#ifdef RMW_ONLY
    plain++;
#else
    atomic { !excl -> plain++ };
#endif
    d_step { s[0] = 4; s[1] = 4; legal[0] = 4; legal[1] = 4 };
    plain--
}

init { atomic { legal[0] = 1; legal[1] = 1; run Rmw(0); run Rmw(1); run Whole() } }
