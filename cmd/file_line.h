/* SPDX-License-Identifier: GPL-3.0-or-later */
/* file_line.h - one line about one file of a guest, in the form of virt-ls -lR, of which virt-diff's is made too:
 * TYPE PERMISSIONS SIZE [UID GID] [ATIME MTIME CTIME] [DEV INODE LINKS RDEV BLOCKS] [CHECKSUM] PATH [-> TARGET] */
#ifndef FILE_LINE_H
#define FILE_LINE_H

#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "fs/guest.h"

enum time_style { TIME_TEXT, TIME_SECONDS, TIME_RELATIVE, TIME_DAYS };

struct line_style {
    bool csv, human, owners, times, extra;
    bool no_atime; /* times are two then */
    enum time_style time_style;
    time_t now;           /* of TIME_RELATIVE and TIME_DAYS */
    const char *checksum; /* "md5", "sha256", "crc" ...; NULL: none */
};

struct file_line {
    struct fs_stat stat;
    unsigned dev_major, dev_minor; /* the volume's, as Linux would number it */
    const char *path;
    const char *target;   /* of a symbolic link; NULL: none */
    const char *checksum; /* NULL: none, as for all but regular files */
};

/* The options that make a style, for the tables of the commands that print such lines ('h' is one of them too). */
enum {
    OPT_LINE_CSV = 768,
    OPT_LINE_CHECKSUM,
    OPT_LINE_EXTRA_STATS,
    OPT_LINE_TIMES,
    OPT_LINE_TIME_T,
    OPT_LINE_TIME_RELATIVE,
    OPT_LINE_TIME_DAYS,
    OPT_LINE_UIDS,
};
#define LINE_LONG                                                                                                      \
    {"human-readable", no_argument, NULL, 'h'}, {"csv", no_argument, NULL, OPT_LINE_CSV},                              \
        {"checksum", optional_argument, NULL, OPT_LINE_CHECKSUM},                                                      \
        {"checksums", optional_argument, NULL, OPT_LINE_CHECKSUM},                                                     \
        {"extra-stat", no_argument, NULL, OPT_LINE_EXTRA_STATS},                                                       \
        {"extra-stats", no_argument, NULL, OPT_LINE_EXTRA_STATS}, {"time", no_argument, NULL, OPT_LINE_TIMES},         \
        {"times", no_argument, NULL, OPT_LINE_TIMES}, {"time-t", no_argument, NULL, OPT_LINE_TIME_T},                  \
        {"time-relative", no_argument, NULL, OPT_LINE_TIME_RELATIVE},                                                  \
        {"time-days", no_argument, NULL, OPT_LINE_TIME_DAYS}, {"uid", no_argument, NULL, OPT_LINE_UIDS}, {             \
        "uids", no_argument, NULL, OPT_LINE_UIDS                                                                       \
    }
/* Is it one of them? */
bool is_line_option(int opt);
/* Takes it. False after reporting what is wrong with its argument. */
bool line_option(int opt, struct line_style *style);

/* The line without its end. */
void print_file_fields(FILE *out, const struct line_style *style, const struct file_line *line);
/* The line and its end. */
void print_file_line(FILE *out, const struct line_style *style, const struct file_line *line);
/* A field of such a line, in quotes where CSV needs them. */
void print_csv_field(FILE *out, const char *text);
/* '-' 'd' 'b' 'c' 'p' 'l' 's', 'u' for what is none of these. */
char file_letter(uint32_t mode);
/* "-rwxr-sr-x", as ls writes it; returns `text`. */
#define MODE_TEXT_SIZE 11
const char *mode_text(uint32_t mode, char text[MODE_TEXT_SIZE]);
/* A time as `ls -l` has it: the time of day for the last half year before `now`, else the year. */
#define LS_DATE_SIZE 32
const char *ls_date(int64_t seconds, time_t now, char text[LS_DATE_SIZE]);

#define NUMBERED_MOUNTS_MAX 256
/* The numbers of the devices that are mounted, by the index of the mount. */
void number_mounts(const struct guest *guest, const struct volumes *volumes, unsigned (*numbers)[2]);
/* The number of the device that a volume would be: 8:5 of /dev/sda5. */
void device_number(const struct volume *volume, size_t index, unsigned *major, unsigned *minor);

#endif
