/* SPDX-License-Identifier: GPL-3.0-or-later */
/* short_size.h - sizes as ls -h and df -h write them: "88K", "1.2M". */
#ifndef SHORT_SIZE_H
#define SHORT_SIZE_H

#include <stdint.h>

#define SHORT_SIZE_MAX 48

/* Powers of 1024, rounded to the nearest, one digit behind the point below ten. */
const char *short_size(uint64_t bytes, char text[SHORT_SIZE_MAX]);

#endif
