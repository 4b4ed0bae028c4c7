/* SPDX-License-Identifier: GPL-3.0-or-later */
/* du.c - `img du`: how much space directories of a guest take, as du(1) counts it: a file with several names once. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "guest.h"
#include "json.h"
#include "paths.h"
#include "report.h"
#include "seen.h"

enum {
    OPT_APPARENT = OPT_GUEST_FIRST_FREE,
    OPT_TOTAL,
    OPT_MAX_DEPTH,
    OPT_ALL_FILES,
};

static const struct option long_opts[] = {
    GUEST_LONG,
    GUEST_LONG_MOUNT,
    GUEST_LONG_OUTPUT,
    {"all", no_argument, NULL, OPT_ALL_FILES},
    {"apparent-size", no_argument, NULL, OPT_APPARENT},
    {"bytes", no_argument, NULL, 'b'},
    {"human-readable", no_argument, NULL, 'h'},
    {"max-depth", required_argument, NULL, OPT_MAX_DEPTH},
    {"summarize", no_argument, NULL, 's'},
    {"total", no_argument, NULL, OPT_TOTAL},
    GUEST_LONG_END,
};

struct du {
    struct guest_options options;
    bool apparent, bytes, human, total, files;
    unsigned depth_max;
    struct guest *guest;
    const char *top; /* where it began, without '/' at its end */
    struct open_directory {
        char *path; /* below it */
        uint64_t size;
    } * open;
    size_t depth, room;
    uint64_t sum;
    struct seen links;
    size_t printed;
    struct img_error err;
};

static bool parse_depth(const char *text, unsigned *depth) {
    char *end;
    errno = 0;
    unsigned long number = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || number > UINT32_MAX) {
        report("The depth '%s' is not a number", text);
        return false;
    }
    *depth = (unsigned)number;
    return true;
}

static bool parse_option(int opt, struct du *du) {
    switch (opt) {
    case OPT_ALL_FILES:
        return du->files = true;
    case OPT_APPARENT:
        return du->apparent = true;
    case 'b':
        return du->apparent = du->bytes = true;
    case 'h':
        return du->human = true;
    case 's':
        du->depth_max = 0;
        return true;
    case OPT_MAX_DEPTH:
        return parse_depth(optarg, &du->depth_max);
    case OPT_TOTAL:
        return du->total = true;
    default:
        return guest_option(opt, &du->options);
    }
}

static void print_json(struct du *du, uint64_t size, const char *path) {
    json_t *object = json_new_object();
    json_put_text(object, "path", path);
    json_put_number(object, "bytes", size);
    char *text = json_dumps(object, JSON_ENSURE_ASCII);
    printf("%s%s", du->printed++ ? ",\n " : "", text ? text : "");
    free(text);
    json_decref(object);
}

/* "12K", "3.4G": rounded up, so that what takes space never shows as less. */
static void print_human(uint64_t size) {
    static const char letters[] = "KMGTPE";
    uint64_t unit = 1024;
    size_t letter = 0;
    while (letter + 2 < sizeof(letters) && size > 1023 * unit) {
        unit *= 1024;
        letter++;
    }
    uint64_t whole = size / unit, rest = size % unit;
    uint64_t tenths = rest / (unit / 1024) * 10 / 1024 + (rest > 0);
    if (size < 1024)
        printf("%" PRIu64, size);
    else if (whole < 9 || (whole == 9 && tenths < 10))
        printf("%" PRIu64 ".%" PRIu64 "%c", whole + tenths / 10, tenths % 10, letters[letter]);
    else
        printf("%" PRIu64 "%c", whole + (rest > 0), letters[letter]);
}

static void print_size(struct du *du, uint64_t size, const char *path) {
    if (du->options.output == OUTPUT_JSON) {
        print_json(du, size, path);
        return;
    }
    if (du->human)
        print_human(size);
    else
        printf("%" PRIu64, du->bytes ? size : size / 1024 + (size % 1024 != 0));
    putchar('\t');
    print_file_name(stdout, path);
    putchar('\n');
}

static void print_below_top(struct du *du, uint64_t size, const char *path) {
    char *whole = path_below(du->top, path);
    print_size(du, size, whole);
    free(whole);
}

