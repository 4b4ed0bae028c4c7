/* SPDX-License-Identifier: GPL-3.0-or-later */
/* json.h - JSON as qemu-img prints it: four spaces, keys in the order in which they were put, ASCII only.
 *
 * Running out of memory ends the program, so no call here fails.
 */
#ifndef JSON_H
#define JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

json_t *json_new_object(void);
json_t *json_new_array(void);
void json_put(json_t *object, const char *key, json_t *value);
void json_add(json_t *array, json_t *value);
void json_put_text(json_t *object, const char *key, const char *text);
void json_put_number(json_t *object, const char *key, uint64_t number);
void json_put_bool(json_t *object, const char *key, bool value);
json_t *json_text(const char *text);

/* Prints the value and a newline on stdout and frees it. */
void json_print(json_t *value);

#endif
