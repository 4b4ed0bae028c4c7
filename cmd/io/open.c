/* SPDX-License-Identifier: GPL-3.0-or-later */
/* open.c - the test shell's open, close and reopen (shell.h).
 *
 * To reopen is to close and to open anew; when that fails nothing is open any more. A temporary image is an overlay
 * whose file has no name from the moment on that it is open.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../names.h"
#include "../nodes.h"
#include "../option_list.h"
#include "../report.h"
#include "../secret.h"
#include "shell.h"

bool io_parse_discard(const char *text, struct io_open *how) {
    how->unmap = strcmp(text, "unmap") == 0 || strcmp(text, "on") == 0;
    if (how->unmap || strcmp(text, "ignore") == 0 || strcmp(text, "off") == 0)
        return true;
    report("Invalid discard option: %s", text);
    return false;
}

bool io_parse_aio(const char *text, struct io_open *how) {
    how->threads = strcmp(text, "threads") == 0;
    how->native = strcmp(text, "native") == 0;
    if (how->threads || how->native || strcmp(text, "io_uring") == 0)
        return true;
    report("Invalid aio option: %s", text);
    return false;
}

/* "can't open device FILE: ..." */
static bool refuse(const char *file, const struct img_error *err) {
    const char *text = err->text, *start = strstr(text, "Could not open");
    char *prefix = text_format("Could not open '%s': ", path_of(file));
    bool content = err->code == -EINVAL || err->code == -ENOTSUP || err->code == -EUCLEAN || err->code == -EFBIG;
    if (start == text && content && strncmp(text, prefix, strlen(prefix)) == 0)
        text += strlen(prefix);
    free(prefix);
    struct img_error shown = *err;
    memmove(shown.text, text, strlen(text) + 1);
    report_image_error(&shown, "can't open device %s", file);
    return false;
}

static bool direct(enum img_cache cache) {
    return cache == IMG_CACHE_NONE || cache == IMG_CACHE_DIRECTSYNC;
}

/* An empty overlay over `file`; the caller frees its name. NULL with the reason in *err. */
static char *make_overlay(const char *file, const struct io_open *how, struct img_error *err) {
    const char *folder = getenv("TMPDIR");
    char *below = realpath(file, NULL), *name = text_format("%s/img-io.XXXXXX", folder ? folder : "/var/tmp");
    struct found_nodes found = {0};
    struct img_open_options look = {
        .format = how->format, .ask_key = secret_ask, .find_node = find_node, .opaque = &found};
    struct img *image = NULL;
    int fd = mkstemp(name), ret = fd < 0 || !below ? -errno : img_open(file, &look, &image, err);
    if (fd >= 0)
        close(fd);
    if (ret == 0) {
        struct img_create_options create = {.format = "qcow2",
                                            .size = img_size(image),
                                            .backing_file = below,
                                            .backing_format = img_format(image),
                                            .find_node = find_node,
                                            .node_opaque = &found};
        ret = img_create(name, &create, err);
    } else if (!err->text[0]) {
        snprintf(err->text, sizeof(err->text), "Could not open '%s': %s", file, strerror(-ret));
    }
    err->code = ret;
    img_close(image, NULL);
    found_nodes_free(&found);
    free(below);
    if (ret < 0) {
        unlink(name);
        free(name);
        return NULL;
    }
    return name;
}

static int open_file(struct shell *s, const char *file, const struct io_open *how, struct found_nodes *found,
                     struct img_error *err) {
    struct img_open_options options = {
        .flags = (how->read_only ? 0 : IMG_OPEN_WRITE) | (how->force_share ? IMG_OPEN_FORCE_SHARE : 0),
        .cache = how->cache,
        .format = how->format,
        .ask_key = secret_ask,
        .find_node = find_node,
        .opaque = found,
    };
    if (how->image_opts || nodes_is_name(file)) { /* which reports by itself */
        s->image = open_image_as(file, how->image_opts, &options);
        return s->image ? 0 : -EEXIST;
    }
    if (!how->temporary)
        return img_open(path_of(file), &options, &s->image, err);
    char *overlay = make_overlay(path_of(file), how, err);
    if (!overlay)
        return err->code;
    options.flags = IMG_OPEN_WRITE;
    options.format = "qcow2";
    options.cache = IMG_CACHE_UNSAFE;
    int ret = img_open(overlay, &options, &s->image, err);
    unlink(overlay);
    free(overlay);
    return ret;
}

/* Takes over what is wanted; the strings stay with the shell. */
static void remember(struct shell *s, const char *file, const struct io_open *how) {
    char *name = text_copy(file), *format = how->format ? text_copy(how->format) : NULL;
    struct io_open keep = *how;
    free(s->file);
    free(s->format);
    s->file = name;
    s->format = format;
    s->how = keep;
    s->how.format = format;
}

