/* SPDX-License-Identifier: GPL-3.0-or-later */
/* name.c - names: short ones are bytes of code page 437, long ones UTF-16; both are shown as UTF-8, as Linux shows
 * them.
 *
 * A name that came from here has no '/' and no NUL and is neither "." nor "..": nobody who walks a tree by these names
 * leaves it.
 */
#include <stdio.h>
#include <string.h>

#include "fat.h"

/* Code page 437 from 0x80 on. */
static const uint16_t page_437[128] = {
    0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7, 0x00ea, 0x00eb, 0x00e8, 0x00ef, 0x00ee,
    0x00ec, 0x00c4, 0x00c5, 0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2, 0x00fb, 0x00f9, 0x00ff, 0x00d6,
    0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192, 0x00e1, 0x00ed, 0x00f3, 0x00fa, 0x00f1, 0x00d1, 0x00aa,
    0x00ba, 0x00bf, 0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb, 0x2591, 0x2592, 0x2593, 0x2502,
    0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557, 0x255d, 0x255c, 0x255b, 0x2510, 0x2514,
    0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f, 0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550,
    0x256c, 0x2567, 0x2568, 0x2564, 0x2565, 0x2559, 0x2558, 0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c,
    0x2588, 0x2584, 0x258c, 0x2590, 0x2580, 0x03b1, 0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4,
    0x03a6, 0x0398, 0x03a9, 0x03b4, 0x221e, 0x03c6, 0x03b5, 0x2229, 0x2261, 0x00b1, 0x2265, 0x2264, 0x2320,
    0x2321, 0x00f7, 0x2248, 0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, 0x00a0,
};

/* Its capitals that have a small letter in it, each before that letter. */
static const uint8_t small_437[] = {0x80, 0x87, 0x8e, 0x84, 0x8f, 0x86, 0x90, 0x82, 0x92, 0x91,
                                    0x99, 0x94, 0x9a, 0x81, 0xa5, 0xa4, 0xe4, 0xe5, 0xe8, 0xed};

