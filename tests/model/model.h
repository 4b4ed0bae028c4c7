/* SPDX-License-Identifier: GPL-3.0-or-later */
/* model.h - the differential test: random operations on an image, held against a byte array and against QEMU.
 *
 * One seed is one configuration out of the matrix of formats (config.c), one chain of start images that qemu-img and
 * qemu-io made (start.c), a stream of operations (ops.c by one thread, threads.c by four) and a last judgement
 * (finish.c). The operations are ordinary calls or requests of a queue (flow.c). The model is a byte array (shadow.c):
 * what the guest must read. Every seed runs in a process of its own, inside a folder of its own, so a crash or a hang
 * costs one line of TAP and nothing else (main.c).
 *
 * What must always hold: the first mismatch ends the seed (model_fail does not return), and everything random comes
 * from the seed, so one thread's run can be repeated exactly.
 */
#ifndef TESTS_MODEL_H
#define TESTS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "img.h"

#define SECTOR 512u
#define MAX_LAYERS 5
#define MAX_SNAPSHOTS 3
#define THREADS 4

/* ---- random numbers ------------------------------------------------------------------------ */

struct rng {
    uint64_t state;
};
uint64_t rng_next(struct rng *r);
/* A number in [0, bound); 0 for bound 0. */
uint64_t rng_below(struct rng *r, uint64_t bound);
/* True once in `n`. */
bool rng_one_in(struct rng *r, unsigned n);
uint64_t mix64(uint64_t value);

/* ---- one configuration ---------------------------------------------------------------------- */

enum mode {
    MODE_SINGLE,   /* one thread, every kind of operation */
    MODE_DISJOINT, /* four threads, each on a range of its own; borders inside clusters */
    MODE_OVERLAP,  /* four threads on the same few clusters */
};

/* SEED + n * EXECUTOR_SEEDS is the configuration and the operations of SEED, by executor n. */
enum executor { VIA_CALLS, VIA_RING, VIA_THREADS, EXECUTORS };
#define EXECUTOR_SEEDS 10000u

struct layer {
    bool raw;
    unsigned version, cluster_bits, refcount_bits;
    bool zstd, extended_l2, lazy, data_file, data_file_raw, compressed, made_by_us, left_dirty;
    enum img_preallocation preallocation;
    uint64_t size;          /* virtual bytes */
    unsigned odd;           /* raw: so many bytes fewer in the file */
    unsigned writes;        /* operations that QEMU does on it */
    const char *encryption; /* "luks", "aes"; NULL: none. Of the top layer only */
    char name[32], data_name[32];
};

/* The passphrase of encrypted images. */
#define MODEL_KEY "model"
static inline struct img_key layer_key(const struct layer *l) {
    return (struct img_key){l->encryption ? MODEL_KEY : NULL, l->encryption ? sizeof(MODEL_KEY) - 1 : 0};
}

struct config {
    uint64_t seed;
    unsigned ops;
    enum mode mode;
    enum executor executor;
    unsigned nlayers;
    struct layer layer[MAX_LAYERS]; /* 0: the top one */
    unsigned nsnapshots;
    enum img_cache cache;
    uint64_t l2_cache, refcount_cache;
    uint64_t max_size; /* resize goes no further */
    bool byte_borders; /* disjoint ranges may share a sector */
    bool bitmaps;      /* are made and changed; no state is gone back to then */
    bool on_disk;      /* in a folder whose file system has real O_DIRECT */
};

/* The number that says all of it. */
uint64_t config_seed(const struct config *c);
void config_make(struct config *c, uint64_t seed, unsigned ops);
/* One line for people. */
void config_describe(const struct config *c, char *text, size_t size);
static inline uint64_t layer_cluster(const struct layer *l) {
    return l->raw ? 4096 : 1ull << l->cluster_bits;
}

/* ---- the byte array --------------------------------------------------------------------------- */

/* `maybe`: a discard that did not cover the cluster may have turned the sector into zeroes or left it alone; the first
 * read settles it for good. */
struct shadow {
    uint8_t *bytes;
    bool *maybe;
    uint64_t size, capacity;
};

