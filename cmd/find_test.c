/* SPDX-License-Identifier: GPL-3.0-or-later */
/* find_test.c - see find_test.h. Numbers mean what they mean to find(1): sizes and ages are rounded before they are
 * compared, so -size -1M is an empty file and -mtime 0 the last 24 hours. */
#include "find_test.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "file_line.h"
#include "report.h"

#define SECONDS_OF_A_DAY 86400

enum argument { NONE, TEXT, NUMBER, SIZE, PERMISSIONS, TYPES };

struct find_word {
    const char *name;
    enum find_kind {
        NAME,
        INAME,
        PATH,
        TYPE,
        SIZE_OF,
        MTIME,
        NEWER,
        USER,
        GROUP,
        UID,
        GID,
        PERM,
        LINKS,
        INUM,
        EMPTY,
        NOT,
        DEPTH_MIN,
        DEPTH_MAX,
        PRINT,
        PRINT0,
        LS,
    } kind;
    enum argument argument;
};

static const struct find_word words[] = {
    {"-name", NAME, TEXT},
    {"-iname", INAME, TEXT},
    {"-path", PATH, TEXT},
    {"-type", TYPE, TYPES},
    {"-size", SIZE_OF, SIZE},
    {"-mtime", MTIME, NUMBER},
    {"-newer", NEWER, TEXT},
    {"-user", USER, TEXT},
    {"-group", GROUP, TEXT},
    {"-uid", UID, NUMBER},
    {"-gid", GID, NUMBER},
    {"-perm", PERM, PERMISSIONS},
    {"-links", LINKS, NUMBER},
    {"-inum", INUM, NUMBER},
    {"-empty", EMPTY, NONE},
    {"!", NOT, NONE},
    {"-not", NOT, NONE},
    {"-mindepth", DEPTH_MIN, NUMBER},
    {"-maxdepth", DEPTH_MAX, NUMBER},
    {"-print", PRINT, NONE},
    {"-print0", PRINT0, NONE},
    {"-ls", LS, NONE},
};

static const struct find_word *find_word(const char *name) {
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (strcmp(words[i].name, name) == 0)
            return &words[i];
    return NULL;
}

bool find_is_word(const char *word) {
    return find_word(word);
}

/* ---- parsing ---- */

static bool parse_number(struct find_test *test, const char *text, char **end) {
    test->sign = *text == '+' || *text == '-' ? *text++ : 0;
    errno = 0;
    test->number = strtoull(text, end, 10);
    return *text >= '0' && *text <= '9' && errno == 0;
}

static bool parse_size(struct find_test *test, const char *text) {
    static const struct {
        char letter;
        uint64_t unit;
    } units[] = {{'b', 512}, {'c', 1}, {'w', 2}, {'k', 1 << 10}, {'M', 1 << 20}, {'G', 1 << 30}};
    char *end;
    test->unit = 512;
    if (!parse_number(test, text, &end))
        return false;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]) && *end; i++)
        if (end[0] == units[i].letter && !end[1]) {
            test->unit = units[i].unit;
            return true;
        }
    return !*end;
}

static bool parse_permissions(struct find_test *test, const char *text) {
    char *end;
    test->sign = *text == '-' || *text == '/' ? *text++ : 0;
    test->number = strtoull(text, &end, 8);
    return *text >= '0' && *text <= '7' && !*end && test->number <= 07777;
}

static bool parse_types(const char *text) {
    for (; *text; text++) {
        if (!strchr("fdlbcps", *text) || (text[1] && text[1] != ','))
            return false;
        if (text[1])
            text++;
    }
    return true;
}

static bool parse_argument(struct find_test *test) {
    char *end;
    switch (test->word->argument) {
    case NUMBER:
        return parse_number(test, test->text, &end) && !*end;
    case SIZE:
        return parse_size(test, test->text);
    case PERMISSIONS:
        return parse_permissions(test, test->text);
    case TYPES:
        return *test->text && parse_types(test->text);
    default:
        return true;
    }
}

/* True: it is a test, which is kept. */
static bool is_setting(struct find *find, const struct find_test *test) {
    unsigned number = test->number < UINT32_MAX ? (unsigned)test->number : UINT32_MAX;
    switch (test->word->kind) {
    case DEPTH_MIN:
        find->depth_min = number;
        return true;
    case DEPTH_MAX:
        find->depth_max = number;
        return true;
    case PRINT:
        find->print = FIND_PRINT;
        return true;
    case PRINT0:
        find->print = FIND_PRINT0;
        return true;
    case LS:
        find->print = FIND_LS;
        return true;
    default:
        return false;
    }
}

bool find_parse(struct find *find, char **arguments, size_t count) {
    bool negated = false;
    for (size_t i = 0; i < count; i++) {
        struct find_test test = {.word = find_word(arguments[i]), .negated = negated};
        if (!test.word) {
            report("'%s' is no test that is known here", arguments[i]);
            return false;
        }
        if (test.word->kind == NOT) {
            negated = !negated;
            continue;
        }
        if (test.word->argument != NONE && i + 1 == count) {
            report("missing argument for '%s'", test.word->name);
            return false;
        }
        if (test.word->argument != NONE)
            test.text = arguments[++i];
        if (!parse_argument(&test)) {
            report("'%s' is not what %s takes", test.text, test.word->name);
            return false;
        }
        negated = false;
        if (is_setting(find, &test))
            continue;
        if (find->count == FIND_TESTS_MAX) {
            report("More than %d tests", FIND_TESTS_MAX);
            return false;
        }
        find->tests[find->count++] = test;
    }
    if (negated)
        report("missing test behind '!'");
    return !negated;
}

