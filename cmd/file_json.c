/* SPDX-License-Identifier: GPL-3.0-or-later */
/* file_json.c - see file_json.h. */
#include "file_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "json.h"
#include "report.h"

void print_json_file(size_t *printed, const struct file_line *line) {
    const struct fs_stat *s = &line->stat;
    const struct fs_time *times[] = {&s->atime, &s->mtime, &s->ctime};
    static const char *const names[] = {"atime", "mtime", "ctime"};
    char mode[8], type[2] = {file_letter(s->mode)};
    json_t *file = json_new_object();
    snprintf(mode, sizeof(mode), "%04o", s->mode & 07777);
    json_put_text(file, "path", line->path);
    json_put_text(file, "type", type);
    json_put_text(file, "mode", mode);
    json_put_number(file, "size", s->size);
    json_put_number(file, "uid", s->uid);
    json_put_number(file, "gid", s->gid);
    json_put_number(file, "inode", s->ino);
    json_put_number(file, "links", s->nlink);
    json_put_number(file, "blocks", s->blocks);
    for (size_t i = 0; i < 3; i++) {
        char *text = text_format("%lld.%09u", (long long)times[i]->seconds, times[i]->nanoseconds);
        json_put_text(file, names[i], text);
        free(text);
    }
    if (S_ISBLK(s->mode) || S_ISCHR(s->mode)) {
        char *text = text_format("%u:%u", s->rdev_major, s->rdev_minor);
        json_put_text(file, "device", text);
        free(text);
    }
    if (line->target)
        json_put_text(file, "target", line->target);
    if (line->checksum)
        json_put_text(file, "checksum", line->checksum);
    char *text = json_dumps(file, JSON_ENSURE_ASCII);
    printf("%s%s", (*printed)++ ? ",\n " : "", text ? text : "");
    free(text);
    json_decref(file);
}
