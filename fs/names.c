/* SPDX-License-Identifier: GPL-3.0-or-later */
/* names.c - see names.h. */
#include "names.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static uint64_t number_of(const struct names *names, const void *name, size_t length) {
    const uint8_t *bytes = name;
    uint64_t number = names->seed;
    for (size_t i = 0; i < length; i++)
        number = (number ^ bytes[i]) * 0x100000001b3u;
    number ^= number >> 32;
    return number ? number : 1;
}

/* Where the number is, or a free place for it: there is one. */
static size_t find(const struct names *names, uint64_t number) {
    size_t at = number & (names->room - 1);
    while (names->slots[at] && names->slots[at] != number)
        at = (at + 1) & (names->room - 1);
    return at;
}

void names_begin(struct names *names, uint64_t dir) {
    names_free(names);
    if (getrandom(&names->seed, sizeof(names->seed), GRND_NONBLOCK) < 0)
        names->seed = (uint64_t)time(NULL) * 0x9e3779b97f4a7c15u;
    names->dir = dir;
}

static bool grow(struct names *names) {
    struct names old = *names;
    size_t room = old.room ? 2 * old.room : 256;
    uint64_t *slots = calloc(room, sizeof(*slots));
    if (!slots)
        return false;
    names->slots = slots;
    names->room = room;
    for (size_t i = 0; i < old.room; i++)
        if (old.slots[i])
            slots[find(names, old.slots[i])] = old.slots[i];
    free(old.slots);
    return true;
}

void names_add(struct names *names, const void *name, size_t length) {
    if (!names->dir)
        return;
    if (2 * names->count >= names->room && !grow(names)) {
        names_free(names);
        return;
    }
    uint64_t number = number_of(names, name, length);
    size_t at = find(names, number);
    names->count += !names->slots[at];
    names->slots[at] = number;
}

bool names_lack(const struct names *names, uint64_t dir, const void *name, size_t length) {
    if (!names->dir || names->dir != dir)
        return false;
    return !names->room || !names->slots[find(names, number_of(names, name, length))];
}

void names_free(struct names *names) {
    free(names->slots);
    *names = (struct names){0};
}