/* Closes directories until `depth` are open; each adds to the one around it. */
static void close_to(struct du *du, size_t depth) {
    while (du->depth > depth) {
        struct open_directory *dir = &du->open[--du->depth];
        if (du->depth <= du->depth_max)
            print_below_top(du, dir->size, dir->path);
        *(du->depth > 0 ? &du->open[du->depth - 1].size : &du->sum) += dir->size;
        free(dir->path);
    }
}

static uint64_t space_of(const struct du *du, const struct fs_stat *stat) {
    if (!du->apparent)
        return stat->blocks < UINT64_MAX / 512 ? stat->blocks * 512 : UINT64_MAX;
    return S_ISREG(stat->mode) || S_ISLNK(stat->mode) || S_ISDIR(stat->mode) ? stat->size : 0;
}

static int count_file(void *opaque, const struct guest_visit *visit) {
    struct du *du = opaque;
    const struct fs_stat *stat = &visit->stat;
    uint64_t size = space_of(du, stat);
    bool is_new = true;
    close_to(du, visit->depth);
    if (S_ISDIR(stat->mode)) {
        if (du->depth == du->room) {
            du->room = du->room ? 2 * du->room : 32;
            du->open = realloc(du->open, du->room * sizeof(du->open[0]));
            if (!du->open)
                out_of_memory();
        }
        du->open[du->depth++] = (struct open_directory){.path = text_copy(visit->path), .size = size};
        return GUEST_GO_ON;
    }
    if (stat->nlink > 1)
        seen_file(&du->links, &visit->node, &is_new);
    if (!is_new)
        return GUEST_GO_ON;
    *(du->depth > 0 ? &du->open[du->depth - 1].size : &du->sum) += size;
    if (visit->depth == 0 || (du->files && visit->depth <= du->depth_max))
        print_below_top(du, size, visit->path);
    return GUEST_GO_ON;
}

static bool count_below(struct du *du, const char *path) {
    char *top = path_trimmed(path);
    struct guest_node node;
    du->top = top;
    int ret = guest_resolve(du->guest, path, path_follows(path), &node, &du->err);
    if (ret == 0)
        ret = guest_walk(du->guest, &node, count_file, du, &du->err);
    if (ret < 0)
        report_guest_error(&du->err);
    close_to(du, 0);
    free(top);
    return ret == 0;
}

static bool count_all(struct du *du, char **paths, size_t count) {
    static char root[] = "/";
    bool good = true, json = du->options.output == OUTPUT_JSON;
    if (json)
        putchar('[');
    for (size_t i = 0; i < count; i++)
        good &= count_below(du, paths[i]);
    if (count == 0)
        good = count_below(du, root);
    if (du->total)
        print_size(du, du->sum, "total");
    if (json)
        puts("]");
    return good;
}

static int run(int argc, char **argv) {
    struct du du = {.depth_max = UINT32_MAX};
    int opt;
    while ((opt = next_option(&du_command, argc, argv)) != -1)
        if (!parse_option(opt, &du))
            return EXIT_FAILURE;
    struct session *session = session_open(&du.options, 0);
    if (!session)
        return EXIT_FAILURE;
    du.guest = session->guest;
    bool good = count_all(&du, argv + optind, (size_t)(argc - optind));
    seen_free(&du.links);
    free(du.open);
    session_close(session);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct command du_command = {
    .name = "du",
    .summary = "show how much space files inside a disk take",
    .usage = GUEST_USAGE " [OPTION...] [FILE_OR_DIR...]",
    .options = "  -h, --human-readable    sizes as 12K, 3.4G\n"
               "  -s, --summarize         a line for each argument alone\n"
               "      --max-depth=N       directories up to N levels below the arguments\n"
               "      --all               files too\n"
               "      --apparent-size     lengths of files, not the space that they take\n"
               "  -b, --bytes             the same, in bytes instead of KiB\n"
               "      --total             the sum of all at the end\n"
               "Which guest:\n" GUEST_HELP GUEST_HELP_MOUNT GUEST_HELP_OUTPUT,
    .short_opts = "bhs" GUEST_SHORT GUEST_SHORT_MOUNT,
    .long_opts = long_opts,
    .run = run,
};
