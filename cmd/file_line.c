/* SPDX-License-Identifier: GPL-3.0-or-later */
/* file_line.c - see file_line.h. */
#include "file_line.h"

#include <getopt.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "checksum.h"
#include "report.h"
#include "short_size.h"

#define HALF_A_YEAR (31556952 / 2) /* seconds */

#define MAJOR_SD 8
#define MAJOR_DEVICE_MAPPER 253
#define MINORS_OF_A_DISK 16

char file_letter(uint32_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG:
        return '-';
    case S_IFDIR:
        return 'd';
    case S_IFCHR:
        return 'c';
    case S_IFBLK:
        return 'b';
    case S_IFIFO:
        return 'p';
    case S_IFLNK:
        return 'l';
    case S_IFSOCK:
        return 's';
    default:
        return 'u';
    }
}

const char *mode_text(uint32_t mode, char text[MODE_TEXT_SIZE]) {
    static const char letters[] = "rwxrwxrwx";
    strcpy(text, "----------");
    text[0] = file_letter(mode);
    for (int i = 0; i < 9; i++)
        if (mode & (0400u >> i))
            text[1 + i] = letters[i];
    if (mode & S_ISUID)
        text[3] = mode & S_IXUSR ? 's' : 'S';
    if (mode & S_ISGID)
        text[6] = mode & S_IXGRP ? 's' : 'S';
    if (mode & S_ISVTX)
        text[9] = mode & S_IXOTH ? 't' : 'T';
    return text;
}

const char *ls_date(int64_t seconds, time_t now, char text[LS_DATE_SIZE]) {
    time_t when = (time_t)seconds;
    struct tm tm;
    bool recent = when <= now && when > now - HALF_A_YEAR;
    strcpy(text, "?");
    if (localtime_r(&when, &tm))
        strftime(text, LS_DATE_SIZE, recent ? "%b %e %H:%M" : "%b %e  %Y", &tm);
    return text;
}

bool is_line_option(int opt) {
    return opt == 'h' || (opt >= OPT_LINE_CSV && opt <= OPT_LINE_UIDS);
}

bool line_option(int opt, struct line_style *style) {
    switch (opt) {
    case 'h':
        return style->human = true;
    case OPT_LINE_CSV:
        return style->csv = true;
    case OPT_LINE_CHECKSUM:
        style->checksum = optarg ? optarg : "md5";
        if (!checksum_is_known(style->checksum)) {
            report("There is no checksum called '%s'", style->checksum);
            return false;
        }
        return true;
    case OPT_LINE_EXTRA_STATS:
        return style->extra = true;
    case OPT_LINE_TIMES:
        return style->times = true;
    case OPT_LINE_TIME_T:
    case OPT_LINE_TIME_RELATIVE:
    case OPT_LINE_TIME_DAYS:
        style->time_style = TIME_SECONDS + (opt - OPT_LINE_TIME_T);
        return style->times = true;
    default:
        return style->owners = true;
    }
}

void print_csv_field(FILE *out, const char *text) {
    if (!strpbrk(text, " \",\n")) {
        fputs(text, out);
        return;
    }
    putc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            putc('"', out);
        putc(*text, out);
    }
    putc('"', out);
}

static void print_time(FILE *out, const struct line_style *style, const struct fs_time *time) {
    time_t seconds = (time_t)time->seconds;
    struct tm tm;
    char text[64];
    switch (style->time_style) {
    case TIME_TEXT:
        if (!localtime_r(&seconds, &tm) || !strftime(text, sizeof(text), "%F %T", &tm))
            snprintf(text, sizeof(text), "%lld", (long long)seconds);
        if (style->csv)
            print_csv_field(out, text);
        else
            fputs(text, out);
        break;
    case TIME_SECONDS:
        fprintf(out, "%10lld", (long long)seconds);
        break;
    case TIME_RELATIVE:
        fprintf(out, "%8lld", (long long)(style->now - seconds));
        break;
    case TIME_DAYS:
        fprintf(out, "%3lld", (long long)(style->now - seconds) / 86400);
        break;
    }
}

static void print_size(FILE *out, const struct line_style *style, uint64_t size) {
    char text[SHORT_SIZE_MAX];
    if (style->human)
        fprintf(out, style->csv ? "%s" : "%10s", short_size(size, text));
    else
        fprintf(out, style->csv ? "%" PRIu64 : "%10" PRIu64, size);
}

void print_file_fields(FILE *out, const struct line_style *style, const struct file_line *line) {
    const struct fs_stat *s = &line->stat;
    char gap = style->csv ? ',' : ' ';
    fprintf(out, "%c%c%04o%c", file_letter(s->mode), gap, s->mode & 07777, gap);
    print_size(out, style, s->size);
    putc(gap, out);
    if (style->owners)
        fprintf(out, "%4" PRIu32 "%c%4" PRIu32 "%c", s->uid, gap, s->gid, gap);
    if (style->times) {
        const struct fs_time *times[] = {&s->atime, &s->mtime, &s->ctime};
        for (size_t i = style->no_atime; i < 3; i++) {
            print_time(out, style, times[i]);
            putc(gap, out);
        }
    }
    if (style->extra)
        fprintf(out, "%u:%u%c%" PRIu64 "%c%" PRIu32 "%c%" PRIu32 ":%" PRIu32 "%c%" PRIu64 "%c", line->dev_major,
                line->dev_minor, gap, s->ino, gap, s->nlink, gap, s->rdev_major, s->rdev_minor, gap, s->blocks, gap);
    if (style->checksum && (line->checksum || style->csv))
        fprintf(out, "%s%c", line->checksum ? line->checksum : "", gap);
    if (style->csv)
        print_csv_field(out, line->path);
    else
        print_file_name(out, line->path);
    if (line->target && style->csv) {
        putc(',', out);
        print_csv_field(out, line->target);
    } else if (line->target) {
        fputs(" -> ", out);
        print_file_name(out, line->target);
    }
}

void print_file_line(FILE *out, const struct line_style *style, const struct file_line *line) {
    print_file_fields(out, style, line);
    putc('\n', out);
}

void device_number(const struct volume *volume, size_t index, unsigned *major, unsigned *minor) {
    const char *name = volume->name;
    if (strncmp(name, "/dev/sd", 7) != 0 || name[7] < 'a' || name[7] > 'p' || (name[8] >= 'a' && name[8] <= 'z')) {
        *major = MAJOR_DEVICE_MAPPER;
        *minor = (unsigned)index;
        return;
    }
    *major = MAJOR_SD;
    *minor = (unsigned)(name[7] - 'a') * MINORS_OF_A_DISK + volume->number;
}

void number_mounts(const struct guest *guest, const struct volumes *volumes, unsigned (*numbers)[2]) {
    const struct guest_mount *mounts;
    size_t count = guest_mounts(guest, &mounts);
    for (size_t i = 0; i < count && i < NUMBERED_MOUNTS_MAX; i++) {
        size_t index = 0;
        while (index < volumes_count(volumes) && volumes_get(volumes, index) != mounts[i].volume)
            index++;
        device_number(mounts[i].volume, index, &numbers[i][0], &numbers[i][1]);
    }
}