static bool find_owner(struct find_test *test, const struct tar_names *names) {
    char *end;
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->list[i].name, test->text) == 0) {
            test->number = names->list[i].id;
            return true;
        }
    test->number = strtoull(test->text, &end, 10);
    if (end != test->text && !*end)
        return true;
    report("the guest has no %s '%s'", test->word->name + 1, test->text);
    return false;
}

bool find_prepare(struct find *find, struct guest *guest, const struct tar_names *users,
                  const struct tar_names *groups) {
    for (size_t i = 0; i < find->count; i++) {
        struct find_test *test = &find->tests[i];
        struct img_error err = {0};
        struct guest_node node;
        struct fs_stat stat;
        if (test->word->kind == USER && !find_owner(test, users))
            return false;
        if (test->word->kind == GROUP && !find_owner(test, groups))
            return false;
        if (test->word->kind != NEWER)
            continue;
        if (guest_resolve(guest, test->text, true, &node, &err) < 0 || guest_stat(&node, &stat, &err) < 0) {
            report("%s", err.text);
            return false;
        }
        test->time = stat.mtime;
    }
    return true;
}

/* ---- testing ---- */

static bool compare(const struct find_test *test, uint64_t number) {
    return test->sign == '+'   ? number > test->number
           : test->sign == '-' ? number < test->number
                               : number == test->number;
}

static bool has_type(const char *types, uint32_t mode) {
    char letter = file_letter(mode);
    return strchr(types, letter == '-' ? 'f' : letter);
}

static bool has_permissions(const struct find_test *test, uint32_t mode) {
    mode &= 07777;
    if (test->sign == '-')
        return (mode & test->number) == test->number;
    if (test->sign == '/')
        return test->number == 0 || mode & test->number;
    return mode == test->number;
}

/* Whole days since then; what lies ahead is less than any number. */
static bool compare_age(const struct find_test *test, time_t now, int64_t then) {
    if (then > now)
        return test->sign == '-';
    return compare(test, ((uint64_t)now - (uint64_t)then) / SECONDS_OF_A_DAY);
}

static int stop_at_first(void *opaque, const struct fs_entry *entry) {
    (void)entry;
    *(bool *)opaque = false;
    return 1;
}

static int is_empty(const struct guest_visit *visit, bool *empty, struct img_error *err) {
    *empty = S_ISREG(visit->stat.mode) && visit->stat.size == 0;
    if (!S_ISDIR(visit->stat.mode))
        return 0;
    *empty = true;
    int ret = visit->node.fs->ops->list(visit->node.fs, visit->node.ino, stop_at_first, empty, err);
    return ret < 0 ? ret : 0;
}

static int passes(const struct find *find, const struct find_test *test, const struct guest_visit *visit,
                  const char *path, const char *name, bool *pass, struct img_error *err) {
    const struct fs_stat *s = &visit->stat;
    *pass = false;
    switch (test->word->kind) {
    case NAME:
    case INAME:
        *pass = fnmatch(test->text, name, test->word->kind == INAME ? FNM_CASEFOLD : 0) == 0;
        break;
    case PATH:
        *pass = fnmatch(test->text, path, 0) == 0;
        break;
    case TYPE:
        *pass = has_type(test->text, s->mode);
        break;
    case SIZE_OF:
        *pass = compare(test, s->size / test->unit + (s->size % test->unit != 0));
        break;
    case MTIME:
        *pass = compare_age(test, find->now, s->mtime.seconds);
        break;
    case NEWER:
        *pass = s->mtime.seconds > test->time.seconds ||
                (s->mtime.seconds == test->time.seconds && s->mtime.nanoseconds > test->time.nanoseconds);
        break;
    case USER:
    case UID:
        *pass = compare(test, s->uid);
        break;
    case GROUP:
    case GID:
        *pass = compare(test, s->gid);
        break;
    case PERM:
        *pass = has_permissions(test, s->mode);
        break;
    case LINKS:
        *pass = compare(test, s->nlink);
        break;
    case INUM:
        *pass = compare(test, s->ino);
        break;
    case EMPTY:
        return is_empty(visit, pass, err);
    default:
        *pass = true;
    }
    return 0;
}

int find_matches(const struct find *find, const struct guest_visit *visit, const char *path, const char *name,
                 bool *matches, struct img_error *err) {
    int ret = 0;
    *matches = visit->depth >= find->depth_min;
    for (size_t i = 0; i < find->count && *matches && ret == 0; i++) {
        bool pass;
        ret = passes(find, &find->tests[i], visit, path, name, &pass, err);
        *matches = pass != find->tests[i].negated;
    }
    return ret;
}
