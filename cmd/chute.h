/* SPDX-License-Identifier: GPL-3.0-or-later */
/* chute.h - a one-way stream of chunks between two processes: one that reads what a guest wrote, in the sandbox, and
 * one that has the rights to make files and trusts nothing that it is sent.
 *
 * The chunks lie in memory that both share, so that a file's bytes are read into the place from which they are written;
 * a socket wakes whoever sleeps, and its end tells that the other process is gone. The receiver believes no number in
 * the shared memory without checking it, and looks at each of them once: but the bytes of a chunk may change under its
 * eyes, so it copies what it makes decisions by.
 */
#ifndef CHUTE_H
#define CHUTE_H

#include <stdbool.h>
#include <stddef.h>

#define CHUTE_CHUNK_MAX (512u << 10) /* bytes */

struct chute;

/* To be called before the processes part. NULL after reporting. */
struct chute *chute_create(void);
/* In each process: which end is its own. */
void chute_be_sender(struct chute *chute);
void chute_be_receiver(struct chute *chute);
void chute_close(struct chute *chute);

/* The sender: room for a chunk of up to `size` bytes, at a multiple of 8. NULL: the receiver is gone. */
void *chute_reserve(struct chute *chute, size_t size);
/* Sends the first `size` bytes of what was reserved; they may be held back until more has come together. */
void chute_commit(struct chute *chute, size_t size);
/* Sends what is held back. */
void chute_flush(struct chute *chute);

enum chute_state { CHUTE_CHUNK, CHUTE_END, CHUTE_NONSENSE };
/* The receiver: waits for the next chunk and gives the one before back. CHUTE_END: the sender is gone. */
enum chute_state chute_next(struct chute *chute, const void **chunk, size_t *size);

#endif
