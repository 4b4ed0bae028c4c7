/* SPDX-License-Identifier: GPL-3.0-or-later */
/* check_util.h - running the check on a file or a storage and keeping what it says; running the peer's tools. */
#ifndef TESTS_UNIT_CHECK_UTIL_H
#define TESTS_UNIT_CHECK_UTIL_H

#include "qcow2/check.h"
#include "storage.h"

struct check_line {
    enum img_finding_kind kind;
    bool has_guest;
    uint64_t guest_start, guest_length;
    char *text;
};

struct check_run {
    int code; /* of qcow2_check_file, or of opening and reading the header */
    bool repaired;
    struct img_check_result result;
    struct img_error error;
    struct check_line *lines;
    size_t nlines;
};

/* Checks the image in the storage. The run is to be freed by check_run_free. */
void check_storage(struct storage *file, uint32_t flags, struct check_run *run);
/* The same for a file, which is opened for writing only to be repaired. */
void check_path(const char *path, uint32_t flags, struct check_run *run);
void check_run_free(struct check_run *run);
/* "clean", "leaks", "corrupt", or "error" when the check could not do its work. */
const char *check_verdict(const struct check_run *run);
/* The first line that contains `text`, or NULL. */
const struct check_line *check_find(const struct check_run *run, const char *text);
/* For a test that fails: the lines on stderr. */
void check_show(const struct check_run *run);

/* Runs a shell command made by the format; its exit status. *output (may be NULL) is its stdout, to be freed. */
int shell(char **output, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What `qemu-img check` says: as check_verdict. *json: its stdout, to be freed, or NULL when not wanted. */
const char *peer_verdict(const char *path, char **json);
/* The number behind "key": in flat JSON; 0 when it is not there. */
uint64_t json_number(const char *json, const char *key);

/* A whole file in memory, and back. */
uint8_t *read_file(const char *path, size_t *size);
void write_file(const char *path, const void *data, size_t size);

/* Big-endian numbers at a place in memory. */
uint64_t be_get(const uint8_t *at, unsigned width);
void be_put(uint8_t *at, unsigned width, uint64_t value);

#endif
