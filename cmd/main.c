/* SPDX-License-Identifier: GPL-3.0-or-later */
/* main.c - finds the subcommand and runs it.
 *
 * The command is the first argument, or the part of argv[0] behind "img-" when the tool was started by such a link; a
 * link that has the name of another project's tool starts the command that does what that tool does.
 * A command's result is also whether its output could be written: a full disk under stdout is an error.
 *
 * Standard descriptors that are closed are filled before anything is opened: else an image would get such a number, and
 * with it the messages.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "report.h"

static const struct command *const commands[] = {
#define COMMAND(name) &name##_command,
#include "commands.def"
#undef COMMAND
};

/* The names of other projects' tools under which the tool does what those do. */
static const struct {
    const char *name;
    const struct command *command;
} peers[] = {
    {"qemu-io", &io_command},
    {"virt-cat", &cat_command},
    {"virt-copy-in", &copy_in_command},
    {"virt-copy-out", &copy_out_command},
    {"virt-df", &df_command},
    {"virt-diff", &diff_command},
    {"virt-edit", &edit_command},
    {"virt-filesystems", &filesystems_command},
    {"virt-inspector", &inspect_command},
    {"virt-ls", &ls_command},
    {"virt-tar-in", &tar_in_command},
    {"virt-tar-out", &tar_out_command},
};

static const struct command *command_named(const char *name) {
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(name, commands[i]->name) == 0)
            return commands[i];
    return NULL;
}

void print_version(void) {
    printf("%s version %s\n", report_program(), IMG_VERSION);
}

static void print_help(void) {
    printf("usage: %s COMMAND [OPTION...] ARGUMENT...\n"
           "Makes, shows, checks, compares and converts disk images for virtual machines.\n\n"
           "Commands:\n",
           report_program());
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        printf("  %-12s%s\n", commands[i]->name, commands[i]->summary);
    printf("  %-12s%s\n\n", "help", "show this help, or that of a command");
    printf("Options:\n"
           "  -h, --help     show this help, or behind a command that command's\n"
           "  -V, --version  show the version\n\n"
           "Image formats: qcow2 raw luks\n"
           "Sizes are in bytes or carry a suffix: k, M, G, T, P, E (powers of 1024).\n");
}

/* The command that the program's own name asks for; NULL: none. */
static const struct command *command_by_link(void) {
    if (strncmp(report_program(), "img-", 4) == 0)
        return command_named(report_program() + 4);
    for (size_t i = 0; i < sizeof(peers) / sizeof(peers[0]); i++)
        if (strcmp(report_program(), peers[i].name) == 0)
            return peers[i].command;
    return NULL;
}

void print_command_help(const struct command *command) {
    bool by_link = command_by_link(), letter_is_taken = strchr(command->short_opts, 'h');
    printf("usage: %s%s%s %s\n%s.\n\nOptions:\n%s  %s --help              show this help\n", report_program(),
           by_link ? "" : " ", by_link ? "" : command->name, command->usage, command->summary, command->options,
           letter_is_taken ? "   " : "-h,");
}

static int run_help(int argc, char **argv) {
    if (argc < 2) {
        print_help();
        return EXIT_SUCCESS;
    }
    const struct command *command = command_named(argv[1]);
    if (!command)
        usage_error("Command not found: %s", argv[1]);
    print_command_help(command);
    return EXIT_SUCCESS;
}

static int dispatch(int argc, char **argv) {
    const struct command *linked = command_by_link();
    if (linked) {
        if (argc == 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
            print_version();
            return EXIT_SUCCESS;
        }
        return linked->run(argc, argv);
    }
    if (argc < 2)
        usage_error("Not enough arguments");
    const char *name = argv[1];
    if (strcmp(name, "-V") == 0 || strcmp(name, "--version") == 0) {
        print_version();
        return EXIT_SUCCESS;
    }
    if (strcmp(name, "-h") == 0 || strcmp(name, "--help") == 0 || strcmp(name, "help") == 0)
        return run_help(argc - 1, argv + 1);
    if (name[0] == '-')
        usage_error("unrecognized option '%s'", name);
    const struct command *command = command_named(name);
    if (!command)
        usage_error("Command not found: %s", name);
    return command->run(argc - 1, argv + 1);
}

/* Reading finds an end there, and writing is as much an error as it was. */
static void fill_standard_descriptors(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", O_RDONLY) != fd)
            exit(EXIT_FAILURE); /* nobody could be told */
}

int main(int argc, char **argv) {
    fill_standard_descriptors();
    report_set_program(argc > 0 && argv[0][0] ? argv[0] : "img");
    int status = dispatch(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        report("Could not write the output");
        return status == EXIT_SUCCESS ? EXIT_FAILURE : status;
    }
    return status;
}
