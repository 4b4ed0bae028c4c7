/* SPDX-License-Identifier: GPL-3.0-or-later */
/* tar_out.c - `img tar-out`, virt-tar-out: a directory of a guest as a tar archive.
 *
 * A second process reads the disks in the sandbox and writes the archive to a descriptor that this one has opened. An
 * archive that was there is not touched before the directory is found; one that was not is removed again if the work
 * fails. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apart.h"
#include "guest.h"
#include "report.h"
#include "seen.h"
#include "tar_attributes.h"
#include "tar_entry.h"

#define MAX_EXCLUDES 256
#define READ_SIZE (256u << 10)
#define HOLES_MIN (64u << 10) /* bytes of holes for which the form for files with holes pays */

enum {
    OPT_COMPRESS = OPT_GUEST_FIRST_FREE,
    OPT_NUMERIC_OWNER,
    OPT_EXCLUDE,
    OPT_XATTRS,
    OPT_SELINUX,
    OPT_ACLS,
    OPT_NANOSECONDS,
    OPT_NO_SPARSE,
};

static const struct option long_opts[] = {
    GUEST_LONG,
    GUEST_LONG_MOUNT,
    GUEST_LONG_FISH,
    {"compress", required_argument, NULL, OPT_COMPRESS},
    {"numeric-owner", no_argument, NULL, OPT_NUMERIC_OWNER},
    {"exclude", required_argument, NULL, OPT_EXCLUDE},
    {"excludes", required_argument, NULL, OPT_EXCLUDE},
    {"xattrs", no_argument, NULL, OPT_XATTRS},
    {"selinux", no_argument, NULL, OPT_SELINUX},
    {"acls", no_argument, NULL, OPT_ACLS},
    {"nanoseconds", no_argument, NULL, OPT_NANOSECONDS},
    {"no-sparse", no_argument, NULL, OPT_NO_SPARSE},
    GUEST_LONG_END,
};

struct tar {
    struct guest_options options;
    enum compression compression;
    struct tar_attributes attributes;
    const char *excludes[MAX_EXCLUDES];
    size_t nexcludes;
    bool numeric, nanoseconds, no_sparse;
    bool failed;  /* something is missing in the archive */
    bool stopped; /* no more can be written: sink_close says why */
    struct guest *guest;
    struct sink *sink;
    struct tar_names users, groups;
    struct seen links;
    unsigned char *buffer; /* READ_SIZE */
    struct img_error err;
};

static bool parse_option(int opt, struct tar *tar) {
    switch (opt) {
    case OPT_COMPRESS:
        if (sink_compression(optarg, &tar->compression))
            return true;
        report("--compress is gzip or zstd, not '%s'", optarg);
        return false;
    case OPT_EXCLUDE:
        if (tar->nexcludes == MAX_EXCLUDES) {
            report("More than %d patterns to exclude", MAX_EXCLUDES);
            return false;
        }
        tar->excludes[tar->nexcludes++] = optarg;
        return true;
    case OPT_NUMERIC_OWNER:
        return tar->numeric = true;
    case OPT_XATTRS:
        return tar->attributes.xattrs = true;
    case OPT_SELINUX:
        return tar->attributes.selinux = true;
    case OPT_ACLS:
        return tar->attributes.acls = true;
    case OPT_NANOSECONDS:
        return tar->nanoseconds = true;
    case OPT_NO_SPARSE:
        return tar->no_sparse = true;
    default:
        return guest_option(opt, &tar->options);
    }
}

