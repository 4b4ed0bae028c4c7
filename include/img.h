/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* img.h - disk images for KVM: open, read, write, map, check, create and copy raw, qcow2 and LUKS.
 *
 * The one header of libimg. Everything is in bytes unless a name says otherwise, every offset is a
 * guest offset unless it says `host`. A call returns 0, or -errno with one complete sentence in *err
 * (err may be NULL). There is no global state, no thread-local error, nothing is printed, no
 * environment variable is read and no signal handler is installed.
 *
 * Threads: any number of threads may read, write, zero, discard, compress, map, flush, copy and describe one
 * open image at once; opening and creating share nothing. Concurrent writes of overlapping ranges leave one of the two
 * in each sector, as on a disk. Functions marked "exclusive" take care themselves that nothing else runs beside them
 * and may be called from any thread; img_close must be the last call on its image.
 *
 * Names inside an image (its backing file and data file) are followed only to local regular files
 * and block devices, to anything with a protocol only with the caller's help (find_node), and not at all with
 * IMG_OPEN_NO_BACKING.
 */
#ifndef IMG_H
#define IMG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IMG_API __attribute__((visibility("default")))
#define IMG_WARN_UNUSED __attribute__((warn_unused_result))

/* An open image: its own file, its backing chain and its data file. */
struct img;

/* What went wrong, as one sentence without a trailing newline. `code` is the -errno returned. */
struct img_error {
    int code;
    char text[1024];
};

/* The passphrase of an encrypted image. It need not be a string, and is the caller's: wiping it is too. */
struct img_key {
    const void *bytes; /* NULL: none */
    size_t length;
};

/* ---- opening ------------------------------------------------------------------------------ */

enum img_open_flags {
    IMG_OPEN_WRITE = 1 << 0, /* for reading and writing; without it the file is never changed */
    IMG_OPEN_NO_BACKING =
        1 << 1,                    /* follow no name in the image: what the backing file would give reads as zeroes, and
                                      with one the image cannot be written; an image with a data file is refused (-EPERM) */
    IMG_OPEN_FORCE_SHARE = 1 << 2, /* read although another program writes; refused with WRITE */
    IMG_OPEN_INFO = 1 << 3,        /* metadata only: neither backing nor data file is opened, no data */
    IMG_OPEN_CHECK = 1 << 4,       /* for img_check: a dirty or corrupt image opens as it is, also to write */
    IMG_OPEN_UNLOCKED = 1 << 5,    /* take no image locks (file systems without them) */
};

/* How data meets the host's page cache. The names and their meaning are QEMU's. */
enum img_cache {
    IMG_CACHE_WRITEBACK = 0,    /* page cache; durable after img_flush */
    IMG_CACHE_WRITETHROUGH = 1, /* page cache; every write is durable when it returns */
    IMG_CACHE_NONE = 2,         /* O_DIRECT; durable after img_flush */
    IMG_CACHE_DIRECTSYNC = 3,   /* O_DIRECT; every write is durable when it returns */
    IMG_CACHE_UNSAFE = 4,       /* page cache; img_flush does nothing, metadata is written at close */
};

struct img_node;

struct img_open_options {
    uint32_t flags; /* enum img_open_flags */
    enum img_cache cache;
    const char *format;      /* "raw", "qcow2", "luks", or NULL to probe. A probed raw image stays raw: a write that
                                would turn its first sector into another format fails with -EPERM */
    const char *snapshot;    /* id or name of an internal snapshot to show, read-only; NULL: the active state */
    uint64_t l2_cache;       /* bytes of L2 metadata kept; 0: 32 MiB */
    uint64_t refcount_cache; /* bytes of refcounts kept; 0: 8 MiB */
    struct img_key key; /* of the image itself. Kept no longer than until the open returns; what is made of it stays
                           in memory that is in no core dump, and is wiped at img_close */
    /* asked for the key of each encrypted layer that has none yet (those below too), by the layer's path; it must stand
     * until the open returns. 0; -ENOKEY: there is none; others end the open. NULL: nobody to ask */
    int (*ask_key)(void *opaque, const char *path, struct img_key *key);
    /* asked about a backing file's name that is no path ("json:{...}"): 0 with the image that it stands for in *node,
     * which must stand until the open returns and may lie on a file, a device or nothing; or -errno. NULL: such names
     * are not followed */
    int (*find_node)(void *opaque, const char *name, const struct img_node **node, struct img_error *err);
    void *opaque;
    uint64_t key_iterations; /* LUKS: iterations of the key derivation that an image may ask for; 0: 200 million */
};

/* Opens the image at `path`, a regular file or block device; `options` may be NULL. On success *image
 * is owned by the caller until img_close. Image locks are QEMU's: an image in use elsewhere gives
 * -EAGAIN. A qcow2 image with the dirty bit that is opened for writing is repaired first.
 * Errors: -EAGAIN locked, -EINVAL or -EUCLEAN bad metadata (the field and its value are named),
 * -ENOTSUP unknown feature, -ELOOP backing chain too deep or circular, -ENOKEY encrypted and no key was given, -EACCES
 * the key is wrong, -E2BIG more iterations are needed than allowed, and those of open(2). With IMG_OPEN_INFO or
 * IMG_OPEN_CHECK no key is needed. */
IMG_API int img_open(const char *path, const struct img_open_options *options, struct img **image,
                     struct img_error *err) IMG_WARN_UNUSED;

/* As img_open, on an open descriptor of a regular file or block device, which is duplicated. Names inside
 * the image are relative to the working directory. The locks belong to the caller's open file description: two
 * images on one description do not keep each other out, and closing one gives up the locks of both. */
IMG_API int img_open_fd(int fd, const struct img_open_options *options, struct img **image,
                        struct img_error *err) IMG_WARN_UNUSED;

