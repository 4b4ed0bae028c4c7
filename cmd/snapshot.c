/* SPDX-License-Identifier: GPL-3.0-or-later */
/* snapshot.c - `img snapshot`: internal snapshots.
 *
 * With options it is qemu-img's command: -l lists (and is what happens without any), -c makes, -a applies, -d deletes,
 * one of them at a time.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "describe.h"
#include "json.h"
#include "report.h"

struct snapshot_args {
    struct common_options common;
    const char *format, *file, *name;
    int action; /* 'l', 'a', 'c', 'd'; 0: none yet */
};

static const struct option long_opts[] = {
    {"list", no_argument, NULL, 'l'},
    {"apply", required_argument, NULL, 'a'},
    {"create", required_argument, NULL, 'c'},
    {"delete", required_argument, NULL, 'd'},
    {"format", required_argument, NULL, 'f'},
    {"quiet", no_argument, NULL, 'q'},
    {"force-share", no_argument, NULL, 'U'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    OPTIONS_END,
};

static struct img *open_it(const struct snapshot_args *a, uint32_t flags) {
    struct img_open_options options = {
        .flags = flags | (a->common.force_share ? IMG_OPEN_FORCE_SHARE : 0),
        .format = a->format,
    };
    return open_image(a->file, &options);
}

static int list(const struct snapshot_args *a) {
    struct img_error err = {0};
    struct img_info info;
    struct img *image = open_it(a, IMG_OPEN_INFO);
    if (!image)
        return EXIT_FAILURE;
    int status = EXIT_SUCCESS;
    if (img_info(image, &info, &err) < 0) {
        report_image_error(&err, "Could not list the snapshots of '%s'", a->file);
        status = EXIT_FAILURE;
    } else if (a->common.output == OUTPUT_JSON) {
        json_print(describe_snapshots_json(&info));
    } else if (info.nsnapshots) {
        describe_snapshots(stdout, &info);
    }
    img_close(image, NULL);
    return status;
}

/* The id of the first snapshot of that name: -d takes no id, as in qemu-img. NULL: there is none. */
static const char *id_by_name(struct img *image, const char *name) {
    struct img_info info;
    if (img_info(image, &info, NULL) < 0)
        return NULL;
    for (size_t i = 0; i < info.nsnapshots; i++)
        if (strcmp(info.snapshots[i].name, name) == 0)
            return info.snapshots[i].id;
    return NULL;
}

/* qemu-img tells a number; the sentence behind it says more where there is more to say. */
static void report_create(const char *name, const struct img_error *err) {
    report("Could not create snapshot '%s': %d (%s)", name, err->code, strerror(-err->code));
    if (err->code != -ENOTSUP)
        report("%s", err->text);
}

static int change(const struct snapshot_args *a) {
    struct img_error err = {0};
    struct img *image = open_it(a, IMG_OPEN_WRITE);
    int r = -1;
    if (!image)
        return EXIT_FAILURE;
    if (a->action == 'c') {
        r = img_snapshot_create(image, a->name, NULL, &err);
        if (r < 0)
            report_create(a->name, &err);
    } else if (a->action == 'a') {
        r = img_snapshot_apply(image, a->name, &err);
        if (r == -ENOENT)
            report("Could not apply snapshot '%s': Failed to load snapshot: No such file or directory", a->name);
        else if (r == -ENOTSUP && strcmp(img_format(image), "qcow2") != 0)
            report("Could not apply snapshot '%s': Block driver does not support snapshots", a->name);
        else if (r < 0)
            report_image_error(&err, "Could not apply snapshot '%s'", a->name);
    } else {
        const char *id = id_by_name(image, a->name);
        if (!id) {
            report("Could not delete snapshot '%s': snapshot not found", a->name);
        } else {
            char *copy = text_copy(id);
            r = img_snapshot_delete(image, copy, &err);
            if (r < 0)
                report_image_error(&err, "Could not delete snapshot '%s'", a->name);
            free(copy);
        }
    }
    if (img_close(image, &err) < 0 && r == 0) {
        report_image_error(&err, "Could not close '%s'", a->file);
        r = -1;
    }
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void set_action(struct snapshot_args *a, int action, const char *name) {
    if (a->action)
        usage_error("Cannot mix '-l', '-a', '-c', '-d'");
    a->action = action;
    a->name = name;
}

static int run(int argc, char **argv) {
    struct snapshot_args a = {0};
    int opt;
    while ((opt = next_option(&snapshot_command, argc, argv)) != -1) {
        if (!common_option(opt, &a.common))
            return EXIT_FAILURE;
        if (opt == 'f')
            a.format = optarg;
        else if (opt == 'l' || opt == 'a' || opt == 'c' || opt == 'd')
            set_action(&a, opt, optarg);
    }
    if (optind != argc - 1)
        usage_error("Expecting one image file name");
    a.file = argv[optind];
    return a.action == 0 || a.action == 'l' ? list(&a) : change(&a);
}

const struct command snapshot_command = {
    .name = "snapshot",
    .summary = "make, apply, delete and compare internal snapshots",
    .usage = "[-f FORMAT] [-l | -a SNAPSHOT | -c SNAPSHOT | -d SNAPSHOT] [-q] [-U] [--output=human|json] FILE",
    .options = "  -l, --list              list the snapshots [this, if no other is given]\n"
               "  -c, --create=NAME       make a snapshot of the active state\n"
               "  -a, --apply=SNAPSHOT    make a snapshot, by its id or name, the active state\n"
               "  -d, --delete=NAME       delete a snapshot\n"
               "  -f, --format=FORMAT     the image's format, probed if not given\n"
               "      --output=human|json how to print\n"
               "  -q, --quiet             print nothing but errors\n"
               "  -U, --force-share       read although another program writes to it\n",
    .short_opts = "la:c:d:f:qU",
    .long_opts = long_opts,
    .run = run,
};
