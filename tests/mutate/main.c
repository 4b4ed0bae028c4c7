// SPDX-License-Identifier: GPL-3.0-or-later
/* main.c - mutations of every type, counted and judged, and TAP.
 *
 *   mutate_test [--sample | --all | --count N] [--type TYPE]
 *   mutate_test --type TYPE --seed N                    one mutation, told
 *   mutate_test ... --keep FOLDER                       nothing is read; the disks are kept: FOLDER/TYPE-SEED, and .2
 * if there is another mutate_test ... --bases FOLDER                      begins with the disks that are there, made by
 * tests/mutate/bases
 *
 * A process of its own does one mutation after another. Where it dies or takes too long, the seed is told and another
 * process goes on behind it. A type passes if that never happens, no disk was asked for bytes outside of it, memory
 * stayed small, and half of the mutations (of a sample a third) changed what is printed: else they would have missed
 * what is read.
 */
#include "mutate.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fs/volume/volume.h"

#define ALL 10000
#define SAMPLE 100
#define FEW 1000 /* by chance a smaller number changes less */
#define SECONDS_MOST 10
#define MEMORY_MOST (512u << 20)
#define FAILURES_MOST 20
#define BASES_MOST 4
#define MIB (1u << 20)

static const struct type {
    const char *name;
    void (*prepare)(struct base *base, const char *path);
    unsigned ndisks, sector;
    uint64_t divided; /* volumes: what lies in them is not changed, nor what lies behind this byte; 0: a filesystem */
    const char *bases[BASES_MOST];
} types[] = {
    {"ext4", ext_prepare, 1, 512, 0, {"ext4", "ext4-journal", "ext4-fast"}},
    {"ext3", ext_prepare, 1, 512, 0, {"ext3", "ext3-journal"}},
    {"ext2", ext_prepare, 1, 512, 0, {"ext2"}},
    {"xfs", xfs_prepare, 1, 512, 0, {"xfs", "xfs-dirty"}},
    {"xfs4", xfs_prepare, 1, 512, 0, {"xfs4"}},
    {"fat12", NULL, 1, 512, 0, {"fat12", "fat12-floppy"}},
    {"fat16", NULL, 1, 512, 0, {"fat16"}},
    {"fat32", NULL, 1, 512, 0, {"fat32"}},
    {"ntfs", ntfs_prepare, 1, 512, 0, {"ntfs", "ntfs-packed", "ntfs-links"}},
    {"mbr", NULL, 1, 512, UINT64_MAX, {"mbr"}},
    {"gpt", volumes_prepare_signs, 1, 512, UINT64_MAX, {"gpt", "gpt-backup"}},
    {"gpt4096", volumes_prepare_signs, 1, 4096, UINT64_MAX, {"gpt4096"}},
    {"lvm", volumes_prepare_signs, 2, 512, UINT64_MAX, {"lvm"}},
    {"luks1", NULL, 1, 512, 2048, {"luks1"}},
    {"luks2", volumes_prepare_signs, 1, 512, 32768, {"luks2", "luks2-backup"}},
    {"md", volumes_prepare_signs, 2, 512, 1, {"md-mirror", "md-stripes"}},
};
#define TYPES (sizeof(types) / sizeof(types[0]))

/* What the processes of one type have found, seen by all. */
struct tally {
    uint64_t seed; /* under way */
    uint64_t done, changed, worst_us, worst_seed, peak, peak_seed, outside;
};

static char folder[300];
static uint64_t count_wanted = SAMPLE, only_seed = UINT64_MAX;
static const char *only_type, *keep;
static volatile sig_atomic_t stopped;

/* ---- the disks ---- */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