/* Opens the bytes [offset, offset + length) of an open image as an image of its own. `parent` must stay open
 * longer. It may be written when the parent may; what fails in the parent fails here with its code. */
IMG_API int img_open_range(struct img *parent, uint64_t offset, uint64_t length, const struct img_open_options *options,
                           struct img **image, struct img_error *err) IMG_WARN_UNUSED;

enum img_node_kind {
    IMG_NODE_FORMAT, /* an image in some format, which lies on `file` */
    IMG_NODE_FILE,   /* a regular file or block device of the host */
    IMG_NODE_DEVICE, /* the same, but a regular file is refused (-EINVAL) */
    IMG_NODE_NULL,   /* bytes that nobody keeps: what is written is lost, what is read is zero */
};

/* A part of an image that its user puts together. Names and nodes are the caller's and are needed during the call only;
 * there may not be circles. */
struct img_node {
    enum img_node_kind kind;
    const char *path; /* FILE, DEVICE */
    uint64_t size;    /* NULL: bytes */
    bool read_zeroes; /* NULL: img_map tells that it is zero */

    /* FORMAT */
    const struct img_node *file;      /* a FORMAT too: that image's contents are the file */
    const char *format;               /* as in img_open_options */
    uint64_t offset, length;          /* raw: the part of the file that it is; length 0: to the end */
    bool own_backing;                 /* `backing` counts, and not what the image names: */
    const struct img_node *backing;   /* a FORMAT; NULL: none. What the image names stays written in it */
    const struct img_node *data_file; /* counts before the data file that a qcow2 image names, and stands for no image
                                         that has none (-EINVAL); NULL: what it names */
    struct img_key key;
    uint64_t l2_cache, refcount_cache; /* 0: those of the options */
};

/* As img_open, with an image that is put together: `node` is a FORMAT. Where a node says something that the options say
 * too, the node counts; a layer below takes nothing of format, snapshot, key and refcount_cache from the options. */
IMG_API int img_open_node(const struct img_node *node, const struct img_open_options *options, struct img **image,
                          struct img_error *err) IMG_WARN_UNUSED;

/* Writes out what is pending as img_flush does, then frees the image whatever the result. Without
 * IMG_OPEN_WRITE nothing is written. NULL is allowed. */
IMG_API int img_close(struct img *image, struct img_error *err);

/* ---- reading and writing -------------------------------------------------------------------- */

/* Reads exactly the bytes of `iov` (niov <= IOV_MAX) from `offset`. A range past the end is -EINVAL. */
IMG_API int img_preadv(struct img *image, const struct iovec *iov, int niov, uint64_t offset,
                       struct img_error *err) IMG_WARN_UNUSED;
/* Writes exactly the bytes of `iov`; they are durable after the next img_flush (at once in the write-through
 * modes). After an error the range may hold old or new bytes. -ENOSPC leaves the image writable. */
IMG_API int img_pwritev(struct img *image, const struct iovec *iov, int niov, uint64_t offset,
                        struct img_error *err) IMG_WARN_UNUSED;
IMG_API int img_pread(struct img *image, void *buffer, size_t count, uint64_t offset,
                      struct img_error *err) IMG_WARN_UNUSED;
IMG_API int img_pwrite(struct img *image, const void *buffer, size_t count, uint64_t offset,
                       struct img_error *err) IMG_WARN_UNUSED;

/* Stores [offset, offset + count) compressed, cluster by cluster, at the codec's default level; a cluster that does not
 * shrink is stored as it is. `offset` must be cluster aligned, and `count` too unless it ends at the end of the image.
 * -ENOTSUP where the format has no compression. qcow2: "Compressed Clusters Descriptor". */
IMG_API int img_pwrite_compressed(struct img *image, const void *buffer, size_t count, uint64_t offset,
                                  struct img_error *err) IMG_WARN_UNUSED;

/* When it returns 0, all that any thread had been told was written before the call survives a power cut.
 * After a failed writeback (but for -ENOSPC of a metadata write) this and every later flush fails and writes
 * are refused until the image is opened anew. */
IMG_API int img_flush(struct img *image, struct img_error *err) IMG_WARN_UNUSED;

enum img_zero_flags {
    IMG_ZERO_MAY_UNMAP = 1 << 0, /* the host's space may be given back */
};
/* Makes the range read as zeroes, by metadata where that is possible. */
IMG_API int img_write_zeroes(struct img *image, uint64_t offset, uint64_t length, uint32_t flags,
                             struct img_error *err) IMG_WARN_UNUSED;

/* Says that the range is not needed. Whole clusters inside it (whole blocks of a raw file) then read as zeroes
 * and their space is given back; the rest of the range is left as it was. qcow2 version 2 with a backing file
 * and LUKS images cannot say "zeroes": there a discard does nothing. */
IMG_API int img_discard(struct img *image, uint64_t offset, uint64_t length, struct img_error *err) IMG_WARN_UNUSED;

/* Holds back new requests of every thread (all of this header but img_size and the like, img_close and these two) and
 * waits for the running ones to end: a point at which nothing moves. Calls may nest across threads. img_resume lets
 * them go on. A call that the thread that drains makes on the image waits for ever. Always 0. */
IMG_API int img_drain(struct img *image, struct img_error *err);
IMG_API void img_resume(struct img *image);

/* ---- queues: many requests at once ------------------------------------------------------------ */

/* A queue takes requests without waiting for them and tells when each is done. It belongs to one thread at a time, and
 * passes to another when none of its requests is under way; an image may have up to IMG_QUEUES_MAX of them, beside any
 * number of ordinary calls from other threads. Requests move only while their thread is in a call of their queue:
 * between submitting and reaping it must not wait for anything that could wait for them, an ordinary write to the same
 * cluster (or, past the page cache, the same block) or img_drain among that. Requests under way at once have no order
 * among themselves. */
