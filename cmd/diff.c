/* SPDX-License-Identifier: GPL-3.0-or-later */
/* diff.c - `img diff`, virt-diff: how the files of two guests differ, or of one at two times.
 *
 * A line for each file that is only in the first (-), only in the second (+), or in both with another content (=), and
 * behind the last the hunks of `diff -u`. Where something else differs there are two lines, and one that says what. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checksum.h"
#include "diff_lines.h"
#include "diff_tree.h"
#include "file_line.h"
#include "guest.h"
#include "report.h"

#define TEXT_MAX (64u << 20)  /* bytes of a file whose lines are compared */
#define BINARY_LOOK_MAX 4096u /* bytes at a file's beginning: a NUL among them, and it is no text */

enum {
    OPT_ALL = OPT_GUEST_FIRST_FREE,
    OPT_ATIME,
    OPT_DIR_LINKS,
    OPT_DIR_TIMES,
    OPT_XATTRS,
};

static const struct option long_opts[] = {
    GUEST_LONG,
    GUEST_LONG_MOUNT,
    LINE_LONG,
    {"a-snapshot", required_argument, NULL, OPT_SNAPSHOT},
    {"b-snapshot", required_argument, NULL, OPT_B_SNAPSHOT},
    {"all", no_argument, NULL, OPT_ALL},
    {"atime", no_argument, NULL, OPT_ATIME},
    {"dir-link", no_argument, NULL, OPT_DIR_LINKS},
    {"dir-links", no_argument, NULL, OPT_DIR_LINKS},
    {"dir-nlink", no_argument, NULL, OPT_DIR_LINKS},
    {"dir-nlinks", no_argument, NULL, OPT_DIR_LINKS},
    {"dir-time", no_argument, NULL, OPT_DIR_TIMES},
    {"dir-times", no_argument, NULL, OPT_DIR_TIMES},
    {"xattr", no_argument, NULL, OPT_XATTRS},
    {"xattrs", no_argument, NULL, OPT_XATTRS},
    GUEST_LONG_END,
};

struct diff {
    struct guest_options options[2];
    struct diff_options what;
    struct line_style style;
    struct session *sessions[2];
    unsigned numbers[2][NUMBERED_MOUNTS_MAX][2]; /* of each mount's device */
    struct img_error err;
};

/* -A and -D are -a and -d of the second guest, behind the same --format and --blocksize. */
static bool second_guest(int opt, struct diff *diff) {
    struct guest_options *first = &diff->options[0], *second = &diff->options[1];
    second->format = first->format;
    second->sector_size = first->sector_size;
    first->format_unused = first->sector_size_unused = false;
    return guest_option(opt, second);
}

static bool parse_option(int opt, struct diff *diff) {
    struct line_style *style = &diff->style;
    switch (opt) {
    case 'A':
        return second_guest('a', diff);
    case 'D':
        return second_guest('d', diff);
    case OPT_B_SNAPSHOT:
        diff->options[1].snapshot = optarg;
        return true;
    case OPT_ALL:
        return style->extra = style->times = style->owners = diff->what.xattrs = true;
    case OPT_ATIME:
        style->no_atime = false;
        return diff->what.atime = true;
    case OPT_DIR_LINKS:
        return diff->what.dir_links = true;
    case OPT_DIR_TIMES:
        return diff->what.dir_times = true;
    case OPT_XATTRS:
        return diff->what.xattrs = true;
    default:
        if (!is_line_option(opt))
            return guest_option(opt, &diff->options[0]);
        if (!line_option(opt, style))
            return false;
        diff->what.checksum = style->checksum;
        return true;
    }
}

/* What counts for both guests although it is given once. */
static bool share_options(struct diff *diff) {
    const struct guest_options *first = &diff->options[0];
    struct guest_options *second = &diff->options[1];
    if (first->ndisks > 0 && second->ndisks == 0 && !second->domain) {
        report("you must specify at least one -A or -D option");
        return false;
    }
    memcpy(second->mounts, first->mounts, sizeof(second->mounts));
    for (size_t i = 0; i < first->nkeys; i++) { /* each session wipes its own */
        const struct key_option *key = &first->keys[i];
        second->keys[i] = *key;
        second->keys[i].key = memory(1, key->length + 1);
        memcpy(second->keys[i].key, key->key, key->length);
    }
    second->nkeys = first->nkeys;
    second->nmounts = first->nmounts;
    second->force_share = first->force_share;
    second->no_sandbox = first->no_sandbox;
    second->verbose = first->verbose;
    return true;
}

/* ---- lines ---- */

