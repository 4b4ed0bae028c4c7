/* SPDX-License-Identifier: GPL-3.0-or-later */
/* guest.h - what all commands share that look inside a disk: their options, and the guest that these describe.
 *
 * The options are those of libguestfs' tools, and so is what they mean: several disks belong to one guest, --format and
 * --blocksize count for the disks behind them, without -m the guest is inspected for what to mount where.
 *
 * A session opens the disks, gives up all that a reader of hostile bytes does not need (sandbox.h), and only then looks
 * at what is on them.
 */
#ifndef GUEST_H
#define GUEST_H

#include "cmd.h"
#include "fs/guest.h"

#define MAX_DISKS 256
#define MAX_MOUNT_OPTIONS 64
#define MAX_KEY_OPTIONS 64
#define MAX_DEVICE_NAME 256

struct guest_options {
    struct guest_disk {
        const char *path;
        const char *format; /* NULL: to be probed */
        unsigned sector_size;
    } disks[MAX_DISKS];
    size_t ndisks;
    bool disks_are_owned; /* their strings are a domain's, not the command line's */
    struct mount_option {
        char device[MAX_DEVICE_NAME];
        const char *path;
    } mounts[MAX_MOUNT_OPTIONS];
    size_t nmounts; /* 0: inspect */
    struct key_option {
        char id[MAX_DEVICE_NAME];
        char *key; /* wiped and freed with the session */
        size_t length;
    } keys[MAX_KEY_OPTIONS];
    size_t nkeys;
    const char *format; /* of the next disks */
    unsigned sector_size;
    bool format_unused, sector_size_unused; /* given, and no disk came behind it yet */
    const char *domain;                     /* -d: a name, or the path of its description */
    const char *connect;                    /* -c: qemu:///session has other domains than qemu:///system */
    const char *snapshot;
    bool force_share, read_only, verbose, no_sandbox;
    enum output output;
};

/* Values of the options below that have no letter. */
enum {
    OPT_FORMAT = 512,
    OPT_BLOCKSIZE,
    OPT_GUEST_KEY,
    OPT_KEYS_FROM_STDIN,
    OPT_ECHO_KEYS,
    OPT_SANDBOX,
    OPT_GUEST_FIRST_FREE, /* what a command's own long options begin with */
};

/* The options of every such command, for its table, its letters and its help. */
#define GUEST_LONG                                                                                                     \
    {"add", required_argument, NULL, 'a'}, {"domain", required_argument, NULL, 'd'},                                   \
        {"connect", required_argument, NULL, 'c'}, {"format", optional_argument, NULL, OPT_FORMAT},                    \
        {"blocksize", optional_argument, NULL, OPT_BLOCKSIZE}, {"key", required_argument, NULL, OPT_GUEST_KEY},        \
        {"keys-from-stdin", no_argument, NULL, OPT_KEYS_FROM_STDIN}, {"echo-keys", no_argument, NULL, OPT_ECHO_KEYS},  \
        {"force-share", no_argument, NULL, 'U'}, {"snapshot", required_argument, NULL, OPT_SNAPSHOT},                  \
        {"sandbox", required_argument, NULL, OPT_SANDBOX}, {"verbose", no_argument, NULL, 'v'},                        \
        {"version", no_argument, NULL, 'V'}, {                                                                         \
        "help", no_argument, NULL, OPT_HELP                                                                            \
    }
/* For guestfish's sake, which stands behind virt-copy-in and the like. */
#define GUEST_LONG_FISH                                                                                                \
    {"inspector", no_argument, NULL, 'i'}, {"ro", no_argument, NULL, 'r'}, {                                           \
        "rw", no_argument, NULL, 'w'                                                                                   \
    }
#define GUEST_LONG_MOUNT                                                                                               \
    { "mount", required_argument, NULL, 'm' }
#define GUEST_LONG_OUTPUT                                                                                              \
    { "output", required_argument, NULL, OPT_OUTPUT }
#define GUEST_LONG_END                                                                                                 \
    { NULL, 0, NULL, 0 }
#define GUEST_SHORT "a:d:c:UvxV"
#define GUEST_SHORT_MOUNT "m:"
#define GUEST_SHORT_FISH "irw"
#define GUEST_USAGE "-a DISK [-a DISK]... | -d DOMAIN"
#define GUEST_HELP                                                                                                     \
    "  -a, --add=DISK          a disk of the guest: /dev/sda, the next one /dev/sdb ...\n"                             \
    "  -d, --domain=DOMAIN     the disks of a libvirt domain: its name, or its XML file\n"                             \
    "      --format=FORMAT     the format of the disks behind it, probed if not given\n"                               \
    "      --blocksize=512|4096\n"                                                                                     \
    "                          the sector size of the disks behind it [512]\n"                                         \
    "      --key=SELECTOR      a key: ID:key:KEY or ID:file:FILE, where ID is a device, a\n"                           \
    "                          UUID or all\n"                                                                          \
    "      --keys-from-stdin   read keys from the standard input, a line each\n"                                       \
    "      --snapshot=SNAPSHOT show the disks as they were in this internal snapshot\n"                                \
    "  -U, --force-share       read although another program writes to the disks\n"                                    \
    "      --sandbox=on|off    give up all rights before the guest's bytes are read [on]\n"
#define GUEST_HELP_OUTPUT "      --output=human|json how to print\n"
#define GUEST_HELP_MOUNT "  -m, --mount=DEV[:DIR]   mount this instead of what the guest says, on DIR [/]\n"

/* Takes one of these options; others it leaves alone. False after reporting what is wrong with its argument. */
bool guest_option(int opt, struct guest_options *options);
/* The old command line of libguestfs' tools, which those of its names still take: without -a and -d the arguments are
 * disks, or the name of a domain, but for the last `others`. What is taken is counted in optind. False after reporting.
 */
bool guest_old_style(struct guest_options *options, int argc, char **argv, int others);
/* Wipes and frees the keys, and frees what a domain's description gave. May be called again. */
void guest_options_free(struct guest_options *options);

enum session_flags {
    SESSION_WRITE = 1 << 0,   /* the disks are to be changed */
    SESSION_VOLUMES = 1 << 1, /* nothing is mounted */
    SESSION_DRY_RUN = 1 << 2, /* as WRITE, but the disks stay as they are: nothing must be committed */
};

struct session {
    struct guest_options *options;
    struct img *images[MAX_DISKS];
    struct device *devices[MAX_DISKS]; /* on the images; their owner are the volumes */
    size_t nimages;
    struct volumes *volumes;
    struct guest *guest; /* NULL with SESSION_VOLUMES */
};

/* NULL after reporting. */
struct session *session_open(struct guest_options *options, unsigned flags);
/* The same with `count` guests at once, since a disk cannot be opened from within the sandbox. */
bool sessions_open(struct guest_options *options, size_t count, unsigned flags, struct session **sessions);
/* False after reporting: what was written to a disk may not all be there. */
bool session_close(struct session *session);

/* Says so, once, when what is written to this filesystem is not safe at a power cut. */
void warn_if_not_whole(const struct fs *fs);
/* Makes all changes of the guest durable. False after reporting. */
bool commit_guest(struct guest *guest);

/* What the guest is called in lists: the domain's name, or the first disk's with a '+' if there are more. The caller
 * frees. */
char *session_name(const struct session *session);

/* What the reader of these filesystems should know (struct fs): on stderr, once for each. */
void report_warnings(const struct guest *guest);
void report_warning(const struct volume *volume, const struct fs *fs);

/* "PROGRAM: libguestfs-like sentence" about what a call of fs/ said. */
void report_guest_error(const struct img_error *err);

#endif
