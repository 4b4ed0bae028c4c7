/* SPDX-License-Identifier: GPL-3.0-or-later */
/* test_create.c - new images of every kind, judged by qemu-img, and what happens to what was there before.
 *
 * Images are made in a folder in memory: they are many, and nothing here is about the disk. Each qcow2 image is checked
 * (exit code 0: neither error nor leak), and what `qemu-img info` tells of it must equal what it tells of an image that
 * qemu-img made with the same options.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "img.h"
#include "qcow2/layout.h"
#include "unit/memory_storage.h"

#define MiB (1024ull * 1024)
#define GiB (1024 * MiB)

static char folder[] = "/dev/shm/create-XXXXXX";

/* Runs a shell command in the folder and returns its exit code. */
__attribute__((format(printf, 1, 2))) static int run(const char *format, ...) {
    char line[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    int status = system(line);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#define EXPECT_RUN(...)                                                                                                \
    do {                                                                                                               \
        if (run(__VA_ARGS__) != 0)                                                                                     \
            fail_msg(__VA_ARGS__);                                                                                     \
    } while (0)

static int enter(void **state) {
    (void)state;
    return mkdtemp(folder) == NULL || chdir(folder) < 0 ? -1 : 0;
}

static int leave(void **state) {
    (void)state;
    return chdir("/") < 0 ? -1 : run("rm -rf %s", folder);
}

/* Between tests: nothing lies about, above all no temporary file. */
static int sweep(void **state) {
    (void)state;
    return run("ls -A | grep -q '^\\.' && ls -A >&2; rc=0; ls -A | grep -q '^\\.' && rc=1; "
               "find . -mindepth 1 -delete; exit $rc");
}

static void create(const char *path, const struct img_create_options *o) {
    struct img_error err = {0};
    if (img_create(path, o, &err) != 0)
        fail_msg("%s: %s", path, err.text);
}

static void expect_failure(const char *path, const struct img_create_options *o, int code, const char *words) {
    struct img_error err = {0};
    int r = img_create(path, o, &err);
    if (r != code || strstr(err.text, words) == NULL)
        fail_msg("expected %d with \"%s\", got %d with \"%s\"", code, words, r, err.text);
    assert_int_equal(err.code, r);
}

static uint64_t length_of(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

static uint64_t allocated(const char *path) {
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_blocks * 512;
}

/* ---- the matrix ------------------------------------------------------------------------------ */

static const char *const preallocations[] = {"off", "metadata", "falloc", "full"};

static void expect_same_info(const struct img_create_options *o) {
    unsigned version = o->version != 0 ? o->version : 3;
    char backing[128] = "";
    if (o->backing_file != NULL)
        snprintf(backing, sizeof backing, "-u -b %s -F %s", o->backing_file, o->backing_format);
    EXPECT_RUN("mkdir -p q && cd q && qemu-img create -q -f qcow2 %s -o "
               "compat=%s,cluster_size=%llu,refcount_bits=%u,extended_l2=%s,lazy_refcounts=%s,compression_type=%s,"
               "preallocation=%s i %llu",
               backing, version == 2 ? "0.10" : "1.1", (unsigned long long)o->cluster_size, o->refcount_bits,
               o->extended_l2 ? "on" : "off", o->lazy_refcounts ? "on" : "off",
               o->compression != NULL ? o->compression : "zlib", preallocations[o->preallocation],
               (unsigned long long)o->size);
    EXPECT_RUN("qemu-img info --output=json i | grep -v actual-size > ours; cd q; "
               "qemu-img info --output=json i | grep -v actual-size | cmp - ../ours");
}

static void fail_image(const char *who, const struct img_create_options *o) {
    fail_msg("%s: cluster_size %u, refcount_bits %u, version %u, preallocation %u, extended_l2 %d", who,
             (unsigned)o->cluster_size, o->refcount_bits, o->version, o->preallocation, o->extended_l2);
}

static void make_and_check(const struct img_create_options *o, bool compare) {
    create("i", o);
    if (run("qemu-img check -q i") != 0)
        fail_image("qemu-img check", o);
    if (compare)
        expect_same_info(o);
}

/* Our own check costs no process. */
static void make_and_check_here(const struct img_create_options *o) {
    struct img_open_options open = {.format = "qcow2", .flags = IMG_OPEN_CHECK};
    struct img_check_options check = {0};
    struct img_check_result result;
    struct img_error err = {0};
    struct img *image;
    create("i", o);
    if (img_open("i", &open, &image, &err) != 0 || img_check(image, &check, &result, &err) != 0)
        fail_msg("%s", err.text);
    img_close(image, NULL);
    if (result.corruptions != 0 || result.leaks != 0 || result.check_errors != 0)
        fail_image("img_check", o);
}

/* Every cluster size with every width: without preallocation, and with one or the other kind of it. */
static void test_geometry(void **state) {
    (void)state;
    for (unsigned bits = 9; bits <= 21; bits++)
        for (unsigned order = 0; order <= 6; order++) {
            struct img_create_options o = {.format = "qcow2", .size = 40 * MiB + 512};
            o.cluster_size = 1u << bits;
            o.refcount_bits = 1u << order;
            if (bits < 12)
                o.size = MiB + 512;
            if ((bits + order) % 7 == 0)
                make_and_check(&o, true);
            else
                make_and_check_here(&o);
            assert_true(allocated("i") <= 3 * o.cluster_size + 65536);
            o.preallocation = IMG_PREALLOCATION_METADATA;
            o.extended_l2 = bits >= 14 && (bits + order) % 2 == 0;
            if ((bits + order) % 4 == 0)
                make_and_check(&o, false);
            else
                make_and_check_here(&o);
        }
}

/* One count of one for each cluster in use, and nothing behind them: a check does not look past the end of the file. */
static void test_counts(void **state) {
    (void)state;
    for (unsigned order = 0; order <= 6; order++)
        for (unsigned mode = 0; mode < 2; mode++) {
            struct img_create_options o = {.format = "qcow2", .size = 130 * 512, .cluster_size = 512};
            struct memory_storage m;
            struct qcow2_layout l;
            o.refcount_bits = 1u << order;
            o.preallocation = mode;
            memory_open(&m, 0);
            assert_int_equal(layout_plan(&o, o.size, &l, NULL), 0);
            assert_int_equal(layout_write(&l, &m.base, NULL, NULL), 0);
            assert_int_equal(l.used_clusters, (m.size + 511) / 512);
            uint64_t ones = 0;
            for (uint64_t i = 0; i < l.refcount_blocks * l.cluster_size; i++)
                ones += (uint64_t)__builtin_popcount(m.bytes[l.blocks_offset + i]);
            assert_int_equal(ones, l.used_clusters);
            layout_free(&l);
            memory_close(&m);
        }
}

static void test_version_2(void **state) {
    (void)state;
    for (unsigned bits = 9; bits <= 21; bits++) {
        struct img_create_options o = {.format = "qcow2", .size = 5 * MiB, .version = 2, .refcount_bits = 16};
        o.cluster_size = 1u << bits;
        if (bits % 4 == 0)
            make_and_check(&o, true);
        o.preallocation = IMG_PREALLOCATION_METADATA;
        make_and_check(&o, bits == 16);
    }
}

static void test_features(void **state) {
    (void)state;
    for (unsigned mask = 0; mask < 16; mask += mask < 8 ? 3 : 1) { /* 0, 3, 6, then all with a backing file */
        struct img_create_options o = {
            .format = "qcow2", .size = 3 * MiB, .cluster_size = 1 << 14, .refcount_bits = 16, .version = 3};
        o.lazy_refcounts = mask & 1;
        o.extended_l2 = mask & 2;
        o.compression = mask & 4 ? "zstd" : NULL;
        if (mask & 8) {
            o.backing_file = "base of all";
            o.backing_format = "raw";
            o.backing_unchecked = true;
        }
        struct img_error err = {0};
        if (img_create("i", &o, &err) != 0)
            fail_msg("%s", err.text);
        o.backing_file = mask & 8 ? "'base of all'" : NULL; /* for the shell */
        expect_same_info(&o);
    }
}

/* Host space, what qemu-img shows, and that a guest can work on it. */
static void test_preallocation(void **state) {
    (void)state;
    static const char *const maps[] = {
        "\"present\": false, \"zero\": true, \"data\": false}",
        "\"present\": true, \"zero\": true, \"data\": true, \"offset\": 327680}",
        "\"present\": true, \"zero\": false, \"data\": true, \"offset\": 327680}",
        "\"present\": true, \"zero\": false, \"data\": true, \"offset\": 327680}",
    };
    for (unsigned mode = 0; mode < 4; mode++)
        for (unsigned version = 2; version <= 3; version++) {
            struct img_create_options o = {.format = "qcow2", .size = 8 * MiB, .version = version};
            o.refcount_bits = 16;
            o.cluster_size = 65536;
            o.preallocation = mode;
            make_and_check(&o, version == 3);
            EXPECT_RUN("qemu-img map --output=json i | grep -qF '\"length\": 8388608, \"depth\": 0, %s'", maps[mode]);
            assert_true(mode >= IMG_PREALLOCATION_FALLOC ? allocated("i") >= 8 * MiB : allocated("i") < MiB);
            EXPECT_RUN("qemu-io -c 'read -P 0 0 8M' -c 'write -P 7 3M 1M' -c 'read -P 7 3M 1M' -c 'read -P 0 4M 4M' i "
                       "> out && ! grep -q 'Pattern verification failed' out && qemu-img check -q i");
        }
}

static void test_sizes(void **state) {
    (void)state;
    struct img_create_options o = {.format = "qcow2", .size = 0, .cluster_size = 65536, .refcount_bits = 16};
    make_and_check(&o, true);
    o.preallocation = IMG_PREALLOCATION_FULL;
    make_and_check(&o, true);
    o.preallocation = IMG_PREALLOCATION_OFF;
    o.size = 100; /* becomes a sector */
    make_and_check(&o, true);
    o.size = 1ull << 51; /* the largest that 64 KiB clusters can describe */
    make_and_check(&o, true);
    assert_true(allocated("i") < MiB);
    o.size++;
    expect_failure("j", &o, -EFBIG,
                   "The image size is too large for file format 'qcow2' (try using a larger cluster size)");
    o.cluster_size = 2 * MiB;
    o.size = 1ull << 61;
    make_and_check(&o, true);
    o.size = INT64_MAX;
    expect_failure("j", &o, -EFBIG, "The image size is too large");
    o.size = UINT64_MAX;
    expect_failure("j", &o, -EINVAL, "Image creation needs a size parameter");
    /* preallocated, counts of 8 bytes would need a refcount table of more than 8 MiB */
    o = (struct img_create_options){.format = "qcow2", .size = 40 * GiB, .cluster_size = 512, .refcount_bits = 64};
    o.preallocation = IMG_PREALLOCATION_METADATA;
    expect_failure("j", &o, -EFBIG, "The image size is too large");
}

/* A large preallocated image costs time for its tables, and no memory. */
static void test_large(void **state) {
    (void)state;
    struct rusage before, after;
    struct img_create_options o = {.format = "qcow2", .size = 512 * GiB, .preallocation = IMG_PREALLOCATION_METADATA};
    getrusage(RUSAGE_SELF, &before);
    create("i", &o);
    getrusage(RUSAGE_SELF, &after);
    assert_true(after.ru_maxrss - before.ru_maxrss < 8 << 10); /* KiB; its tables have 64 MiB */
    EXPECT_RUN("qemu-img check -q i");
    EXPECT_RUN("qemu-img map --output=json i | wc -l | grep -qx 1");
}

/* ---- backing and data files ---------------------------------------------------------------------- */

static void test_backing(void **state) {
    (void)state;
    struct img_create_options o = {.format = "qcow2", .size = UINT64_MAX};
    EXPECT_RUN("mkdir sub && truncate -s 3M sub/base.raw && qemu-img create -q -f qcow2 sub/base.qcow2 5M");
    o.backing_file = "base.raw"; /* seen from the image's folder */
    expect_failure("sub/i", &o, -EINVAL, "Backing file specified without backing format\nDetected format of raw.");
    o.backing_format = "raw";
    create("sub/i", &o);
    EXPECT_RUN("qemu-img info --output=json sub/i | grep -q '\"virtual-size\": 3145728' && qemu-img check -q sub/i");
    o.backing_file = "base.qcow2";
    o.backing_format = "qcow2";
    o.extended_l2 = true;
    o.preallocation = IMG_PREALLOCATION_METADATA;
    create("sub/i", &o);
    EXPECT_RUN("qemu-img info --output=json sub/i | grep -q '\"virtual-size\": 5242880' && qemu-img check -q sub/i");
    EXPECT_RUN("qemu-io -c 'write -P 3 1M 1M' sub/base.qcow2 > /dev/null && "
               "qemu-io -c 'read -P 3 1M 1M' sub/i > out && ! grep -q failed out");
    o.preallocation = IMG_PREALLOCATION_OFF;
    o.size = 7 * MiB; /* a size of its own */
    create("sub/i", &o);
    EXPECT_RUN("qemu-img info --output=json sub/i | grep -q '\"virtual-size\": 7340032'");

    o.backing_file = "nosuch";
    expect_failure("sub/j", &o, -ENOENT,
                   "Could not open 'sub/nosuch': No such file or directory\nCould not open backing image.");
    o.backing_file = "base.raw"; /* no qcow2 */
    expect_failure("sub/j", &o, -EINVAL, "Image is not in qcow2 format");
    o.backing_file = "i";
    expect_failure("sub/i", &o, -EINVAL, "Trying to create an image with the same filename as the backing file");
    o.backing_file = "i"; /* its own grandchild */
    expect_failure("sub/base.qcow2", &o, -EINVAL, "belongs to the backing chain");
    EXPECT_RUN("qemu-img check -q sub/i && qemu-img check -q sub/base.qcow2");
    o.backing_file = "nbd:localhost:10809";
    expect_failure("sub/j", &o, -ENOTSUP, "names 'nbd:localhost:10809'");
    o.backing_unchecked = true;
    create("sub/j", &o);
    EXPECT_RUN("qemu-img info -U --output=json sub/j | grep -q nbd:localhost:10809");
    o.backing_file = NULL;
    expect_failure("sub/j", &o, -EINVAL, "Backing format cannot be used without backing file");
}

static void test_data_file(void **state) {
    (void)state;
    for (unsigned mode = 0; mode < 8; mode++) {
        struct img_create_options o = {.format = "qcow2", .size = 3 * MiB + 512, .data_file = "d"};
        o.preallocation = mode & 3;
        o.data_file_raw = mode & 4;
        for (unsigned extended = 0; extended < (mode == 1 || mode == 4 ? 2 : 1); extended++) {
            o.extended_l2 = extended;
            EXPECT_RUN("head -c 5M /dev/urandom > d"); /* must not show through */
            create("i", &o);
            assert_int_equal(length_of("d"), 3 * MiB + 512);
            EXPECT_RUN("cmp -n 3146240 d /dev/zero");
            EXPECT_RUN("qemu-img info i > out && grep -qx '    data file: d' out && "
                       "grep -qx '    data file raw: %s' out",
                       o.data_file_raw ? "true" : "false");
            EXPECT_RUN("qemu-io -c 'read -P 0 0 3M' -c 'write -P 5 1M 64k' i > out && ! grep -q failed out && "
                       "qemu-img check -q i");
            assert_true(o.preallocation >= IMG_PREALLOCATION_FALLOC ? allocated("d") >= 3 * MiB : allocated("d") < MiB);
            assert_true(allocated("i") < MiB);
        }
        if (o.data_file_raw) /* what lies in the data file is what the guest sees, subclusters or not */
            EXPECT_RUN("printf x | dd of=d bs=1 seek=2M conv=notrunc status=none && "
                       "qemu-io -c 'read -P 120 2M 1' i > out && ! grep -q failed out");
    }
    struct img_create_options o = {.format = "qcow2", .size = MiB, .data_file = "i"};
    expect_failure("./i", &o, -EINVAL, "The image and its data file are the same file");
}

/* ---- options that do not go together ------------------------------------------------------------- */

static void test_options(void **state) {
    (void)state;
    static const struct {
        struct img_create_options o;
        const char *words;
    } list[] = {
        {{.cluster_size = 256}, "Cluster size must be a power of two between 512 and 2048k"},
        {{.cluster_size = 4 << 20}, "Cluster size must be a power of two between 512 and 2048k"},
        {{.cluster_size = 1000}, "Cluster size must be a power of two between 512 and 2048k"},
        {{.extended_l2 = true, .cluster_size = 8192},
         "Extended L2 entries are only supported with cluster sizes of at least 16384 bytes"},
        {{.refcount_bits = 3}, "Refcount width must be a power of two and may not exceed 64 bits"},
        {{.refcount_bits = 128}, "Refcount width must be a power of two and may not exceed 64 bits"},
        {{.version = 2, .refcount_bits = 8},
         "Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)"},
        {{.version = 2, .lazy_refcounts = true},
         "Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)"},
        {{.version = 2, .compression = "zstd"},
         "Non-zlib compression type is only supported with compatibility level 1.1 and above (use version=v3 or "
         "greater)"},
        {{.version = 2, .extended_l2 = true},
         "Extended L2 entries are only supported with compatibility level 1.1 and above (use version=v3 or greater)"},
        {{.version = 2, .data_file = "d"},
         "External data files are only supported with compatibility level 1.1 and above (use version=v3 or greater)"},
        {{.version = 4}, "Unsupported qcow2 version 4"},
        {{.compression = "lz4"}, "Parameter 'compression-type' does not accept value 'lz4'"},
        {{.data_file_raw = true}, "data-file-raw requires data-file"},
        {{.backing_file = "b",
          .backing_format = "raw",
          .backing_unchecked = true,
          .data_file = "d",
          .data_file_raw = true},
         "Backing file and data-file-raw cannot be used at the same time"},
        {{.backing_file = "b", .backing_format = "raw", .backing_unchecked = true, .preallocation = 1},
         "Backing file and preallocation can only be used at the same time if extended_l2 is on"},
        {{.backing_file = "b", .backing_unchecked = true}, "Backing file specified without backing format"},
        {{.backing_file = "b", .backing_format = "0123456789abcdef", .backing_unchecked = true},
         "Backing file format too long (16 bytes"},
        {{.data_file = ""}, "Data file name is empty"},
        {{.preallocation = 4}, "Parameter 'preallocation' does not accept value '4'"},
    };
    for (size_t i = 0; i < sizeof list / sizeof list[0]; i++) {
        struct img_create_options o = list[i].o;
        o.format = "qcow2";
        o.size = MiB;
        expect_failure("i", &o, -EINVAL, list[i].words);
        EXPECT_RUN("test -z \"$(ls -A)\"");
    }
    struct img_create_options o = {.format = "vmdk", .size = MiB};
    expect_failure("i", &o, -EINVAL, "Unknown file format 'vmdk'");
}

/* ---- raw --------------------------------------------------------------------------------------- */

static void test_raw(void **state) {
    (void)state;
    for (unsigned mode = 0; mode < 4; mode++) {
        struct img_create_options o = {.format = "raw", .size = 2 * MiB + 1, .preallocation = mode};
        if (mode == IMG_PREALLOCATION_METADATA) {
            expect_failure("i", &o, -ENOTSUP, "Unsupported preallocation mode: metadata");
            continue;
        }
        create("i", &o);
        assert_int_equal(length_of("i"), 2 * MiB + 512);
        assert_true(mode == IMG_PREALLOCATION_OFF ? allocated("i") == 0 : allocated("i") >= 2 * MiB);
        EXPECT_RUN("cmp -n 2097664 i /dev/zero");
    }
    struct img_create_options o = {.format = "raw", .size = MiB, .cluster_size = 65536};
    expect_failure("j", &o, -EINVAL, "Invalid parameter 'cluster_size'");
    o = (struct img_create_options){.format = "raw", .size = MiB, .backing_file = "i", .backing_format = "raw"};
    expect_failure("j", &o, -ENOTSUP, "Backing file not supported for file format 'raw'");
    o = (struct img_create_options){.format = "raw", .size = UINT64_MAX - 1};
    expect_failure("j", &o, -EFBIG, "The image size is too large (size = 18446744073709551614");
    o = (struct img_create_options){.format = "raw", .size = 0};
    create("i", &o);
    assert_int_equal(length_of("i"), 0);
}

/* ---- what was there before ----------------------------------------------------------------------- */

static const struct img_create_options small = {.format = "qcow2", .size = MiB};

static void test_replace(void **state) {
    (void)state;
    struct stat st;
    EXPECT_RUN("echo old > i && chmod 600 i && ln i other && ln -s i link && ln -s fresh dangling && mkdir sub && "
               "ln -s ../i sub/up");
    create("i", &small);
    EXPECT_RUN("grep -qx old other && qemu-img check -q i"); /* replaced, not overwritten */
    assert_int_equal(stat("i", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);

    EXPECT_RUN("echo old > i");
    create("link", &small);
    EXPECT_RUN("test -L link && qemu-img check -q i");
    EXPECT_RUN("echo old > i");
    create("sub/up", &small);
    EXPECT_RUN("test -L sub/up && qemu-img check -q i");
    create("dangling", &small);
    EXPECT_RUN("test -L dangling && qemu-img check -q fresh");

    mode_t mask = umask(027);
    create("masked", &small);
    umask(mask);
    assert_int_equal(stat("masked", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    if (geteuid() == 0) {
        EXPECT_RUN("chown 1234:2345 i && chmod 660 i");
        create("i", &small);
        assert_int_equal(stat("i", &st), 0);
        assert_int_equal(st.st_uid, 1234);
        assert_int_equal(st.st_gid, 2345);
        assert_int_equal(st.st_mode & 07777, 0660);
    }
    char name[256];
    memset(name, 'n', 255);
    name[255] = '\0';
    create(name, &small); /* the longest name there is */
    EXPECT_RUN("qemu-img check -q nnn*");
}

static void test_unfit_targets(void **state) {
    (void)state;
    EXPECT_RUN("mkdir d && mkfifo f && ln -s loop loop");
    expect_failure("d", &small, -EISDIR, "this is a directory");
    expect_failure("f", &small, -EINVAL, "this is a FIFO");
    expect_failure("/dev/null", &small, -EINVAL, "this is a character device");
    expect_failure("loop", &small, -ELOOP, "Could not create 'loop'");
    expect_failure("", &small, -ENOENT, "Could not create ''");
    expect_failure("nosuch/i", &small, -ENOENT, "Could not create 'nosuch/i': No such file or directory");
    expect_failure("d/", &small, -EISDIR, "this is a directory");
}

/* An image in use stays as it is, to the byte, and so does everything else. */
static void test_in_use(void **state) {
    (void)state;
    static const uint32_t holders[] = {IMG_OPEN_WRITE, 0};
    struct img_error err = {0};
    struct img_create_options with_data = {.format = "qcow2", .size = MiB, .data_file = "i"};
    create("i", &small);
    EXPECT_RUN("cp i copy && echo keep > d");
    for (int h = 0; h < 2; h++) {
        struct storage *holder;
        assert_int_equal(file_open("i", holders[h], IMG_CACHE_WRITEBACK, &holder, &err), 0);
        expect_failure("i", &small, -EAGAIN, "Is another process using the image [i]?");
        expect_failure("new", &with_data, -EAGAIN, "Is another process using the image [i]?");
        with_data.data_file = "d";
        expect_failure("i", &with_data, -EAGAIN, "Is another process using the image [i]?");
        with_data.data_file = "i";
        storage_close(holder);
        EXPECT_RUN("cmp i copy && test ! -e new && grep -qx keep d");
    }
    /* and nothing stays locked */
    create("i", &small);
    struct storage *user;
    assert_int_equal(file_open("i", IMG_OPEN_WRITE, IMG_CACHE_WRITEBACK, &user, &err), 0);
    storage_close(user);
}

/* Writes fail in the middle: nothing is left, and the old file stands. */
static void test_no_room(void **state) {
    (void)state;
    struct rlimit limit, before;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    EXPECT_RUN("echo old > i && echo old > d");
    for (unsigned kind = 0; kind < 4; kind++) {
        struct img_create_options o = {.format = kind == 0 ? "raw" : "qcow2", .size = 4 * MiB};
        o.preallocation = kind == 3 ? IMG_PREALLOCATION_OFF : IMG_PREALLOCATION_FULL;
        o.data_file = kind >= 2 ? "d" : NULL;
        limit.rlim_cur = MiB;
        setrlimit(RLIMIT_FSIZE, &limit);
        struct img_error err = {0};
        int r = img_create("i", &o, &err);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(r, -EFBIG);
        assert_non_null(strstr(err.text, "File too large"));
        EXPECT_RUN("grep -qx old i && grep -qx old d && test $(ls -A | wc -l) = 2");
    }
    signal(SIGXFSZ, SIG_DFL);
}

/* ---- block devices, as far as a storage of fixed size is like one ---------------------------------- */

/* Lays out an image on a device full of other bytes; what qemu-img then sees must be all zeroes. */
static void try_device(unsigned version, enum img_preallocation preallocation, bool extended, bool raw_data) {
    struct img_create_options o = {.format = "qcow2", .size = 2 * MiB, .version = version, .cluster_size = 32768};
    struct memory_storage m, data;
    struct qcow2_layout l;
    struct img_error err = {0};
    o.preallocation = preallocation;
    o.extended_l2 = extended;
    o.data_file = raw_data ? "d" : NULL;
    o.data_file_raw = raw_data;
    memory_open(&m, 4 * MiB);
    memory_open(&data, 2 * MiB);
    memset(m.bytes, 0xa7, m.size);
    memset(data.bytes, 0xa7, data.size);
    m.base.fixed_size = data.base.fixed_size = true;
    assert_int_equal(layout_plan(&o, o.size, &l, &err), 0);
    if (layout_write(&l, &m.base, raw_data ? &data.base : NULL, &err) != 0)
        fail_msg("%s", err.text);
    layout_free(&l);
    for (int i = 0; i < 2; i++) {
        FILE *file = fopen(i == 0 ? "i" : "d", "wb");
        assert_non_null(file);
        struct memory_storage *from = i == 0 ? &m : &data;
        assert_int_equal(fwrite(from->bytes, 1, from->size, file), from->size);
        assert_int_equal(fclose(file), 0);
    }
    EXPECT_RUN("qemu-img check -q i && qemu-io -c 'read -P 0 0 2M' i > out && ! grep -q failed out");
    if (raw_data)
        EXPECT_RUN("cmp -n 2097152 d /dev/zero");
    memory_close(&m);
    memory_close(&data);
}

static void test_device(void **state) {
    (void)state;
    for (unsigned version = 2; version <= 3; version++)
        for (unsigned mode = 0; mode < 4; mode++)
            try_device(version, mode, false, false);
    try_device(3, IMG_PREALLOCATION_METADATA, true, false);
    try_device(3, IMG_PREALLOCATION_FULL, true, false);
    try_device(3, IMG_PREALLOCATION_METADATA, false, true);
    try_device(3, IMG_PREALLOCATION_METADATA, true, true);

    struct img_create_options o = {.format = "qcow2", .size = 2 * MiB, .preallocation = IMG_PREALLOCATION_FULL};
    struct memory_storage m;
    struct qcow2_layout l;
    struct img_error err = {0};
    memory_open(&m, 2 * MiB);
    m.base.fixed_size = true;
    m.base.name = (char *)"/dev/small";
    assert_int_equal(layout_plan(&o, o.size, &l, &err), 0);
    assert_int_equal(layout_write(&l, &m.base, NULL, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "'/dev/small' is too small: 2424832 bytes are needed, it has 2097152"));
    assert_int_equal(m.writes, 0);
    layout_free(&l);
    memory_close(&m);
}

/* The device's header sector: gone first, back last, a barrier after the one and before the other. */
struct watched {
    struct memory_storage memory;
    const struct storage_ops *real;
    unsigned headers, flushes_before_last, writes_after_last;
};

static int watch_write(struct storage *s, const struct iovec *iov, int niov, uint64_t offset) {
    struct watched *w = (struct watched *)s;
    if (offset < 512) {
        w->headers++;
        assert_int_equal(iov[0].iov_len, 512);
        assert_int_equal(memcmp(iov[0].iov_base, "QFI\xfb", 4) == 0, w->headers == 2);
        w->flushes_before_last = w->memory.flushes;
        w->writes_after_last = 0;
    } else {
        assert_int_equal(w->headers, 1);
        assert_true(w->memory.flushes >= 1);
        w->writes_after_last++;
    }
    return w->real->write(s, iov, niov, offset);
}

static void test_device_order(void **state) {
    (void)state;
    struct img_create_options o = {.format = "qcow2", .size = 2 * MiB, .preallocation = IMG_PREALLOCATION_FULL};
    struct watched w = {0};
    struct qcow2_layout l;
    memory_open(&w.memory, 4 * MiB);
    w.memory.base.fixed_size = true;
    w.real = w.memory.base.ops;
    struct storage_ops ops = *w.real;
    ops.write = watch_write;
    w.memory.base.ops = &ops;
    assert_int_equal(layout_plan(&o, o.size, &l, NULL), 0);
    assert_int_equal(layout_write(&l, &w.memory.base, NULL, NULL), 0);
    assert_int_equal(w.headers, 2);
    assert_int_equal(w.flushes_before_last, 2);
    assert_int_equal(w.writes_after_last, 0);
    layout_free(&l);
    memory_close(&w.memory);
}

int main(void) {
#define TEST(function) cmocka_unit_test_setup_teardown(function, NULL, sweep)
    const struct CMUnitTest tests[] = {
        TEST(test_geometry),      TEST(test_counts),  TEST(test_version_2), TEST(test_features),
        TEST(test_preallocation), TEST(test_sizes),   TEST(test_large),     TEST(test_backing),
        TEST(test_data_file),     TEST(test_options), TEST(test_raw),       TEST(test_replace),
        TEST(test_unfit_targets), TEST(test_in_use),  TEST(test_no_room),   TEST(test_device),
        TEST(test_device_order),
    };
    return cmocka_run_group_tests_name("create", tests, enter, leave);
}
