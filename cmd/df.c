/* SPDX-License-Identifier: GPL-3.0-or-later */
/* df.c - `img df`, virt-df: how full a guest's filesystems are, all of them, whether or not the guest mounts them. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apart.h"
#include "domain.h"
#include "file_line.h"
#include "fs/inspect/inspect.h"
#include "guest.h"
#include "json.h"
#include "report.h"
#include "short_size.h"

enum {
    OPT_CSV = OPT_GUEST_FIRST_FREE,
    OPT_UUID,
    OPT_ONE_PER_GUEST,
};

static const struct option long_opts[] = {
    GUEST_LONG,
    GUEST_LONG_OUTPUT,
    {"human-readable", no_argument, NULL, 'h'},
    {"inodes", no_argument, NULL, 'i'},
    {"csv", no_argument, NULL, OPT_CSV},
    {"uuid", no_argument, NULL, OPT_UUID},
    {"one-per-guest", no_argument, NULL, OPT_ONE_PER_GUEST},
    GUEST_LONG_END,
};

#define NAME_WIDTH 36

struct df {
    struct guest_options options;
    bool human, inodes, csv;
    bool untitled; /* somebody else prints the title */
    bool failed;   /* a domain could not be looked into */
    char *guest;
    json_t *json;
};

/* What a row counts: inodes, or blocks of 1024 bytes. */
struct use {
    uint64_t total, free, available;
};

static struct use use_of(const struct df *df, const struct fs_space *space) {
    if (df->inodes)
        return (struct use){space->inodes, space->inodes_free, space->inodes_free};
    return (struct use){
        (uint64_t)((unsigned __int128)space->blocks * space->block_size / 1024),
        (uint64_t)((unsigned __int128)space->blocks_free * space->block_size / 1024),
        (uint64_t)((unsigned __int128)space->blocks_available * space->block_size / 1024),
    };
}

static uint64_t used(const struct use *use) {
    return use->total > use->free ? use->total - use->free : 0;
}

static double percentage(const struct use *use) {
    return use->total == 0 ? 0 : 100.0 - 100.0 * (double)use->free / (double)use->total;
}

/* ---- output ---- */

static void print_title(const struct df *df) {
    if (df->csv && df->inodes)
        puts("VirtualMachine,Filesystem,Inodes,IUsed,IFree,IUse%");
    else if (df->csv)
        puts("VirtualMachine,Filesystem,1K-blocks,Used,Available,Use%");
    else if (df->inodes)
        printf("%-*s%10s %10s %10s %5s\n", NAME_WIDTH, "Filesystem", "Inodes", "IUsed", "IFree", "IUse%");
    else
        printf("%-*s%10s %10s %10s %5s\n", NAME_WIDTH, "Filesystem", df->human ? "Size" : "1K-blocks", "Used",
               "Available", "Use%");
}

