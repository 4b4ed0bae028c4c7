/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ls.c - `img ls`, virt-ls: the names in a guest's directories; -R all below them; -lR a line for each file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checksum.h"
#include "file_json.h"
#include "file_line.h"
#include "guest.h"
#include "ls.h"
#include "paths.h"
#include "report.h"

static const struct option long_opts[] = {
    GUEST_LONG,
    GUEST_LONG_MOUNT,
    GUEST_LONG_OUTPUT,
    {"long", no_argument, NULL, 'l'},
    {"recursive", no_argument, NULL, 'R'},
    LINE_LONG,
    GUEST_LONG_END,
};

struct ls {
    struct guest_options options;
    struct line_style style;
    bool is_long, recursive;
    const char *only_with_both; /* an option that needs -l and -R */
    struct session *session;
    size_t printed; /* JSON: objects so far */
};

static bool parse_option(int opt, struct ls *ls) {
    switch (opt) {
    case 'l':
        ls->is_long = true;
        return true;
    case 'R':
        ls->recursive = true;
        return true;
    default:
        if (!is_line_option(opt))
            return guest_option(opt, &ls->options);
        if (opt != 'h')
            ls->only_with_both = "used a flag which can only be combined with -lR mode";
        return line_option(opt, &ls->style);
    }
}

/* ---- names alone ---- */

static void print_name_line(const char *name) {
    print_file_name(stdout, name);
    putchar('\n');
}

static bool list_names(struct ls *ls, const char *path) {
    struct guest_names names;
    struct guest_node dir;
    struct img_error err = {0};
    if (guest_resolve_directory(ls->session->guest, path, &dir, &err) < 0 || guest_list(&dir, &names, &err) < 0) {
        report_guest_error(&err);
        return false;
    }
    for (size_t i = 0; i < names.count; i++)
        print_name_line(names.list[i].name);
    guest_names_free(&names);
    return true;
}

/* ---- all below a directory: libguestfs sorts the paths as a whole, so "a-b" comes before "a/b" ---- */

struct paths {
    char **list;
    size_t count, room;
};

static int take_path(void *opaque, const struct guest_visit *visit) {
    struct paths *paths = opaque;
    if (visit->depth == 0)
        return GUEST_GO_ON;
    if (paths->count == paths->room) {
        paths->room = paths->room ? 2 * paths->room : 256;
        paths->list = realloc(paths->list, paths->room * sizeof(paths->list[0]));
        if (!paths->list)
            out_of_memory();
    }
    paths->list[paths->count++] = text_copy(visit->path);
    return GUEST_GO_ON;
}

