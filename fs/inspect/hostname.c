/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hostname.c - what a guest calls itself: a file that has nothing else, or a variable among a system's settings. */
#include <errno.h>
#include <stdlib.h>

#include "parts.h"

/* `variable`: NULL where the name is the file's first line that says something. */
static const struct {
    const char *type;
    const char *path, *variable;
} places[] = {
    {"openbsd", "/etc/myname", NULL},
    {"freebsd", "/etc/rc.conf", "hostname"},
    {"netbsd", "/etc/rc.conf", "hostname"},
    {"minix", "/etc/hostname.file", NULL},
    {"linux", "/etc/HOSTNAME", NULL},
    {"linux", "/etc/hostname", NULL},
    {"linux", "/etc/sysconfig/network", "HOSTNAME"},
    {"linux", "/etc/conf.d/hostname", "hostname"},
    {"hurd", "/etc/hostname", NULL},
};

static bool find(struct span text, const char *variable, struct span *name) {
    struct span line, key, value;
    while (span_line(&text, &line)) {
        line = span_trim(line);
        if (line.length == 0 || line.at[0] == '#')
            continue;
        if (!variable) {
            *name = line;
            return true;
        }
        if (span_assignment(line, &key, &value) && span_is(key, variable) && value.length > 0) {
            *name = value;
            return true;
        }
    }
    return false;
}

int inspect_hostname(struct guest *guest, struct inspect_root *root) {
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]) && !root->hostname; i++) {
        struct span text, name;
        char *content = span_is(span_of(root->type), places[i].type) ? look_text(guest, places[i].path, &text) : NULL;
        if (!content)
            continue;
        bool found = find(text, places[i].variable, &name);
        if (found)
            root->hostname = places[i].variable ? span_unquoted(name) : span_copy(name);
        free(content);
        if (found && !root->hostname)
            return -ENOMEM;
    }
    return 0;
}
