/* SPDX-License-Identifier: GPL-3.0-or-later */
/* inspect.c - `img inspect`, virt-inspector: which systems a guest's disks hold, what these mount, what is installed.
 *
 * What cannot be read costs its part of the answer and a sentence on stderr; the rest is printed.
 */
#include "inspect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest.h"
#include "report.h"

enum {
    OPT_NO_APPLICATIONS = OPT_GUEST_FIRST_FREE,
    OPT_NO_ICON,
    OPT_XPATH,
};

static const struct option long_opts[] = {
    GUEST_LONG,
    GUEST_LONG_OUTPUT,
    {"no-applications", no_argument, NULL, OPT_NO_APPLICATIONS},
    {"no-icon", no_argument, NULL, OPT_NO_ICON},
    {"xpath", required_argument, NULL, OPT_XPATH},
    GUEST_LONG_END,
};

struct inspector {
    struct guest_options options;
    bool no_applications, no_icon;
    const char *xpath;
    struct xml xml;
    json_t *json; /* NULL: XML */
};

static int by_path(const void *a, const void *b) {
    return strcmp((*(const struct inspect_mount *const *)a)->path, (*(const struct inspect_mount *const *)b)->path);
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const struct volume *const *)a)->name, (*(const struct volume *const *)b)->name);
}

static void sort_mounts(struct shown_root *shown) {
    const struct inspect_root *root = shown->root;
    shown->mounts = memory(root->nmounts, sizeof(shown->mounts[0]));
    for (size_t i = 0; i < root->nmounts; i++)
        if (root->mounts[i].path[0] == '/')
            shown->mounts[shown->nmounts++] = &root->mounts[i];
    qsort(shown->mounts, shown->nmounts, sizeof(shown->mounts[0]), by_path);
}

static void sort_filesystems(struct shown_root *shown) {
    const struct inspect_root *root = shown->root;
    size_t kept = 0;
    shown->filesystems = memory(root->nmounts, sizeof(shown->filesystems[0]));
    for (size_t i = 0; i < root->nmounts; i++)
        shown->filesystems[i] = root->mounts[i].volume;
    qsort(shown->filesystems, root->nmounts, sizeof(shown->filesystems[0]), by_name);
    for (size_t i = 0; i < root->nmounts; i++)
        if (kept == 0 || shown->filesystems[kept - 1] != shown->filesystems[i])
            shown->filesystems[kept++] = shown->filesystems[i];
    shown->nfilesystems = kept;
}

static void warn(void *opaque, const char *sentence) {
    (void)opaque;
    report("%s", sentence);
}

static char *encode_base64(const uint8_t *bytes, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *text = memory(length / 3 + 1, 4 + 1), *out = text;
    for (size_t i = 0; i < length; i += 3) {
        uint32_t group = (uint32_t)bytes[i] << 16 | (i + 1 < length ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (i + 2 < length ? bytes[i + 2] : 0);
        for (unsigned d = 0; d < 4; d++)
            *out++ = i + d <= length ? digits[group >> (18 - 6 * d) & 63] : '=';
    }
    *out = '\0';
    return text;
}

/* What is read of the mounted guest. */
static void read_contents(const struct inspector *inspector, struct guest *guest, struct shown_root *shown,
                          struct packages *packages) {
    struct img_error err = {0};
    if (!inspector->no_applications && shown->root->package_format &&
        packages_list(guest, shown->root->package_format, packages, &err) < 0)
        report("%s: the list of applications is not complete: %s", shown->root->volume->name, err.text);
    uint8_t *icon;
    size_t length;
    if (!inspector->no_icon && inspect_icon(guest, shown->root, &icon, &length)) {
        shown->icon = encode_base64(icon, length);
        free(icon);
    }
}

static void show_root(struct inspector *inspector, struct volumes *volumes, const struct inspect_root *root) {
    struct shown_root shown = {.root = root};
    struct packages packages = {0};
    struct img_error err = {0};
    struct guest *guest;
    sort_mounts(&shown);
    sort_filesystems(&shown);
    if (inspect_mount(root, volumes, NULL, warn, NULL, &guest, &err) == 0) {
        report_warnings(guest);
        read_contents(inspector, guest, &shown, &packages);
        guest_close(guest);
    } else
        report_guest_error(&err);
    shown.packages = inspector->no_applications ? NULL : &packages;
    if (inspector->json)
        json_add(inspector->json, root_as_json(&shown));
    else
        print_root_xml(&inspector->xml, &shown);
    packages_free(&packages);
    free(shown.mounts);
    free(shown.filesystems);
    free(shown.icon);
}

static bool show_all(struct inspector *inspector, const struct session *session) {
    struct inspection *inspection;
    struct img_error err = {0};
    if (inspect(session->volumes, &inspection, &err) < 0) {
        report_guest_error(&err);
        return false;
    }
    bool wonder = inspection->nroots == 0 || inspector->options.verbose;
    for (size_t i = 0; wonder && i < inspection->nmessages; i++)
        report("%s", inspection->messages[i]);
    if (inspector->options.output == OUTPUT_JSON)
        inspector->json = json_new_array();
    else {
        xml_start(&inspector->xml, stdout);
        xml_begin(&inspector->xml, "operatingsystems");
    }
    for (size_t i = 0; i < inspection->nroots; i++)
        show_root(inspector, session->volumes, &inspection->roots[i]);
    if (inspector->json)
        json_print(inspector->json);
    else
        xml_end(&inspector->xml);
    inspect_free(inspection);
    return true;
}

static bool parse_option(int opt, struct inspector *inspector) {
    switch (opt) {
    case OPT_NO_APPLICATIONS:
        inspector->no_applications = true;
        return true;
    case OPT_NO_ICON:
        inspector->no_icon = true;
        return true;
    case OPT_XPATH:
        inspector->xpath = optarg;
        return true;
    default:
        return guest_option(opt, &inspector->options);
    }
}

static int run(int argc, char **argv) {
    struct inspector inspector = {0};
    int opt;
    while ((opt = next_option(&inspect_command, argc, argv)) != -1)
        if (!parse_option(opt, &inspector))
            return EXIT_FAILURE;
    if (!guest_old_style(&inspector.options, argc, argv, 0))
        return EXIT_FAILURE;
    if (optind < argc)
        usage_error("Unexpected argument '%s'", argv[optind]);
    if (inspector.xpath)
        return print_xpath(inspector.xpath);
    struct session *session = session_open(&inspector.options, SESSION_VOLUMES);
    if (!session)
        return EXIT_FAILURE;
    bool good = show_all(&inspector, session);
    session_close(session);
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}

const struct command inspect_command = {
    .name = "inspect",
    .summary = "show which system is inside a disk, and what is installed",
    .usage = GUEST_USAGE " [OPTION...] | --xpath=EXPRESSION",
    .options = "      --no-applications   without what is installed\n"
               "      --no-icon           without the system's icon\n"
               "      --xpath=EXPRESSION  evaluate an XPath expression on such XML from the standard input\n"
               "Which guest:\n" GUEST_HELP "      --output=human|json XML, or JSON\n",
    .short_opts = GUEST_SHORT,
    .long_opts = long_opts,
    .run = run,
};
