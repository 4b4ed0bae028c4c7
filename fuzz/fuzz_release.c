// SPDX-License-Identifier: GPL-3.0-or-later
/* fuzz_release.c - bytes as one of the files that tell what a guest is: the first byte says which. Release files,
 * fstab, the texts of package managers, the header of an rpm, and rpm's three databases, of which SQLite's has a log in
 * the input's second half.
 *
 * Held: whatever is in the list of packages has a name, and an error has a sentence. */
#include "fuzz.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/inspect/parts.h"
#include "fs/packages/rpm.h"

/* ---- a file of the guest ---- */

struct memory_fs {
    struct fs base;
    struct span bytes;
};

static int read_memory(struct fs *fs, uint64_t ino, void *buffer, size_t count, uint64_t offset, size_t *got,
                       struct img_error *err) {
    struct span bytes = ((struct memory_fs *)fs)->bytes;
    (void)ino, (void)err;
    *got = offset >= bytes.length ? 0 : count < bytes.length - offset ? count : bytes.length - offset;
    if (*got > 0)
        memcpy(buffer, bytes.at + offset, *got);
    return 0;
}

static const struct fs_ops memory_ops = {.read = read_memory};

static int take_blob(void *opaque, const uint8_t *blob, size_t length, struct img_error *err) {
    int ret = rpm_read_header(blob, length, opaque, err);
    return ret == -E2BIG ? ret : 0;
}

static int read_store(const struct rpm_store *store, struct span bytes, struct packages *packages,
                      struct img_error *err) {
    size_t half = store->log ? bytes.length / 2 & ~(size_t)511 : bytes.length;
    struct memory_fs main = {{.ops = &memory_ops}, {bytes.at, half}};
    struct memory_fs log = {{.ops = &memory_ops}, {bytes.at + half, bytes.length - half}};
    struct rpm_file file = {.node.fs = &main.base, .path = "db", .size = half, .budget = 4 * half + 4096};
    struct rpm_file wal = {
        .node.fs = &log.base, .path = "log", .size = log.bytes.length, .budget = 4 * log.bytes.length + 4096};
    return store->each(&file, store->log ? &wal : NULL, take_blob, packages, err);
}

/* ---- inspection ---- */

static void forget(struct inspect_root *root) {
    for (size_t i = 0; i < root->nmounts; i++)
        free(root->mounts[i].path);
    free(root->mounts);
    free(root->product_name);
    free(root->build_id);
}

/* fstab, crypttab and mdadm.conf are parted by a NUL. */
static void read_fstab(struct span text) {
    static struct volumes *none;
    struct volume volume = {.name = "/dev/sda"};
    struct inspect_root root = {.volume = &volume, .type = "freebsd"};
    struct fstab_files files = {.fstab = span_until(&text, '\0')};
    if (!none && volumes_open(NULL, 0, NULL, &none, NULL) < 0)
        return;
    files.crypttab = span_until(&text, '\0');
    files.mdadm = text;
    (void)!fstab_read(&files, none, &root);
    for (size_t i = 0; i < root.nmounts; i++)
        if (root.mounts[i].volume != &volume)
            fuzz_fail("a device that is not there is mounted on %s", root.mounts[i].path);
    forget(&root);
}

static void read_release(unsigned which, struct span text) {
    struct inspect_root root = {0};
    bool complete = false;
    if (which == 0)
        (void)!release_read_os_release(text, &root, &complete);
    else if (which == 1)
        (void)!release_read_lsb_release(text, &root, &complete);
    else
        (void)!release_read_suse(text, &root, &complete);
    if (complete && !(root.distro && root.product_name))
        fuzz_fail("a release file is complete without distribution and name");
    forget(&root);
    (void)arch_of_program((const unsigned char *)text.at, text.length);
}

static void read_packages(unsigned which, struct span text) {
    struct packages packages = {0};
    struct img_error err = {0};
    int ret = which == 0   ? dpkg_read_status(text, text.length % 2, &packages, &err)
              : which == 1 ? apk_read_installed(text, &packages, &err)
              : which == 2 ? pacman_read_desc(text, &packages, &err)
              : which == 3 ? rpm_read_header((const uint8_t *)text.at, text.length, &packages, &err)
              : which == 4 ? read_store(&rpm_sqlite, text, &packages, &err)
              : which == 5 ? read_store(&rpm_bdb, text, &packages, &err)
                           : read_store(&rpm_ndb, text, &packages, &err);
    if (ret < 0 && !err.text[0])
        fuzz_fail("packages of kind %u: error %d without a sentence", which, ret);
    for (size_t i = 0; i < packages.count; i++)
        if (!packages.list[i].fields[PACKAGE_NAME])
            fuzz_fail("a package has no name");
    packages_free(&packages);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    unsigned kind = data[0] % 11;
    char *copy = malloc(size); /* of this length, for the sanitizer */
    if (!copy)
        return 0;
    memcpy(copy, data + 1, size - 1);
    struct span text = {copy, size - 1};
    if (kind < 3)
        read_release(kind, text);
    else if (kind == 3)
        read_fstab(text);
    else
        read_packages(kind - 4, text);
    free(copy);
    return 0;
}