struct img_queue;

#define IMG_QUEUES_MAX 48

enum img_queue_flags {
    IMG_QUEUE_THREADS = 1 << 0, /* use threads even where the kernel offers io_uring */
};

struct img_queue_options {
    unsigned depth; /* requests at once, up to 4096; 0: 128 */
    uint32_t flags; /* enum img_queue_flags */
};

/* `options` may be NULL. The image must stay open longer. -EBUSY: there are IMG_QUEUES_MAX. */
IMG_API int img_queue_create(struct img *image, const struct img_queue_options *options, struct img_queue **queue,
                             struct img_error *err) IMG_WARN_UNUSED;
/* Waits for the requests under way, drops what was not reaped and frees the queue. NULL is allowed. */
IMG_API void img_queue_destroy(struct img_queue *queue);
/* Does it use io_uring? */
IMG_API bool img_queue_has_ring(const struct img_queue *queue);

enum img_io_op {
    IMG_IO_READ,
    IMG_IO_WRITE,
    IMG_IO_ZERO,    /* img_write_zeroes */
    IMG_IO_DISCARD, /* img_discard */
    IMG_IO_FLUSH,   /* img_flush: covers what was reaped before it was submitted, from any queue */
};

struct img_io {
    enum img_io_op op;
    uint32_t flags;          /* IMG_IO_ZERO: enum img_zero_flags */
    const struct iovec *iov; /* READ, WRITE; array and buffers stay the caller's and must stand until it is reaped */
    int niov;
    uint64_t offset;
    uint64_t length; /* ZERO, DISCARD */
    uint64_t cookie; /* comes back */
};

struct img_completion {
    uint64_t cookie;
    int result; /* 0 or -errno; for a watched descriptor its poll events */
};

/* Takes up to `n` requests and starts them. Returns how many it took: fewer when `depth` are under way or wait to be
 * reaped. What is wrong with a request is told by its completion. */
IMG_API unsigned img_queue_submit(struct img_queue *queue, const struct img_io *ios, unsigned n);
/* Up to `max` completions, without waiting. */
IMG_API unsigned img_queue_reap(struct img_queue *queue, struct img_completion *completions, unsigned max);
/* Sleeps until there is something to reap, or for `timeout_ms` (-1: for ever). 0, -ETIME, or -errno. */
IMG_API int img_queue_wait(struct img_queue *queue, int timeout_ms);
/* A descriptor of the queue that polls readable when img_queue_reap has something to do, or -errno. The first call may
 * wait for requests under way. What a call of the queue completes at once does not show there: reap until nothing
 * comes, then poll. */
IMG_API int img_queue_fd(struct img_queue *queue);
/* The sentence of the last request that failed; owned by the queue. */
IMG_API const struct img_error *img_queue_error(const struct img_queue *queue);

/* img_queue_wait also wakes when `fd` is readable, and img_queue_reap then gives `cookie`. Level-triggered: what is not
 * read shows again. Up to 64 descriptors. -ENOSPC: there are as many; -EEXIST: `fd` is watched. */
IMG_API int img_queue_watch(struct img_queue *queue, int fd, uint64_t cookie);
/* -ENOENT: it is not watched. Nothing more comes of it. */
IMG_API int img_queue_unwatch(struct img_queue *queue, int fd);

/* 0: the request with this cookie had not begun, or waited for another, and completes with -ECANCELED. -EALREADY: it is
 * being moved and completes by itself. -ENOENT: there is none. */
IMG_API int img_queue_cancel(struct img_queue *queue, uint64_t cookie);
/* Sleeps until nothing is under way: all is to be reaped. */
IMG_API void img_queue_drain(struct img_queue *queue);

/* ---- features of the format -------------------------------------------------------------------- */

enum img_amend_flag { IMG_AMEND_KEEP = 0, IMG_AMEND_ON, IMG_AMEND_OFF };

struct img_amend_options {
    unsigned version; /* qcow2: 2 or 3; 0: as it is */
    enum img_amend_flag lazy_refcounts, data_file_raw;
    const char *data_file; /* another name of the data file, "" for none; NULL: as it is. The files are not looked at */
    unsigned refcount_bits; /* 1, 2, 4 ... 64; 0: as it is */
    bool resize;
    uint64_t size; /* bytes, with `resize`; what lies behind a smaller size is lost */
    int (*progress)(void *opaque, uint64_t done, uint64_t total); /* non-zero: stop with -ECANCELED */
    void *opaque;
};

/* Changes features of an image. All is checked before anything is changed; then the wishes are granted one after the
 * other, each as a whole: a power cut, or an error, leaves none, some or all of them, and always the same disk. On the
 * way to version 2 zero clusters become data. Exclusive. What img_info gave before is gone. -ENOTSUP: the format has no
 * such features, or version 2 cannot say what the image has; -EINVAL: the wishes do not go together; -EOVERFLOW: a
 * count does not fit; -ENOSPC; -EBADF: it was opened for reading, or with INFO or CHECK. qcow2: "Header". */
IMG_API int img_amend(struct img *image, const struct img_amend_options *options,
                      struct img_error *err) IMG_WARN_UNUSED;

/* ---- chains of backing files ------------------------------------------------------------------- */

struct img_commit_options {
    unsigned layers; /* how many layers from the top are committed, into the one below them; 0: 1 */
    bool keep;       /* leave the image as it is; else it holds nothing of its own afterwards (1 layer only) */
    /* called now and then from one thread at a time; a non-zero return stops with -ECANCELED */
    int (*progress)(void *opaque, uint64_t done, uint64_t total);
    int (*moved)(void *opaque, uint64_t bytes); /* as in img_copy_options */
    void *opaque;
    int (*ask_key)(void *opaque, const char *path, struct img_key *key); /* as in img_open_options: for the base */
    void *key_opaque;
};

