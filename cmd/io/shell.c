/* SPDX-License-Identifier: GPL-3.0-or-later */
/* shell.c - lines, words, the table of commands and their help (shell.h).
 *
 * Words are what spaces part; there is no quoting. A command that is wrong costs the exit status, and the next one runs
 * all the same.
 */
#include "shell.h"

#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../report.h"

#define PROMPT "qemu-io> "

/* ---- commands that need no image ---- */

static int help(struct shell *s, const struct shell_command *command, int argc, char **argv);

static int quit(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    (void)command, (void)argc, (void)argv;
    s->quit = true;
    return 0;
}

static int pause_for(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    char *end;
    (void)command, (void)argc;
    errno = 0;
    long ms = strtol(argv[1], &end, 0);
    if (end == argv[1] || *end || ms < 0 || errno) {
        printf("%s is not a valid number\n", argv[1]);
        return -1;
    }
    /* what is under way goes on */
    struct timespec now, until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    for (;;) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        int64_t left = (until.tv_sec - now.tv_sec) * 1000 + (until.tv_nsec - now.tv_nsec) / 1000000;
        if (left <= 0)
            return 0;
        if (!s->requests) {
            struct timespec rest = {left / 1000, left % 1000 * 1000000};
            (void)nanosleep(&rest, NULL);
        } else {
            (void)img_queue_wait(s->queue, left > 1000 ? 1000 : (int)left);
            io_reap(s);
            fflush(stdout);
        }
    }
}

static int raise_signal(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    uint64_t number;
    (void)s, (void)command, (void)argc;
    if (!io_parse_bytes(argv[1], &number))
        return -1;
    if (number > NSIG) {
        printf("signal argument '%s' is too large to be a valid signal\n", argv[1]);
        return -1;
    }
    fflush(stdout); /* it may be the last chance */
    (void)raise((int)number);
    return 0;
}

static int crash(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    (void)s, (void)command, (void)argc, (void)argv;
    abort();
}

static const struct shell_command own_commands[] = {
    {.name = "abort", .run = crash, .without_file = true, .summary = "simulate a program crash using abort(3)"},
    {.name = "help",
     .alias = "?",
     .run = help,
     .most = 1,
     .without_file = true,
     .args = "[command]",
     .summary = "help for one or all commands"},
    {.name = "quit", .alias = "q", .run = quit, .most = -1, .without_file = true, .summary = "exit the program"},
    {.name = "sigraise",
     .run = raise_signal,
     .least = 1,
     .most = 1,
     .without_file = true,
     .args = "signal",
     .summary = "raises a signal",
     .details = "Sends the shell the signal of this number; 'sigraise 9' is a crash without a last word."},
    {.name = "sleep",
     .run = pause_for,
     .least = 1,
     .most = 1,
     .without_file = true,
     .summary = "waits for the given value in milliseconds"},
    {.name = NULL},
};

/* ---- the table ---- */

static const struct shell_command *const tables[] = {own_commands, io_data_commands, io_look_commands,
                                                     io_open_commands};
#define TABLES (sizeof(tables) / sizeof(tables[0]))
#define COMMANDS_MAX 64

static const struct shell_command *find(const char *name) {
    for (size_t i = 0; i < TABLES; i++)
        for (const struct shell_command *c = tables[i]; c->name; c++)
            if (strcmp(name, c->name) == 0 || (c->alias && strcmp(name, c->alias) == 0))
                return c;
    return NULL;
}

static void print_usage(const char *name, const struct shell_command *c) {
    printf("%s %s%s-- %s\n", name, c->args ? c->args : "", c->args ? " " : "", c->summary);
}

int shell_usage(const struct shell_command *c) {
    print_usage(c->name, c);
    return -1;
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const struct shell_command *const *)a)->name, (*(const struct shell_command *const *)b)->name);
}

static int help_all(void) {
    const struct shell_command *all[COMMANDS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < TABLES; i++)
        for (const struct shell_command *c = tables[i]; c->name && n < COMMANDS_MAX; c++)
            all[n++] = c;
    qsort(all, n, sizeof(all[0]), by_name);
    for (size_t i = 0; i < n; i++)
        print_usage(all[i]->name, all[i]);
    printf("\nUse 'help commandname' for extended help.\n");
    return 0;
}

static int help(struct shell *s, const struct shell_command *command, int argc, char **argv) {
    (void)s, (void)command;
    if (argc < 2)
        return help_all();
    const struct shell_command *c = find(argv[1]);
    if (!c) {
        printf("command %s not found\n", argv[1]);
        return -1;
    }
    print_usage(argv[1], c);
    if (c->details)
        printf("\n%s\n", c->details);
    return 0;
}

/* ---- running ---- */

static void report_count(const struct shell_command *c, const char *name, int n) {
    fprintf(stderr, "bad argument count %d to %s, expected ", n, name);
    if (c->most < 0)
        fprintf(stderr, "at least %d arguments\n", c->least);
    else if (c->least == c->most)
        fprintf(stderr, "%d arguments\n", c->least);
    else
        fprintf(stderr, "between %d and %d arguments\n", c->least, c->most);
}

static int run_words(struct shell *s, int argc, char **argv) {
    const struct shell_command *c = find(argv[0]);
    fflush(stdout); /* what goes to the other descriptor comes behind it */
    if (!c) {
        fprintf(stderr, "command \"%s\" not found\n", argv[0]);
        return -1;
    }
    if (!c->without_file && !s->image) {
        fprintf(stderr, "no file open, try 'help open'\n");
        return -1;
    }
    if (argc - 1 < c->least || (c->most >= 0 && argc - 1 > c->most)) {
        report_count(c, argv[0], argc - 1);
        return -1;
    }
    if (c->writes && s->how.read_only) {
        report("Block node is read-only");
        return -1;
    }
    return c->run(s, c, argc, argv);
}

int shell_option(int argc, char **argv, const char *options, bool first) {
    if (first)
        optind = 0; /* getopt begins anew */
    opterr = 1;
    return getopt(argc, argv, options);
}

bool shell_line(struct shell *s, const char *line) {
    char *copy = text_copy(line), **words = memory(strlen(line) / 2 + 3, sizeof(*words)), *rest = copy, *word;
    int n = 0, result = 0;
    while ((word = strsep(&rest, " ")))
        if (*word)
            words[n++] = word;
    if (n)
        result = run_words(s, n, words);
    io_reap(s);
    free(words);
    free(copy);
    return result == 0;
}

/* Standard input, a line at a time and without reading ahead of a wait: what is done meanwhile is reported. */
static ssize_t next_line(struct shell *s, char **line, size_t *room) {
    printf(PROMPT);
    fflush(stdout);
    io_wait_readable(s, STDIN_FILENO);
    ssize_t n = getline(line, room, stdin);
    if (n > 0 && (*line)[n - 1] == '\n')
        (*line)[--n] = '\0';
    return n;
}

bool shell_loop(struct shell *s) {
    char *line = NULL;
    size_t room = 0;
    bool good = true;
    setvbuf(stdin, NULL, _IONBF, 0); /* so that poll tells whether there is a line */
    while (!s->quit && next_line(s, &line, &room) >= 0)
        if (!shell_line(s, line))
            good = false;
    free(line);
    return good;
}