static int by_bytes(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool list_paths(struct ls *ls, const char *path) {
    struct paths paths = {0};
    struct guest_node dir;
    struct img_error err = {0};
    bool good = guest_resolve_directory(ls->session->guest, path, &dir, &err) == 0 &&
                guest_walk(ls->session->guest, &dir, take_path, &paths, &err) == 0;
    if (good && paths.count > 0)
        qsort(paths.list, paths.count, sizeof(paths.list[0]), by_bytes);
    for (size_t i = 0; i < paths.count; i++) {
        if (good)
            print_name_line(paths.list[i]);
        free(paths.list[i]);
    }
    free(paths.list);
    if (!good)
        report_guest_error(&err);
    return good;
}

/* ---- a line for each file ---- */

struct listing {
    struct ls *ls;
    const char *top; /* the path where it began, without '/' at its end */
    struct img_error err;
    unsigned numbers[NUMBERED_MOUNTS_MAX][2]; /* of each mount's device */
    size_t printed;                           /* JSON: objects so far */
};

static int print_line(struct listing *listing, const struct guest_visit *visit, struct fs_stat stat,
                      const struct guest_node *node) {
    struct ls *ls = listing->ls;
    char sum[CHECKSUM_TEXT_MAX], *target = NULL;
    char *path = path_below(listing->top, visit->path);
    struct file_line line = {.stat = stat,
                             .path = path,
                             .dev_major = listing->numbers[node->mount][0],
                             .dev_minor = listing->numbers[node->mount][1]};
    int ret = 0;
    if (S_ISLNK(stat.mode))
        ret = guest_readlink(node, &target, &listing->err);
    if (ret == 0 && ls->style.checksum && S_ISREG(stat.mode)) {
        ret = checksum_file(ls->style.checksum, node, sum, &listing->err);
        line.checksum = sum;
    }
    line.target = target;
    if (ret == 0 && ls->options.output == OUTPUT_JSON)
        print_json_file(&listing->printed, &line);
    else if (ret == 0)
        print_file_line(stdout, &ls->style, &line);
    free(target);
    free(path);
    return ret;
}

static int list_file(void *opaque, const struct guest_visit *visit) {
    struct listing *listing = opaque;
    struct guest_node link;
    struct fs_stat stat;
    if (visit->depth > 0) {
        int ret = print_line(listing, visit, visit->stat, &visit->node);
        return ret == 0 && !listing->ls->recursive ? GUEST_SKIP : ret;
    }
    /* where the walk begins is told as it is, although a link was followed */
    const char *path = *listing->top ? listing->top : "/";
    int ret = guest_resolve(listing->ls->session->guest, path, false, &link, &listing->err);
    if (ret == 0)
        ret = guest_stat(&link, &stat, &listing->err);
    return ret == 0 ? print_line(listing, visit, stat, &link) : ret;
}

static bool list_lines(struct ls *ls, const char *path) {
    struct listing listing = {.ls = ls, .printed = ls->printed};
    struct guest_node dir;
    struct fs_stat stat;
    char *top = path_trimmed(path);
    listing.top = top;
    number_mounts(ls->session->guest, ls->session->volumes, listing.numbers);
    int ret = guest_resolve(ls->session->guest, path, true, &dir, &listing.err);
    if (ret == 0)
        ret = guest_stat(&dir, &stat, &listing.err);
    if (ret == 0)
        ret = guest_walk(ls->session->guest, &dir, list_file, &listing, &listing.err);
    if (ret == 0 && !S_ISDIR(stat.mode)) {
        snprintf(listing.err.text, sizeof(listing.err.text), "%s: Not a directory", path);
        ret = -1;
    }
    free(top);
    ls->printed = listing.printed;
    if (ret < 0)
        report_guest_error(&listing.err);
    return ret == 0;
}

static bool list(struct ls *ls, const char *path) {
    if (ls->options.output == OUTPUT_JSON || (ls->is_long && ls->recursive))
        return list_lines(ls, path);
    if (ls->is_long)
        return list_long(ls->session->guest, path, ls->style.human);
    return ls->recursive ? list_paths(ls, path) : list_names(ls, path);
}

static int run(int argc, char **argv) {
    struct ls ls = {.style.now = time(NULL)};
    int opt, status = EXIT_SUCCESS;
    while ((opt = next_option(&ls_command, argc, argv)) != -1)
        if (!parse_option(opt, &ls))
            return EXIT_FAILURE;
    if (ls.only_with_both && !(ls.is_long && ls.recursive)) {
        report("%s", ls.only_with_both);
        return EXIT_FAILURE;
    }
    if (!guest_old_style(&ls.options, argc, argv, 1))
        return EXIT_FAILURE;
    if (optind == argc)
        usage_error("Expecting a directory of the guest");
    ls.session = session_open(&ls.options, 0);
    if (!ls.session)
        return EXIT_FAILURE;
    if (ls.options.output == OUTPUT_JSON)
        putchar('[');
    while (optind < argc && status == EXIT_SUCCESS)
        if (!list(&ls, argv[optind++]))
            status = EXIT_FAILURE;
    if (ls.options.output == OUTPUT_JSON)
        puts("]");
    session_close(ls.session);
    return status;
}

const struct command ls_command = {
    .name = "ls",
    .summary = "list files inside a disk",
    .usage = GUEST_USAGE " [OPTION...] DIR...",
    .options = "  -l, --long              a line for each file, as ls -la prints it\n"
               "  -R, --recursive         all files below\n"
               "  -h, --human-readable    sizes as 12K, 3.4G\n"
               "With -l and -R:\n"
               "      --csv               comma-separated values\n"
               "      --checksum[=TYPE]   crc, md5, sha1, sha224, sha256, sha384, sha512 [md5]\n"
               "      --uids              owners\n"
               "      --times             times of access, change of content and change\n"
               "      --time-t            these in seconds since 1970\n"
               "      --time-relative     these in seconds ago\n"
               "      --time-days         these in days ago\n"
               "      --extra-stats       device, inode, links, device of nodes, blocks of 512 bytes\n"
               "Which guest:\n" GUEST_HELP GUEST_HELP_MOUNT GUEST_HELP_OUTPUT,
    .short_opts = "lRh" GUEST_SHORT GUEST_SHORT_MOUNT,
    .long_opts = long_opts,
    .run = run,
};
