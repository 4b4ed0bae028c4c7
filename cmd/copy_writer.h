/* SPDX-License-Identifier: GPL-3.0-or-later */
/* copy_writer.h - the process that keeps its rights makes the files that the other one describes (copy_records.h). */
#ifndef COPY_WRITER_H
#define COPY_WRITER_H

#include <stdbool.h>

#include "chute.h"

/* Makes them below the open directory `top` until all are made. True: all could be, and DONE was read. */
bool make_host_files(struct chute *chute, int top);

#endif