bool shell_open(struct shell *s, const char *file, const struct io_open *how) {
    struct found_nodes found = {0};
    struct img_error err = {0};
    if (how->format && !known_format(how->format)) {
        report("can't open device %s: Unknown driver '%s'", file, how->format);
        return false;
    }
    if (how->force_share && !how->read_only) {
        report("can't open device %s: force-share=on can only be used with read-only images", file);
        return false;
    }
    if (how->native && !direct(how->cache)) {
        report("can't open device %s: aio=native was specified, but it requires cache.direct=on, which was not "
               "specified.",
               file);
        return false;
    }
    int ret = open_file(s, file, how, &found, &err);
    found_nodes_free(&found);
    if (ret < 0) {
        s->image = NULL;
        return err.code ? refuse(file, &err) : false;
    }
    struct img_queue_options options = {.flags = how->threads ? IMG_QUEUE_THREADS : 0};
    if (img_queue_create(s->image, &options, &s->queue, &err) < 0) {
        img_close(s->image, NULL);
        s->image = NULL;
        return refuse(file, &err);
    }
    if (!how->format && !how->read_only && !how->image_opts && !nodes_is_name(file))
        warn_probed_raw(file, s->image);
    remember(s, file, how);
    return true;
}

bool shell_close(struct shell *s) {
    struct img_error err = {0};
    if (!s->image)
        return true;
    io_drain(s);
    img_queue_destroy(s->queue);
    s->queue = NULL;
    int ret = img_close(s->image, &err);
    s->image = NULL;
    if (ret < 0)
        report_image_error(&err, "can't close device %s", s->file);
    return ret == 0;
}

/* ---- the commands ---- */

static bool on_off(const char *text, bool *value) {
    *value = text && strcmp(text, "on") == 0;
    return text && (*value || strcmp(text, "off") == 0);
}

/* Options of one name and value that the block layer would take; false: there is none of that name. */
static bool take_block_option(struct io_open *how, const char *name, const char *value) {
    bool on = false;
    if (strcmp(name, "read-only") == 0)
        return on_off(value, &how->read_only);
    if (strcmp(name, "force-share") == 0)
        return on_off(value, &how->force_share);
    if (strcmp(name, "lazy-refcounts") == 0 && how->format && strcmp(how->format, "raw") != 0)
        return on_off(value, &on); /* counts are always exact here */
    if (strcmp(name, "discard") == 0)
        return io_parse_discard(value ? value : "", how);
    if (strcmp(name, "cache.direct") == 0 && on_off(value, &on)) {
        how->cache = on ? IMG_CACHE_NONE : IMG_CACHE_WRITEBACK;
        return true;
    }
    if (strcmp(name, "cache.no-flush") == 0 && on_off(value, &on)) {
        how->cache = on ? IMG_CACHE_UNSAFE : how->cache;
        return true;
    }
    return false;
}

/* One "name=value" of open -o. */
struct named {
    char *driver, *file;
};

static bool take_list(struct io_open *how, struct named *named, const char *list, const char **unknown, char **keep) {
    while (list && *list) {
        char *name = NULL, *value = NULL;
        list = option_list_next(list, &name, &value);
        if (named && strcmp(name, "driver") == 0 && value) {
            free(named->driver);
            how->format = named->driver = text_copy(value);
        } else if (named && strcmp(name, "file.filename") == 0 && value) {
            free(named->file);
            named->file = text_copy(value);
        } else if (!take_block_option(how, name, value)) {
            free(value);
            *keep = name;
            *unknown = name;
            return false;
        }
        free(name);
        free(value);
    }
    return true;
}

static bool take_open_option(struct io_open *how, int opt, char **list) {
    switch (opt) {
    case 'r':
        return how->read_only = true;
    case 's':
        return how->temporary = true;
    case 'n':
        how->cache = IMG_CACHE_NONE;
        return true;
    case 'C':
        return true; /* what was read from below need not be kept */
    case 'k':
        return how->native = true;
    case 'U':
        return how->force_share = true;
    case 't':
        return cache_option(optarg, &how->cache);
    case 'd':
        return io_parse_discard(optarg, how);
    case 'i':
        return io_parse_aio(optarg, how);
    default:
        return option_list_append(list, optarg);
    }
}

