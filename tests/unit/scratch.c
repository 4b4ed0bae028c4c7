/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scratch.c - a folder for a test's files, and the small helpers that every storage test needs (scratch.h). */
#include "scratch.h"

#include <err.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[4096];
static pid_t owner;

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st;
    (void)kind;
    (void)ftw;
    remove(path);
    return 0;
}

static void remove_folder(void) {
    if (getpid() == owner)
        nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *scratch_folder(void) {
    if (folder[0] != '\0')
        return folder;
    const char *build = getenv("IMG_BUILD");
    snprintf(folder, sizeof folder, "%s/scratch-XXXXXX", build != NULL ? build : "/var/tmp");
    if (mkdtemp(folder) == NULL)
        err(99, "%s", folder);
    owner = getpid();
    atexit(remove_folder);
    return folder;
}

char *scratch_path(const char *name) {
    char *path;
    if (asprintf(&path, "%s/%s", scratch_folder(), name) < 0)
        err(99, "asprintf");
    return path;
}

char *scratch_file(const char *name, const void *data, size_t count, uint64_t length) {
    char *path = scratch_path(name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, count) != (ssize_t)count || ftruncate(fd, (off_t)length) < 0)
        err(99, "%s", path);
    close(fd);
    return path;
}

uint64_t scratch_length(const char *path) {
    struct stat st;
    if (stat(path, &st) < 0)
        err(99, "%s", path);
    return (uint64_t)st.st_size;
}

uint64_t random_next(uint64_t *state) {
    uint64_t x = *state != 0 ? *state : 0x9e3779b97f4a7c15;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

void random_fill(uint64_t *state, void *buffer, size_t count) {
    uint8_t *p = buffer;
    for (size_t i = 0; i < count; i++)
        p[i] = (uint8_t)(random_next(state) >> 24);
}

struct storage *open_storage(const char *path, uint32_t flags, enum img_cache cache) {
    struct storage *s;
    struct img_error error = {0};
    if (file_open(path, flags, cache, &s, &error) < 0)
        fail_msg("%s", error.text);
    return s;
}

void assert_reads(struct storage *s, uint64_t offset, const void *expected, size_t count) {
    uint8_t *buffer = malloc(count + 1);
    assert_non_null(buffer);
    memset(buffer, 0xa5, count + 1);
    assert_int_equal(storage_read(s, buffer, count, offset), 0);
    assert_int_equal(buffer[count], 0xa5);
    for (size_t i = 0; i < count; i++)
        if (buffer[i] != ((const uint8_t *)expected)[i])
            fail_msg("byte %zu of %zu at %llu is %#x, not %#x", i, count, (unsigned long long)offset, buffer[i],
                     ((const uint8_t *)expected)[i]);
    free(buffer);
}

void assert_reads_zero(struct storage *s, uint64_t offset, size_t count) {
    uint8_t *zeroes = calloc(1, count);
    assert_non_null(zeroes);
    assert_reads(s, offset, zeroes, count);
    free(zeroes);
}

pid_t in_child(int (*body)(void *), void *argument) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        err(99, "fork");
    if (pid == 0)
        _exit(body(argument));
    return pid;
}

int child_result(pid_t pid) {
    int status;
    if (waitpid(pid, &status, 0) < 0)
        err(99, "waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}
