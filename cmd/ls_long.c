/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ls_long.c - `img ls -l`: a directory as `ls -lan` prints it. The columns are as wide as their widest field, so all of
 * the directory is gathered first. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "file_line.h"
#include "guest.h"
#include "ls.h"
#include "report.h"
#include "short_size.h"

struct row {
    const char *name;
    char *target;
    struct fs_stat stat;
    bool acl;
};

struct rows {
    struct row *list;
    size_t count;
    uint64_t blocks; /* of 1024 bytes */
    bool acl;
    int links, uid, gid, size, major, minor; /* widths */
};

static int digits(uint64_t number) {
    int count = 1;
    while (number /= 10)
        count++;
    return count;
}

static void widen(int *width, int needed) {
    if (*width < needed)
        *width = needed;
}

static int is_acl(void *opaque, const char *name, const void *value, size_t length) {
    (void)value, (void)length;
    if (strncmp(name, "system.posix_acl_", 17) == 0)
        *(bool *)opaque = true;
    return 0;
}

static int take(struct rows *rows, const char *name, const struct guest_node *node, bool human, struct img_error *err) {
    struct row *row = &rows->list[rows->count];
    char text[SHORT_SIZE_MAX];
    *row = (struct row){.name = name};
    int ret = guest_stat(node, &row->stat, err);
    if (ret == 0 && S_ISLNK(row->stat.mode))
        ret = guest_readlink(node, &row->target, err);
    else if (ret == 0 && node->fs->ops->xattrs)
        ret = node->fs->ops->xattrs(node->fs, node->ino, is_acl, &row->acl, err);
    if (ret < 0)
        return ret;
    rows->count++;
    const struct fs_stat *s = &row->stat;
    rows->blocks += s->blocks / 2;
    rows->acl |= row->acl;
    widen(&rows->links, digits(s->nlink));
    widen(&rows->uid, digits(s->uid));
    widen(&rows->gid, digits(s->gid));
    if (S_ISBLK(s->mode) || S_ISCHR(s->mode)) {
        widen(&rows->major, digits(s->rdev_major));
        widen(&rows->minor, digits(s->rdev_minor));
    } else
        widen(&rows->size, human ? (int)strlen(short_size(s->size, text)) : digits(s->size));
    return 0;
}

static void print_size(const struct rows *rows, const struct fs_stat *s, bool human) {
    char text[SHORT_SIZE_MAX];
    int devices = rows->major ? rows->major + 2 + rows->minor : 0;
    int width = rows->size > devices ? rows->size : devices;
    if (S_ISBLK(s->mode) || S_ISCHR(s->mode))
        printf("%*" PRIu32 ", %*" PRIu32, width - rows->minor - 2, s->rdev_major, rows->minor, s->rdev_minor);
    else if (human)
        printf("%*s", width, short_size(s->size, text));
    else
        printf("%*" PRIu64, width, s->size);
}

static void print_row(const struct rows *rows, const struct row *row, time_t now, bool human) {
    const struct fs_stat *s = &row->stat;
    char when[LS_DATE_SIZE];
    char mode[MODE_TEXT_SIZE];
    fputs(mode_text(s->mode, mode), stdout);
    if (rows->acl)
        putchar(row->acl ? '+' : ' ');
    printf(" %*" PRIu32 " %*" PRIu32 " %*" PRIu32 " ", rows->links, s->nlink, rows->uid, s->uid, rows->gid, s->gid);
    print_size(rows, s, human);
    printf(" %s ", ls_date(s->mtime.seconds, now, when));
    print_file_name(stdout, row->name);
    if (row->target) {
        fputs(" -> ", stdout);
        print_file_name(stdout, row->target);
    }
    putchar('\n');
}

static int by_bytes(const void *a, const void *b) {
    return strcmp(((const struct row *)a)->name, ((const struct row *)b)->name);
}

static int gather(struct guest *guest, const char *path, const struct guest_node *dir, const struct guest_names *names,
                  bool human, struct rows *rows, struct img_error *err) {
    struct guest_node node;
    char *above = text_format("%s/..", path);
    int ret = take(rows, ".", dir, human, err);
    if (ret == 0)
        ret = guest_resolve(guest, above, true, &node, err);
    if (ret == 0)
        ret = take(rows, "..", &node, human, err);
    for (size_t i = 0; i < names->count && ret == 0; i++) {
        const char *name = names->list[i].name;
        ret = guest_step(guest, dir, name, strlen(name), &node, err);
        if (ret == 0)
            ret = take(rows, name, &node, human, err);
    }
    free(above);
    return ret;
}

bool list_long(struct guest *guest, const char *path, bool human) {
    struct img_error err = {0};
    struct guest_names names = {0};
    struct guest_node dir;
    struct rows rows = {0};
    int ret = guest_resolve_directory(guest, path, &dir, &err);
    if (ret == 0)
        ret = guest_list(&dir, &names, &err);
    if (ret == 0) {
        rows.list = memory(names.count + 2, sizeof(rows.list[0]));
        ret = gather(guest, path, &dir, &names, human, &rows, &err);
    }
    if (ret == 0) {
        qsort(rows.list, rows.count, sizeof(rows.list[0]), by_bytes);
        printf("total %" PRIu64 "\n", rows.blocks);
        for (size_t i = 0; i < rows.count; i++)
            print_row(&rows, &rows.list[i], time(NULL), human);
    } else
        report_guest_error(&err);
    for (size_t i = 0; i < rows.count; i++)
        free(rows.list[i].target);
    free(rows.list);
    guest_names_free(&names);
    return ret == 0;
}
