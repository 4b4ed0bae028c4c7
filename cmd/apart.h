/* SPDX-License-Identifier: GPL-3.0-or-later */
/* apart.h - work that is done in a second process, which enters the sandbox, while this one keeps its rights. */
#ifndef APART_H
#define APART_H

#include <stdbool.h>
#include <sys/types.h>

/* Starts the second process: 0 in it, -1 after reporting. It ends with this one at the latest. */
pid_t apart_start(void);
/* Waits for its end. True: it ended with status 0; what ended it otherwise than by its own word is reported. */
bool apart_end(pid_t child);

#endif
