/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fstab.c - what a root mounts where: the lines of its /etc/fstab whose device is found among the volumes (device.c).
 *
 * Left out are lines whose device is not here, removable drives, and what no system would be looked for in: mount
 * points under /dev, /media, /proc, /selinux and /sys. Of lines with one mount point the first counts. "/" is always
 * the volume that the file was read from: a line that names another one came along with a copy.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../error.h"
#include "parts.h"

#define LINES_MAX 1024         /* of fstab that are looked at */
#define OTHERS_MAX (64u << 10) /* bytes of crypttab and mdadm.conf: each line of fstab may walk over one of them */

void fstab_canonical(char *path) {
    char *out = path;
    for (const char *in = path; *in; in++)
        if (*in != '/' || out == path || out[-1] != '/')
            *out++ = *in;
    if (out - path > 1 && out[-1] == '/')
        out--;
    *out = '\0';
}

/* A field of the file: blanks in it are written as \040. */
static char *unescaped(struct span field) {
    char *copy = span_copy(field), *out = copy;
    if (!copy)
        return NULL;
    for (const char *in = copy; *in; in++) {
        if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] >= '0' && in[2] <= '7' && in[3] >= '0' &&
            in[3] <= '7') {
            *out++ = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
            in += 3;
        } else
            *out++ = *in;
    }
    *out = '\0';
    return copy;
}

static bool is_below(const char *path, const char *folder) {
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static bool is_ignored(const char *path) {
    return is_below(path, "/dev") || strncmp(path, "/media/", 7) == 0 || is_below(path, "/proc") ||
           is_below(path, "/selinux") || is_below(path, "/sys");
}

static bool is_removable(const char *device) {
    static const char *const names[] = {"/dev/fd", "/dev/cd", "/dev/sr", "/dev/iso9660/", "/dev/floppy"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strncmp(device, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

static bool is_mounted(const struct inspect_root *root, const char *path) {
    for (size_t i = 0; i < root->nmounts; i++)
        if (path[0] == '/' && strcmp(root->mounts[i].path, path) == 0)
            return true;
    return false;
}

/* Takes `path` over. */
static int add_mount(struct inspect_root *root, char *path, struct volume *volume) {
    struct inspect_mount *mounts = NULL;
    if (path)
        mounts = realloc(root->mounts, (root->nmounts + 1) * sizeof(mounts[0]));
    if (!mounts) {
        free(path);
        return -ENOMEM;
    }
    root->mounts = mounts;
    mounts[root->nmounts++] = (struct inspect_mount){path, volume};
    return 0;
}

static int read_line(const struct fstab_files *files, const struct volumes *volumes, struct inspect_root *root,
                     struct span line) {
    struct span device_word, path_word;
    if (!span_word(&line, &device_word) || device_word.at[0] == '#' || !span_word(&line, &path_word))
        return 0;
    char *device = unescaped(device_word), *path = unescaped(path_word);
    if (!device || !path) {
        free(device);
        free(path);
        return -ENOMEM;
    }
    fstab_canonical(path);
    struct volume *volume = NULL;
    if (!is_removable(device) && !is_ignored(path) && !is_mounted(root, path))
        volume = fstab_device(files, volumes, root, device);
    free(device);
    if (volume)
        return add_mount(root, path, volume);
    free(path);
    return 0;
}

static struct span front_of(struct span text) {
    return (struct span){text.at, text.length < OTHERS_MAX ? text.length : OTHERS_MAX};
}

int fstab_read(const struct fstab_files *files, const struct volumes *volumes, struct inspect_root *root) {
    const struct fstab_files bounded = {files->fstab, front_of(files->crypttab), front_of(files->mdadm)};
    struct span text = files->fstab, line;
    int ret = add_mount(root, strdup("/"), root->volume);
    for (unsigned lines = 0; ret == 0 && lines < LINES_MAX && span_line(&text, &line); lines++)
        ret = read_line(&bounded, volumes, root, line);
    return ret;
}

int inspect_fstab(struct guest *guest, struct volumes *volumes, struct inspect_root *root, struct img_error *err) {
    struct fstab_files files = {0};
    char *fstab = look_text(guest, "/etc/fstab", &files.fstab);
    char *crypttab = look_text(guest, "/etc/crypttab", &files.crypttab);
    char *mdadm = look_text(guest, "/etc/mdadm.conf", &files.mdadm);
    if (!mdadm)
        mdadm = look_text(guest, "/etc/mdadm/mdadm.conf", &files.mdadm);
    int ret = fstab_read(&files, volumes, root);
    free(fstab);
    free(crypttab);
    free(mdadm);
    return ret < 0 ? fail(err, ret, "Out of memory") : 0;
}
