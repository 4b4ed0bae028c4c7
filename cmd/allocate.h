/* SPDX-License-Identifier: GPL-3.0-or-later */
/* allocate.h - memory and text that are never NULL: the program ends with a sentence when there is none. The caller
 * frees. */
#ifndef ALLOCATE_H
#define ALLOCATE_H

#include <stdarg.h>
#include <stddef.h>

_Noreturn void out_of_memory(void);
void *memory(size_t count, size_t size); /* zeroed */
char *text_copy(const char *text);
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *text_format_list(const char *format, va_list ap) __attribute__((format(printf, 1, 0)));

#endif