static void print_csv(const struct df *df, const char *device, const struct use *use) {
    print_csv_field(stdout, df->guest);
    putchar(',');
    print_csv_field(stdout, device);
    printf(",%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",%.1f\n", use->total, used(use), use->available, percentage(use));
}

static void print_number(const struct df *df, uint64_t number) {
    char text[SHORT_SIZE_MAX];
    if (df->human)
        printf("%10s ", short_size(df->inodes ? number : 1024 * number, text));
    else
        printf("%10" PRIu64 " ", number);
}

static void print_line(const struct df *df, const char *device, const struct use *use) {
    char *joined = text_format("%s:%s", df->guest, device), *name = text_printable(joined);
    char percent[32];
    if (strlen(name) > NAME_WIDTH)
        printf("%s\n%*s", name, NAME_WIDTH, "");
    else
        printf("%-*s", NAME_WIDTH, name);
    print_number(df, use->total);
    print_number(df, used(use));
    print_number(df, use->available);
    snprintf(percent, sizeof(percent), "%3.0f%%", ceil(percentage(use)));
    printf("%5s\n", percent);
    free(joined);
    free(name);
}

static void add_json(const struct df *df, const struct volume *volume, const struct fs_space *space) {
    json_t *row = json_new_object();
    json_put_text(row, "guest", df->guest);
    json_put_text(row, "filesystem", volume->name);
    json_put_text(row, "type", volume->content.type);
    json_put_number(row, "size", space->blocks * space->block_size);
    json_put_number(row, "free", space->blocks_free * space->block_size);
    json_put_number(row, "available", space->blocks_available * space->block_size);
    json_put_number(row, "inodes", space->inodes);
    json_put_number(row, "inodes-free", space->inodes_free);
    json_add(df->json, row);
}

/* ---- filesystems ---- */

static void show(const struct df *df, const struct volume *volume) {
    struct img_error err = {0};
    struct fs_space space = {0};
    struct fs *fs;
    int ret = fs_open(volume->device, NULL, &fs, &err);
    if (ret == 0) {
        report_warning(volume, fs);
        ret = fs->ops->space(fs, &space, &err);
        fs_close(fs);
    }
    if (ret < 0) {
        report("%s: %s", volume->name, err.text);
        return;
    }
    struct use use = use_of(df, &space);
    if (df->json)
        add_json(df, volume, &space);
    else if (df->csv)
        print_csv(df, volume->name, &use);
    else
        print_line(df, volume->name, &use);
}

static bool show_all(struct df *df, const struct session *session) {
    struct volume **list;
    size_t count;
    struct img_error err = {0};
    if (inspect_filesystems(session->volumes, &list, &count, &err) < 0) {
        report_guest_error(&err);
        return false;
    }
    df->guest = session_name(session);
    for (size_t i = 0; i < count; i++)
        if (list[i]->content.kind == PROBE_FILESYSTEM && list[i]->device)
            show(df, list[i]);
    free(df->guest);
    free(list);
    return true;
}

static bool show_guest(struct df *df) {
    struct session *session = session_open(&df->options, SESSION_VOLUMES);
    if (!session)
        return false;
    if (df->options.output == OUTPUT_JSON)
        df->json = json_new_array();
    else if (!df->untitled)
        print_title(df);
    bool good = show_all(df, session);
    if (df->json)
        json_print(df->json);
    session_close(session);
    return good;
}

/* ---- all domains of this host: each in a process of its own, since the sandbox is for good and one guest is none of
 * another one's business ---- */

/* The rows that the process prints as JSON become rows of all. */
static bool gather_json(struct df *df, int fd) {
    json_t *rows = json_loadfd(fd, 0, NULL);
    bool good = json_is_array(rows) && json_array_extend(df->json, rows) == 0;
    json_decref(rows);
    return good;
}

static bool show_domain(void *opaque, const char *name) {
    struct df *df = opaque;
    int ends[2] = {-1, -1};
    if (df->json && pipe2(ends, O_CLOEXEC) < 0) {
        report("%s", strerror(errno));
        return false;
    }
    if (!df->json && !df->untitled)
        print_title(df);
    df->untitled = true;
    pid_t child = apart_start();
    if (child == 0) {
        if (df->json)
            dup2(ends[1], STDOUT_FILENO);
        df->json = NULL;
        df->options.domain = name;
        bool good = show_guest(df);
        fflush(NULL);
        _exit(good ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    bool good = child > 0;
    if (df->json) {
        close(ends[1]);
        good = good && gather_json(df, ends[0]);
        close(ends[0]);
    }
    df->failed |= !(child > 0 && apart_end(child)) || !good;
    return true; /* the others are looked at nevertheless */
}

static bool show_domains(struct df *df) {
    if (df->options.output == OUTPUT_JSON)
        df->json = json_new_array();
    bool good = domain_each(&df->options, show_domain, df);
    if (df->json)
        json_print(df->json);
    return good && !df->failed;
}

static bool parse_option(int opt, struct df *df) {
    switch (opt) {
    case 'h':
        df->human = true;
        return true;
    case 'i':
        df->inodes = true;
        return true;
    case OPT_CSV:
        df->csv = true;
        return true;
    case 'P':
    case OPT_UUID:
    case OPT_ONE_PER_GUEST:
        return true; /* one guest, read by this process; it has a UUID only as a libvirt domain */
    default:
        return guest_option(opt, &df->options);
    }
}

static int run(int argc, char **argv) {
    struct df df = {0};
    int opt;
    while ((opt = next_option(&df_command, argc, argv)) != -1)
        if (!parse_option(opt, &df))
            return EXIT_FAILURE;
    if (df.csv && df.human) {
        report("you cannot use -h and --csv options together");
        return EXIT_FAILURE;
    }
    if (!guest_old_style(&df.options, argc, argv, 0))
        return EXIT_FAILURE;
    if (optind < argc)
        usage_error("Unexpected argument '%s'", argv[optind]);
    return (df.options.ndisks == 0 && !df.options.domain ? show_domains(&df) : show_guest(&df)) ? EXIT_SUCCESS
                                                                                                : EXIT_FAILURE;
}

const struct command df_command = {
    .name = "df",
    .summary = "show how full the filesystems inside a disk are",
    .usage = GUEST_USAGE " [OPTION...]",
    .options = "  -h, --human-readable    sizes as 12K, 3.4G\n"
               "  -i, --inodes            inodes in place of blocks\n"
               "      --csv               comma-separated values\n"
               "Which guest:\n" GUEST_HELP GUEST_HELP_OUTPUT "For virt-df's sake: --uuid, --one-per-guest, -P N.\n",
    .short_opts = "hiP:" GUEST_SHORT,
    .long_opts = long_opts,
    .run = run,
};
