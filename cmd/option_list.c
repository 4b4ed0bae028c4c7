/* SPDX-License-Identifier: GPL-3.0-or-later */
/* option_list.c - see option_list.h. */
#include "option_list.h"

#include <stdlib.h>
#include <string.h>

#include "report.h"

/* A list starts with a name, and a comma at its end is half of a ",,". */
static bool well_formed(const char *list) {
    size_t length = strlen(list), commas = 0;
    while (commas < length && list[length - 1 - commas] == ',')
        commas++;
    return length > 0 && list[0] != ',' && commas % 2 == 0;
}

bool option_list_append(char **list, const char *argument) {
    if (!well_formed(argument)) {
        report("Invalid option list: %s", argument);
        return false;
    }
    char *joined = *list ? text_format("%s,%s", *list, argument) : text_copy(argument);
    free(*list);
    *list = joined;
    return true;
}

const char *option_list_next(const char *list, char **name, char **value) {
    size_t length = strcspn(list, "=,");
    *name = text_format("%.*s", (int)length, list);
    *value = NULL;
    list += length;
    if (*list == '=') {
        char *out = *value = memory(strlen(list), 1);
        for (list++; *list && (*list != ',' || list[1] == ','); list++) {
            list += *list == ',';
            *out++ = *list;
        }
    }
    return *list == ',' ? list + 1 : list;
}

bool option_list_wants_help(const char *list) {
    bool found = false;
    while (list && *list && !found) {
        char *name, *value;
        list = option_list_next(list, &name, &value);
        found = !value && (strcmp(name, "help") == 0 || strcmp(name, "?") == 0);
        free(name);
        free(value);
    }
    return found;
}
