/* SPDX-License-Identifier: GPL-3.0-or-later */
/* selftest.h - does the crash test see what it should? */
#ifndef CRASH_SELFTEST_H
#define CRASH_SELFTEST_H

/* Prints TAP; 0 when all passed. `first` is the number of the first test. */
int selftest(unsigned first, unsigned *count);
unsigned selftest_count(void);

#endif
