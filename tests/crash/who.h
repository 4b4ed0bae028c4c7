/* SPDX-License-Identifier: GPL-3.0-or-later */
/* who.h - for whom a thread works.
 *
 * A moment of the storage belongs to the guest's thread that asked for the operation, and it is the engine's own when
 * a flush does it. With a queue neither is done by the thread that asked: so what a queue hands to a helper thread of
 * the engine takes the identity of its owner along (the program is linked with --wrap=helpers_post), and who is inside
 * a flush is noted where the driver's flush is called (--wrap=qcow2_flush), in whichever thread.
 */
#ifndef CRASH_WHO_H
#define CRASH_WHO_H

#include <stdbool.h>

struct helper; /* beside.c */

struct who {
    struct helper *helper; /* a thread that beside.c started; NULL: none of those */
    bool flushing;         /* the writes are the engine's own */
};

extern _Thread_local struct who who;

#endif
