/* SPDX-License-Identifier: GPL-3.0-or-later */
/* option_list.h - "name=value,name=value", as options with several parts have it: ",," is a comma inside a value.
 *
 * A name alone has no value. What the names mean is not known here.
 */
#ifndef OPTION_LIST_H
#define OPTION_LIST_H

#include <stdbool.h>

/* Joins another -o argument to *list (malloc'ed, NULL at first); false after reporting a malformed list. */
bool option_list_append(char **list, const char *argument);
/* Takes "name" or "name=value" off the list and returns the rest; both are malloc'ed, *value is NULL where there is
 * none. */
const char *option_list_next(const char *list, char **name, char **value);
/* Does the list ask for help? */
bool option_list_wants_help(const char *list);

#endif
