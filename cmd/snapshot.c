/* SPDX-License-Identifier: GPL-3.0-or-later */
/* snapshot.c - `img snapshot`: internal snapshots are listed, made, applied and deleted.
 *
 * With options it is qemu-img's command: -l lists (and is what happens without any), -c makes, -a applies, -d deletes,
 * one of them at a time. A word in front of the file's name is a verb of our own, which looks and changes nothing
 * (snapshot_show.c); as qemu-img takes one name alone, the two cannot be confused.
 */
#include "snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "describe.h"
#include "json.h"
#include "report.h"

static const struct option long_opts[] = {
    {"list", no_argument, NULL, 'l'},
    {"apply", required_argument, NULL, 'a'},
    {"create", required_argument, NULL, 'c'},
    {"delete", required_argument, NULL, 'd'},
    {"format", required_argument, NULL, 'f'},
    {"quiet", no_argument, NULL, 'q'},
    {"force-share", no_argument, NULL, 'U'},
    {"output", required_argument, NULL, OPT_OUTPUT},
    OPTIONS_KEYS,
    OPTION_IMAGE_OPTS,
    OPTIONS_END,
};

struct img *snapshot_open(const struct snapshot_args *a, uint32_t flags) {
    struct img_open_options options = {
        .flags = flags | (a->common.force_share ? IMG_OPEN_FORCE_SHARE : 0),
        .format = a->format,
    };
    return open_image(a->file, &options);
}

static int list(const struct snapshot_args *a) {
    struct img_error err = {0};
    struct img_info info;
    struct img *image = snapshot_open(a, IMG_OPEN_INFO);
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

/* ---- changes ---- */

/* The id of the first snapshot of that name, to be freed: -d takes no id, as in qemu-img. NULL: there is none. */
static char *id_by_name(struct img *image, const char *name) {
    struct img_info info;
    if (img_info(image, &info, NULL) < 0)
        return NULL;
    for (size_t i = 0; i < info.nsnapshots; i++)
        if (strcmp(info.snapshots[i].name, name) == 0)
            return text_copy(info.snapshots[i].id);
    return NULL;
}

/* qemu-img tells a number; the sentence behind it says more where there is more to say. */
static int create(const struct snapshot_args *a, struct img *image) {
    struct img_error err = {0};
    int r = img_snapshot_create(image, a->name, NULL, &err);
    if (r < 0)
        report("Could not create snapshot '%s': %d (%s)", a->name, r, strerror(-r));
    if (r < 0 && r != -ENOTSUP)
        report("%s", err.text);
    return r;
}

static int apply(const struct snapshot_args *a, struct img *image) {
    struct img_error err = {0};
    int r = img_snapshot_apply(image, a->name, &err);
    if (r == -ENOENT)
        report("Could not apply snapshot '%s': Failed to load snapshot: No such file or directory", a->name);
    else if (r == -ENOTSUP && strcmp(img_format(image), "qcow2") != 0)
        report("Could not apply snapshot '%s': Block driver does not support snapshots", a->name);
    else if (r < 0)
        report_image_error(&err, "Could not apply snapshot '%s'", a->name);
    return r;
}

static int delete_by_name(const struct snapshot_args *a, struct img *image) {
    struct img_error err = {0};
    char *id = id_by_name(image, a->name);
    if (!id) {
        report("Could not delete snapshot '%s': snapshot not found", a->name);
        return -ENOENT;
    }
    int r = img_snapshot_delete(image, id, &err);
    if (r < 0)
        report_image_error(&err, "Could not delete snapshot '%s'", a->name);
    free(id);
    return r;
}

/* What is there now. */
static void print_result(const struct snapshot_args *a, struct img *image) {
    struct img_info info;
    if (a->common.output == OUTPUT_JSON && !a->common.quiet && img_info(image, &info, NULL) == 0)
        json_print(describe_snapshots_json(&info));
}

static int change(const struct snapshot_args *a) {
    struct img_error err = {0};
    struct img *image = snapshot_open(a, IMG_OPEN_WRITE);
    if (!image)
        return EXIT_FAILURE;
    int r = a->action == 'c' ? create(a, image) : a->action == 'a' ? apply(a, image) : delete_by_name(a, image);
    if (r == 0)
        print_result(a, image);
    if (img_close(image, &err) < 0 && r == 0) {
        report_image_error(&err, "Could not close '%s'", a->file);
        r = err.code;
    }
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- the command line ---- */

static void set_action(struct snapshot_args *a, int action, const char *name) {
    if (a->action)
        usage_error("Cannot mix '-l', '-a', '-c', '-d'");
    a->action = action;
    a->name = name;
}

static void take_names(struct snapshot_args *a, int argc, char **argv) {
    int n = argc - optind;
    if (n > 1 && !a->action && snapshot_is_verb(argv[optind])) {
        a->verb = argv[optind++];
        n--;
    }
    if (n < 1 || (n > 1 && !a->verb))
        usage_error("Expecting one image file name");
    a->file = argv[optind];
    a->rest = argv + optind + 1;
    a->nrest = n - 1;
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
    take_names(&a, argc, argv);
    if (a.verb)
        return snapshot_show(&a);
    return a.action == 0 || a.action == 'l' ? list(&a) : change(&a);
}

const struct command snapshot_command = {
    .name = "snapshot",
    .summary = "list, make, apply, delete and compare internal snapshots",
    .usage = "[-f FORMAT] [-l | -a SNAPSHOT | -c NAME | -d NAME] [-q] [-U] [--output=human|json] [--object=SECRET] "
             "[--key=ID] [--key-file=PATH] FILE\n"
             "       or: info FILE [SNAPSHOT] | current FILE | parent FILE SNAPSHOT | tree FILE | diff FILE A [B]",
    .options = "  -l, --list              list the snapshots [this, if no other is given]\n"
               "  -c, --create=NAME       make a snapshot of the active state\n"
               "  -a, --apply=SNAPSHOT    make a snapshot, by its id or name, the active state\n"
               "  -d, --delete=NAME       delete a snapshot\n"
               "  -f, --format=FORMAT     the image's format, probed if not given\n"
               "      --output=human|json how to print\n"
               "  -q, --quiet             print nothing but errors\n"
               "  -U, --force-share       read although another program writes to it\n" HELP_IMAGE_OPTS HELP_KEYS,
    .short_opts = "la:c:d:f:qU",
    .long_opts = long_opts,
    .run = run,
};
