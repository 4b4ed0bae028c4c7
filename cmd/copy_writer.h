/* SPDX-License-Identifier: GPL-3.0-or-later */
/* copy_writer.h - the process that keeps its rights makes the files that the other one describes (copy_records.h). */
#ifndef COPY_WRITER_H
#define COPY_WRITER_H

#include <stdbool.h>

#include "ring.h"

/* Makes them below the open directory `top` until all are made. True: all could be, and DONE was read. */
bool copy_write(struct ring *ring, int top);

#endif
