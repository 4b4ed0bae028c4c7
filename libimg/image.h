/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* image.h - an open image as the engine sees it, and the table that a format driver fills in. */
#ifndef LIBIMG_IMAGE_H
#define LIBIMG_IMAGE_H

#include "epoch.h"
#include "img.h"
#include "plan.h"
#include "storage.h"

/* A chain longer than this is refused (-ELOOP). */
#define IMG_MAX_DEPTH 64

struct img_driver;
struct img_crypto;
struct img_helpers;

struct img {
    const struct img_driver *driver;
    void *state;          /* the driver's */
    struct storage *file; /* owned */
    struct img *backing;  /* owned; NULL: none, or not opened */
    char *path;           /* owned; file->name */
    bool has_backing;     /* names a backing file, or was given one */
    char *snapshot;       /* owned; the internal snapshot that it shows, NULL: the active state */
    char *full_backing;   /* owned; the backing file's name resolved, NULL: none */
    uint32_t flags;       /* enum img_open_flags */
    enum img_cache cache;
    bool writable;
    bool probed_raw;              /* raw by probing: must not become another format */
    bool assembled;               /* more than its path says: a part of a file, on another image, with other files */
    pthread_mutex_t whole;        /* one call at a time that acts on the image as a whole: resize, check */
    pthread_mutex_t first_sector; /* of a probed raw image: what it becomes is checked and written by one at a time */
    struct img_crypto *crypto;    /* of an encrypted image (crypto.h); NULL: guest data is stored as it is */
    _Atomic uint64_t size;        /* virtual, bytes */
    struct img_epochs epochs;
    pthread_mutex_t helping;     /* guards `helpers`; nobody waits for a request with it */
    struct img_helpers *helpers; /* of its queues, while it has any */
};

/* What the driver's open gets besides the image (whose file is open, and whose flags and cache are set). */
struct img_driver_options {
    const char *snapshot;
    uint64_t l2_cache, refcount_cache;
    uint64_t raw_offset, raw_length; /* raw: a part of the file; length UINT64_MAX: all */
    struct storage *data_file; /* qcow2: counts before what the header names; owned from the call on. NULL: none */
    /* as in img_open_options */
    struct img_key key;
    int (*ask_key)(void *opaque, const char *path, struct img_key *key);
    void *opaque;
    uint64_t key_iterations;
};

enum img_bitmap_op {
    IMG_BITMAP_ADD,
    IMG_BITMAP_REMOVE,
    IMG_BITMAP_CLEAR,
    IMG_BITMAP_SET_ENABLED,
    IMG_BITMAP_MERGE,
};

/* One change of one bitmap (img_bitmap_...). */
struct img_bitmap_edit {
    enum img_bitmap_op op;
    const char *name;
    uint64_t granularity;    /* ADD: bytes, 0: the default */
    bool enabled;            /* ADD, SET_ENABLED */
    struct img *source;      /* MERGE: an image of the same driver, maybe the same image */
    const char *source_name; /* MERGE */
};

enum img_park {
    IMG_PARK_PARKED, /* the waiter will be woken when it is worth trying again */
    IMG_PARK_RETRY,  /* try again at once, after others had their turn */
    IMG_PARK_WORK,   /* it takes a call of `ready`, in a thread that may block */
};

/* What is done to internal snapshots. */
struct img_snapshot_change {
    enum img_snapshot_op { IMG_SNAPSHOT_CREATE, IMG_SNAPSHOT_APPLY, IMG_SNAPSHOT_DELETE } op;
    const char *name; /* CREATE: of the new one; else id or name */
    uint64_t date_ns;
};

struct img_driver {
    const char *name;
    /* Says from the first bytes of the file whether it is this format. */
    bool (*probe)(const uint8_t *head, size_t count);
    /* Sets image->state and image->size. Opens its data file by itself; names the backing file in *backing and
     * *backing_format (malloc'ed, NULL: none; the caller opens it). Cleans up after itself when it fails. */
    int (*open)(struct img *, const struct img_driver_options *, char **backing, char **backing_format,
                struct img_error *);
    /* Makes all durable and gives back what was reserved; no request runs. Called once before `close`, for a writable
     * image. */
    int (*finish)(struct img *, struct img_error *);
    /* Frees the state; no I/O but closing. */
    void (*close)(struct img *);

    /* resolve, commit, abort: memory work only (plan.h). The plan is open. */
    int (*resolve)(struct img *, struct img_plan *, struct img_error *);
    void (*commit)(struct img *, struct img_plan *);
    /* `touched`: bytes may have reached the host. */
    void (*abort)(struct img *, struct img_plan *, bool touched);
    /* Satisfies a need; may block; no plan of the caller is open. */
    int (*ready)(struct img *, struct img_context *, const struct img_need *, struct img_error *);

