/* SPDX-License-Identifier: GPL-3.0-or-later */
/* release.c - which distribution a root holds, by its release files (parts.h).
 *
 * os-release and lsb-release say it in their own words. For the time before them, and where they keep the minor number
 * to themselves, there is a table of files that a distribution is known by: each has a line that begins the file, which
 * is the product's name, and in which the version stands somewhere. The first row that matches ends the search.
 */
#include <errno.h>
#include <stdlib.h>

#include "parts.h"

/* Words of ID= in os-release and of DISTRIB_ID= in lsb-release. */
struct word {
    const char *id, *distro;
};

static const struct word os_release_ids[] = {
    {"almalinux", "almalinux"},   {"alpine", "alpinelinux"},  {"altlinux", "altlinux"},
    {"arch", "archlinux"},        {"centos", "centos"},       {"circle", "circle"},
    {"coreos", "coreos"},         {"debian", "debian"},       {"fedora", "fedora"},
    {"frugalware", "frugalware"}, {"gentoo", "gentoo"},       {"kali", "kalilinux"},
    {"kylin", "kylin"},           {"linuxmint", "linuxmint"}, {"mageia", "mageia"},
    {"neokylin", "neokylin"},     {"ol", "oraclelinux"},      {"openEuler", "openeuler"},
    {"opensuse", "opensuse"},     {"pld", "pldlinux"},        {"rhel", "rhel"},
    {"rocky", "rocky"},           {"sled", "sles"},           {"sles", "sles"},
    {"ubuntu", "ubuntu"},         {"void", "voidlinux"},      {NULL, NULL},
};

static const struct word lsb_release_ids[] = {
    {"CoreOS", "coreos"}, {"LinuxMint", "linuxmint"}, {"MandrivaLinux", "mandriva"},
    {"Mageia", "mageia"}, {"Ubuntu", "ubuntu"},       {NULL, NULL},
};

static const char *distro_of(const struct word *words, struct span id) {
    for (; words->id; words++)
        if (span_is(id, words->id))
            return words->distro;
    return span_begins(id, "opensuse-") ? "opensuse" : NULL; /* -leap, -tumbleweed ... */
}

static void set_version(struct inspect_root *root, struct span text) {
    if (span_version(text, &root->major, &root->minor))
        root->versioned = true;
}

/* NeoKylin writes "V7Update6". */
static void set_version_id(struct inspect_root *root, struct span text) {
    unsigned major, minor;
    struct span rest = text;
    if (span_skip(&rest, "V") && span_number(&rest, &major) && span_skip(&rest, "Update") &&
        span_number(&rest, &minor)) {
        root->major = major;
        root->minor = minor;
        root->versioned = true;
        return;
    }
    set_version(root, text);
}

/* Takes the value over, without quotes. */
static int take(char **field, struct span value) {
    char *text = span_unquoted(value);
    if (!text)
        return -ENOMEM;
    free(*field);
    *field = text;
    return 0;
}

