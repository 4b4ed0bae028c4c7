/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* debug.h - named points at which a test can hold a thread (builds with IMG_DEBUG only; else nothing is there).
 *
 *   reserved      a write has hung its reservation on the slice, which is unlocked
 *   resolved      a write has its clusters; nothing was submitted
 *   moved         its bytes are on the host; nothing is linked
 *   round-frozen  a round holds its copies; barrier A is still to come
 *   round-synced  after barrier A, before the copies are written
 *   round-done    after barrier B, before limbo
 */
#ifndef LIBIMG_DEBUG_H
#define LIBIMG_DEBUG_H

#ifdef IMG_DEBUG
/* Called in the thread that reaches the point; NULL: nothing happens. Set it while nothing runs. */
extern void (*img_debug_pause)(const char *name) __attribute__((visibility("default")));
#define IMG_DEBUG_PAUSE(name)                                                                                          \
    do {                                                                                                               \
        if (img_debug_pause)                                                                                           \
            img_debug_pause(name);                                                                                     \
    } while (0)
#else
#define IMG_DEBUG_PAUSE(name) ((void)0)
#endif

#endif