/* Copies what the first layers of the image's chain hold into the layer below them, which is opened for writing
 * meanwhile and is grown when it is shorter. It is durable before the image is emptied, so at any power cut the image
 * shows the same disk; the base alone may hold a part of what was committed. After an error the image is not emptied.
 * Images that are opened over the same base show what was committed. Nothing else may run on the image, and
 * what img_backing gave before is gone. -ENOENT: there are not so many layers; -EBADF: not open for writing; -EAGAIN:
 * somebody else uses the base. */
IMG_API int img_commit(struct img *image, const struct img_commit_options *options,
                       struct img_error *err) IMG_WARN_UNUSED;

struct img_rebase_options {
    const char *backing_file;   /* as it is to be written in the image; NULL or "": none from now on */
    const char *backing_format; /* required with backing_file */
    bool unsafe;                /* only the name changes: nothing is opened and compared */
    bool force_share;           /* the new chain is read although another program writes */
    enum img_cache cache;       /* of the new chain */
    int (*progress)(void *opaque, uint64_t done, uint64_t total); /* as in img_commit_options */
    void *opaque;
    int (*ask_key)(void *opaque, const char *path, struct img_key *key); /* as in img_open_options: for the new chain */
    int (*find_node)(void *opaque, const char *name, const struct img_node **node, struct img_error *err);
    void *key_opaque; /* of both */
};

/* Gives the image another backing file. It shows the same disk as before: what the two chains show differently is
 * copied into the image and is durable before the header names the new file, so a power cut leaves one or the other.
 * With `unsafe` the disk becomes what the new chain makes of it; the image may be open with NO_BACKING or INFO then.
 * Exclusive; what img_backing gave before is gone, with `unsafe` nothing below is open afterwards. -ENOTSUP: the format
 * has no backing files; -EINVAL: no format given, or the names are too long; -ENOSPC: no room for them in the header;
 * -ELOOP: the new chain is too deep, or comes back to the image; -EAGAIN: it is in use, the image being part of it for
 * example. */
IMG_API int img_rebase(struct img *image, const struct img_rebase_options *options,
                       struct img_error *err) IMG_WARN_UNUSED;

/* ---- what is where ------------------------------------------------------------------------- */

enum img_extent_flags {
    IMG_EXTENT_PRESENT = 1 << 0,    /* some layer of the chain has it; else it is in none and reads as zeroes */
    IMG_EXTENT_DATA = 1 << 1,       /* bytes are stored for it */
    IMG_EXTENT_ZERO = 1 << 2,       /* reads as zeroes */
    IMG_EXTENT_COMPRESSED = 1 << 3, /* stored compressed */
    IMG_EXTENT_OFFSET = 1 << 4,     /* host_offset and file are valid */
};

struct img_extent {
    uint64_t start, length; /* guest range */
    uint64_t host_offset;   /* where its first byte lies in `file` */
    const char *file;       /* owned by the image */
    uint32_t depth;         /* layer: 0 is the image itself; if not PRESENT, the deepest layer asked */
    uint32_t flags;         /* enum img_extent_flags */
};

/* Describes the longest uniform range that starts at `offset`, no longer than `length` (> 0, inside the image),
 * merged over neighbouring clusters within a bounded amount of work: the next call may go on with the same kind.
 * With `layer_only` the backing chain is not asked: what the image itself does not hold is not PRESENT. -EINVAL: the
 * range is not inside the image; -ENOTSUP: it was opened for its metadata only. */
IMG_API int img_map(struct img *image, uint64_t offset, uint64_t length, bool layer_only, struct img_extent *extent,
                    struct img_error *err) IMG_WARN_UNUSED;

IMG_API uint64_t img_size(const struct img *image);         /* virtual size */
IMG_API uint64_t img_cluster_size(const struct img *image); /* allocation unit; 0: none (raw) */
IMG_API const char *img_format(const struct img *image);    /* "raw", "qcow2" or "luks"; static */
IMG_API bool img_has_backing(const struct img *image);      /* names a backing file, opened or not */
IMG_API struct img *img_backing(struct img *image);         /* the open layer below, owned by `image`; NULL: none */

struct img_snapshot_info {
    const char *id, *name;
    uint64_t vm_state_size; /* bytes */
    uint64_t disk_size;     /* bytes; the active size where the table does not record it */
    uint64_t date_ns;       /* since 1970 */
    uint64_t vm_clock_ns;
    uint64_t icount; /* UINT64_MAX: not recorded */
};

struct img_bitmap_info {
    const char *name;
    uint64_t granularity; /* bytes */
    bool in_use;          /* flag bit 0 of the bitmap directory, and nobody records it here: it is not complete */
    bool enabled;         /* flag bit 1: it records what the guest changes */
};

struct img_key_slot {
    bool active;
    uint32_t iterations, stripes;
    uint64_t key_offset; /* bytes from the start of the LUKS header */
};

/* The header of a LUKS volume ("LUKS On-Disk Format" 1.2). */
struct img_luks_info {
    const char *cipher;     /* "aes-256" */
    const char *mode;       /* "xts" */
    const char *ivgen;      /* "plain64"; "none": the mode needs no initial vectors */
    const char *ivgen_hash; /* of "essiv"; NULL: none */
    const char *hash;       /* "sha256" */
    const char *uuid;
    uint64_t payload_offset; /* bytes from the start of the LUKS header */
    uint32_t master_key_iterations;
    struct img_key_slot slots[8];
};

/* All strings and arrays are owned by the image and stand until img_close, img_resize, img_check or a change of its
 * snapshots, bitmaps or key slots. */
