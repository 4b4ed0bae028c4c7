/* SPDX-License-Identifier: GPL-3.0-or-later */
/* parts.h - the parts of an inspection, each of one file. They see a guest that has the root mounted, or plain text,
 * and fill in what they find of a root; what they do not find they leave alone. Negative returns are -ENOMEM. */
#ifndef FS_INSPECT_PARTS_H
#define FS_INSPECT_PARTS_H

#include "../text.h"
#include "inspect.h"

#define INSPECT_TEXT_MAX (1u << 20) /* bytes of a text file that is looked at */

/* What a filesystem is to its guest (role.c). */
enum role {
    ROLE_OTHER,
    ROLE_ROOT,
    ROLE_USR,
};
/* `root` gets its type, and its distro where the role says it all. */
enum role inspect_role(struct guest *guest, struct inspect_root *root);

/* Release files: distro, product name, version (release.c). */
int inspect_release(struct guest *guest, struct inspect_root *root);
/* The text of one file; `complete`: nothing else has to be asked. */
int release_read_os_release(struct span text, struct inspect_root *root, bool *complete);
int release_read_lsb_release(struct span text, struct inspect_root *root, bool *complete);
int release_read_suse(struct span text, struct inspect_root *root, bool *complete);

/* Machine of a program, from the head of its file; NULL: none that is known (arch.c). */
const char *arch_of_program(const unsigned char *head, size_t length);
void inspect_arch(struct guest *guest, struct inspect_root *root);

int inspect_hostname(struct guest *guest, struct inspect_root *root); /* hostname.c */

/* Package format and manager, osinfo's name: tables (distro.c). */
void inspect_distro(struct guest *guest, struct inspect_root *root);

/* fstab and what it refers to (fstab.c, device.c). */
int inspect_fstab(struct guest *guest, struct volumes *volumes, struct inspect_root *root, struct img_error *err);
struct fstab_files {
    struct span fstab, crypttab, mdadm;
};
int fstab_read(const struct fstab_files *files, const struct volumes *volumes, struct inspect_root *root);
/* The volume that a system of this type calls `device`; NULL: there is none. */
struct volume *fstab_device(const struct fstab_files *files, const struct volumes *volumes,
                            const struct inspect_root *root, const char *device);
/* "///usr//local/" becomes "/usr/local", in place. */
void fstab_canonical(char *path);

/* Windows, by the names of its folders; names are compared without regard to case (windows.c). */
bool windows_find_root(struct guest *guest, char **systemroot);

/* ---- looking at files (look.c); what cannot be read is not there ---- */

bool look_is_file(struct guest *guest, const char *path); /* links are followed */
bool look_is_dir(struct guest *guest, const char *path);
bool look_is_link_to(struct guest *guest, const char *path, const char *target);
/* A small text file as a whole, which the caller frees; NULL: there is none. */
char *look_text(struct guest *guest, const char *path, struct span *text);
/* The first bytes of a regular file. */
size_t look_head(struct guest *guest, const char *path, void *buffer, size_t size);
/* The path whose parts differ from those of `path` at most in the case of ASCII letters; NULL: there is none. The
 * caller frees. */
char *look_without_case(struct guest *guest, const char *path);

#endif