    /* The same for one who must not block. May be NULL as `ready` may. */
    enum img_park (*park)(struct img *, const struct img_need *, struct img_waiter *);

    int (*flush)(struct img *, struct img_error *);
    /* After a write, with no plan of the caller open: may do work now that a later request would wait for. `strained`
     * tells whether there is any, and does not block. Both may be NULL. */
    bool (*strained)(struct img *);
    void (*relieve)(struct img *);
    /* One extent of this layer alone; PRESENT clear: ask below. May block. */
    int (*map)(struct img *, uint64_t offset, uint64_t length, struct img_extent *, struct img_error *);
    int (*info)(struct img *, struct img_info *, struct img_error *);
    int (*resize)(struct img *, uint64_t size, enum img_preallocation, uint32_t flags, struct img_error *);
    /* Nothing runs, and new requests are held back. NULL: the format has no snapshots. */
    int (*snapshot)(struct img *, const struct img_snapshot_change *, struct img_error *);
    int (*parent)(struct img *, const char *snapshot, struct img_parent *, struct img_error *);
    int (*diff)(struct img *, const char *a, const char *b, img_snapshot_differs, void *opaque, struct img_error *);
    /* Where a plan finds [offset, ...) of a machine's state; to write there, it is made possible. No other size and no
     * snapshot comes meanwhile. -EOVERFLOW: no offset can say it. NULL: there is no place for one. */
    int (*state_at)(struct img *, uint64_t offset, uint64_t length, bool writes, uint64_t *at, struct img_error *);
    /* Persistent bitmaps; NULL: the format has none. */
    int (*bitmap_edit)(struct img *, const struct img_bitmap_edit *, struct img_error *);
    int (*bitmap_next)(struct img *, const char *name, uint64_t offset, uint64_t *start, uint64_t *length,
                       struct img_error *);
    bool (*has_bitmaps)(const struct img *); /* could it have some? */
    int (*check)(struct img *, const struct img_check_options *, struct img_check_result *, struct img_error *);
    /* Makes all entries let go: the layer below shows everywhere. It has the same content and is durable. NULL: not
     * possible. */
    int (*empty)(struct img *, struct img_error *);
    /* Another backing file is named; `chain` is what it shows, and is not taken over (NULL: nothing), and what the
     * image shows stays. With `unsafe` nothing is compared. NULL: the format has none. */
    int (*rebase)(struct img *, struct img *chain, const struct img_rebase_options *, struct img_error *);
    /* The image is at rest, but with `only_check`. The size is somebody else's. NULL: nothing can be changed. */
    int (*amend)(struct img *, const struct img_amend_options *, bool only_check, struct img_error *);
    uint64_t (*cluster_size)(const struct img *);
    /* Where the guest's bytes lie; NULL: not open. */
    struct storage *(*data)(const struct img *);
    /* 0 when the image's codec has this level (0: its default), or -EINVAL with its range. */
    int (*check_level)(struct img *, int level, struct img_error *);
    /* Bytes that one call of `compress` takes at most. */
    size_t (*compress_memory)(struct img *, int level);
    /* One cluster in, at most `cap` bytes out: returns the stored size, 0 when it does not fit, or -errno. */
    int64_t (*compress)(struct img *, int level, const void *in, size_t count, void *out, size_t cap);
    int (*decompress)(struct img *, const void *in, size_t stored, void *out, size_t count);
};

extern const struct img_driver raw_driver, qcow2_driver, luks_driver;

/* Opens an image on a storage that is open already (tests put a recorder there); owns `file` even when it fails. */
int image_open_storage(struct storage *file, const struct img_open_options *options, struct img **image,
                       struct img_error *err);

/* Opens the layer below `above` anew, for writing or for reading only; the layers under it stay as they are. When that
 * fails it is open for reading, perhaps without locks. Nothing runs on the chain. Of `keys` only what concerns keys. */
int image_reopen_below(struct img *above, bool writable, const struct img_open_options *keys, struct img_error *err);
/* Opens a chain that begins with the file `name` as the image at `beside` would name it. */
int image_open_below(const char *beside, const char *name, const struct img_open_options *options, struct img **chain,
                     struct img_error *err);

/* The path of a file that the image at `image_path` names: beside it when it is relative. Names with a protocol are
 * refused. *out is malloc'ed. */
int name_beside(const char *image_path, const char *name, char **out, struct img_error *err);

#endif
