// SPDX-License-Identifier: GPL-3.0-or-later
/* corpus.c - see corpus.h. */
#include "corpus.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void run_file(const char *path, int (*input)(const uint8_t *, size_t)) {
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    size_t size = (size_t)st.st_size;
    uint8_t *bytes = malloc(size ? size : 1);
    assert_non_null(bytes);
    assert_int_equal(read(fd, bytes, size), st.st_size);
    close(fd);
    input(bytes, size);
    free(bytes);
}

void run_corpus(const char *name, int (*input)(const uint8_t *, size_t)) {
    char folder[256], path[600];
    unsigned count = 0;
    snprintf(folder, sizeof(folder), "fuzz/corpus/%s", name);
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        run_file(path, input);
        count++;
    }
    closedir(dir);
    assert_true(count > 3);
}