static char ascii_small(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static uint8_t page_small(uint8_t c) {
    if (c < 0x80)
        return (uint8_t)ascii_small((char)c);
    for (size_t i = 0; i < sizeof(small_437); i += 2)
        if (small_437[i] == c)
            return small_437[i + 1];
    return c;
}

static size_t put_utf8(char *text, uint32_t c) {
    if (c < 0x80) {
        text[0] = (char)c;
        return 1;
    }
    unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    text[0] = (char)(lead[more] | c >> 6 * more);
    for (unsigned i = 1; i <= more; i++)
        text[i] = (char)(0x80 | (c >> 6 * (more - i) & 0x3f));
    return more + 1;
}

static size_t put_page(char *text, uint8_t c) {
    return put_utf8(text, c < 0x80 ? c : page_437[c - 0x80]);
}

static bool leads_elsewhere(const char *text, size_t length) {
    return (length == 1 && text[0] == '.') || (length == 2 && text[0] == '.' && text[1] == '.');
}

/* ---- short names ---- */

uint8_t fat_checksum(const uint8_t name[FAT_SHORT]) {
    uint8_t sum = 0;
    for (unsigned i = 0; i < FAT_SHORT; i++)
        sum = (uint8_t)((sum << 7 | sum >> 1) + name[i]);
    return sum;
}

/* Up to `count` bytes of a name or an extension without the blanks behind it. */
static size_t put_part(char *text, const uint8_t *part, size_t count, bool small) {
    size_t length = 0, kept = 0;
    for (size_t i = 0; i < count && part[i]; i++) {
        uint8_t c = i == 0 && count == 8 && part[i] == FAT_STANDS_FOR_E5 ? FAT_DELETED : part[i];
        /* no name can have a slash: only somebody who wants to leave a directory writes one */
        length += put_page(text + length, c == '/' ? '_' : small ? page_small(c) : c);
        if (c != ' ')
            kept = length;
    }
    return kept;
}

size_t fat_short_name(const struct fat_slot *slot, char text[FAT_SHORT_TEXT]) {
    size_t base = put_part(text, slot->name, 8, slot->lower & FAT_LOWER_BASE);
    text[base] = '.';
    size_t extension = put_part(text + base + 1, slot->name + 8, 3, slot->lower & FAT_LOWER_EXTENSION);
    size_t length = extension ? base + 1 + extension : base;
    text[length] = 0;
    return leads_elsewhere(text, length) ? 0 : length;
}

void fat_label(const uint8_t name[FAT_SHORT], char text[FAT_SHORT_TEXT]) {
    size_t length = 0;
    for (unsigned i = 0; i < FAT_SHORT && name[i]; i++)
        length += put_page(text + length, i == 0 && name[i] == FAT_STANDS_FOR_E5 ? FAT_DELETED : name[i]);
    while (length && text[length - 1] == ' ')
        length--;
    text[length] = 0;
}

/* ---- long names ---- */

static bool is_surrogate(uint16_t unit) {
    return (unit & 0xf800) == 0xd800;
}

size_t fat_long_name(const uint16_t *units, size_t count, char text[FS_NAME_MAX + 1]) {
    size_t length = 0;
    for (size_t i = 0; i < count && units[i]; i++) {
        uint32_t c = units[i];
        if (i == 255 || c == '/')
            return 0;
        if (is_surrogate(units[i])) { /* half a pair is not shown */
            if (c >= 0xdc00 || i + 1 == count || (units[i + 1] & 0xfc00) != 0xdc00)
                continue;
            c = 0x10000 + ((c & 0x3ff) << 10 | (units[++i] & 0x3ffu));
        }
        length += put_utf8(text + length, c);
    }
    text[length] = 0;
    return leads_elsewhere(text, length) ? 0 : length;
}

/* ---- new names ---- */

/* The character at *at, which moves behind it; UINT32_MAX: this is not UTF-8. */
static uint32_t take_utf8(const uint8_t *text, size_t length, size_t *at) {
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    uint8_t c = text[(*at)++];
    unsigned more = c < 0x80 ? 0 : c < 0xc2 ? 9 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : c < 0xf5 ? 3 : 9;
    if (more == 9 || length - *at < more)
        return UINT32_MAX;
    uint32_t character = more ? c & (0x3fu >> more) : c;
    for (unsigned i = 0; i < more; i++) {
        if ((text[*at] & 0xc0) != 0x80)
            return UINT32_MAX;
        character = character << 6 | (text[(*at)++] & 0x3f);
    }
    bool surrogate = character >= 0xd800 && character < 0xe000;
    return character < least[more] || character > 0x10ffff || surrogate ? UINT32_MAX : character;
}

size_t fat_units_of(const char *name, size_t length, uint16_t units[255]) {
    size_t count = 0;
    for (size_t at = 0; at < length;) {
        uint32_t c = take_utf8((const uint8_t *)name, length, &at);
        if (c < ' ' || c == UINT32_MAX || (c < 0x80 && strchr("\"*/:<>?\\|\x7f", (int)c)) ||
            count + (c >= 0x10000 ? 2 : 1) > 255)
            return 0;
        if (c >= 0x10000) {
            units[count++] = (uint16_t)(0xd800 | (c - 0x10000) >> 10);
            units[count++] = (uint16_t)(0xdc00 | (c & 0x3ff));
        } else {
            units[count++] = (uint16_t)c;
        }
    }
    /* Windows finds no file whose name ends so */
    return count && (units[count - 1] == '.' || units[count - 1] == ' ') ? 0 : count;
}

/* How a unit looks in a short name; 0: not at all. *other: it was another one. */
static uint8_t short_unit(uint16_t unit, bool *small, bool *other) {
    if (unit >= 'a' && unit <= 'z') {
        *small = true;
        return (uint8_t)(unit - 'a' + 'A');
    }
    if ((unit >= 'A' && unit <= 'Z') || (unit >= '0' && unit <= '9') ||
        (unit < 0x80 && strchr("!#$%&'()-@^_`{}~", unit)))
        return (uint8_t)unit;
    *other = true;
    return unit == ' ' || unit == '.' ? 0 : '_';
}

/* Fills up to `room` bytes; the rest stays blank. */
static size_t shorten(const uint16_t *units, size_t count, uint8_t *out, size_t room, bool *small, bool *other) {
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        uint8_t c = short_unit(units[i], small, other);
        if (c && length == room)
            *other = true;
        else if (c)
            out[length++] = c;
    }
    return length;
}

bool fat_alias_of(const uint16_t *units, size_t count, unsigned number, uint8_t alias[FAT_SHORT], bool *exact) {
    bool small = false, other = false;
    size_t dot = count, start = 0;
    while (start < count && (units[start] == '.' || units[start] == ' '))
        start++;
    for (size_t i = start; i < count; i++)
        if (units[i] == '.')
            dot = i;
    other = start > 0;
    memset(alias, ' ', FAT_SHORT);
    size_t base = shorten(units + start, dot - start, alias, 8, &small, &other);
    if (dot < count)
        shorten(units + dot + 1, count - dot - 1, alias + 8, 3, &small, &other);
    if (!base)
        alias[base++] = '_', other = true;
    if (number) {
        char tail[12];
        size_t tail_length = (size_t)snprintf(tail, sizeof(tail), "~%u", number % 1000000);
        size_t kept = base < 8 - tail_length ? base : 8 - tail_length;
        memcpy(alias + kept, tail, tail_length);
        memset(alias + kept + tail_length, ' ', 8 - kept - tail_length);
    }
    *exact = !small && !other && !number;
    return !other;
}

/* ---- comparison ---- */

bool fat_same_name(const char *a, size_t a_length, const char *b, size_t b_length) {
    if (a_length != b_length)
        return false;
    for (size_t i = 0; i < a_length; i++)
        if (ascii_small(a[i]) != ascii_small(b[i]))
            return false;
    return true;
}
