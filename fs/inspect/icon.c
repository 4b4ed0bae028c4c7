/* SPDX-License-Identifier: GPL-3.0-or-later */
/* icon.c - a picture that stands for a guest's system: a small PNG at a place that its distribution is known for. */
#include <stdlib.h>
#include <string.h>

#include "parts.h"

#define ICON_MAX (256u << 10)

static const struct {
    const char *distro; /* NULL: any */
    const char *path;
} icons[] = {
    {NULL, "/etc/favicon.png"},
    {"fedora", "/usr/share/icons/hicolor/96x96/apps/fedora-logo-icon.png"},
    {"centos", "/usr/share/icons/hicolor/96x96/apps/fedora-logo-icon.png"},
    {"rhel", "/usr/share/pixmaps/redhat/shadowman-transparent.png"},
    {"debian", "/usr/share/pixmaps/debian-logo.png"},
    {"ubuntu", "/usr/share/icons/gnome/24x24/places/ubuntu-logo.png"},
    {"mageia", "/usr/share/icons/mageia.png"},
    {"opensuse", "/usr/share/icons/hicolor/24x24/apps/distributor.png"},
    {"voidlinux", "/usr/share/void-artwork/void-logo.png"},
};

bool inspect_icon(struct guest *guest, const struct inspect_root *root, uint8_t **bytes, size_t *length) {
    for (size_t i = 0; i < sizeof(icons) / sizeof(icons[0]); i++) {
        char *content;
        if (icons[i].distro && (!root->distro || strcmp(icons[i].distro, root->distro) != 0))
            continue;
        if (guest_read_small(guest, icons[i].path, ICON_MAX, &content, length, NULL) < 0)
            continue;
        if (*length > 8 && memcmp(content, "\x89PNG\r\n\x1a\n", 8) == 0) {
            *bytes = (uint8_t *)content;
            return true;
        }
        free(content);
    }
    return false;
}
