/* SPDX-License-Identifier: GPL-3.0-or-later */
/* guest_options.c - the options of the commands that look inside a disk (guest.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "report.h"

#define MAX_KEY (8 << 20) /* bytes of a key file, as in cryptsetup */

static bool add_disk(struct guest_options *o, const char *path) {
    if (o->ndisks == MAX_DISKS) {
        report("More than %d disks", MAX_DISKS);
        return false;
    }
    if (o->domain) {
        report("-a and -d cannot be used together");
        return false;
    }
    o->disks[o->ndisks++] =
        (struct guest_disk){.path = path, .format = o->format, .sector_size = o->sector_size ? o->sector_size : 512};
    o->format_unused = o->sector_size_unused = false;
    return true;
}

static bool set_domain(struct guest_options *o, const char *domain) {
    if (o->ndisks > 0 || o->domain) {
        report(o->domain ? "Only one -d option is possible" : "-a and -d cannot be used together");
        return false;
    }
    o->domain = domain;
    return true;
}

static bool set_format(struct guest_options *o, const char *format) {
    o->format = format && strcmp(format, "auto") != 0 ? format : NULL;
    o->format_unused = true;
    return true;
}

static bool set_sector_size(struct guest_options *o, const char *text) {
    o->sector_size_unused = true;
    o->sector_size = text && strcmp(text, "4096") == 0 ? 4096 : 512;
    if (!text || strcmp(text, "4096") == 0 || strcmp(text, "512") == 0)
        return true;
    report("--blocksize is 512 or 4096, not '%s'", text);
    return false;
}

/* DEV[:DIR[:OPTIONS[:TYPE]]]; a /dev name has no colon. */
static bool add_mount(struct guest_options *o, char *text) {
    if (o->nmounts == MAX_MOUNT_OPTIONS) {
        report("More than %d mount options", MAX_MOUNT_OPTIONS);
        return false;
    }
    struct mount_option *mount = &o->mounts[o->nmounts];
    size_t length = strcspn(text, ":");
    if (length >= sizeof(mount->device)) {
        report("The name of a device is longer than %zu bytes", sizeof(mount->device) - 1);
        return false;
    }
    memcpy(mount->device, text, length);
    mount->device[length] = '\0';
    mount->path = text + length;
    if (*mount->path) {
        char *path = text + length + 1;
        path[strcspn(path, ":")] = '\0';
        mount->path = path;
    }
    if (!*mount->path)
        mount->path = "/";
    o->nmounts++;
    return true;
}

/* The whole of a small file, or NULL after reporting. */
static char *read_key_file(const char *path, size_t *length) {
    FILE *file = fopen(path, "rbe");
    char *key = file ? malloc(MAX_KEY + 1) : NULL;
    if (!key) {
        report("%s: %s", path, strerror(errno));
        if (file)
            fclose(file);
        return NULL;
    }
    *length = fread(key, 1, MAX_KEY + 1, file);
    bool failed = ferror(file) || *length > MAX_KEY;
    fclose(file);
    if (!failed)
        return key;
    report("%s: no key can be read from it", path);
    free(key);
    return NULL;
}

/* The key is taken over in any case. */
static bool add_key(struct guest_options *o, const char *id, size_t id_length, char *key, size_t length) {
    struct key_option *option = &o->keys[o->nkeys];
    if (key && o->nkeys < MAX_KEY_OPTIONS && id_length < sizeof(option->id)) {
        memcpy(option->id, id, id_length);
        option->id[id_length] = '\0';
        option->key = key;
        option->length = length;
        o->nkeys++;
        return true;
    }
    if (key) {
        report(o->nkeys == MAX_KEY_OPTIONS ? "Too many keys" : "The name in --key is too long");
        explicit_bzero(key, length);
        free(key);
    }
    return false;
}

/* ID:key:KEY or ID:file:FILE; the argument is overwritten, so that no list of processes shows the key any longer. */
static bool parse_key(struct guest_options *o, char *text) {
    char *kind = strchr(text, ':'), *value = kind ? strchr(kind + 1, ':') : NULL;
    size_t id_length = kind ? (size_t)(kind - text) : 0, length = 0;
    if (!value) {
        report("--key '%s' is not ID:key:KEY or ID:file:FILE", text);
        return false;
    }
    *value++ = '\0';
    if (strcmp(kind, ":key") == 0) {
        char *key = text_copy(value);
        length = strlen(key);
        memset(value, 'x', length);
        return add_key(o, text, id_length, key, length);
    }
    if (strcmp(kind, ":file") == 0) {
        char *key = read_key_file(value, &length);
        /* libguestfs takes the newline off */
        if (key && length > 0 && key[length - 1] == '\n')
            length--;
        return add_key(o, text, id_length, key, length);
    }
    report("--key: '%s' is neither key nor file", kind + 1);
    return false;
}

static bool read_keys(struct guest_options *o) {
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    while ((length = getline(&line, &room, stdin)) > 0) {
        if (line[length - 1] == '\n')
            length--;
        char *key = memory(1, (size_t)length + 1);
        memcpy(key, line, (size_t)length);
        if (!add_key(o, "all", 3, key, (size_t)length))
            return false;
    }
    if (line)
        explicit_bzero(line, room);
    free(line);
    return true;
}

static bool set_sandbox(struct guest_options *o, const char *text) {
    o->no_sandbox = strcmp(text, "off") == 0;
    if (o->no_sandbox || strcmp(text, "on") == 0)
        return true;
    report("--sandbox is on or off, not '%s'", text);
    return false;
}

bool guest_option(int opt, struct guest_options *o) {
    switch (opt) {
    case 'a':
        return add_disk(o, optarg);
    case 'd':
        return set_domain(o, optarg);
    case OPT_FORMAT:
        return set_format(o, optarg);
    case OPT_BLOCKSIZE:
        return set_sector_size(o, optarg);
    case 'm':
        return add_mount(o, optarg);
    case OPT_GUEST_KEY:
        return parse_key(o, optarg);
    case OPT_KEYS_FROM_STDIN:
        return read_keys(o);
    case 'U':
        o->force_share = true;
        return true;
    case 'c':
        o->connect = optarg;
        return true;
    case 'r':
        o->read_only = true;
        return true;
    case 'v':
        o->verbose = true;
        return true;
    case OPT_SNAPSHOT:
        o->snapshot = optarg;
        return true;
    case OPT_SANDBOX:
        return set_sandbox(o, optarg);
    case OPT_OUTPUT: {
        struct common_options common = {0};
        bool good = common_option(opt, &common);
        o->output = common.output;
        return good;
    }
    default:
        return true;
    }
}

bool guest_old_style(struct guest_options *o, int argc, char **argv, int others) {
    if (!report_as_virt_tool() || o->ndisks > 0 || o->domain)
        return true;
    for (; optind < argc - others; optind++) {
        const char *name = argv[optind];
        bool is_disk = strchr(name, '/') || access(name, F_OK) == 0;
        if (is_disk ? !add_disk(o, name) : !set_domain(o, name))
            return false;
    }
    return true;
}

void guest_options_free(struct guest_options *o) {
    while (o->nkeys > 0) {
        struct key_option *option = &o->keys[--o->nkeys];
        explicit_bzero(option->key, option->length);
        free(option->key);
    }
    while (o->disks_are_owned && o->ndisks > 0) {
        struct guest_disk *disk = &o->disks[--o->ndisks];
        free((char *)disk->path);
        free((char *)disk->format);
    }
}
