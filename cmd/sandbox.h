/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sandbox.h - what is left of a process that is about to read what a guest wrote: its descriptors, memory, a clock. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <stdbool.h>

/* Gives up paths, sockets, programs, other processes, privileges and new io_urings, for good. What is open stays
 * usable. Where the kernel has no Landlock, the filter of system calls alone keeps paths away. False after reporting:
 * the kernel has no filter either; the caller stops there. */
bool sandbox_enter(void);

#endif