static void remove_folder(void) {
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void make_bases(void) {
    char command[600];
    snprintf(folder, sizeof(folder), "%s/mutate-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(folder)) {
        printf("Bail out! %s: %s\n", folder, strerror(errno));
        exit(1);
    }
    snprintf(command, sizeof(command), "tests/mutate/bases %s %s >&2", folder, only_type ? only_type : "");
    if (system(command) != 0) {
        printf("Bail out! the disks cannot be made\n");
        remove_folder();
        exit(1);
    }
}

struct set {
    const struct type *type;
    struct base bases[BASES_MOST];
    uint64_t sums[BASES_MOST]; /* of what is printed unchanged */
    unsigned count;
};

/* A signature that differs from what the tools wrote would be no signature. */
static void check_signs(struct base *base) {
    if (base->sign)
        base->sign(base);
    for (unsigned i = 0; i < base->ndisks; i++)
        if (base->disks[i].ntouched > 0) {
            printf("Bail out! %s: the checksums at %" PRIu64 " are not those of the tools\n", base->name,
                   base->disks[i].touched[0] * 4096);
            exit(1);
        }
}

static void load_set(struct set *set, const struct type *type) {
    char path[400];
    *set = (struct set){.type = type};
    for (; set->count < BASES_MOST && type->bases[set->count]; set->count++) {
        struct base *base = &set->bases[set->count];
        base_load(base, folder, type->bases[set->count], type->ndisks, type->sector);
        base->divided = type->divided;
        base_record(true);
        set->sums[set->count] = print_all(base, false);
        base_record(false);
        snprintf(path, sizeof(path), "%s/%s", folder, base->name);
        if (type->prepare)
            type->prepare(base, path);
        if (type->prepare != ext_prepare)
            base_take_read(base);
        check_signs(base);
        if (base->nplaces == 0 || print_all(base, false) != set->sums[set->count]) {
            printf("Bail out! %s: nothing to be changed, or it is not the same twice\n", base->name);
            exit(1);
        }
        printf("# %s: %zu places\n", base->name, base->nplaces);
    }
}

static void unload_set(struct set *set) {
    for (unsigned i = 0; i < set->count; i++)
        base_free(&set->bases[i]);
}

/* ---- one mutation ---- */

static struct base *mutate(struct set *set, uint64_t seed, bool show, uint64_t *unchanged) {
    struct random random = {seed * 1000003};
    for (const char *p = set->type->name; *p; p++)
        random.state = random.state * 31 + (uint8_t)*p;
    unsigned which = (unsigned)(seed % set->count);
    struct base *base = &set->bases[which];
    *unchanged = set->sums[which];
    if (show)
        printf("# of %s\n", base->name);
    change_some(base, &random, show);
    if (base->sign)
        base->sign(base);
    return base;
}

static uint64_t clock_us(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* On a loaded machine a second is long, so it is the processor's time that counts; whoever waits for something is
 * ended, too. */
static void limit(void) {
    const struct itimerval most = {.it_value.tv_sec = SECONDS_MOST};
    setitimer(ITIMER_PROF, &most, NULL);
    alarm(SECONDS_MOST * 20);
}

static bool took_too_long(int status) {
    return WIFSIGNALED(status) && (WTERMSIG(status) == SIGALRM || WTERMSIG(status) == SIGPROF);
}

static void run_one(struct set *set, struct tally *tally, uint64_t seed) {
    uint64_t unchanged, start = clock_us(CLOCK_PROCESS_CPUTIME_ID);
    tally->seed = seed;
    limit();
    struct base *base = mutate(set, seed, false, &unchanged);
    peak_begin();
    if (print_all(base, false) != unchanged)
        tally->changed++;
    base_restore(base);
    uint64_t took = clock_us(CLOCK_PROCESS_CPUTIME_ID) - start, peak = peak_bytes();
    if (took > tally->worst_us) {
        tally->worst_us = took;
        tally->worst_seed = seed;
    }
    if (peak > tally->peak) {
        tally->peak = peak;
        tally->peak_seed = seed;
    }
    tally->done++;
    tally->outside += outside_reads;
    outside_reads = 0;
}

/* ---- one type ---- */

/* With holes where it is zero. */
static bool keep_disk(const struct disk *disk, const char *path) {
    static const uint8_t zero[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool ok = fd >= 0 && ftruncate(fd, (off_t)disk->device.size) == 0;
    for (uint64_t at = 0; ok && at < disk->device.size; at += sizeof(zero)) {
        uint64_t left = disk->device.size - at;
        size_t count = left < sizeof(zero) ? (size_t)left : sizeof(zero);
        if (memcmp(disk->bytes + at, zero, count) != 0)
            ok = pwrite(fd, disk->bytes + at, count, (off_t)at) == (ssize_t)count;
    }
    return fd >= 0 && close(fd) == 0 && ok;
}

static void keep_disks(const struct base *base, const char *place, const char *type, uint64_t seed) {
    char path[1000];
    for (unsigned i = 0; i < base->ndisks; i++) {
        snprintf(path, sizeof(path), "%s/%s-%" PRIu64 "%s", place, type, seed, i ? ".2" : "");
        if (!keep_disk(&base->disks[i], path)) {
            printf("Bail out! %s: %s\n", path, strerror(errno));
            exit(1);
        }
    }
}

/* The disk of a mutation that was not survived. */
static void tell_failure(struct set *set, uint64_t seed, int status) {
    uint64_t unchanged;
    struct base *base = mutate(set, seed, false, &unchanged);
    const char *place = getenv("IMG_BUILD") ? getenv("IMG_BUILD") : "/tmp";
    keep_disks(base, place, set->type->name, seed);
    base_restore(base);
    printf("# seed %" PRIu64 " %s; its disk is %s/%s-%" PRIu64 "\n", seed,
           took_too_long(status) ? "takes longer than 10 s" : "ends the process", place, set->type->name, seed);
}

/* Goes on where the last process ended; false: it died, *status says how. */
static bool run_process(struct set *set, struct tally *tally, uint64_t from, int *status) {
    fflush(stdout);
    tally->seed = from;
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGTERM, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        for (uint64_t seed = from; seed < count_wanted; seed++)
            run_one(set, tally, seed);
        limit();
        exit(0); /* not _exit: a leak checker has its say */
    }
    while (pid < 0 || waitpid(pid, status, 0) < 0) {
        if (pid < 0 || errno != EINTR) {
            printf("Bail out! a process: %s\n", strerror(errno));
            exit(1);
        }
        kill(pid, SIGTERM);
    }
    return WIFEXITED(*status) && WEXITSTATUS(*status) == 0;
}

static bool run_type(const struct type *type, unsigned number) {
    struct set set;
    unsigned failures = 0;
    int status = 0;
    struct tally *tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tally == MAP_FAILED)
        exit(1);
    load_set(&set, type);
    uint64_t start = clock_us(CLOCK_MONOTONIC);
    for (uint64_t from = 0; from < count_wanted && failures < FAILURES_MOST; from = tally->seed + 1) {
        if (run_process(&set, tally, from, &status) || stopped)
            break;
        failures++;
        tell_failure(&set, tally->seed, status);
    }
    uint64_t needed = tally->done / (count_wanted < FEW ? 3 : 2);
    bool ok =
        tally->done == count_wanted && tally->outside == 0 && tally->peak < MEMORY_MOST && tally->changed >= needed;
    printf("%sok %u - %s: %" PRIu64 " mutations, %" PRIu64 " change what is printed, worst %.1f s, %.1f MiB\n",
           ok ? "" : "not ", number, type->name, tally->done, tally->changed, (double)tally->worst_us / 1e6,
           (double)tally->peak / MIB);
    printf("# in %.0f s; the slowest is seed %" PRIu64 ", the largest %" PRIu64 "; reads outside: %" PRIu64 "\n",
           (double)(clock_us(CLOCK_MONOTONIC) - start) / 1e6, tally->worst_seed, tally->peak_seed, tally->outside);
    unload_set(&set);
    munmap(tally, sizeof(*tally));
    fflush(stdout);
    return ok;
}

/* ---- one seed, and kept disks ---- */

static void show_one(const struct type *type) {
    struct set set;
    uint64_t unchanged;
    load_set(&set, type);
    struct base *base = mutate(&set, only_seed, true, &unchanged);
    fflush(stdout);
    limit();
    peak_begin();
    bool changed = print_all(base, true) != unchanged;
    printf("# %s, %.1f MiB\n", changed ? "changed" : "unchanged", (double)peak_bytes() / MIB);
    unload_set(&set);
}

static void keep_type(const struct type *type) {
    struct set set;
    uint64_t unchanged, one = only_seed != UINT64_MAX, first = one ? only_seed : 0;
    load_set(&set, type);
    for (uint64_t seed = first; seed < (one ? first + 1 : count_wanted); seed++) {
        struct base *base = mutate(&set, seed, false, &unchanged);
        keep_disks(base, keep, type->name, seed);
        base_restore(base);
    }
    unload_set(&set);
}

static void on_stop(int signal_number) {
    stopped = signal_number;
}

static int run_types(void) {
    unsigned number = 0, failed = 0;
    for (size_t i = 0; i < TYPES && !stopped; i++) {
        if (only_type && strcmp(only_type, types[i].name) != 0)
            continue;
        if (keep)
            keep_type(&types[i]);
        else if (only_seed != UINT64_MAX)
            show_one(&types[i]);
        else if (!run_type(&types[i], ++number))
            failed++;
    }
    if (number > 0)
        printf("1..%u\n", number);
    return failed || stopped ? 1 : 0;
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"sample", no_argument, NULL, 's'},      {"all", no_argument, NULL, 'a'},
        {"count", required_argument, NULL, 'c'}, {"type", required_argument, NULL, 't'},
        {"seed", required_argument, NULL, 'n'},  {"keep", required_argument, NULL, 'k'},
        {"bases", required_argument, NULL, 'b'}, {0}};
    struct img_error err = {0};
    int opt;
    while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (opt == 's')
            count_wanted = SAMPLE;
        else if (opt == 'a')
            count_wanted = ALL;
        else if (opt == 'c')
            count_wanted = strtoull(optarg, NULL, 10);
        else if (opt == 't')
            only_type = optarg;
        else if (opt == 'n')
            only_seed = strtoull(optarg, NULL, 10);
        else if (opt == 'k')
            keep = optarg;
        else if (opt == 'b')
            snprintf(folder, sizeof(folder), "%s", optarg);
        else
            return 1;
    }
    if (volumes_prepare(&err) < 0) {
        printf("Bail out! %s\n", err.text);
        return 1;
    }
    bool made = folder[0] == '\0';
    if (made)
        make_bases();
    const struct sigaction stop = {.sa_handler = on_stop}; /* waiting ends, too */
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    int status = run_types();
    if (made)
        remove_folder();
    return status;
}
