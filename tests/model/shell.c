// SPDX-License-Identifier: GPL-3.0-or-later
/* shell.c - programs run and files read for one seed: no shell in between, output kept for the report. */
#include "model.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT "qemu.out"

extern char **environ;
bool verbose;

void model_note(const char *format, ...) {
    va_list args;
    if (!verbose)
        return;
    va_start(args, format);
    printf("# ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    fflush(stdout);
}

void model_fail(const char *format, ...) {
    va_list args;
    flockfile(stdout); /* the first of four threads that fail is the one that speaks */
    va_start(args, format);
    printf("# ");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    fflush(stdout);
    _exit(1);
}

void args_add(struct args *a, const char *format, ...) {
    va_list list;
    char *text = NULL;
    if (a->count >= ARGS_MAX)
        model_fail("the test's command line is too long");
    va_start(list, format);
    if (vasprintf(&text, format, list) < 0)
        model_fail("out of memory");
    va_end(list);
    a->argv[a->count++] = text;
    a->argv[a->count] = NULL;
}

void args_free(struct args *a) {
    for (unsigned i = 0; i < a->count; i++)
        free((void *)a->argv[i]);
    a->count = 0;
}

static int run_once(const char *const *argv) {
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status, rc;
    if (verbose) {
        printf("# $");
        for (unsigned i = 0; argv[i]; i++)
            printf(strchr(argv[i], ' ') ? " '%s'" : " %s", argv[i]);
        printf("\n");
        fflush(stdout);
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, OUTPUT, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    rc = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc)
        model_fail("cannot run %s: %s", argv[0], strerror(rc));
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            model_fail("waitpid: %s", strerror(errno));
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* QEMU cannot measure its key derivation while the machine is busy, and gives up. */
static bool could_not_measure(void) {
    char text[512] = "";
    FILE *output = fopen(OUTPUT, "re");
    if (!output)
        return false;
    size_t length = fread(text, 1, sizeof(text) - 1, output);
    fclose(output);
    text[length] = '\0';
    return strstr(text, "accurate CPU usage");
}

int run_program(const char *const *argv) {
    int rc = run_once(argv);
    for (int tries = 0; rc == 1 && tries < 10 && could_not_measure(); tries++)
        rc = run_once(argv);
    return rc;
}

void must_run_or(const char *const *argv, int also) {
    int rc = run_program(argv);
    if (rc == 0 || rc == also)
        return;
    uint64_t size = 0;
    uint8_t *output = file_load(OUTPUT, &size);
    printf("# exit status %d from:", rc);
    for (unsigned i = 0; argv[i]; i++)
        printf(strchr(argv[i], ' ') ? " '%s'" : " %s", argv[i]);
    printf("\n");
    unsigned lines = 0;
    for (char *line = strtok((char *)output, "\n"); line && lines < 20; line = strtok(NULL, "\n"), lines++)
        printf("#   %s\n", line);
    model_fail("%s failed", argv[0]);
}

void must_run(const char *const *argv) {
    must_run_or(argv, 0);
}

uint8_t *file_load(const char *path, uint64_t *size) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        model_fail("%s: %s", path, strerror(errno));
    uint8_t *bytes = must_allocate((size_t)st.st_size + 1);
    uint64_t done = 0;
    while (done < (uint64_t)st.st_size) {
        ssize_t n = pread(fd, bytes + done, (size_t)st.st_size - done, (off_t)done);
        if (n <= 0)
            model_fail("%s: cannot be read", path);
        done += (uint64_t)n;
    }
    close(fd);
    *size = (uint64_t)st.st_size;
    return bytes;
}

void file_store(const char *path, const void *bytes, uint64_t size) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    uint64_t done = 0;
    if (fd < 0)
        model_fail("%s: %s", path, strerror(errno));
    while (done < size) {
        ssize_t n = pwrite(fd, (const uint8_t *)bytes + done, size - done, (off_t)done);
        if (n <= 0)
            model_fail("%s: cannot be written", path);
        done += (uint64_t)n;
    }
    close(fd);
}

uint64_t file_hash(const char *path) {
    uint64_t size, hash = 0;
    uint8_t *bytes = file_load(path, &size);
    for (uint64_t i = 0; i < size; i += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, size - i < 8 ? size - i : 8);
        hash = mix64(hash ^ word) + i;
    }
    free(bytes);
    return hash ^ size;
}