/* Distributions whose os-release has the major number alone. */
static bool hides_minor(const char *distro) {
    static const char *const names[] = {"centos", "circle", "debian", "rocky"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (span_is(span_of(distro), names[i]))
            return true;
    return false;
}

int release_read_os_release(struct span text, struct inspect_root *root, bool *complete) {
    struct span line, key, value;
    char *word = NULL;
    int ret = 0;
    while (ret == 0 && span_line(&text, &line)) {
        if (!span_assignment(line, &key, &value))
            continue;
        if (span_is(key, "PRETTY_NAME"))
            ret = take(&root->product_name, value);
        else if (span_is(key, "BUILD_ID"))
            ret = take(&root->build_id, value);
        else if (span_is(key, "ID") && (ret = take(&word, value)) == 0) {
            const char *distro = distro_of(os_release_ids, span_of(word));
            root->distro = distro ? distro : root->distro;
        } else if (span_is(key, "VERSION_ID") && (ret = take(&word, value)) == 0)
            set_version_id(root, span_of(word));
    }
    free(word);
    bool rolls = root->distro && span_is(span_of(root->distro), "voidlinux"); /* and never has a version */
    *complete = root->distro && root->product_name &&
                (rolls || (root->versioned && !(root->minor == 0 && hides_minor(root->distro))));
    return ret;
}

int release_read_lsb_release(struct span text, struct inspect_root *root, bool *complete) {
    struct span line, key, value;
    char *word = NULL;
    int ret = 0;
    *complete = false;
    while (ret == 0 && span_line(&text, &line)) {
        if (!span_assignment(line, &key, &value))
            continue;
        if (span_is(key, "DISTRIB_DESCRIPTION")) {
            ret = take(&root->product_name, value);
            *complete = true;
        } else if (span_is(key, "DISTRIB_ID") && (ret = take(&word, value)) == 0) {
            const char *distro = distro_of(lsb_release_ids, span_of(word));
            root->distro = distro ? distro : root->distro;
        } else if (span_is(key, "DISTRIB_RELEASE") && (ret = take(&word, value)) == 0)
            set_version(root, span_of(word));
    }
    free(word);
    *complete = *complete && root->distro;
    return ret;
}

/* "openSUSE 13.2 (x86_64)", then "VERSION = 13.2"; "SUSE Linux Enterprise Server 11 (x86_64)", "VERSION = 11",
 * "PATCHLEVEL = 3". */
int release_read_suse(struct span text, struct inspect_root *root, bool *complete) {
    struct span line, key, value, ignored;
    if (!span_line(&text, &line))
        return 0;
    if (!span_set(&root->product_name, line))
        return -ENOMEM;
    *complete = true;
    bool enterprise = span_behind(line, "Enterprise ", &ignored) || span_begins(line, "Novell Linux Desktop ");
    bool open = span_begins(line, "openSUSE ") || span_begins(line, "SuSE Linux ") || span_begins(line, "SUSE LINUX ");
    root->distro = enterprise ? "sles" : open ? "opensuse" : "suse-based";
    while (span_line(&text, &line)) {
        unsigned patch;
        if (!span_assignment(line, &key, &value))
            continue;
        if (span_is(key, "VERSION"))
            set_version(root, value);
        else if (enterprise && span_is(key, "PATCHLEVEL") && span_number(&value, &patch))
            root->minor = patch;
    }
    return 0;
}

/* Where the version stands in the line. */
enum version_place {
    ANYWHERE,
    BEHIND_RELEASE, /* "release 7.9", "release 4 (Nahant Update 5)" */
    NOWHERE,
};

struct rule {
    const char *path;
    const char *marker; /* must be in the first line; NULL: the file does, even if it is empty */
    const char *distro;
    enum version_place place;
    bool may_be_empty;
};

static const struct rule rules[] = {
    {"/etc/oracle-release", "Oracle Linux", "oraclelinux", BEHIND_RELEASE, false},
    {"/etc/centos-release", "CentOS", "centos", BEHIND_RELEASE, false},
    {"/etc/rocky-release", "Rocky", "rocky", BEHIND_RELEASE, false},
    {"/etc/circle-release", "Circle", "circle", BEHIND_RELEASE, false},
    {"/etc/almalinux-release", "AlmaLinux", "almalinux", BEHIND_RELEASE, false},
    {"/etc/altlinux-release", NULL, "altlinux", ANYWHERE, false},
    {"/etc/redhat-release", "Fedora", "fedora", BEHIND_RELEASE, false},
    {"/etc/redhat-release", "Red Hat", "rhel", BEHIND_RELEASE, false},
    {"/etc/redhat-release", "CentOS", "centos", BEHIND_RELEASE, false},
    {"/etc/redhat-release", "Rocky", "rocky", BEHIND_RELEASE, false},
    {"/etc/redhat-release", "Scientific Linux", "scientificlinux", BEHIND_RELEASE, false},
    {"/etc/redhat-release", NULL, "redhat-based", ANYWHERE, true},
    {"/etc/debian_version", NULL, "debian", ANYWHERE, false},
    {"/etc/pardus-release", NULL, "pardus", ANYWHERE, false},
    {"/etc/arch-release", NULL, "archlinux", NOWHERE, true},
    {"/etc/gentoo-release", NULL, "gentoo", ANYWHERE, false},
    {"/etc/meego-release", NULL, "meego", ANYWHERE, false},
    {"/etc/slackware-version", NULL, "slackware", ANYWHERE, false},
    {"/etc/ttylinux-target", NULL, "ttylinux", ANYWHERE, false},
    {"/etc/mandriva-release", NULL, "mandriva", ANYWHERE, false},
    {"/etc/cirros/version", NULL, "cirros", ANYWHERE, false},
    {"/etc/br-version", NULL, "buildroot", ANYWHERE, false},
    {"/etc/alpine-release", NULL, "alpinelinux", ANYWHERE, false},
    {"/etc/frugalware-release", "Frugalware", "frugalware", ANYWHERE, false},
    {"/etc/pld-release", "PLD Linux", "pldlinux", ANYWHERE, false},
};

/* False: there is no version where one must be. */
static bool version_behind_release(struct span line, struct inspect_root *root) {
    struct span rest;
    unsigned major, minor = 0;
    if (!span_behind(line, "release ", &rest) || !span_number(&rest, &major))
        return false;
    struct span update;
    if (span_behind(rest, "Update ", &update))
        (void)span_number(&update, &minor);
    else if (span_skip(&rest, "."))
        (void)span_number(&rest, &minor);
    root->major = major;
    root->minor = minor;
    root->versioned = true;
    return true;
}

/* 1: the rule held. */
static int apply(const struct rule *rule, struct span text, struct inspect_root *root) {
    struct span line, ignored;
    if (!span_line(&text, &line) || line.length == 0) {
        if (rule->may_be_empty)
            root->distro = rule->distro;
        return rule->may_be_empty;
    }
    if (rule->marker && !span_behind(line, rule->marker, &ignored))
        return 0;
    if (rule->place == BEHIND_RELEASE && !version_behind_release(line, root))
        return 0;
    if (rule->place == ANYWHERE)
        set_version(root, line);
    if (rule->place != NOWHERE && !span_set(&root->product_name, line))
        return -ENOMEM;
    root->distro = rule->distro;
    return 1;
}

static int apply_rules(struct guest *guest, struct inspect_root *root) {
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        struct span text;
        char *content = look_text(guest, rules[i].path, &text);
        if (!content)
            continue;
        int ret = apply(&rules[i], text, root);
        free(content);
        if (ret != 0)
            return ret < 0 ? ret : 0;
    }
    return 0;
}