struct img_info {
    const char *path, *format;
    uint64_t virtual_size;
    uint64_t disk_size;            /* bytes the host has allocated for the file itself */
    uint64_t file_length;          /* bytes */
    uint64_t cluster_size;         /* 0: raw */
    const char *backing_file;      /* as written in the image; NULL: none */
    const char *backing_format;    /* NULL: not recorded */
    const char *full_backing_file; /* relative to the image's own folder resolved */
    const char *data_file;         /* NULL: none */
    bool encrypted, dirty, corrupt, lazy_refcounts, extended_l2, data_file_raw;
    unsigned version; /* qcow2: 2 or 3 */
    unsigned refcount_bits;
    const char *compression;          /* "zlib", "zstd" */
    const char *encryption;           /* qcow2: "aes", "luks"; NULL: none */
    const struct img_luks_info *luks; /* of a LUKS image, and of a qcow2 image encrypted so; NULL: none */
    size_t nsnapshots, nbitmaps;
    const struct img_snapshot_info *snapshots;
    const struct img_bitmap_info *bitmaps;
};
/* Any thread; the strings and arrays are shared. */
IMG_API int img_info(struct img *image, struct img_info *info, struct img_error *err) IMG_WARN_UNUSED;

/* ---- making and changing -------------------------------------------------------------------- */

enum img_preallocation {
    IMG_PREALLOCATION_OFF = 0,
    IMG_PREALLOCATION_METADATA = 1, /* tables complete and clusters assigned; the file stays sparse */
    IMG_PREALLOCATION_FALLOC = 2,   /* host space reserved by fallocate */
    IMG_PREALLOCATION_FULL = 3,     /* zeroes written */
};

/* How a new image is encrypted. NULL and 0 are the defaults in brackets. */
struct img_encryption {
    const char *format;     /* qcow2: "luks", or "aes" (old and weak: for programs that know nothing else); NULL: not */
    struct img_key key;     /* required */
    const char *cipher;     /* ["aes-256"], "aes-128", "aes-192", "camellia-..." as OpenSSL has them */
    const char *mode;       /* ["xts"], "cbc", "ctr", "ecb" */
    const char *ivgen;      /* ["plain64"], "plain", "essiv" */
    const char *ivgen_hash; /* of essiv ["sha256"] */
    const char *hash;       /* of the key derivation ["sha256"] */
    unsigned iter_time;     /* ms of processor time that one try of a passphrase takes here [2000] */
};

struct img_create_options {
    const char *format; /* "raw", "qcow2" or "luks" */
    uint64_t size;      /* virtual size, rounded up to 512; UINT64_MAX: the backing file's */
    enum img_preallocation preallocation;
    /* wishes to the file system, for all new files; one that cannot does without */
    bool nocow;                /* no copy-on-write of the host's (btrfs) */
    uint32_t extent_size_hint; /* bytes; 0: none */
    /* qcow2 only; 0 or NULL is the default in brackets */
    unsigned version;        /* 2 or [3] */
    uint64_t cluster_size;   /* power of two from 512 to 2 MiB [65536] */
    unsigned refcount_bits;  /* 1, 2, 4 ... 64 [16] */
    const char *compression; /* ["zlib"] or "zstd" */
    bool extended_l2, lazy_refcounts, data_file_raw;
    const char *backing_file;   /* written as it is */
    const char *backing_format; /* required with backing_file */
    bool backing_unchecked;     /* do not open the backing file; `size` must be given */
    /* as in img_open_options, for the backing file's name and for those in its chain. NULL: only paths are followed */
    int (*find_node)(void *opaque, const char *name, const struct img_node **node, struct img_error *err);
    void *node_opaque;
    const char *data_file;
    struct img_encryption encryption; /* qcow2, luks */
    /* For a caller that shows the new files under their names by itself: existing regular files that are emptied and
     * written in place of `path` and of the data file. Making them durable and renaming them is then the caller's. All
     * names are still meant as seen from `path`. */
    const char *write_to, *data_write_to;
    int (*interrupted)(void *opaque); /* asked now and then; a non-zero return gives up with -ECANCELED */
    void *opaque;
};

/* Makes a new image. It appears under `path` only when it is complete and durable: it is made under a temporary name
 * beside it and renamed over what was there, unless that is in use (-EAGAIN) or a block device, which is written in
 * place. The backing file may be in use; neither `path` nor the data file may belong to its chain (-EINVAL). */
IMG_API int img_create(const char *path, const struct img_create_options *options,
                       struct img_error *err) IMG_WARN_UNUSED;

/* How many bytes an image would take. */
struct img_measure {
    uint64_t required;        /* that of the source which is stored, or nothing yet, and all metadata it could need */
    uint64_t fully_allocated; /* when every byte of the disk is stored */
    bool has_bitmaps;         /* the source may have bitmaps and the format can keep them: */
    uint64_t bitmaps;         /* ... what copies of them would take on top */
};
/* Measures a new image with the contents of `source`, or empty and of options->size bytes without one (NULL). Of the
 * options only format, size, preallocation, version, cluster_size, refcount_bits, extended_l2, encryption (without its
 * key) and whether there is a backing_file (with a source: all of it is counted then) have a say. Nothing is made. The
 * numbers are qemu-img's. -EINVAL: the options do not go together; -EFBIG: the format cannot have that size; and the
 * errors of img_map. */
IMG_API int img_measure(const struct img_create_options *options, struct img *source, struct img_measure *measure,
                        struct img_error *err) IMG_WARN_UNUSED;

/* Writes another data file's name into a qcow2 image that has one and that nobody has open. The files are not looked
 * at. Nothing is made durable, and a power cut may leave neither name: it is for an image that is still being made. */
IMG_API int img_set_data_file(const char *path, const char *data_file, struct img_error *err) IMG_WARN_UNUSED;