static int open_with(struct shell *s, struct io_open *how, const char *list, const char *file) {
    struct named named = {0};
    const char *unknown = NULL;
    char *keep = NULL;
    int result = -1;
    if (!take_list(how, &named, list, &unknown, &keep))
        report("can't open device %s: Block format '%s' does not support the option '%s'", file ? file : "",
               how->format ? how->format : "qcow2", unknown);
    else if (s->image)
        report("file open already, try 'help close'");
    else if (file || named.file)
        result = shell_open(s, file ? file : named.file, how) ? 0 : -1;
    else
        report("can't open device (null): Must specify either driver or file");
    free(keep);
    free(named.driver);
    free(named.file);
    return result;
}

static int open_command(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    struct io_open how = {.unmap = true};
    char *list = NULL;
    int opt, result = -1;
    for (bool first = true; (opt = shell_option(argc, argv, "Ckrsni:t:d:o:U", first)) != -1; first = false) {
        if (opt == '?')
            shell_usage(command);
        if (opt == '?' || !take_open_option(&how, opt, &list)) {
            free(list);
            return -1;
        }
    }
    if (argc - optind == 1 || (argc - optind == 0 && list))
        result = open_with(s, &how, list, argv[optind]);
    else
        result = shell_usage(command);
    free(list);
    return result;
}

static int close_command(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    (void)command, (void)argc, (void)argv;
    return shell_close(s) ? 0 : -1;
}

static bool names_option(const char *list, const char *prefix) {
    bool found = false;
    while (list && *list) {
        char *name = NULL, *value = NULL;
        list = option_list_next(list, &name, &value);
        found = found || strncmp(name, prefix, strlen(prefix)) == 0;
        free(name);
        free(value);
    }
    return found;
}

static int reopen_as(struct shell *s, const struct io_open *how) {
    char *file = text_copy(s->file);
    struct io_open wanted = *how;
    char *format = text_copy(img_format(s->image));
    wanted.format = s->how.temporary || s->how.image_opts || nodes_is_name(file) ? s->how.format : format;
    int result = shell_close(s) && shell_open(s, file, &wanted) ? 0 : -1;
    free(format);
    free(file);
    return result;
}

static int reopen(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    struct io_open how = s->how;
    bool mode_given = false, cache_given = false;
    char *list = NULL, *keep = NULL;
    const char *unknown = NULL, *wrong = NULL;
    int opt, result = -1;
    for (bool first = true; (opt = shell_option(argc, argv, "c:o:rw", first)) != -1; first = false) {
        bool good = true;
        if (opt == 'c') {
            good = cache_option(optarg, &how.cache);
            cache_given = true;
        } else if (opt == 'o') {
            good = option_list_append(&list, optarg);
        } else if (opt == '?') {
            shell_usage(command);
            good = false;
        } else if (mode_given) {
            report("Only one -r/-w option may be given");
            good = false;
        } else {
            how.read_only = opt == 'r';
            mode_given = true;
        }
        if (!good) {
            free(list);
            return -1;
        }
    }
    how.format = img_format(s->image);
    if (mode_given && names_option(list, "read-only"))
        wrong = "Cannot set both -r/-w and 'read-only'";
    else if (cache_given && names_option(list, "cache."))
        wrong = "Cannot set both -c and the cache options";
    if (optind != argc)
        shell_usage(command);
    else if (wrong)
        report("%s", wrong);
    else if (!take_list(&how, NULL, list, &unknown, &keep))
        report("Cannot change the option '%s'", unknown);
    else
        result = reopen_as(s, &how);
    free(keep);
    free(list);
    return result;
}

const struct shell_command io_open_commands[] = {
    {.name = "close", .alias = "c", .run = close_command, .summary = "close the current open file"},
    {.name = "open",
     .alias = "o",
     .run = open_command,
     .least = 1,
     .most = -1,
     .without_file = true,
     .args = "[-rsCnkU] [-t cache] [-d discard] [-o options] [path]",
     .summary = "open the file specified by path",
     .details = " Only one file is open at a time.\n"
                " -C  taken, and nothing\n -d  unmap or ignore [unmap]\n -i  threads, native or io_uring\n"
                " -k  as -i native\n -n  as -t none\n"
                " -o  name=value,...: driver, file.filename, read-only, force-share, discard, cache.direct,\n"
                "     cache.no-flush, lazy-refcounts\n"
                " -r  for reading only\n -s  what is written is lost in the end\n -t  the cache mode\n"
                " -U  although another program writes"},
    {.name = "reopen",
     .run = reopen,
     .most = -1,
     .args = "[(-r|-w)] [-c cache] [-o options]",
     .summary = "reopens an image with new options",
     .details = " -c  the cache mode\n -o  as that of 'open'\n -r  for reading only\n -w  for writing too"},
    {.name = NULL},
};
