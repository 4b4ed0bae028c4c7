/* SPDX-License-Identifier: GPL-3.0-or-later */
/* volume.h - what a guest's disks are divided into and put together of: partitions, physical volumes, volume groups,
 * logical volumes, arrays, what keys open. Each scheme is one file or folder that no other knows, and one line in
 * schemes.def; volumes.c has the table.
 *
 * A set of volumes begins with the disks. Every scheme looks at every volume once, and what it adds is looked at in
 * turn. Then the schemes that put volumes together gather what they need from the whole set, which may add more; that
 * goes on until nobody finds anything. Things that lack a part are put together last, when it is sure that nothing more
 * will come.
 *
 * Volumes keep the order in which they were found: the disks; the partitions of each disk by their numbers; arrays;
 * what keys opened; then each group, by name, and its logical volumes, by name. A volume stands behind all that it lies
 * on.
 */
#ifndef FS_VOLUME_H
#define FS_VOLUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../device.h"
#include "../vfs.h"

#define VOLUMES_MOST 4096
#define VOLUME_DEPTH_MOST 16 /* volumes that lie one on another; what is deeper is not looked at */

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
    char *name; /* "/dev/sda", "/dev/sda5", "/dev/VG", "/dev/VG/LV", "/dev/md127", "/dev/mapper/luks-UUID" */
    struct volume **parents; /* what it lies on, each once: of a group all its physical volumes, of a LV its group */
    size_t nparents;
    struct device *device; /* NULL: of a group, or of a volume that is known but cannot be read (see `trouble`) */
    uint64_t size;         /* bytes; of a group whole extents */
    char uuid[64];         /* of a logical volume or what a key opened (with dashes), group (without), array; "" else */

    /* partitions */
    unsigned number;      /* 1 for /dev/sda1 */
    uint8_t mbr_type;     /* of an MBR; 0: a GPT */
    bool extended;        /* holds the logical ones: nothing else is to be looked for in it. Its device is 1 KiB (or one
                             sector) as in Linux */
    bool active;          /* the boot flag of an MBR */
    uint64_t start;       /* bytes from the start of its parent */
    char type_uuid[37];   /* of a GPT, lower case; "" else */
    char part_uuid[37];   /* PARTUUID as blkid has it: of a GPT its own, of an MBR "SIGNATURE-NN" */
    char part_label[109]; /* PARTLABEL, UTF-8 */

    /* disks and arrays */
    const char *table;      /* "dos", "gpt"; NULL: none */
    uint32_t mbr_signature; /* of an MBR */
    char table_uuid[37];    /* of a GPT, or the eight digits of an MBR's signature */
    bool divided;           /* it has partitions: its content is nothing but these */

    /* physical volumes (of any kind above) */
    bool is_pv;
    uint64_t pv_size; /* bytes of its extents; of one that is in no group, all that it has room for */
    char pv_uuid[64]; /* without dashes */

    char *trouble;        /* why it has no device, or is not what it should be (volume_trouble); NULL: fine */
    struct probe content; /* what lies on it */
    unsigned depth;       /* of a disk 0 */
};

/* Keys for what is encrypted: asked when a scheme meets it. */
struct volume_keys {
    /* The `nth` key (from 0) that the user gave for a device of this name or UUID. 0; -ENOKEY: there are no more. The
     * key is the caller's and stands until the set is closed. */
    int (*find)(void *opaque, const char *name, const char *uuid, size_t nth, struct img_key *key);
    void *opaque;
    uint64_t work; /* what trying keys may cost altogether (volumes_spend); 0: 256 million */
};

struct volumes;

/* Something wrong with what the disk says is noted in a volume's `trouble`, or with volumes_note; only -ENOMEM and
 * -E2BIG end the scan. */
struct volume_scheme {
    const char *name;
    /* Opens what its library wants of the system. NULL: nothing */
    int (*prepare)(struct img_error *err);
    /* Adds what lies in this one volume, which has a device and is not divided when it is asked. Called once for each
     * volume. NULL: it looks at the whole only */
    int (*look)(struct volumes *volumes, struct volume *volume, struct img_error *err);
    /* Adds what can be put together from the set and is not there yet. `last`: nobody has found more in the meantime,
     * so that what is missing a part now will never be complete. NULL: it looks at single volumes only */
    int (*gather)(struct volumes *volumes, bool last, struct img_error *err);
};

/* For a program that has keys and is about to give up the right to open files: the libraries that use keys are loaded
 * now, and what they want of the system is opened. Once is enough. -ELIBACC: one is missing. */
int volumes_prepare(struct img_error *err) IMG_WARN_UNUSED;
/* Finds all volumes of a guest with these disks (device_of_image), named /dev/sda, /dev/sdb ... The devices become the
 * set's, also when it fails. `keys` may be NULL. */
int volumes_open(struct device **disks, size_t ndisks, const struct volume_keys *keys, struct volumes **volumes,
                 struct img_error *err) IMG_WARN_UNUSED;
/* NULL is allowed. */
void volumes_close(struct volumes *volumes);

size_t volumes_count(const struct volumes *volumes);
struct volume *volumes_get(const struct volumes *volumes, size_t index);
/* By any name that users and fstab have for it (names.c): /dev/sda1, /dev/vda1, /dev/xvda1, /dev/hda1, /dev/VG/LV,
 * /dev/mapper/VG-LV (with "--" for a dash), /dev/disk/by-uuid/... and its siblings, UUID=, LABEL=, PARTUUID=,
 * PARTLABEL=. NULL: there is none. */
struct volume *volumes_find(const struct volumes *volumes, const char *name);
/* What the scan has to say although it went on: one sentence each; NULL behind the last. */
const char *volumes_message(const struct volumes *volumes, size_t index);

/* ---- for schemes ---- */

/* The new volume is zeroed but for kind, name (copied), size (its device's), depth and content (probed). `parent` may
 * be NULL, `device` too: a volume that cannot be read. The device becomes the set's in any case. -E2BIG: there are
 * VOLUMES_MOST already. */
int volumes_add(struct volumes *volumes, enum volume_kind kind, const char *name, struct device *device,
                struct volume *parent, struct volume **volume, struct img_error *err) IMG_WARN_UNUSED;
int volume_add_parent(struct volume *volume, struct volume *parent, struct img_error *err) IMG_WARN_UNUSED;
/* A volume that something else was made of, or that is of some kind: "linux_raid_member", "LVM2_member" ... */
bool volume_holds(const struct volume *volume, const char *type);
/* Says what is wrong with a volume; the first sentence stays. */
void volume_trouble(struct volume *volume, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* At most 64 sentences are kept. */
void volumes_note(struct volumes *volumes, const char *format, ...) __attribute__((format(printf, 2, 3)));
const struct volume_keys *volumes_keys(const struct volumes *volumes);
/* Work that costs far more to do than a disk needs to ask for it, key derivation above all, is taken from a budget of
 * the whole set: about as many units as the default settings of cryptsetup use for sixty tries. One unit is an
 * iteration of PBKDF2, or a KiB that Argon2 passes. False: there is not so much left; nothing is taken. */
bool volumes_spend(struct volumes *volumes, uint64_t units);

#endif