static void print_escaped(const unsigned char *bytes, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (bytes[i] >= 0x20 && bytes[i] < 0x7f)
            putchar(bytes[i]);
        else
            printf("\\x%02x", bytes[i]);
}

static int print_attributes(struct diff *diff, const struct guest_node *node) {
    struct attributes attributes;
    int ret = read_attributes(node, &attributes, &diff->err);
    char gap = diff->style.csv ? ',' : ' ';
    for (size_t i = 0; ret == 0 && i < attributes.count; i++) {
        putchar(gap);
        if (diff->style.csv)
            print_csv_field(stdout, attributes.list[i].name);
        else
            fputs(attributes.list[i].name, stdout);
        putchar(gap);
        print_escaped(attributes.list[i].value, attributes.list[i].length);
    }
    free_attributes(&attributes);
    return ret;
}

static int print_file(struct diff *diff, char sign, const struct change *change, int which) {
    const struct changed_file *file = &change->file[which];
    const unsigned *number = diff->numbers[which][file->node.mount];
    char sum[CHECKSUM_TEXT_MAX], *target = NULL;
    struct file_line line = {.stat = file->stat, .path = change->path, .dev_major = number[0], .dev_minor = number[1]};
    int ret = 0;
    if (S_ISLNK(file->stat.mode))
        ret = guest_readlink(&file->node, &target, &diff->err);
    if (ret == 0 && diff->style.checksum && S_ISREG(file->stat.mode)) {
        ret = checksum_file(diff->style.checksum, &file->node, sum, &diff->err);
        line.checksum = sum;
    }
    line.target = target;
    if (ret == 0) {
        printf("%c%c", sign, diff->style.csv ? ',' : ' ');
        print_file_fields(stdout, &diff->style, &line);
        if (diff->what.xattrs)
            ret = print_attributes(diff, &file->node);
        putchar('\n');
    }
    free(target);
    return ret;
}

static void print_what_changed(const struct diff *diff, const struct change *change) {
    const struct fs_stat *a = &change->file[0].stat, *b = &change->file[1].stat;
    const struct {
        bool differs;
        const char *name;
    } fields[] = {
        {a->ino != b->ino, "st_ino"},
        {a->mode != b->mode, "st_mode"},
        {a->nlink != b->nlink, "st_nlink"},
        {a->uid != b->uid, "st_uid"},
        {a->gid != b->gid, "st_gid"},
        {a->rdev_major != b->rdev_major || a->rdev_minor != b->rdev_minor, "st_rdev"},
        {a->size != b->size, "st_size"},
        {a->blocks != b->blocks, "st_blocks"},
        {a->atime.seconds != b->atime.seconds, "st_atime_sec"},
        {a->mtime.seconds != b->mtime.seconds, "st_mtime_sec"},
        {a->ctime.seconds != b->ctime.seconds, "st_ctime_sec"},
        {change->xattrs, "xattrs"},
        {change->checksum, "checksum"},
    };
    char gap = diff->style.csv ? ',' : ' ';
    printf("#%cchanged:", gap);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (fields[i].differs)
            printf("%c%s", gap, fields[i].name);
    putchar('\n');
}

/* ---- contents ---- */

/* All of a file; *text: NULL if it is too large for its lines to be compared. */
static int read_text(const struct guest_node *node, uint64_t size, char **text, size_t *length, struct img_error *err) {
    *text = NULL;
    *length = 0;
    if (size > TEXT_MAX)
        return 0;
    *text = malloc((size_t)size + 1);
    if (!*text)
        out_of_memory();
    return size ? node->fs->ops->read(node->fs, node->ino, *text, (size_t)size, 0, length, err) : 0;
}

static bool is_binary(const char *text, size_t length) {
    return memchr(text, '\0', length < BINARY_LOOK_MAX ? length : BINARY_LOOK_MAX);
}

/* Is there a NUL at the beginning? Small reads, so that large binaries are not read. */
static int is_binary_file(const struct guest_node *node, bool *binary, struct img_error *err) {
    char start[BINARY_LOOK_MAX];
    size_t got;
    int ret = node->fs->ops->read(node->fs, node->ino, start, sizeof(start), 0, &got, err);
    *binary = ret == 0 && is_binary(start, got);
    return ret;
}