void shadow_make(struct shadow *s, uint64_t capacity);
void shadow_write(struct shadow *s, const void *bytes, uint64_t offset, uint64_t length);
void shadow_zero(struct shadow *s, uint64_t offset, uint64_t length);
/* The part of a discard that reads as zeroes for certain; what may read as zeroes besides is marked in `s` (may be
 * NULL: then nothing is marked or changed). */
struct range {
    uint64_t start, end;
};
struct range discard_certain(const struct config *c, uint64_t size, uint64_t offset, uint64_t length);
bool discard_maybe(const struct config *c, uint64_t size, uint64_t offset, uint64_t length, uint64_t sector);
void shadow_discard(struct shadow *s, const struct config *c, uint64_t offset, uint64_t length);
void shadow_resize(struct shadow *s, uint64_t size);
bool shadow_unsettled(const struct shadow *s, uint64_t offset, uint64_t length);
/* Compares and settles; false with the first wrong byte in *where. */
bool shadow_check(struct shadow *s, const void *bytes, uint64_t offset, uint64_t length, uint64_t *where);

/* Random content: noise, runs, zeroes or a mix of them. */
void fill_random(struct rng *r, uint8_t *bytes, size_t count);
/* The content of a sector after operation `id`: no two operations and no two sectors look alike. Half of the ids can be
 * compressed. id 0 is all zero. */
void fill_sector(uint8_t *bytes, uint64_t id, uint64_t sector);

/* ---- a running seed ---------------------------------------------------------------------------- */

/* A snapshot that the run made. */
enum { OWN_STATES = 3 };
struct own_state {
    uint8_t *bytes; /* NULL: there is none */
    uint64_t size;
    unsigned number;
};

/* A bitmap that the run made. */
enum { OWN_BITMAPS = 3 };
struct own_bitmap {
    _Atomic uint8_t *sectors; /* NULL: there is none */
    uint64_t granularity;
    unsigned number;
    bool enabled;
};

struct run {
    struct config config;
    struct rng rng;
    struct shadow shadow;
    struct img *image;
    uint64_t started; /* hash of the files below the top one */
    uint64_t snapshot_size[MAX_SNAPSHOTS];
    struct own_state own[OWN_STATES];
    unsigned own_made;
    struct own_bitmap bitmaps[OWN_BITMAPS];
    unsigned bitmaps_made;
    uint64_t operations; /* for messages and pattern ids */
};

extern bool verbose;

/* Says what went wrong and ends the process of this seed. */
_Noreturn void model_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void model_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *must_allocate(size_t size);

/* Runs a program; `argv` ends with NULL. Returns its exit status (128 + signal), its output is in the file "qemu.out".
 */
int run_program(const char *const *argv);
/* As run_program; anything but success ends the seed with the program's output. */
void must_run(const char *const *argv);
/* The exit status may be `also` too (sigraise). */
void must_run_or(const char *const *argv, int also);
uint8_t *file_load(const char *path, uint64_t *size);
void file_store(const char *path, const void *bytes, uint64_t size);
uint64_t file_hash(const char *path);

