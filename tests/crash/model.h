/* SPDX-License-Identifier: GPL-3.0-or-later */
/* model.h - what a guest may find on its disk after a power cut.
 *
 * Each 512-byte sector of the watched windows has a history of values. A value is an event: a write, zeroing, discard
 * or resize, with the tick at which it was asked for and the tick at which it was acknowledged. A flush that returned 0
 * makes durable what had been acknowledged before it was called. After a cut a sector may hold any value that was asked
 * for before the cut, unless a durable event came wholly after that value. Two events that overlap in time have no
 * order: either may have won. An event that failed may show or not, and is never durable.
 *
 * The size is a value too. img_resize is durable when it returns, and what a shrink cuts off is lost only where the
 * new size shows.
 *
 * Thread-safe between model_new and model_seal; the clock is the recorder's, so that both tell the same time.
 */
#ifndef CRASH_MODEL_H
#define CRASH_MODEL_H

#include "recorder.h"

struct model;
struct model_event;

enum { MODEL_SECTOR = 512 };

/* Offsets from here on are those of a machine's state, which no size of the disk cuts. */
#define MODEL_STATE (1ull << 62)

struct model *model_new(struct log *clock, uint64_t size);
/* From now on what is acknowledged is durable. */
void model_write_through(struct model *m);
void model_free(struct model *m);
/* Watches [offset, offset + length), sector aligned, apart from the other windows. It holds `original` (NULL: zeroes)
 * at the start, which is durable. */
void model_watch(struct model *m, uint64_t offset, uint64_t length, const void *original);

/* Bytes of all windows together; they lie behind one another in the buffers below. */
size_t model_bytes(const struct model *m);
unsigned model_nwindows(const struct model *m);
void model_window(const struct model *m, unsigned index, uint64_t *offset, uint64_t *length);

/* A write of `data`, or zeroes where it is NULL, begins. Sectors that are covered in part only take the rest from their
 * newest value. What lies outside the windows is not watched. */
struct model_event *model_write(struct model *m, uint64_t offset, uint64_t length, const void *data);
struct model_event *model_resize(struct model *m, uint64_t size);
struct model_event *model_flush(struct model *m);
void model_done(struct model *m, struct model_event *event, bool success);

/* The newest values by the order of the calls: what a single thread reads. */
void model_newest(const struct model *m, uint8_t *all);
uint64_t model_newest_size(const struct model *m);

/* Nothing runs any more: works out what was durable when. */
void model_seal(struct model *m);
/* Ticks at which a promise began to hold, ascending; *marks is owned by the model. */
unsigned model_marks(const struct model *m, const uint64_t **marks);

/* May a disk of `size` bytes hold `all` after a power cut at `cut`? If not, `why` says what is wrong. */
bool model_allows(const struct model *m, uint64_t cut, uint64_t size, const uint8_t *all, char *why, size_t why_size);

/* When was what the sector at `offset` holds asked for, up to `cut`? 1: by writes from tick *first to tick *last alone;
 * 0: nobody asked for it; -1: it may be older than everything, or what a smaller size cut off. */
int model_asked(const struct model *m, uint64_t offset, const uint8_t *sector, uint64_t cut, uint64_t *first,
                uint64_t *last);

#endif
