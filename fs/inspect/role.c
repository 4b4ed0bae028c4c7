/* SPDX-License-Identifier: GPL-3.0-or-later */
/* role.c - what a filesystem is to its guest: a root, its /usr, or something else. Told by files and directories that
 * must be there, in an order in which the first match is the right one: a /boot also has files that look like others.
 */
#include <stdlib.h>

#include "parts.h"

/* Paths: "d/etc" a directory, "f/etc/fstab" a file, "!" in front of it: must not be there. */
struct sign {
    enum role role;
    const char *type, *distro;
    const char *paths[6];
};

static const struct sign signs[] = {
    {ROLE_OTHER, NULL, NULL, {"f/grub/menu.lst"}},
    {ROLE_OTHER, NULL, NULL, {"f/grub/grub.conf"}},
    {ROLE_OTHER, NULL, NULL, {"f/grub2/grub.cfg"}},
    {ROLE_ROOT, "freebsd", "freebsd", {"d/etc", "d/bin", "f/etc/freebsd-update.conf", "f/etc/fstab"}},
    {ROLE_ROOT, "netbsd", "netbsd", {"d/etc", "d/bin", "f/netbsd", "f/etc/fstab", "f/etc/release"}},
    {ROLE_ROOT, "openbsd", "openbsd", {"d/etc", "d/bin", "f/bsd", "f/etc/fstab", "f/etc/motd"}},
    {ROLE_ROOT, "hurd", NULL, {"f/hurd/console", "f/hurd/hello", "f/hurd/null"}},
    {ROLE_ROOT, "minix", NULL, {"d/etc", "d/bin", "f/service/vm", "f/etc/fstab", "f/etc/version"}},
    {ROLE_ROOT, "linux", NULL, {"d/etc", "b/bin", "f/etc/fstab"}},
    {ROLE_ROOT, "linux", NULL, {"d/etc", "b/bin", "f/etc/hosts"}},
    {ROLE_ROOT, "linux", "coreos", {"d/etc", "d/root", "d/home", "d/usr", "f/etc/coreos/update.conf"}},
    {ROLE_OTHER, NULL, NULL, {"d/etc", "d/bin", "d/share", "!d/local", "!f/etc/fstab"}}, /* /usr/local */
    {ROLE_USR, "linux", NULL, {"d/bin", "d/share", "d/local", "d/lib", "!f/etc/fstab"}},
    {ROLE_OTHER, NULL, NULL, {"d/log", "d/run", "d/spool"}}, /* /var */
};

/* /bin, as a directory or as the link that takes its place where programs are in /usr alone. */
static bool has_bin(struct guest *guest) {
    return look_is_dir(guest, "/bin") || look_is_link_to(guest, "/bin", "usr/bin") ||
           look_is_link_to(guest, "/bin", "/usr/bin");
}

static bool holds(struct guest *guest, const char *path) {
    if (path[0] == '!')
        return !holds(guest, path + 1);
    if (path[0] == 'b')
        return has_bin(guest);
    return path[0] == 'd' ? look_is_dir(guest, path + 1) : look_is_file(guest, path + 1);
}

static bool matches(struct guest *guest, const struct sign *sign) {
    for (size_t i = 0; i < sizeof(sign->paths) / sizeof(sign->paths[0]) && sign->paths[i]; i++)
        if (!holds(guest, sign->paths[i]))
            return false;
    return true;
}

static bool is_there_without_case(struct guest *guest, const char *path) {
    char *found = look_without_case(guest, path);
    bool file = found && look_is_file(guest, found);
    free(found);
    return file;
}

static enum role role_of_dos(struct guest *guest, struct inspect_root *root) {
    if (windows_find_root(guest, &root->windows_systemroot)) {
        root->type = root->distro = "windows";
        return ROLE_ROOT;
    }
    if (is_there_without_case(guest, "/fdos/freedos.bss"))
        root->distro = "freedos";
    else if (is_there_without_case(guest, "/dos/command.com"))
        root->distro = "msdos";
    else
        return ROLE_OTHER;
    root->type = "dos";
    root->arch = "i386";
    return ROLE_ROOT;
}

enum role inspect_role(struct guest *guest, struct inspect_root *root) {
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
        if (matches(guest, &signs[i])) {
            root->type = signs[i].type;
            root->distro = signs[i].distro;
            return signs[i].role;
        }
    return role_of_dos(guest, root);
}
