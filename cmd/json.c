/* SPDX-License-Identifier: GPL-3.0-or-later */
/* json.c - see json.h. */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>

#include "report.h"

static json_t *must(json_t *value) {
    if (!value)
        out_of_memory();
    return value;
}

json_t *json_new_object(void) {
    return must(json_object());
}

json_t *json_new_array(void) {
    return must(json_array());
}

void json_put(json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, must(value)) < 0)
        out_of_memory();
}

void json_add(json_t *array, json_t *value) {
    if (json_array_append_new(array, must(value)) < 0)
        out_of_memory();
}

json_t *json_text(const char *text) {
    char *valid = text_utf8(text);
    json_t *value = must(json_string(valid));
    free(valid);
    return value;
}

void json_put_text(json_t *object, const char *key, const char *text) {
    json_put(object, key, json_text(text));
}

void json_put_number(json_t *object, const char *key, uint64_t number) {
    json_put(object, key, json_integer((json_int_t)number));
}

void json_put_bool(json_t *object, const char *key, bool value) {
    json_put(object, key, json_boolean(value));
}

void json_print(json_t *value) {
    json_dumpf(value, stdout, JSON_INDENT(4) | JSON_PRESERVE_ORDER | JSON_ENSURE_ASCII);
    putchar('\n');
    json_decref(value);
}
