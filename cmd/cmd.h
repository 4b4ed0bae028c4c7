/* SPDX-License-Identifier: GPL-3.0-or-later */
/* cmd.h - what a subcommand is, and what all of them share when they read their command line.
 *
 * Each subcommand is one file that defines one `struct command`; main.c holds the table and nothing else knows it.
 * A command reads its arguments with next_option(), does its work through img.h alone, and returns the exit status.
 */
#ifndef CMD_H
#define CMD_H

#include <getopt.h>
#include <stdbool.h>

#include "img.h"
#include "progress.h"

struct command {
    const char *name;
    const char *summary;    /* one line for the list of commands */
    const char *usage;      /* what follows the command's name */
    const char *options;    /* one line for each option, indented by two */
    const char *short_opts; /* getopt's, without the leading ':' */
    const struct option *long_opts;
    int (*run)(int argc, char **argv);
};

/* One for each line of commands.def. */
#define COMMAND(name) extern const struct command name##_command;
#include "commands.def"
#undef COMMAND

/* Prints the help of one command, and the version, on stdout. */
void print_command_help(const struct command *command);
void print_version(void);

/* The next option as getopt_long gives it, -1 at the end. A wrong option ends the program with status 1 and -h with
 * status 0, so callers see only what their table allows. */
int next_option(const struct command *command, int argc, char **argv);

/* Where -h, --help goes in every long_opts table, and its end. */
#define OPTIONS_END                                                                                                    \
    {"help", no_argument, NULL, 'h'}, {                                                                                \
        NULL, 0, NULL, 0                                                                                               \
    }

/* Values of long options that have no short form. */
enum {
    OPT_OUTPUT = 256,
    OPT_BACKING_CHAIN,
    OPT_TARGET_IS_ZERO,
    OPT_PROGRESS,
    OPT_COMPRESSION_LEVEL,
    OPT_OBJECT,
    OPT_KEY,
    OPT_KEY_FILE,
    OPT_SALVAGE,
    OPT_SNAPSHOT,
    OPT_B_SNAPSHOT,
    OPT_BITMAPS,
    OPT_SKIP_BROKEN_BITMAPS,
    OPT_IMAGE_OPTS,
    OPT_TARGET_IMAGE_OPTS,
    OPT_HELP,
};

/* The options of every command that opens images, and their lines of help. */
#define OPTIONS_KEYS                                                                                                   \
    {"object", required_argument, NULL, OPT_OBJECT}, {"key", required_argument, NULL, OPT_KEY}, {                      \
        "key-file", required_argument, NULL, OPT_KEY_FILE                                                              \
    }
#define HELP_KEYS                                                                                                      \
    "      --object=secret,id=ID,file=PATH\n"                                                                          \
    "                          a passphrase; also data=TEXT, format=base64, keyid=ID,iv=BASE64\n"                      \
    "      --key=ID            the secret that opens the encrypted images\n"                                           \
    "      --key-file=PATH     the same from a file, - for the standard input\n"

/* The same for commands whose arguments are images that exist. */
#define OPTION_IMAGE_OPTS                                                                                              \
    { "image-opts", no_argument, NULL, OPT_IMAGE_OPTS }
#define HELP_IMAGE_OPTS "      --image-opts        images are named as driver=FORMAT,file.filename=FILE,...\n"

enum output { OUTPUT_HUMAN, OUTPUT_JSON };

/* What the same options mean to most commands. */
struct common_options {
    enum img_cache source_cache;
    enum output output;
    enum progress_style progress;
    bool quiet, force_share;
    const char *snapshot; /* to be shown in place of the active state; NULL: none */
};

/* Takes an option that most commands have (T U q p --progress --output --object --key --key-file --snapshot
 * --image-opts); others it leaves alone. False after reporting what is wrong with its argument. */
bool common_option(int opt, struct common_options *common);

/* Reads a cache mode's name; false when there is none of that name. */
bool parse_cache(const char *text, enum img_cache *cache);
/* The same for the argument of an option: false after reporting. */
bool cache_option(const char *text, enum img_cache *cache);

/* Is there an image format of this name? */
bool known_format(const char *name);

/* Says that a writable image was taken for raw because nobody named its format; nothing if it is not raw. */
void warn_probed_raw(const char *path, struct img *image);

/* Opens an image; on failure says why, as "Could not open 'PATH': ...", and returns NULL. */
struct img *open_image(const char *path, const struct img_open_options *options);
/* The same, with the word whether the argument is a list of options (--image-opts) or a name. */
struct img *open_image_as(const char *path, bool as_options, const struct img_open_options *options);
/* img_open_options.find_node for names inside images that stand for a tree of nodes, "json:{...}". `opaque`: what was
 * read of them, a struct found_nodes that starts with zeroes and stands until the open has returned. */
#define FOUND_NODES_MAX 128
struct found_nodes {
    struct nodes *list[FOUND_NODES_MAX];
    size_t count;
};
int find_node(void *opaque, const char *name, const struct img_node **node, struct img_error *err);
void found_nodes_free(struct found_nodes *found);
/* Was --image-opts given? */
bool image_opts_given(void);
/* What an argument is called once its image is open, as qemu-img shows it. The caller frees. */
char *image_name(const char *path, bool as_options, struct img *image);
/* Says why no new image can be made under a name that is none of a file; true when it is one. */
bool can_be_created(const char *path);

#endif