/* As GNU tar: a pattern is for the whole path or any end of it that begins with a name. */
static bool is_excluded(const struct tar *tar, const char *path) {
    for (size_t i = 0; i < tar->nexcludes; i++)
        for (const char *p = path; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
            if (fnmatch(tar->excludes[i], p, 0) == 0)
                return true;
    return false;
}

/* ---- data ---- */

static void missing(struct tar *tar, const char *path, const char *what) {
    report("%s: %s", path, what);
    tar->failed = true;
}

/* The result of a write: one that failed ends the walk. */
static int written(struct tar *tar, bool good) {
    tar->stopped |= !good;
    return good ? 0 : -EIO;
}

/* Exactly `length` bytes; what the file cannot give is zeroes, since the head has told their number. */
static bool write_range(struct tar *tar, const char *path, const struct guest_node *node, uint64_t at,
                        uint64_t length) {
    struct img_error err = {0};
    bool broken = false;
    while (length > 0) {
        size_t count = length < READ_SIZE ? (size_t)length : READ_SIZE, got = 0;
        int ret = broken ? 0 : node->fs->ops->read(node->fs, node->ino, tar->buffer, count, at, &got, &err);
        if (!broken && (ret < 0 || got == 0)) {
            missing(tar, path, ret < 0 ? err.text : "it ends before its size");
            broken = true;
        }
        if (broken || got > count) {
            memset(tar->buffer, 0, count);
            got = count;
        }
        if (!sink_write(tar->sink, tar->buffer, got))
            return false;
        at += got;
        length -= got;
    }
    return true;
}

/* Where the data of a file is; a list of no ranges is NULL too when all of it counts as data. */
static int find_ranges(const struct tar *tar, const struct guest_node *node, uint64_t size, struct tar_text *list,
                       struct img_error *err) {
    uint64_t at = 0, start, length, data = 0;
    if (!node->fs->ops->next_data || tar->no_sparse || size < HOLES_MIN)
        return 0;
    while (at < size) {
        int ret = node->fs->ops->next_data(node->fs, node->ino, at, &start, &length, err);
        if (ret == -ENXIO)
            break;
        if (ret < 0)
            return ret;
        if (start >= size || length == 0 || start < at)
            break;
        if (length > size - start)
            length = size - start;
        struct tar_range range = {start, length};
        tar_text_add(list, &range, sizeof(range));
        at = start + length;
        data += length;
    }
    if (size - data < HOLES_MIN) {
        list->length = 0;
        return 0;
    }
    if (list->length == 0) /* one hole: a place for no ranges */
        tar_text_add(list, &(struct tar_range){0}, sizeof(struct tar_range));
    return 0;
}

static int write_file(struct tar *tar, struct tar_entry *entry, const struct guest_node *node) {
    struct tar_text list = {0};
    uint64_t data;
    static const char zeroes[TAR_BLOCK];
    int ret = find_ranges(tar, node, entry->stat.size, &list, &tar->err);
    if (ret < 0) {
        missing(tar, entry->name, tar->err.text);
        free(list.bytes);
        return 0;
    }
    const struct tar_range whole = {0, entry->stat.size}, *ranges = &whole;
    if (list.length > 0) {
        entry->ranges = ranges = (const struct tar_range *)(const void *)list.bytes;
        entry->nranges = list.length / sizeof(*ranges) - (ranges->length == 0);
    }
    size_t count = list.length > 0 ? entry->nranges : 1;
    bool good = tar_write_head(tar->sink, entry, &data);
    for (size_t i = 0; i < count && good; i++)
        good = write_range(tar, entry->name, node, ranges[i].start, ranges[i].length);
    good = good && sink_write(tar->sink, zeroes, (TAR_BLOCK - data % TAR_BLOCK) % TAR_BLOCK);
    free(list.bytes);
    return written(tar, good);
}

/* ---- files ---- */

static int write_entry(struct tar *tar, struct tar_entry *entry, const struct guest_visit *visit) {
    const struct fs_stat *stat = &visit->stat;
    struct tar_text more = {0};
    char *target = NULL;
    bool is_new = true;
    uint64_t none;
    struct seen_file *file =
        stat->nlink > 1 && !S_ISDIR(stat->mode) ? seen_file(&tar->links, &visit->node, &is_new) : NULL;
    int ret = 0;
    if (!is_new) {
        entry->hardlink = true;
        entry->target = file->text;
    } else {
        if (file)
            file->text = text_copy(entry->name);
        ret = tar_add_attributes(&visit->node, &tar->attributes, &more, &tar->err);
        if (ret == 0 && S_ISLNK(stat->mode))
            ret = guest_readlink(&visit->node, &target, &tar->err);
        if (target)
            entry->target = target;
    }
    entry->more = &more;
    if (ret < 0)
        missing(tar, entry->name, tar->err.text);
    else if (S_ISREG(stat->mode) && is_new)
        ret = write_file(tar, entry, &visit->node);
    else
        ret = written(tar, tar_write_head(tar->sink, entry, &none));
    entry->more = NULL;
    entry->target = NULL;
    free(more.bytes);
    free(target);
    return tar->stopped ? ret : 0;
}

static int visit_file(void *opaque, const struct guest_visit *visit) {
    struct tar *tar = opaque;
    const struct fs_stat *stat = &visit->stat;
    if (visit->depth > 0 && is_excluded(tar, visit->path))
        return GUEST_SKIP;
    if (S_ISSOCK(stat->mode)) {
        if (tar->options.verbose)
            report("%s: a socket is not packed", visit->path);
        return GUEST_GO_ON;
    }
    char *name = text_format("./%s%s", visit->path, S_ISDIR(stat->mode) && visit->depth > 0 ? "/" : "");
    struct tar_entry entry = {
        .name = name,
        .stat = *stat,
        .nanoseconds = tar->nanoseconds,
        .user = tar->numeric ? NULL : tar_name_of(&tar->users, stat->uid),
        .group = tar->numeric ? NULL : tar_name_of(&tar->groups, stat->gid),
    };
    int ret = write_entry(tar, &entry, visit);
    free(name);
    return ret;
}

/* The process in the sandbox. */
static bool pack(struct tar *tar, const char *path, int fd) {
    struct guest_node dir;
    struct session *session = session_open(&tar->options, 0);
    if (!session)
        return false;
    tar->guest = session->guest;
    bool good = guest_resolve_directory(tar->guest, path, &dir, &tar->err) == 0;
    if (!good)
        report_guest_error(&tar->err);
    else {
        if (fd != STDOUT_FILENO && ftruncate(fd, 0) < 0 && errno != EINVAL)
            report("The archive cannot be emptied: %s", strerror(errno));
        if (!tar->numeric) {
            tar_read_names(tar->guest, "/etc/passwd", &tar->users);
            tar_read_names(tar->guest, "/etc/group", &tar->groups);
        }
        tar->buffer = memory(1, READ_SIZE);
        tar->sink = sink_open(fd, tar->compression);
        int ret = guest_walk(tar->guest, &dir, visit_file, tar, &tar->err);
        if (ret < 0 && !tar->stopped)
            report_guest_error(&tar->err);
        good = ret == 0 && tar_write_end(tar->sink) && !tar->failed;
        good = sink_close(tar->sink) && good;
        seen_free(&tar->links);
        tar_free_names(&tar->users);
        tar_free_names(&tar->groups);
        free(tar->buffer);
    }
    session_close(session);
    return good;
}

static bool pack_apart(struct tar *tar, const char *path, int fd) {
    pid_t child = apart_start();
    if (child == 0) {
        bool good = pack(tar, path, fd);
        fflush(NULL);
        _exit(good ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    return child > 0 && apart_end(child);
}

/* Takes a new archive away if it is still the file that was made. */
static void remove_again(const char *path, int fd) {
    struct stat ours, there;
    if (fstat(fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
        unlink(path);
}

static bool pack_into_file(struct tar *tar, const char *path, const char *archive) {
    bool is_new = true;
    int fd = open(archive, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST) {
        is_new = false;
        fd = open(archive, O_WRONLY | O_CLOEXEC);
    }
    if (fd < 0) {
        report("%s: %s", archive, strerror(errno));
        return false;
    }
    bool good = pack_apart(tar, path, fd);
    if (!good && is_new)
        remove_again(archive, fd);
    if (close(fd) < 0) {
        report("%s: %s", archive, strerror(errno));
        good = false;
    }
    return good;
}

static int run(int argc, char **argv) {
    struct tar *tar = memory(1, sizeof(*tar));
    int opt;
    while ((opt = next_option(&tar_out_command, argc, argv)) != -1)
        if (!parse_option(opt, tar))
            return EXIT_FAILURE;
    if (argc - optind != 2)
        usage_error("Expecting a directory of the guest and the archive to be made, - for the standard output");
    bool good;
    if (strcmp(argv[optind + 1], "-") == 0)
        good = pack_apart(tar, argv[optind], STDOUT_FILENO);
    else
        good = pack_into_file(tar, argv[optind], argv[optind + 1]);
    free(tar);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct command tar_out_command = {
    .name = "tar-out",
    .summary = "pack a directory inside a disk into a tar archive",
    .usage = GUEST_USAGE " [OPTION...] DIR FILE.tar|-",
    .options = "      --compress=gzip|zstd\n"
               "                          compress the archive\n"
               "      --exclude=PATTERN   leave out files whose path, or an end of it, matches\n"
               "      --numeric-owner     owners as numbers alone, not by the guest's names too\n"
               "      --xattrs            extended attributes\n"
               "      --acls              access control lists\n"
               "      --selinux           SELinux labels\n"
               "      --nanoseconds       times with their parts of a second\n"
               "      --no-sparse         holes as zeroes\n"
               "Which guest:\n" GUEST_HELP GUEST_HELP_MOUNT,
    .short_opts = GUEST_SHORT GUEST_SHORT_MOUNT GUEST_SHORT_FISH,
    .long_opts = long_opts,
    .run = run,
};
