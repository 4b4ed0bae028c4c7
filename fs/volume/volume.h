/* SPDX-License-Identifier: GPL-3.0-or-later */
/* volume.h - what a guest's disks are divided into and put together of: partitions, physical volumes, volume groups,
 * logical volumes, what keys open. Each scheme is one file or folder that no other knows; volumes.c has the table.
 *
 * A set of volumes begins with the disks. Each scheme looks at the set and adds what it finds; that goes on, scheme
 * after scheme, until nobody finds more. Volumes keep the order in which they were found, which is that of the disk.
 */
#ifndef FS_VOLUME_H
#define FS_VOLUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../device.h"
#include "../vfs.h"

enum volume_kind {
    VOLUME_DISK,
    VOLUME_PARTITION,
    VOLUME_GROUP,   /* a volume group; it has no device of its own */
    VOLUME_LOGICAL, /* a logical volume */
    VOLUME_CRYPT,   /* what a key opened */
    VOLUME_RAID,    /* an array of members (MD) */
};

struct volume {
    enum volume_kind kind;
    char *name;              /* "/dev/sda", "/dev/sda5", "/dev/VG", "/dev/VG/LV", "/dev/mapper/luks-UUID" */
    struct volume **parents; /* what it lies on: of a group all its physical volumes, each once */
    size_t nparents;
    struct device *device; /* NULL: of a group, or of a volume that is known but cannot be read (see `trouble`) */
    uint64_t size;         /* bytes; of a group and of a physical volume's `pv_size` whole extents */
    char uuid[64];         /* of a logical volume (with dashes) or group (without); "" else */

    /* partitions */
    unsigned number;      /* 1 for /dev/sda1 */
    uint8_t mbr_type;     /* of an MBR; 0: a GPT */
    bool extended;        /* holds the logical ones: nothing else is to be looked for in it */
    bool active;          /* the boot flag of an MBR */
    char type_uuid[37];   /* of a GPT, lower case; "" else */
    char part_uuid[37];   /* PARTUUID as blkid has it: of a GPT its own, of an MBR "SIGNATURE-NN" */
    char part_label[109]; /* PARTLABEL, UTF-8 */

    /* disks */
    const char *table;      /* "dos", "gpt"; NULL: none */
    uint32_t mbr_signature; /* of an MBR */
    char table_uuid[37];    /* of a GPT, or the eight digits of an MBR's signature */

    /* physical volumes (of any kind above) */
    bool is_pv;
    uint64_t pv_size; /* bytes of its extents */
    char pv_uuid[64]; /* without dashes */

    const char *trouble;  /* why it has no device, or is not what it should be; owned by the volume; NULL: fine */
    struct probe content; /* what lies on it */
};

/* Keys for what is encrypted: asked when a scheme meets it. */
struct volume_keys {
    /* The `nth` key (from 0) that the user gave for a device of this name or UUID. 0; -ENOKEY: there are no more. The
     * key is the caller's and stands until the set is closed. */
    int (*find)(void *opaque, const char *name, const char *uuid, size_t nth, struct img_key *key);
    void *opaque;
};

struct volumes;

struct volume_scheme {
    const char *name;
    /* Adds what it finds in the set and is not there yet; a scheme is called again when others have added something.
     * Something wrong is noted in a volume's `trouble`, or with volumes_note; only -ENOMEM and read errors of the disk
     * end the scan. */
    int (*scan)(struct volumes *volumes, struct img_error *err);
};

/* Finds all volumes of a guest with these disks (device_of_image), named /dev/sda, /dev/sdb ... The devices become the
 * set's. `keys` may be NULL. */
int volumes_open(struct device **disks, size_t ndisks, const struct volume_keys *keys, struct volumes **volumes,
                 struct img_error *err) IMG_WARN_UNUSED;
void volumes_close(struct volumes *volumes);

size_t volumes_count(const struct volumes *volumes);
struct volume *volumes_get(const struct volumes *volumes, size_t index);
/* By any name that users have learned: /dev/sda1, /dev/vda1, /dev/xvda1, /dev/hda1, /dev/VG/LV, /dev/mapper/VG-LV (with
 * "--" for a dash), /dev/disk/by-uuid/..., UUID=, LABEL=, PARTUUID=, PARTLABEL=. NULL: there is none. */
struct volume *volumes_find(const struct volumes *volumes, const char *name);
/* What the scan has to say although it went on: one sentence each; NULL behind the last. */
const char *volumes_message(const struct volumes *volumes, size_t index);

/* For schemes. The new volume is zeroed but for kind, name (copied), size (its device's) and content (probed), which
 * is to be looked at again (volume_probe) if the scheme changes something. At most 4096 volumes: -E2BIG. The device
 * becomes the set's in any case. */
int volumes_add(struct volumes *volumes, enum volume_kind kind, const char *name, struct device *device,
                struct volume *parent, struct volume **volume, struct img_error *err) IMG_WARN_UNUSED;
int volume_add_parent(struct volume *volume, struct volume *parent, struct img_error *err) IMG_WARN_UNUSED;
void volumes_note(struct volumes *volumes, const char *format, ...) __attribute__((format(printf, 2, 3)));
const struct volume_keys *volumes_keys(const struct volumes *volumes);

#endif