static int print_content(struct diff *diff, const struct change *change) {
    const struct changed_file *file = change->file;
    char *text[2] = {NULL, NULL};
    size_t length[2];
    bool binary = false;
    int ret = 0;
    for (int i = 0; i < 2 && ret == 0 && !binary; i++)
        ret = is_binary_file(&file[i].node, &binary, &diff->err);
    for (int i = 0; i < 2 && ret == 0 && !binary; i++)
        ret = read_text(&file[i].node, file[i].stat.size, &text[i], &length[i], &diff->err);
    bool compared = ret == 0 && text[0] && text[1] && print_line_diff(stdout, text[0], length[0], text[1], length[1]);
    if (ret == 0 && !binary && !compared)
        report("%s: too large for its lines to be compared", change->path);
    free(text[0]);
    free(text[1]);
    if (ret == 0)
        puts("@@ End of diff @@");
    return ret;
}

/* As the peer sees it: other times or another size are another content. */
static bool content_changed(const struct change *change) {
    const struct fs_stat *a = &change->file[0].stat, *b = &change->file[1].stat;
    return change->checksum ||
           (S_ISREG(a->mode) && S_ISREG(b->mode) &&
            (a->mtime.seconds != b->mtime.seconds || a->ctime.seconds != b->ctime.seconds || a->size != b->size));
}

static int print_change(struct diff *diff, const struct change *change) {
    if (!change->file[1].there)
        return print_file(diff, '-', change, 0);
    if (!change->file[0].there)
        return print_file(diff, '+', change, 1);
    if (content_changed(change)) {
        int ret = print_file(diff, '=', change, 0);
        return ret == 0 && !diff->style.csv ? print_content(diff, change) : ret;
    }
    int ret = print_file(diff, '-', change, 0);
    if (ret == 0)
        ret = print_file(diff, '+', change, 1);
    if (ret == 0)
        print_what_changed(diff, change);
    return ret;
}

static bool print_changes(struct diff *diff) {
    const struct session *a = diff->sessions[0], *b = diff->sessions[1];
    struct guest *const guests[2] = {a->guest, b->guest};
    struct twins *twins;
    struct changes changes = {0};
    for (int i = 0; i < 2; i++)
        number_mounts(guests[i], diff->sessions[i]->volumes, diff->numbers[i]);
    int ret = twins_create(a->devices, a->nimages, b->devices, b->nimages, &twins, &diff->err);
    if (ret == 0)
        ret = diff_trees(guests, twins, &diff->what, &changes, &diff->err);
    twins_free(twins);
    for (size_t i = 0; i < changes.count && ret == 0; i++)
        ret = print_change(diff, &changes.list[i]);
    diff_free(&changes);
    if (ret < 0)
        report_guest_error(&diff->err);
    return ret == 0;
}

static int run(int argc, char **argv) {
    struct diff *diff = memory(1, sizeof(*diff));
    int opt;
    diff->style.now = time(NULL);
    diff->style.no_atime = true;
    while ((opt = next_option(&diff_command, argc, argv)) != -1)
        if (!parse_option(opt, diff))
            return EXIT_FAILURE;
    if (optind != argc)
        usage_error("Unexpected argument '%s'", argv[optind]);
    bool good = share_options(diff) && sessions_open(diff->options, 2, 0, diff->sessions);
    if (good) {
        good = print_changes(diff);
        session_close(diff->sessions[1]);
        session_close(diff->sessions[0]);
    }
    free(diff);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct command diff_command = {
    .name = "diff",
    .summary = "show how the files inside two disks differ",
    .usage = "-a DISK [-a DISK]... -A DISK [-A DISK]... [OPTION...]",
    .options = "  -A DISK                 a disk of the second guest\n"
               "  -D DOMAIN               the disks of a libvirt domain as the second guest\n"
               "      --a-snapshot=SNAPSHOT, as --snapshot\n"
               "      --b-snapshot=SNAPSHOT\n"
               "                          the second guest's disks as they were in this internal snapshot\n"
               "      --checksum[=TYPE]   compare contents too, by crc, md5, sha1, sha224, sha256,\n"
               "                          sha384, sha512 [md5]\n"
               "      --atime             times of access count\n"
               "      --dir-times         times of directories count\n"
               "      --dir-links         numbers of links of directories count\n"
               "      --xattrs            show extended attributes\n"
               "      --uids              show owners\n"
               "      --times             show times of change of content and of change\n"
               "      --time-t            these in seconds since 1970\n"
               "      --time-relative     these in seconds ago\n"
               "      --time-days         these in days ago\n"
               "      --extra-stats       show device, inode, links, device of nodes, blocks of 512 bytes\n"
               "      --all               show all of these\n"
               "      --csv               comma-separated values\n"
               "  -h, --human-readable    sizes as 12K, 3.4G\n"
               "Which guest:\n" GUEST_HELP GUEST_HELP_MOUNT,
    .short_opts = "A:D:h" GUEST_SHORT GUEST_SHORT_MOUNT,
    .long_opts = long_opts,
    .run = run,
};
