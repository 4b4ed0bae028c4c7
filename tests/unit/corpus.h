// SPDX-License-Identifier: GPL-3.0-or-later
/* corpus.h - the kept inputs of a fuzz target. */
#ifndef TESTS_UNIT_CORPUS_H
#define TESTS_UNIT_CORPUS_H

#include <stddef.h>
#include <stdint.h>

/* Gives each input in fuzz/corpus/NAME to `input`. Fails the test where there are hardly any. Tests run in the
 * project's folder. */
void run_corpus(const char *name, int (*input)(const uint8_t *bytes, size_t size));

#endif