enum img_resize_flags {
    IMG_RESIZE_SHRINK = 1 << 0, /* allow the size to fall: what lies behind the new end is lost */
};
/* Changes the virtual size (rounded up to 512). New space reads as zeroes even where a backing file is longer, but in
 * LUKS images as anything; bitmaps are cut, or get clean bits for it. Exclusive. A power cut leaves the old or the new
 * size; so does an error, but that what shrank may have its new size although giving the space back failed. -ENOTSUP:
 * the image has internal snapshots that do not record their size (version 2); -ESTALE: it has an inconsistent bitmap;
 * -EINVAL: it would shrink and must not, or flags are unknown; -EFBIG: the format cannot have that size; -EBADF: it was
 * opened for reading, or with INFO or CHECK. */
IMG_API int img_resize(struct img *image, uint64_t size, enum img_preallocation preallocation, uint32_t flags,
                       struct img_error *err) IMG_WARN_UNUSED;

/* ---- internal snapshots ----------------------------------------------------------------------- */

/* The next three are exclusive: requests that run are waited for (those of a queue end while its thread is in a call of
 * it), new ones wait until the change is made. They may be called at any time, from any thread that has no request of
 * its own under way. A power cut leaves exactly the old or exactly the new image; so does an error, but for a deletion
 * (see there). A backing file is not touched. -ENOTSUP: the format has no snapshots, or the data are in an external
 * file; -EOVERFLOW: a reference count would not fit; -EBADF: it was opened for reading, or with INFO or CHECK. If the
 * changed image cannot be read back it takes no more requests. qcow2: "Snapshots". */

struct img_snapshot_options {
    uint64_t date_ns; /* since 1970; 0: now */
};

/* Keeps the active state as a snapshot. Its id is the next number; a name need not be unique, and is cut after 255
 * bytes. `options` may be NULL. -EFBIG: there are 65536, or their table is full. */
IMG_API int img_snapshot_create(struct img *image, const char *name, const struct img_snapshot_options *options,
                                struct img_error *err) IMG_WARN_UNUSED;
/* Makes the snapshot, found by id or else by name, the active state, its size included; what was active is lost.
 * -ENOENT: there is none; -EBUSY: the image has bitmaps, which could not tell the change; -ENOTSUP: version 2, and the
 * sizes differ. */
IMG_API int img_snapshot_apply(struct img *image, const char *snapshot, struct img_error *err) IMG_WARN_UNUSED;
/* Gives the snapshot, found by id or else by name, up, and the host gets back what it alone held. Where there is no
 * room for the change it is made in steps, of which a power cut, and lack of room to the end, may leave clusters that
 * nobody names (leaks). -ENOENT: there is none. */
IMG_API int img_snapshot_delete(struct img *image, const char *snapshot, struct img_error *err) IMG_WARN_UNUSED;

/* Read and write what a snapshot keeps of a machine beside its disk, its memory for example: bytes from 0 on, which lie
 * behind the end of the disk that the image shows and are as durable as guest data. What was never written reads as
 * zeroes, or as what a longer backing file has there. A new snapshot holds what is there, and applying one brings it
 * back unless the snapshot records the size of its state (vm_state_size; another program's do), which then stays the
 * snapshot's alone: open the image with `snapshot` to read it. After a change of the disk's size it must be written
 * anew. Any thread that has no request of its own under way. -ENOTSUP: the format has no place for it; -EINVAL: the
 * range does not end before 2^63, the disk in front of it counted; -EFBIG: it would need an L1 table of more than 32
 * MiB; -EBADF: it was opened for reading, or with INFO or CHECK. qcow2: "Snapshots". */
IMG_API int img_vmstate_read(struct img *image, void *buffer, size_t count, uint64_t offset,
                             struct img_error *err) IMG_WARN_UNUSED;
IMG_API int img_vmstate_write(struct img *image, const void *buffer, size_t count, uint64_t offset,
                              struct img_error *err) IMG_WARN_UNUSED;

enum img_parent_kind {
    IMG_PARENT_UNKNOWN = 0,  /* nothing is recorded, or another program may have changed it, or it was deleted by one */
    IMG_PARENT_NONE = 1,     /* there is none */
    IMG_PARENT_SNAPSHOT = 2, /* that one */
};
struct img_parent {
    enum img_parent_kind kind;
    const char *id, *name; /* SNAPSHOT: owned by the image as img_info's strings are */
};
/* Which snapshot a snapshot (by id or name) or the active state (NULL) descends from. It is recorded by the calls above
 * and survives other programs' changes; what it says is never wrong, but may be unknown. Where another program has
 * written to the image, an L2 table that the active state has in common with exactly one snapshot still tells. When a
 * snapshot is deleted here, those that descend from it descend from its own parent. -ENOENT: there is no such snapshot;
 * -ENOTSUP: the format has no snapshots. Any thread. */
IMG_API int img_snapshot_parent(struct img *image, const char *snapshot, struct img_parent *parent,
                                struct img_error *err) IMG_WARN_UNUSED;

/* Called with a range of the guest's disk, in bytes, in which two states differ. Not 0: give up. It may use the image.
 */
typedef int (*img_snapshot_differs)(void *opaque, uint64_t start, uint64_t length);
/* Tells, in rising order, in which ranges two states may read differently: snapshots by id or name, NULL is the active
 * state. What both have stored in the same place is left out, and so is what reads as zeroes in both; equal bytes in
 * different places are not seen to be equal. What lies behind the end of the smaller disk is told as one range. No data
 * is read, and the work follows what differs. Any thread that has no request of its own under way; the image may be
 * written meanwhile, and is held still for short times. -ENOENT: there is no such snapshot; -ECANCELED: given up;
 * -ENOTSUP: the format has no snapshots. */