/* A command line that grows. */
#define ARGS_MAX 200
struct args {
    const char *argv[ARGS_MAX + 1];
    unsigned count;
};
void args_add(struct args *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
void args_free(struct args *a);
void args_format(struct args *a, const struct layer *l);
void args_file(struct args *a, const struct layer *l);

/* start.c */
void start_images(struct run *run);
/* Lets QEMU change the image that we closed, and takes its word for the parts that it wrote. */
void hand_over_to_qemu(struct run *run);
/* Converts the top image (or one of its snapshots) to raw with qemu-img and loads the result. */
uint8_t *qemu_content(const struct run *run, const char *snapshot, uint64_t *size);
/* A hash over every file of the chain below the top image. */
uint64_t lower_layers_hash(const struct run *run);

/* ops.c */
void open_top(struct run *run, bool vary);
void close_top(struct run *run);
void single_thread(struct run *run);
/* At once; op_read may be answered later. */
void check_read(struct run *run, struct rng *rng, uint64_t offset, uint64_t length);
void op_read(struct run *run, struct rng *rng, uint64_t offset, uint64_t length);
void check_whole(struct run *run);
/* A vectored write of a few pieces, or a plain one. Takes over `bytes`. */
void do_write(struct run *run, struct rng *rng, uint8_t *bytes, uint64_t offset, uint64_t length);
/* ZERO or DISCARD. */
void do_clear(struct run *run, enum img_io_op op, uint32_t flags, uint64_t offset, uint64_t length);
void settle(struct run *run, struct rng *rng, uint64_t offset, uint64_t length);
void op_write(struct run *run, struct rng *rng, struct range r);
void op_zero(struct run *run, struct rng *rng, struct range r);
void op_discard(struct run *run, struct rng *rng, struct range r);
void op_flush(struct run *run);
/* The next two stay inside [start, end). `alone`: nobody else moves clusters, so the host's bytes are compared too. */
void op_compressed(struct run *run, struct rng *rng, uint64_t start, uint64_t end);
void op_map(struct run *run, struct rng *rng, uint64_t start, uint64_t end, bool alone);
bool compression_possible(const struct config *c);
/* A random place and length in [start, end), in units that the mode allows. */
struct range pick_range(const struct config *c, struct rng *rng, uint64_t start, uint64_t end, uint64_t unit);
/* Whole clusters inside [start, end); empty: there is none. */
struct range pick_clusters(const struct config *c, struct rng *rng, uint64_t start, uint64_t end, uint64_t size);

/* threads.c */
void disjoint_threads(struct run *run);
void overlapping_threads(struct run *run);

/* flow.c: through this thread's queue, which is made when it is first needed. */
typedef void flow_read_end(struct run *run, void *opaque, const uint8_t *bytes, uint64_t offset, uint64_t length);
static inline bool flow_is_used(const struct run *run) {
    return run->config.executor != VIA_CALLS;
}
/* Waits for what is under way in [start, end); for everything. */
void flow_apart(struct run *run, uint64_t start, uint64_t end);
void flow_collect(struct run *run);
void flow_close(struct run *run);
/* READ or WRITE; takes over `iov` and `bytes`. `at_end`, if not NULL, is called when it is complete. */
void flow_transfer(struct run *run, enum img_io_op op, struct iovec *iov, unsigned niov, uint8_t *bytes,
                   uint64_t offset, uint64_t length, flow_read_end *at_end, void *opaque);
/* ZERO, DISCARD or FLUSH. */
void flow_clear(struct run *run, enum img_io_op op, uint32_t flags, uint64_t offset, uint64_t length);

/* finish.c */
void finish(struct run *run);
/* Our own check of the open image; leaks count unless `live`. */
void own_check(struct run *run, bool live);

/* bitmaps.c */
bool bitmaps_are_there(const struct run *run);
/* The first one of a run that has bitmaps; then one is made or changed. Nobody writes. */
void bitmaps_start(struct run *run);
void op_bitmap(struct run *run);
/* A request of the guest; it has changed all of it for `certain`, or perhaps something. Any thread. */
void bitmaps_changed(struct run *run, uint64_t offset, uint64_t length, bool certain);
/* The range reads as zeroes from now on; the byte array does not know it yet. */
void bitmaps_cleared(struct run *run, struct range r);
/* QEMU has had its turn in the range, and reads `now` (of the whole disk); the byte array does not know it yet. */
void bitmaps_rewritten(struct run *run, struct range r, const uint8_t *now);
void bitmaps_resized(struct run *run, uint64_t size);
/* The image was opened or edited just now: what is on the disk is all. */
void bitmaps_check(struct run *run);
/* The image is closed: QEMU's reading; and they are forgotten. */
void bitmaps_finish(struct run *run);

/* states.c */
bool states_possible(const struct config *c);
/* One snapshot is made, gone back to, deleted or compared; no request is under way elsewhere. */
void op_states(struct run *run);
/* One is made and deleted while others write. */
void states_beside(struct run *run, unsigned number);
/* The image is closed: they hold what they held. */
void compare_own_states(struct run *run);

#endif
