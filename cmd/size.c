/* SPDX-License-Identifier: GPL-3.0-or-later */
/* size.c - see size.h. */
#include "size.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "report.h"

/* The power of two that a suffix stands for, -1 when it is none. */
static int suffix_shift(char c) {
    static const char suffixes[] = "bkmgtpe";
    const char *found = strchr(suffixes, tolower((unsigned char)c));
    return found ? (int)(found - suffixes) * 10 : -1;
}

/* The digits behind the point as a number below 1; *end is behind them. The locale has no say in it. */
static double parse_fraction(const char *digits, const char **end) {
    double value = 0, unit = 0.1;
    for (; isdigit((unsigned char)*digits); digits++, unit /= 10)
        value += (*digits - '0') * unit;
    *end = digits;
    return value;
}

int parse_size(const char *text, uint64_t *size) {
    text += strspn(text, " \t\n\v\f\r");
    const char *number = text + (*text == '+');
    bool hex = strncasecmp(number, "0x", 2) == 0 && isxdigit((unsigned char)number[2]);
    const char *end = number;
    double fraction = 0;
    uint64_t value = 0;

    if (hex || isdigit((unsigned char)*number)) {
        char *stop;
        errno = 0;
        value = strtoull(number, &stop, hex ? 16 : 10);
        if (errno == ERANGE)
            return -ERANGE;
        end = stop;
    } else if (*number != '.' || !isdigit((unsigned char)number[1])) {
        return -EINVAL;
    }
    if (!hex && *end == '.')
        fraction = parse_fraction(end + 1, &end);

    int shift = *end ? suffix_shift(*end) : 0;
    if (shift < 0 || (*end && end[1]) || (shift == 0 && fraction > 0))
        return -EINVAL;
    if (value > UINT64_MAX >> shift)
        return -ERANGE;
    value <<= shift;
    uint64_t part = (uint64_t)(fraction * (double)(UINT64_C(1) << shift));
    if (__builtin_add_overflow(value, part, size))
        return -ERANGE;
    if (hex && *end)
        report("warning: Using a multiplier suffix on hex numbers is deprecated: %s", text);
    return 0;
}

bool parse_size_argument(const char *what, const char *text, uint64_t max, uint64_t *size) {
    int ret = parse_size(text, size);
    if (ret == -ERANGE || (ret == 0 && *size > max)) {
        report("Invalid %s specified. Must be between 0 and %" PRIu64 ".", what, max);
        return false;
    }
    if (ret < 0) {
        report("Invalid %s specified. You may use k, M, G, T, P or E suffixes for", what);
        report("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
        return false;
    }
    return true;
}

const char *human_size(uint64_t size, char buffer[HUMAN_SIZE_MAX]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)size;
    size_t unit = 0;
    for (; value >= 1000 && unit < sizeof(units) / sizeof(units[0]) - 1; unit++)
        value /= 1024;
    snprintf(buffer, HUMAN_SIZE_MAX, "%.3g %s", value, units[unit]);
    return buffer;
}
