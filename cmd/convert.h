/* SPDX-License-Identifier: GPL-3.0-or-later */
/* convert.h - what `convert` was asked to do: its command line, read and checked (convert_args.c). */
#ifndef CONVERT_H
#define CONVERT_H

#include "cmd.h"
#include "progress.h"
#include "throttle.h"

struct convert_args {
    char *const *sources;
    size_t nsources;
    const char *target;
    const char *source_format, *target_format;
    char *options; /* all -o arguments; owned */
    const char *backing_file, *backing_format;
    const char *snapshot;
    struct common_options common;
    enum img_cache target_cache;
    uint64_t sparse_size;
    bool sparse_given;
    unsigned threads; /* 0: one per core */
    struct throttle throttle;
    int level; /* of compression; 0: the default */
    bool compress, no_create, target_is_zero, out_of_order, offload, salvage, target_image_opts;
    bool target_format_given;
    bool bitmaps, skip_broken_bitmaps;
};

#define CONVERT_SHORT_OPTIONS "f:O:B:b:CcF:o:l:S:pt:T:qnm:WUr:"
extern const struct option convert_long_options[];

/* Reads and checks the command line. -1 to go on, or the exit status: a mistake is reported, help is printed. */
int convert_parse(struct convert_args *a, int argc, char **argv);
void convert_args_free(struct convert_args *a);

#endif
