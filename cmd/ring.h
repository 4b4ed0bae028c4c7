/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ring.h - a one-way stream of chunks between two processes: one that reads what a guest wrote, in the sandbox, and one
 * that has the rights to make files and trusts nothing that it is sent.
 *
 * The chunks lie in memory that both share, so that a file's bytes are read into the place from which they are written;
 * a socket wakes whoever sleeps, and its end tells that the other process is gone. The receiver believes no number in
 * the shared memory without checking it, and looks at each of them once: but the bytes of a chunk may change under its
 * eyes, so it copies what it makes decisions by.
 */
#ifndef RING_H
#define RING_H

#include <stdbool.h>
#include <stddef.h>

#define RING_CHUNK_MAX (512u << 10) /* bytes */

struct ring;

/* To be called before the processes part. NULL after reporting. */
struct ring *ring_create(void);
/* In each process: which end is its own. */
void ring_be_sender(struct ring *ring);
void ring_be_receiver(struct ring *ring);
void ring_close(struct ring *ring);

/* The sender: room for a chunk of up to `size` bytes, at a multiple of 8. NULL: the receiver is gone. */
void *ring_reserve(struct ring *ring, size_t size);
/* Sends the first `size` bytes of what was reserved; they may be held back until more has come together. */
void ring_commit(struct ring *ring, size_t size);
/* Sends what is held back. */
void ring_flush(struct ring *ring);

enum ring_state { RING_CHUNK, RING_END, RING_NONSENSE };
/* The receiver: waits for the next chunk and gives the one before back. RING_END: the sender is gone. */
enum ring_state ring_next(struct ring *ring, const void **chunk, size_t *size);

#endif
