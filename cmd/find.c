/* SPDX-License-Identifier: GPL-3.0-or-later */
/* find.c - `img find`: the files below directories of a guest that pass tests, as find(1) writes them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "file_json.h"
#include "find_test.h"
#include "guest.h"
#include "paths.h"
#include "report.h"

static const struct option long_opts[] = {
    GUEST_LONG,
    GUEST_LONG_MOUNT,
    GUEST_LONG_OUTPUT,
    GUEST_LONG_END,
};

struct search {
    struct guest_options options;
    struct find find;
    struct guest *guest;
    struct tar_names users, groups;
    const char *top; /* where the search began, without '/' at its end */
    size_t printed;  /* JSON: objects so far */
    struct img_error err;
};

static void print_owner(const struct tar_names *names, uint32_t id) {
    const char *name = tar_name_of(names, id);
    if (name)
        printf("%-8s ", name);
    else
        printf("%-8" PRIu32 " ", id);
}

/* As find -ls: what is no plain character is written so that the line can be told apart again. */
static void print_quoted(const char *text) {
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '\\' || c == ' ' || c == '"')
            printf("\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            printf("\\%03o", c);
        else
            putchar(c);
    }
}

static void print_ls(const struct search *search, const struct file_line *line) {
    const struct fs_stat *s = &line->stat;
    char when[LS_DATE_SIZE], mode[MODE_TEXT_SIZE];
    printf("%9" PRIu64 " %6" PRIu64 " %s ", s->ino, s->blocks / 2 + s->blocks % 2, mode_text(s->mode, mode));
    printf("%3" PRIu32 " ", s->nlink);
    print_owner(&search->users, s->uid);
    print_owner(&search->groups, s->gid);
    if (S_ISBLK(s->mode) || S_ISCHR(s->mode))
        printf("%3" PRIu32 ", %5" PRIu32, s->rdev_major, s->rdev_minor);
    else
        printf("%8" PRIu64, s->size);
    printf(" %s ", ls_date(s->mtime.seconds, search->find.now, when));
    print_quoted(line->path);
    if (line->target) {
        fputs(" -> ", stdout);
        print_quoted(line->target);
    }
    putchar('\n');
}

static int print_match(struct search *search, const struct guest_visit *visit, const char *path) {
    struct file_line line = {.stat = visit->stat, .path = path};
    bool json = search->options.output == OUTPUT_JSON;
    char *target = NULL;
    int ret = 0;
    if (S_ISLNK(visit->stat.mode) && (json || search->find.print == FIND_LS))
        ret = guest_readlink(&visit->node, &target, &search->err);
    line.target = target;
    if (ret == 0 && json)
        print_json_file(&search->printed, &line);
    else if (ret == 0 && search->find.print == FIND_LS)
        print_ls(search, &line);
    else if (ret == 0) {
        bool ends_in_nul = search->find.print == FIND_PRINT0;
        if (ends_in_nul)
            fputs(path, stdout);
        else
            print_file_name(stdout, path);
        putchar(ends_in_nul ? '\0' : '\n');
    }
    free(target);
    return ret;
}

static int look_at(void *opaque, const struct guest_visit *visit) {
    struct search *search = opaque;
    char *path = path_below(search->top, visit->path);
    const char *slash = strrchr(path, '/');
    const char *name = slash && slash[1] ? slash + 1 : path;
    bool matches;
    int ret = find_matches(&search->find, visit, path, name, &matches, &search->err);
    if (ret == 0 && matches)
        ret = print_match(search, visit, path);
    free(path);
    return ret == 0 && visit->depth >= search->find.depth_max ? GUEST_SKIP : ret;
}

static bool search_below(struct search *search, const char *path) {
    char *top = path_trimmed(path);
    struct guest_node node;
    search->top = top;
    int ret = guest_resolve(search->guest, path, path_follows(path), &node, &search->err);
    if (ret == 0)
        ret = guest_walk(search->guest, &node, look_at, search, &search->err);
    if (ret < 0)
        report_guest_error(&search->err);
    free(top);
    return ret == 0;
}

static bool search_all(struct search *search, char **paths, size_t count) {
    static char root[] = "/";
    char *whole[] = {root};
    bool good = true, json = search->options.output == OUTPUT_JSON;
    tar_read_names(search->guest, "/etc/passwd", &search->users);
    tar_read_names(search->guest, "/etc/group", &search->groups);
    if (!find_prepare(&search->find, search->guest, &search->users, &search->groups))
        return false;
    if (count == 0) {
        paths = whole;
        count = 1;
    }
    if (json)
        putchar('[');
    for (size_t i = 0; i < count; i++)
        good &= search_below(search, paths[i]);
    if (json)
        puts("]");
    return good;
}

static int run(int argc, char **argv) {
    struct search *search = memory(1, sizeof(*search));
    int opt, words = 1;
    search->find.now = time(NULL);
    search->find.depth_max = UINT32_MAX;
    while (words < argc && !find_is_word(argv[words]))
        words++;
    if (!find_parse(&search->find, argv + words, (size_t)(argc - words)))
        return EXIT_FAILURE;
    while ((opt = next_option(&find_command, words, argv)) != -1)
        if (!guest_option(opt, &search->options))
            return EXIT_FAILURE;
    struct session *session = session_open(&search->options, 0);
    bool good = session;
    if (session) {
        search->guest = session->guest;
        good = search_all(search, argv + optind, (size_t)(words - optind));
        session_close(session);
    }
    tar_free_names(&search->users);
    tar_free_names(&search->groups);
    free(search);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct command find_command = {
    .name = "find",
    .summary = "find files inside a disk",
    .usage = GUEST_USAGE " [OPTION...] [DIR...] [TEST...]",
    .options = "Tests, behind the directories; a file must pass all:\n"
               "  -name GLOB, -iname GLOB, -path GLOB\n"
               "                          the name, whatever its letters' case, the whole path\n"
               "  -type f|d|l|b|c|p|s     the type, or several with commas between\n"
               "  -size [+|-]N[c|w|b|k|M|G]\n"
               "                          the size in these units, rounded up [b: 512 bytes]\n"
               "  -mtime [+|-]N, -newer FILE\n"
               "                          days since the last change; changed after FILE of the guest\n"
               "  -user NAME, -group NAME, -uid [+|-]N, -gid [+|-]N\n"
               "                          the owner\n"
               "  -perm [-|/]MODE         permissions: exactly, all of these, any of these\n"
               "  -links [+|-]N, -inum [+|-]N, -empty\n"
               "  ! TEST                  it must not pass\n"
               "  -mindepth N, -maxdepth N\n"
               "                          how far below the directory\n"
               "  -print0, -ls            names that end in a NUL; a line about each file\n"
               "Which guest:\n" GUEST_HELP GUEST_HELP_MOUNT GUEST_HELP_OUTPUT,
    .short_opts = GUEST_SHORT GUEST_SHORT_MOUNT,
    .long_opts = long_opts,
    .run = run,
};
