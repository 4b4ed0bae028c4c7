/* SPDX-License-Identifier: GPL-3.0-or-later */
/* copy_reader.h - the process in the sandbox reads a guest's files and describes them (copy_records.h). */
#ifndef COPY_READER_H
#define COPY_READER_H

#include <stdbool.h>
#include <stddef.h>

#include "chute.h"
#include "guest.h"

/* Sends files of the guest, directories with all that is below them. False after reporting: not all of it was sent. */
bool send_guest_files(struct guest *guest, char *const *paths, size_t count, struct chute *chute);

#endif