IMG_API int img_snapshot_diff(struct img *image, const char *a, const char *b, img_snapshot_differs differs,
                              void *opaque, struct img_error *err) IMG_WARN_UNUSED;

/* The same for two open images that share a file: states of one image, an image and an overlay of it, overlays over one
 * base. What is not told reads the same in both. Ranges come in no order, and may overlap. -ENOTSUP: they share no
 * file, or not in a way that tells anything. */
IMG_API int img_diff(struct img *a, struct img *b, img_snapshot_differs differs, void *opaque,
                     struct img_error *err) IMG_WARN_UNUSED;

/* ---- keys ------------------------------------------------------------------------------------- */

/* The key slots of an image that is encrypted with LUKS and open for writing. Each change is durable when it returns,
 * and a power cut leaves an image that opens with a passphrase from before or after it. Exclusive among themselves;
 * guest data may be read and written meanwhile. */

/* Adds a passphrase and returns its slot. `slot`: which, -1: the first that is free. `iter_time` as in img_encryption.
 * -EEXIST: it is in use; -ENOSPC: all are. */
IMG_API int img_key_add(struct img *image, const struct img_key *key, int slot, unsigned iter_time,
                        struct img_error *err) IMG_WARN_UNUSED;
/* Erases one slot (if it opens with `key`, unless that is NULL), or with `slot` -1 all that open with `key`. -EPERM:
 * the image could never be opened again, and it is not forced; -ENOENT: the slot is not in use; -EACCES: no slot opens
 * with `key`. */
IMG_API int img_key_remove(struct img *image, const struct img_key *key, int slot, bool force,
                           struct img_error *err) IMG_WARN_UNUSED;
/* Adds `to`, then erases the slots that open with `from`; returns the new slot. */
IMG_API int img_key_change(struct img *image, const struct img_key *from, const struct img_key *to, unsigned iter_time,
                           struct img_error *err) IMG_WARN_UNUSED;

/* ---- sectors through a cipher -------------------------------------------------------------------- */

/* For volumes that a guest encrypted itself: the cipher that encrypted images have, by itself. Any number of threads
 * may use one. */
struct img_cipher;

/* In the words of LUKS and dm-crypt: "aes", "xts-plain64" or "cbc-essiv:sha256". The key may be wiped afterwards.
 * `sector` is the number of bytes that are encrypted as one: 512, 1024, 2048 or 4096. -ENOTSUP: there is no such cipher
 * here, and never one that does not encrypt; -EINVAL: the mode or the sectors make no sense. */
IMG_API int img_cipher_new(const char *algorithm, const char *mode, const struct img_key *key, unsigned sector,
                           struct img_cipher **cipher, struct img_error *err) IMG_WARN_UNUSED;
/* NULL is allowed. */
IMG_API void img_cipher_free(struct img_cipher *cipher);
/* Whole sectors in place, of which the first has the number `number`, counted in 512 bytes whatever the sectors are.
 * -EIO, -ENOMEM; -EINVAL: `count` is not whole sectors. */
IMG_API int img_cipher_encrypt(struct img_cipher *cipher, uint64_t number, void *buffer, size_t count) IMG_WARN_UNUSED;
IMG_API int img_cipher_decrypt(struct img_cipher *cipher, uint64_t number, void *buffer, size_t count) IMG_WARN_UNUSED;

/* ---- persistent bitmaps ---------------------------------------------------------------------- */

/* A bitmap of a qcow2 image (version 3) has a bit for each granule of the disk, and while it is enabled it records
 * which the guest has changed since it was cleared. An image that is open for writing records by itself: calls and
 * queues alike. On the disk an enabled bitmap is marked in use before the first change and valid again after img_close;
 * after a crash, or where memory for recording could not be had (256 MiB for all of an image), it stays marked: it is
 * inconsistent then, and nothing but its removal is allowed.
 *
 * The functions that change bitmaps need IMG_OPEN_WRITE, are exclusive, and are durable and done as a whole when they
 * return 0; after an error, or a power cut, all is as it was. Common errors: -ENOENT: no bitmap of that name; -ESTALE:
 * it is inconsistent; -ENOTSUP: the image cannot have bitmaps; -EBADF: it is open for reading only, or with INFO or
 * CHECK; -ENOSPC. qcow2: "Bitmaps". */

/* Can the image have bitmaps? */
IMG_API bool img_supports_bitmaps(const struct img *image);
/* `granularity` in bytes: a power of two from 512 to 2 GiB, or 0: that of a cluster, but 4 to 64 KiB. The new bitmap is
 * clean. -EEXIST: there is one of that name; -EINVAL: name or granularity; -EFBIG: it would take too much space, or
 * there is no room for more. */
IMG_API int img_bitmap_add(struct img *image, const char *name, uint64_t granularity, bool enabled,
                           struct img_error *err) IMG_WARN_UNUSED;
/* An inconsistent one too. */
IMG_API int img_bitmap_remove(struct img *image, const char *name, struct img_error *err) IMG_WARN_UNUSED;
/* All its bits become clean. */
IMG_API int img_bitmap_clear(struct img *image, const char *name, struct img_error *err) IMG_WARN_UNUSED;
/* A bitmap that is not enabled stays as it is, whatever the guest does. */
IMG_API int img_bitmap_set_enabled(struct img *image, const char *name, bool enabled,
                                   struct img_error *err) IMG_WARN_UNUSED;
/* What is dirty in bitmap `source_name` of `source` (which may be `image`, and may be open with IMG_OPEN_INFO) becomes
 * dirty in `name` too. Granularities may differ: a granule that is dirty in part becomes dirty. The source is read as
 * it lies on the disk, so nobody may write to it meanwhile. -EINVAL: the disks differ in size. */
