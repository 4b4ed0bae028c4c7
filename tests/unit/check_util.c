/* SPDX-License-Identifier: GPL-3.0-or-later */
/* check_util.c - see check_util.h. */
#include "check_util.h"

#include <err.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

/* ---- the check ------------------------------------------------------------------------------------- */

static void keep_line(void *opaque, const struct img_finding *finding) {
    struct check_run *run = opaque;
    run->lines = reallocarray(run->lines, run->nlines + 1, sizeof *run->lines);
    char *text = strdup(finding->text);
    if (run->lines == NULL || text == NULL)
        err(99, "check_util");
    run->lines[run->nlines++] =
        (struct check_line){finding->kind, finding->has_guest, finding->guest_start, finding->guest_length, text};
}

void check_storage(struct storage *file, uint32_t flags, struct check_run *run) {
    struct qcow2_header header;
    struct img_check_options options = {.flags = flags, .report = keep_line, .opaque = run};
    memset(run, 0, sizeof *run);
    run->code = header_read(file, &header, true, &run->error);
    if (run->code == 0) {
        run->code = qcow2_check_file(file, NULL, &header, &options, &run->result, &run->repaired, &run->error);
        header_free(&header);
    }
}

void check_path(const char *path, uint32_t flags, struct check_run *run) {
    struct storage *file;
    struct img_error error = {0};
    int code = file_open(path, flags != 0 ? IMG_OPEN_WRITE : 0, IMG_CACHE_WRITEBACK, &file, &error);
    if (code < 0) {
        memset(run, 0, sizeof *run);
        run->code = code;
        run->error = error;
        return;
    }
    check_storage(file, flags, run);
    storage_close(file);
}

void check_run_free(struct check_run *run) {
    for (size_t i = 0; i < run->nlines; i++)
        free(run->lines[i].text);
    free(run->lines);
    memset(run, 0, sizeof *run);
}

const char *check_verdict(const struct check_run *run) {
    if (run->code < 0 || run->result.check_errors > 0)
        return "error";
    return run->result.corruptions > 0 ? "corrupt" : run->result.leaks > 0 ? "leaks" : "clean";
}

const struct check_line *check_find(const struct check_run *run, const char *text) {
    for (size_t i = 0; i < run->nlines; i++)
        if (strstr(run->lines[i].text, text) != NULL)
            return &run->lines[i];
    return NULL;
}

void check_show(const struct check_run *run) {
    fprintf(stderr, "# code %d, %" PRIu64 " corruptions, %" PRIu64 " leaks, %" PRIu64 " errors %s\n", run->code,
            run->result.corruptions, run->result.leaks, run->result.check_errors, run->code < 0 ? run->error.text : "");
    for (size_t i = 0; i < run->nlines && i < 40; i++)
        fprintf(stderr, "# %s\n", run->lines[i].text);
}

/* ---- the peer ---------------------------------------------------------------------------------------- */

int shell(char **output, const char *format, ...) {
    char command[4096], *text = NULL;
    size_t size = 0;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(command, sizeof command, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof command)
        errx(99, "the command is too long");
    FILE *pipe = popen(command, "r"), *memory = open_memstream(&text, &size);
    if (pipe == NULL || memory == NULL)
        err(99, "%s", command);
    for (int c; (c = getc(pipe)) != EOF;)
        putc(c, memory);
    fclose(memory);
    int status = pclose(pipe);
    if (output != NULL)
        *output = text;
    else
        free(text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

const char *peer_verdict(const char *path, char **json) {
    switch (shell(json, "qemu-img check -f qcow2 --output=json '%s' 2>/dev/null", path)) {
    case 0:
        return "clean";
    case 2:
        return "corrupt";
    case 3:
        return "leaks";
    default:
        return "error";
    }
}

uint64_t json_number(const char *json, const char *key) {
    char pattern[64];
    snprintf(pattern, sizeof pattern, "\"%s\":", key);
    const char *at = strstr(json, pattern);
    return at != NULL ? strtoull(at + strlen(pattern), NULL, 10) : 0;
}

/* ---- bytes --------------------------------------------------------------------------------------------- */

uint8_t *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (f == NULL || fseek(f, 0, SEEK_END) < 0)
        err(99, "%s", path);
    *size = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = malloc(*size + 1);
    if (data == NULL || fread(data, 1, *size, f) != *size)
        err(99, "%s", path);
    fclose(f);
    return data;
}

void write_file(const char *path, const void *data, size_t size) {
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        err(99, "%s", path);
}

uint64_t be_get(const uint8_t *at, unsigned width) {
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++)
        value = value << 8 | at[i];
    return value;
}

void be_put(uint8_t *at, unsigned width, uint64_t value) {
    for (unsigned i = width; i-- > 0; value >>= 8)
        at[i] = (uint8_t)value;
}
