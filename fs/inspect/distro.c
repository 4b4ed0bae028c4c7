/* SPDX-License-Identifier: GPL-3.0-or-later */
/* distro.c - what follows from a distribution and its version: how packages are kept and managed, what libosinfo calls
 * it. Tables, whose rows are taken from the top. */
#include <stdio.h>
#include <string.h>

#include "parts.h"

static const struct packaging {
    const char *distro;
    unsigned major; /* from this version on */
    const char *format, *management;
} packaging[] = {
    {"fedora", 22, "rpm", "dnf"},
    {"fedora", 1, "rpm", "yum"},
    {"fedora", 0, "rpm", NULL},
    {"meego", 0, "rpm", "yum"},
    {"neokylin", 0, "rpm", "dnf"},
    {"openeuler", 0, "rpm", "dnf"},
    {"almalinux", 0, "rpm", "dnf"},
    {"circle", 0, "rpm", "dnf"},
    {"rocky", 0, "rpm", "dnf"},
    {"centos", 8, "rpm", "dnf"},
    {"centos", 5, "rpm", "yum"},
    {"centos", 2, "rpm", "up2date"},
    {"centos", 0, "rpm", NULL},
    {"oraclelinux", 8, "rpm", "dnf"},
    {"oraclelinux", 5, "rpm", "yum"},
    {"oraclelinux", 2, "rpm", "up2date"},
    {"oraclelinux", 0, "rpm", NULL},
    {"rhel", 8, "rpm", "dnf"},
    {"rhel", 5, "rpm", "yum"},
    {"rhel", 2, "rpm", "up2date"},
    {"rhel", 0, "rpm", NULL},
    {"scientificlinux", 8, "rpm", "dnf"},
    {"scientificlinux", 5, "rpm", "yum"},
    {"scientificlinux", 0, "rpm", NULL},
    {"redhat-based", 8, "rpm", "dnf"},
    {"redhat-based", 5, "rpm", "yum"},
    {"redhat-based", 2, "rpm", "up2date"},
    {"redhat-based", 0, "rpm", NULL},
    {"mageia", 0, "rpm", "urpmi"},
    {"mandriva", 0, "rpm", "urpmi"},
    {"opensuse", 0, "rpm", "zypper"},
    {"sles", 0, "rpm", "zypper"},
    {"suse-based", 0, "rpm", "zypper"},
    {"altlinux", 0, "rpm", "apt"},
    {"debian", 0, "deb", "apt"},
    {"kalilinux", 0, "deb", "apt"},
    {"kylin", 0, "deb", "apt"},
    {"linuxmint", 0, "deb", "apt"},
    {"ubuntu", 0, "deb", "apt"},
    {"archlinux", 0, "pacman", "pacman"},
    {"gentoo", 0, "ebuild", "portage"},
    {"pardus", 0, "pisi", "pisi"},
    {"alpinelinux", 0, "apk", "apk"},
    {"voidlinux", 0, "xbps", "xbps"},
};

static void find_packaging(struct inspect_root *root) {
    for (size_t i = 0; i < sizeof(packaging) / sizeof(packaging[0]); i++)
        if (strcmp(packaging[i].distro, root->distro) == 0 && root->major >= packaging[i].major) {
            root->package_format = packaging[i].format;
            root->package_management = packaging[i].management;
            return;
        }
}

/* How libosinfo writes the version behind the name. */
enum osinfo_form {
    NAME,           /* "archlinux" */
    MAJOR,          /* "debian12" */
    MAJOR_ZERO,     /* "centos7.0", whatever the minor is */
    MAJOR_MINOR,    /* "rhel8.4" */
    MAJOR_MINOR_02, /* "ubuntu24.04" */
    MAJOR_SP,       /* "sles15sp3", "sles15" */
};

static const struct {
    const char *distro;
    unsigned major; /* from this version on */
    const char *name;
    enum osinfo_form form;
} osinfo[] = {
    {"centos", 8, "centos", MAJOR},       {"centos", 7, "centos", MAJOR_ZERO},
    {"circle", 8, "circle", MAJOR},       {"rocky", 8, "rocky", MAJOR},
    {"almalinux", 8, "almalinux", MAJOR}, {"debian", 4, "debian", MAJOR},
    {"fedora", 0, "fedora", MAJOR},       {"mageia", 0, "mageia", MAJOR},
    {"sles", 0, "sles", MAJOR_SP},        {"ubuntu", 0, "ubuntu", MAJOR_MINOR_02},
    {"archlinux", 0, "archlinux", NAME},  {"gentoo", 0, "gentoo", NAME},
    {"voidlinux", 0, "voidlinux", NAME},  {"altlinux", 8, "alt", MAJOR_MINOR},
};

static void write_osinfo(struct inspect_root *root, const char *name, enum osinfo_form form) {
    char *text = root->osinfo;
    size_t room = sizeof(root->osinfo);
    switch (form) {
    case NAME:
        snprintf(text, room, "%s", name);
        break;
    case MAJOR:
        snprintf(text, room, "%s%u", name, root->major);
        break;
    case MAJOR_ZERO:
        snprintf(text, room, "%s%u.0", name, root->major);
        break;
    case MAJOR_MINOR:
        snprintf(text, room, "%s%u.%u", name, root->major, root->minor);
        break;
    case MAJOR_MINOR_02:
        snprintf(text, room, "%s%u.%02u", name, root->major, root->minor);
        break;
    case MAJOR_SP:
        if (root->minor == 0)
            snprintf(text, room, "%s%u", name, root->major);
        else
            snprintf(text, room, "%s%usp%u", name, root->major, root->minor);
        break;
    }
}

static void find_osinfo(struct inspect_root *root) {
    for (size_t i = 0; i < sizeof(osinfo) / sizeof(osinfo[0]); i++)
        if (strcmp(osinfo[i].distro, root->distro) == 0 && root->major >= osinfo[i].major) {
            write_osinfo(root, osinfo[i].name, osinfo[i].form);
            return;
        }
    if (strcmp(root->distro, "msdos") == 0)
        snprintf(root->osinfo, sizeof(root->osinfo), "msdos6.22");
    else if (root->major > 0 || root->minor > 0)
        write_osinfo(root, root->distro, MAJOR_MINOR);
}

void inspect_distro(struct guest *guest, struct inspect_root *root) {
    if (!root->distro)
        return;
    find_packaging(root);
    if (strcmp(root->distro, "fedora") == 0 && root->major >= 22 && !look_is_file(guest, "/usr/bin/dnf") &&
        !look_is_file(guest, "/usr/bin/dnf5"))
        root->package_management = "yum";
    if (strcmp(root->type, "windows") != 0)
        find_osinfo(root);
}