IMG_API int img_bitmap_merge(struct img *image, const char *name, struct img *source, const char *source_name,
                             struct img_error *err) IMG_WARN_UNUSED;
/* The first dirty range at or behind `offset`, as far as it is easily known: the next call may go on with its
 * neighbour. *length is 0 behind the last. Tells what lies on the disk, without what is being recorded. Any thread, and
 * IMG_OPEN_INFO will do. */
IMG_API int img_bitmap_next(struct img *image, const char *name, uint64_t offset, uint64_t *start, uint64_t *length,
                            struct img_error *err) IMG_WARN_UNUSED;

/* ---- checking ------------------------------------------------------------------------------- */

enum img_check_flags {
    IMG_CHECK_REPAIR_LEAKS = 1 << 0,
    IMG_CHECK_REPAIR_ALL = 1 << 1, /* errors as well; implies leaks */
};

enum img_finding_kind {
    IMG_FINDING_CORRUPTION, /* a reference that contradicts the counts, the file or the format */
    IMG_FINDING_LEAK,       /* space that nothing names */
    IMG_FINDING_REPAIR,     /* what was done about it */
    IMG_FINDING_ERROR,      /* the check itself could not go on here (a read error) */
};

struct img_finding {
    enum img_finding_kind kind;
    const char *text; /* one line, in the words of qemu-img where it has them */
    bool has_guest;   /* guest_start and guest_length tell which part of the disk is hit */
    uint64_t guest_start, guest_length;
};

struct img_check_result {
    uint64_t total_clusters, allocated_clusters, fragmented_clusters, compressed_clusters; /* of the active state */
    uint64_t image_end_offset; /* host offset behind the last cluster in use */
    uint64_t corruptions, leaks, check_errors;
    uint64_t corruptions_fixed, leaks_fixed;
};

struct img_check_options {
    uint32_t flags;                                           /* enum img_check_flags */
    void (*report)(void *opaque, const struct img_finding *); /* NULL: count only; called in the caller's thread */
    void (*progress)(void *opaque, uint64_t done, uint64_t total);
    void *opaque;
};

/* Counts every reference of every table and snapshot and compares. Memory is in proportion to the clusters that
 * are referenced. Returns 0 when the check ran, whatever it found. Exclusive; a repair needs IMG_OPEN_WRITE (-EACCES).
 * -ENOTSUP: the format has nothing to check (raw); -EINVAL: flags are unknown. After a repair that could not be read
 * back the image takes no more requests. */
IMG_API int img_check(struct img *image, const struct img_check_options *options, struct img_check_result *result,
                      struct img_error *err) IMG_WARN_UNUSED;

/* ---- copying -------------------------------------------------------------------------------- */

/* Who moves data that is stored as it is. What the host moves is not searched for zeroes. */
enum img_copy_offload {
    IMG_OFFLOAD_SHARE, /* the file system shares its blocks (reflinks) where it can, the rest is read and written */
    IMG_OFFLOAD_NONE,  /* all is read and written */
    IMG_OFFLOAD_COPY,  /* the host copies where it can (copy_file_range) */
};

struct img_copy_options {
    unsigned threads;      /* 0: one per core; the target's bytes do not depend on it */
    bool compress;         /* store compressed (qcow2) */
    int compression_level; /* of `compress`: 1 to 9 (zlib) or 19 (zstd), the higher the smaller and the slower; 0: the
                              default, which is fast. Others are -EINVAL */
    bool target_is_zero;   /* the target already reads as zeroes: holes need no write */
    uint64_t sparse_size;  /* runs of zeroes at least this long become holes; 0: keep every byte of data */
    unsigned layers;       /* only what the first layers of the source's chain hold is copied, the rest is left to the
                              target's backing file; 0: all */
    enum img_copy_offload offload; /* with a sparse_size of 0 nothing but NONE */
    /* The part of the source that is copied, and where its first byte goes in the target; a cluster shared with other
     * bytes is not compressed. A length of 0 is all that is behind source_offset. */
    uint64_t source_offset, source_length;
    uint64_t target_offset;
    /* What cannot be read becomes zeroes, sector by sector (512 bytes), instead of failing the copy; all is read, the
     * host copies nothing. `lost` is told of each run of such sectors, in the order of their offsets, from one thread
     * at a time; `code` is why (-errno). */
    bool salvage;
    void (*lost)(void *opaque, uint64_t offset, uint64_t length, int code);
    /* called now and then from one thread at a time; a non-zero return stops the copy with -ECANCELED */
    int (*progress)(void *opaque, uint64_t done, uint64_t total);
    /* the same, with the bytes of data that were written so far: holes and what the backing file has do not count */
    int (*moved)(void *opaque, uint64_t bytes);
    void *opaque;
};
#define IMG_SPARSE_SIZE_DEFAULT 4096

/* Copies `source`, or a part of it, into `target` at target_offset. Memory is bounded: 160 MiB for the workers, of
 * which there are fewer than wished where each needs much (large clusters at a high level). What was written is on its
 * way to the disk, and in every cache mode but unsafe no more than about 100 MiB of it are dirty; the copy does not
 * flush. Guest bytes of either image that others change meanwhile are copied before or after. -EPERM: it would turn a
 * target that was probed as raw into another format; -EINVAL: it does not fit, the part is not in the source, or the
 * level is out of range; -ENOTSUP: no compression there; -ENOSPC: the sentence says how much data there is to copy. */
IMG_API int img_copy(struct img *source, struct img *target, const struct img_copy_options *options,
                     struct img_error *err) IMG_WARN_UNUSED;

/* True when `count` bytes are all zero; reads them once, as fast as memory goes. */
IMG_API bool img_is_zero(const void *buffer, size_t count);

#ifdef __cplusplus
}
#endif

#endif
