/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vfs.c - the table of guest filesystems, and finding the one that lies on a device (vfs.h). */
#include "vfs.h"

#include <errno.h>
#include <string.h>

#include "error.h"

/* In the order in which they are tried. One for each line of drivers.def; the last knows what nobody reads. */
#define FS_DRIVER(name) extern const struct fs_driver name##_driver;
#include "drivers.def"
#undef FS_DRIVER

static const struct fs_driver *const drivers[] = {
#define FS_DRIVER(name) &name##_driver,
#include "drivers.def"
#undef FS_DRIVER
};

static const struct fs_driver *find(struct device *device, struct probe *probe) {
    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
        memset(probe, 0, sizeof(*probe));
        if (drivers[i]->probe(device, probe) == 0)
            return drivers[i];
    }
    *probe = (struct probe){.type = ""};
    return NULL;
}

void fs_probe(struct device *device, struct probe *probe) {
    find(device, probe);
}

int fs_open(struct device *device, const struct fs_open_options *options, struct fs **fs, struct img_error *err) {
    static const struct fs_open_options for_reading = {0};
    struct probe probe;
    const struct fs_driver *driver = find(device, &probe);
    if (!driver)
        return fail(err, -ENOTSUP, "No known filesystem");
    if (!driver->open)
        return fail(err, -ENOTSUP, "The filesystem type %s is recognised but not read", probe.type);
    return driver->open(device, &probe, options ? options : &for_reading, fs, err);
}

void fs_close(struct fs *fs) {
    if (fs)
        fs->ops->close(fs);
}
