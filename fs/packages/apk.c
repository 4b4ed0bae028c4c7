/* SPDX-License-Identifier: GPL-3.0-or-later */
/* apk.c - packages of Alpine Linux: paragraphs of lines that begin with a letter and a colon. */
#include <stdlib.h>

#include "packages.h"

static int end_paragraph(struct package_draft *draft, bool bad, struct packages *packages, struct img_error *err) {
    int ret = 0;
    if (!bad && draft->fields[PACKAGE_NAME].length > 0 && draft->fields[PACKAGE_VERSION].length > 0)
        ret = packages_add(packages, draft, err);
    *draft = (struct package_draft){0};
    return ret;
}

static bool read_version(struct package_draft *draft, struct span text) {
    if (!package_set_version(draft, text))
        return false;
    (void)span_skip(&draft->fields[PACKAGE_RELEASE], "r"); /* "1.2.3-r0" */
    return true;
}

int apk_read_installed(struct span text, struct packages *packages, struct img_error *err) {
    struct package_draft draft = {0};
    struct span line;
    bool bad = false;
    int ret = 0;
    while (ret == 0 && span_line(&text, &line)) {
        if (line.length == 0) {
            ret = end_paragraph(&draft, bad, packages, err);
            bad = false;
        } else if (span_skip(&line, "P:"))
            draft.fields[PACKAGE_NAME] = line;
        else if (span_skip(&line, "V:"))
            bad = !read_version(&draft, line);
        else if (span_skip(&line, "A:"))
            draft.fields[PACKAGE_ARCH] = line;
        else if (span_skip(&line, "U:"))
            draft.fields[PACKAGE_URL] = line;
        else if (span_skip(&line, "T:"))
            draft.fields[PACKAGE_DESCRIPTION] = line;
        else if (span_skip(&line, "o:"))
            draft.fields[PACKAGE_SOURCE] = line;
    }
    return ret == 0 ? end_paragraph(&draft, bad, packages, err) : ret;
}

static int list(struct guest *guest, struct packages *packages, struct img_error *err) {
    char *content;
    size_t length;
    int ret = guest_read_small(guest, "/lib/apk/db/installed", PACKAGES_TEXT_MAX, &content, &length, err);
    if (ret < 0)
        return ret;
    ret = apk_read_installed((struct span){content, length}, packages, err);
    free(content);
    return ret;
}

const struct package_format apk_format = {.name = "apk", .list = list};
