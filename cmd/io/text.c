/* SPDX-License-Identifier: GPL-3.0-or-later */
/* text.c - numbers as the test shell reads and prints them (shell.h). */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../size.h"
#include "shell.h"

const char *io_bytes_text(double bytes, char text[IO_TEXT_MAX]) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    size_t unit = 0;
    char number[IO_TEXT_MAX - 8];
    while (bytes >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        bytes /= 1024;
        unit++;
    }
    snprintf(number, sizeof(number), unit ? "%.3f" : "%f", bytes);
    char *whole = strstr(number, ".000");
    if (whole)
        *whole = '\0';
    snprintf(text, IO_TEXT_MAX, "%s %s", number, units[unit]);
    return text;
}

bool io_parse_bytes(const char *word, uint64_t *bytes) {
    int ret = parse_size(word, bytes);
    if (ret == 0 && *bytes <= INT64_MAX)
        return true;
    if (ret == -EINVAL)
        printf("Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- %s\n", word);
    else
        printf("Parsing error: argument too large -- %s\n", word);
    return false;
}

bool io_parse_pattern(const char *word, uint8_t *byte) {
    char *end;
    long value = strtol(word, &end, 0);
    if (end == word || *end || value < 0 || value > UINT8_MAX) {
        printf("%s is not a valid pattern byte\n", word);
        return false;
    }
    *byte = (uint8_t)value;
    return true;
}

void io_dump(const uint8_t *bytes, uint64_t offset, uint64_t length) {
    for (uint64_t at = 0; at < length; at += 16) {
        uint64_t n = length - at < 16 ? length - at : 16;
        printf("%08" PRIx64 ":  ", offset + at);
        for (uint64_t i = 0; i < n; i++)
            printf("%02x ", bytes[at + i]);
        putchar(' ');
        for (uint64_t i = 0; i < n; i++)
            putchar(isprint(bytes[at + i]) && bytes[at + i] < 0x80 ? bytes[at + i] : '.');
        putchar('\n');
    }
}
