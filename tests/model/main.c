// SPDX-License-Identifier: GPL-3.0-or-later
/* main.c - chooses the seeds, runs each in a process of its own, and speaks TAP.
 *
 *   model_test [--sample | --all | --seed N] [--from N] [--count N] [--ops N] [--jobs N] [--keep]
 *
 * --sample: a spread over the matrix in about a minute, a part of it through queues as well. --all: every seed, by each
 * executor. --seed N: one, told operation by operation; N says which executor, too (model.h).
 */
#include "model.h"

#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ALL_SEEDS 240
#if defined(__SANITIZE_THREAD__) /* ten times as slow, and many seeds have one thread */
#define SAMPLE_SEEDS 40
#else
#define SAMPLE_SEEDS 80
#endif
#define SAMPLE_OPS 150
#define ALL_OPS 500
#define SEED_SECONDS 900 /* a loaded machine is slow; a hang is for ever */
#define MOST_JOBS 64

struct job {
    pid_t pid;
    uint64_t seed;
    char folder[64];
};

static unsigned passed, failed;
static bool keep;
static volatile sig_atomic_t stopped;

static void on_stop(int signal_number) {
    stopped = signal_number;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

static void run_seed(const struct config *config) {
    struct run run = {.config = *config};
    run.rng.state = mix64(config->seed) + 1;
    alarm(SEED_SECONDS);
    start_images(&run);
    if (config->mode == MODE_SINGLE)
        single_thread(&run);
    else if (config->mode == MODE_DISJOINT)
        disjoint_threads(&run);
    else
        overlapping_threads(&run);
    finish(&run);
    free(run.shadow.bytes);
    free(run.shadow.maybe);
}

static void job_start(struct job *j, uint64_t seed, unsigned ops) {
    struct config config;
    config_make(&config, seed, ops);
    j->seed = seed;
    snprintf(j->folder, sizeof(j->folder), "%s/model-%llu-XXXXXX", config.on_disk ? "/var/tmp" : "/dev/shm",
             (unsigned long long)seed);
    if (!mkdtemp(j->folder)) {
        printf("Bail out! %s: %s\n", j->folder, strerror(errno));
        exit(1);
    }
    fflush(stdout);
    j->pid = fork();
    if (j->pid < 0) {
        printf("Bail out! fork: %s\n", strerror(errno));
        exit(1);
    }
    if (j->pid == 0) {
        signal(SIGTERM, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        if (chdir(j->folder) || (!verbose && !freopen("log", "w", stdout)) || dup2(1, 2) < 0)
            _exit(2);
        run_seed(&config);
        fflush(stdout);
        exit(0); /* not _exit: a leak checker has its say */
    }
}

static void print_log(const char *folder) {
    char path[96], line[2000];
    unsigned lines = 0;
    snprintf(path, sizeof(path), "%s/log", folder);
    FILE *log = fopen(path, "r");
    while (log && lines++ < 80 && fgets(line, sizeof(line), log))
        printf("%s%s", line[0] == '#' ? "" : "#   ", line);
    if (log)
        fclose(log);
}

static void job_end(struct job *j, int status, unsigned ops) {
    char text[600];
    struct config config;
    config_make(&config, j->seed, ops);
    config_describe(&config, text, sizeof(text));
    bool ok = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    ok ? passed++ : failed++;
    printf("%sok %u - %s\n", ok ? "" : "not ", passed + failed, text);
    if (!ok) {
        print_log(j->folder);
        if (WIFSIGNALED(status))
            printf("# %s\n", WTERMSIG(status) == SIGALRM ? "it hangs" : strsignal(WTERMSIG(status)));
        printf("# again: model_test --seed %llu --ops %u\n", (unsigned long long)j->seed, ops);
    }
    if (keep && !ok)
        printf("# kept: %s\n", j->folder);
    else
        nftw(j->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    fflush(stdout);
    j->pid = 0;
}

/* Somebody's time limit: the seeds that run end, and their folders go. */
static _Noreturn void give_up(struct job *jobs, unsigned njobs) {
    for (unsigned i = 0; i < njobs; i++) {
        if (!jobs[i].pid)
            continue;
        kill(jobs[i].pid, SIGKILL);
        waitpid(jobs[i].pid, NULL, 0);
        nftw(jobs[i].folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
    printf("Bail out! stopped by signal %d\n", (int)stopped);
    exit(1);
}

static void job_wait(struct job *jobs, unsigned njobs, unsigned ops) {
    int status;
    pid_t pid = wait(&status);
    if (stopped)
        give_up(jobs, njobs);
    for (unsigned i = 0; i < njobs && pid > 0; i++)
        if (jobs[i].pid == pid)
            job_end(&jobs[i], status, ops);
}

struct seeds {
    uint64_t from, count, step;
    uint64_t queued; /* so many more: of the same configurations, through queues with and without io_uring */
};

static uint64_t seed_number(const struct seeds *s, uint64_t i) {
    if (i < s->count)
        return s->from + i * s->step;
    uint64_t k = i - s->count, configuration = s->queued > s->count ? k % s->count : k * s->count / s->queued;
    uint64_t executor = s->queued > s->count ? VIA_RING + k / s->count : VIA_RING + k % 2;
    return s->from + configuration * s->step + executor * EXECUTOR_SEEDS;
}

static void run_all(const struct seeds *s, unsigned ops, unsigned njobs) {
    uint64_t count = s->count + s->queued;
    struct job jobs[MOST_JOBS] = {0};
    unsigned running = 0;
    struct sigaction stop = {.sa_handler = on_stop}; /* without SA_RESTART: wait comes back */
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    printf("1..%llu\n", (unsigned long long)count);
    for (uint64_t i = 0; i < count; i++) {
        unsigned slot = 0;
        if (running == njobs) {
            job_wait(jobs, njobs, ops);
            running--;
        }
        while (jobs[slot].pid)
            slot++;
        job_start(&jobs[slot], seed_number(s, i), ops);
        running++;
    }
    for (; running; running--)
        job_wait(jobs, njobs, ops);
    printf("# %u passed, %u failed\n", passed, failed);
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"sample", no_argument, NULL, 's'},
        {"all", no_argument, NULL, 'a'},
        {"seed", required_argument, NULL, 'n'},
        {"from", required_argument, NULL, 'f'},
        {"count", required_argument, NULL, 'c'},
        {"ops", required_argument, NULL, 'o'},
        {"jobs", required_argument, NULL, 'j'},
        {"keep", no_argument, NULL, 'k'},
        {NULL, 0, NULL, 0},
    };
    /* 37 is prime to 13, 7, 4 and 17: a few seeds spread like many */
    struct seeds s = {.from = 1, .count = SAMPLE_SEEDS, .step = 37, .queued = SAMPLE_SEEDS * 2 / 5};
    unsigned ops = SAMPLE_OPS, njobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'a')
            s = (struct seeds){1, ALL_SEEDS, 1, ALL_SEEDS * (EXECUTORS - 1)}, ops = ALL_OPS;
        else if (c == 'n')
            s = (struct seeds){strtoull(optarg, NULL, 0), 1, 1, 0}, ops = ALL_OPS, verbose = keep = true;
        else if (c == 'f')
            s.from = strtoull(optarg, NULL, 0), s.step = 1, s.queued = 0;
        else if (c == 'c')
            s.count = strtoull(optarg, NULL, 0), s.step = 1, s.queued = 0;
        else if (c == 'o')
            ops = (unsigned)strtoul(optarg, NULL, 0);
        else if (c == 'j')
            njobs = (unsigned)strtoul(optarg, NULL, 0);
        else if (c == 'k')
            keep = true;
        else if (c != 's')
            return 2;
    }
    if (njobs < 1 || njobs > MOST_JOBS)
        njobs = 2;
    run_all(&s, ops, njobs);
    return failed ? 1 : 0;
}
