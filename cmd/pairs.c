/* SPDX-License-Identifier: GPL-3.0-or-later */
/* pairs.c - see pairs.h. */
#include "pairs.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "option_list.h"
#include "report.h"

/* Objects inside objects: enough for any image, and no more than the stack takes. */
#define MAX_DEPTH 64

static void add(struct pairs *p, char *key, char *text, enum pair_kind kind) {
    if (p->count == p->room) {
        p->room = p->room ? 2 * p->room : 16;
        struct pair *list = realloc(p->list, p->room * sizeof(*list));
        if (!list)
            out_of_memory();
        p->list = list;
    }
    p->list[p->count++] = (struct pair){.key = key, .text = text, .kind = kind};
}

void pairs_free(struct pairs *p) {
    for (size_t i = 0; i < p->count; i++) {
        free(p->list[i].key);
        free(p->list[i].text);
    }
    free(p->list);
    *p = (struct pairs){0};
}

/* A first word without "=" is the name of a node that is open already, and nothing here has such names. */
bool pairs_parse_list(struct pairs *p, const char *text, char **wrong) {
    const char *rest = text;
    size_t first = strcspn(text, "=,");
    if (*text && text[first] != '=') {
        *wrong = text_format("Cannot find device='%.*s' nor node-name='%.*s'", (int)first, text, (int)first, text);
        return false;
    }
    while (*rest) {
        char *key, *value;
        rest = option_list_next(rest, &key, &value);
        add(p, key, value ? value : text_copy("on"), PAIR_TEXT);
    }
    return true;
}

static bool flatten(struct pairs *p, const char *prefix, const json_t *value, unsigned depth, char **wrong);

static bool flatten_entry(struct pairs *p, const char *prefix, const char *name, const json_t *value, unsigned depth,
                          char **wrong) {
    char *key = text_format("%s%s%s", prefix, *prefix ? "." : "", name);
    if (json_is_object(value) || json_is_array(value)) {
        bool good = flatten(p, key, value, depth + 1, wrong);
        free(key);
        return good;
    }
    if (json_is_string(value))
        add(p, key, text_copy(json_string_value(value)), PAIR_TEXT);
    else if (json_is_integer(value))
        add(p, key, text_format("%" JSON_INTEGER_FORMAT, json_integer_value(value)), PAIR_NUMBER);
    else if (json_is_real(value))
        add(p, key, text_format("%.17g", json_real_value(value)), PAIR_NUMBER);
    else if (json_is_boolean(value))
        add(p, key, text_copy(json_is_true(value) ? "on" : "off"), PAIR_BOOLEAN);
    else
        add(p, key, text_copy(""), PAIR_NULL);
    return true;
}

static bool flatten(struct pairs *p, const char *prefix, const json_t *value, unsigned depth, char **wrong) {
    const char *name;
    json_t *entry;
    size_t i;
    if (depth > MAX_DEPTH) {
        *wrong = text_format("The JSON options are nested more than %d deep", MAX_DEPTH);
        return false;
    }
    json_object_foreach((json_t *)value, name, entry) {
        if (!flatten_entry(p, prefix, name, entry, depth, wrong))
            return false;
    }
    json_array_foreach(value, i, entry) {
        char number[24];
        snprintf(number, sizeof(number), "%zu", i);
        if (!flatten_entry(p, prefix, number, entry, depth, wrong))
            return false;
    }
    return true;
}

bool pairs_parse_json(struct pairs *p, const char *text, char **wrong) {
    json_error_t error;
    json_t *value = json_loads(text, JSON_DECODE_ANY, &error);
    if (!value) {
        *wrong = text_format("Could not parse the JSON options: %s", error.text);
        return false;
    }
    bool good = json_is_object(value);
    if (good)
        good = flatten(p, "", value, 0, wrong);
    else
        *wrong = text_copy("Invalid JSON object given");
    json_decref(value);
    return good;
}

/* What stands behind the prefix; NULL: it does not begin so. */
static const char *behind(const char *key, const char *prefix) {
    size_t length = strlen(prefix);
    return strncmp(key, prefix, length) == 0 ? key + length : NULL;
}

const struct pair *pairs_take(struct pairs *p, const char *prefix, const char *name) {
    const struct pair *found = NULL;
    for (size_t i = 0; i < p->count; i++) {
        const char *rest = behind(p->list[i].key, prefix);
        if (!rest || strcmp(rest, name) != 0)
            continue;
        p->list[i].used = true;
        found = &p->list[i];
    }
    return found;
}

bool pairs_has_below(const struct pairs *p, const char *prefix, const char *name) {
    for (size_t i = 0; i < p->count; i++) {
        const char *rest = behind(p->list[i].key, prefix);
        rest = rest ? behind(rest, name) : NULL;
        if (rest && *rest == '.')
            return true;
    }
    return false;
}

const char *pairs_unused(const struct pairs *p, const char *prefix) {
    for (size_t i = 0; i < p->count; i++) {
        const char *rest = behind(p->list[i].key, prefix);
        if (rest && !p->list[i].used)
            return rest;
    }
    return NULL;
}