typedef int (*reader)(struct span text, struct inspect_root *root, bool *complete);

static int read_with(struct guest *guest, const char *path, reader read, struct inspect_root *root, bool *complete) {
    struct span text;
    char *content = *complete ? NULL : look_text(guest, path, &text);
    if (!content)
        return 0;
    int ret = read(text, root, complete);
    free(content);
    return ret;
}

static int first_line_of(struct guest *guest, const char *path, struct inspect_root *root) {
    struct rule rule = {.distro = root->distro, .place = ANYWHERE};
    struct span text;
    char *content = look_text(guest, path, &text);
    int ret = content ? apply(&rule, text, root) : 0;
    free(content);
    return ret < 0 ? ret : 0;
}

static int release_of_linux(struct guest *guest, struct inspect_root *root) {
    bool complete = false;
    int ret = read_with(guest, "/etc/os-release", release_read_os_release, root, &complete);
    if (ret == 0 && !complete && !look_is_file(guest, "/etc/os-release"))
        ret = read_with(guest, "/usr/lib/os-release", release_read_os_release, root, &complete);
    if (ret == 0)
        ret = read_with(guest, "/etc/lsb-release", release_read_lsb_release, root, &complete);
    if (ret == 0)
        ret = read_with(guest, "/etc/SuSE-release", release_read_suse, root, &complete);
    if (ret < 0 || complete)
        return ret;
    ret = apply_rules(guest, root);
    if (ret == 0 && root->distro && span_is(span_of(root->distro), "buildroot") &&
        look_is_file(guest, "/usr/share/cirros/logo"))
        root->distro = "cirros";
    return ret;
}

int inspect_release(struct guest *guest, struct inspect_root *root) {
    struct span type = span_of(root->type);
    if (span_is(type, "linux") || span_is(type, "hurd"))
        return release_of_linux(guest, root);
    if (span_is(type, "netbsd"))
        return first_line_of(guest, "/etc/release", root);
    if (span_is(type, "freebsd") || span_is(type, "openbsd"))
        return first_line_of(guest, "/etc/motd", root);
    if (span_is(type, "minix"))
        return first_line_of(guest, "/etc/version", root);
    return 0;
}
