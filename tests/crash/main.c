/* SPDX-License-Identifier: GPL-3.0-or-later */
/* main.c - the crash test: what would a power cut leave?
 *
 *   crash_test [--sample|--all] [--states N] [--jobs N] [--seed N] [--stop N]
 *              [--qemu N] [--keep FOLDER] [NAME...]
 *   crash_test --self | --list
 *   crash_test --scenario NAME --state K [--dump FILE]
 *
 * Each scenario changes an image on a storage that records everything (recorder.h). Then the states that a power cut
 * could have left are built (replayer.h) and judged (judge.h): the image must open, be free of corruption, hold what
 * was flushed (model.h), and take further writes. A scenario runs by the ordinary calls, and as NAME/ring or
 * NAME/threads through queues with io_uring or without; without a name it runs by calls and by one of the two, those
 * about queues by both of them. --sample judges a part of the states of each scenario, --all every
 * one, each by qemu-img too. Every scenario runs in a process of its own, so that an engine that crashes or hangs fails
 * that one. Output is TAP, a line for each scenario.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "run.h"
#include "selftest.h"
#include "util.h"

/* How many states of each scenario a sample has: a sanitizer makes each ten times as dear. */
#if defined(__SANITIZE_THREAD__)
enum { SAMPLE = 12 };
#elif defined(__SANITIZE_ADDRESS__)
enum { SAMPLE = 40 };
#else
enum { SAMPLE = 120 };
#endif
/* Most of what a queue does to a scenario shows in any state. */
enum { QUEUE_SAMPLE_DIVISOR = 4 };

enum { STOP = 25, JOBS_MAX = 16, SECONDS_SAMPLE = 900, SECONDS_ALL = 7200 };

struct job {
    const struct scenario *scenario;
    enum executor executor;
    unsigned number;
    pid_t pid; /* 0: not started; -1: ended */
    int status;
    FILE *output;
    char folder[64];
};

struct program {
    struct run_options options;
    unsigned jobs;
    bool self, list;
    char **names;
    unsigned nnames;
    struct job *queue;
    unsigned count, started, printed;
    unsigned bad;
};

static bool is_wanted(const struct program *p, const struct scenario *s, enum executor executor, unsigned number) {
    char name[128];
    run_name(s, executor, name, sizeof(name));
    for (unsigned i = 0; i < p->nnames; i++)
        if (strcmp(p->names[i], name) == 0)
            return !s->queues || executor != VIA_CALLS;
    if (p->nnames)
        return false;
    return s->queues ? executor != VIA_CALLS : executor == VIA_CALLS || executor == VIA_RING + number % 2;
}

static void collect(struct program *p) {
    const struct scenario *const tables[] = {scenarios_allocation, scenarios_metadata, scenarios_beside,
                                             scenarios_failure,    scenarios_queue,    scenarios_snapshot,
                                             scenarios_bitmap,     scenarios_chain,    scenarios_keys};
    unsigned number = 0;
    for (unsigned t = 0; t < sizeof(tables) / sizeof(tables[0]); t++) {
        for (const struct scenario *s = tables[t]; s->name; s++, number++) {
            for (enum executor e = VIA_CALLS; e < EXECUTORS; e++) {
                if (!is_wanted(p, s, e, number))
                    continue;
                p->queue = xrealloc(p->queue, (p->count + 1) * sizeof(*p->queue));
                p->queue[p->count++] = (struct job){.scenario = s, .executor = e};
            }
        }
    }
}

/* ---- processes ---------------------------------------------------------------------------------- */

static void job_start(struct program *p, struct job *j) {
    snprintf(j->folder, sizeof(j->folder), "/dev/shm/crash-test.XXXXXX");
    if (!mkdtemp(j->folder))
        DIE("cannot make a folder in /dev/shm: %s", strerror(errno));
    j->output = tmpfile();
    if (!j->output)
        DIE("cannot make a temporary file: %s", strerror(errno));
    fflush(stdout);
    j->pid = fork();
    if (j->pid < 0)
        DIE("cannot fork: %s", strerror(errno));
    if (j->pid == 0) {
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        dup2(fileno(j->output), STDOUT_FILENO);
        alarm(p->options.all ? SECONDS_ALL : SECONDS_SAMPLE);
        struct run_options options = p->options;
        if (j->executor != VIA_CALLS)
            options.sample = options.sample / QUEUE_SAMPLE_DIVISOR + 1;
        bool good = run_scenario(j->scenario, j->executor, &options, j->folder);
        fflush(stdout);
        _exit(good ? 0 : 1);
    }
}

static void job_clean(const struct job *j) {
    char command[128];
    snprintf(command, sizeof(command), "rm -rf -- '%s'", j->folder);
    if (system(command))
        printf("# %s is left behind\n", j->folder);
}

static void job_print(struct program *p, struct job *j) {
    char line[2048], name[128], verdict[256] = "no verdict";
    run_name(j->scenario, j->executor, name, sizeof(name));
    bool good = WIFEXITED(j->status) && WEXITSTATUS(j->status) == 0;
    if (WIFSIGNALED(j->status))
        snprintf(verdict, sizeof(verdict), "killed by signal %d (%s)", WTERMSIG(j->status),
                 strsignal(WTERMSIG(j->status)));
    rewind(j->output);
    while (fgets(line, sizeof(line), j->output))
        if (line[0] == '=')
            snprintf(verdict, sizeof(verdict), "%.*s", (int)strcspn(line + 2, "\n"), line + 2);
    printf("%sok %u - %s: %s\n", good ? "" : "not ", j->number, name, verdict);
    rewind(j->output);
    while (!good && fgets(line, sizeof(line), j->output))
        if (line[0] != '=')
            printf("%s%s", line[0] == '#' ? "" : "# ", line);
    fclose(j->output);
    fflush(stdout);
    p->bad += !good;
}

static volatile sig_atomic_t interrupted;

static void note_signal(int number) {
    interrupted = number;
}

/* Ends what runs and leaves nothing behind. */
static void jobs_stop(struct program *p) {
    for (unsigned i = 0; i < p->started; i++) {
        if (p->queue[i].pid <= 0)
            continue;
        kill(p->queue[i].pid, SIGKILL);
        waitpid(p->queue[i].pid, NULL, 0);
        job_clean(&p->queue[i]);
    }
    printf("Bail out! interrupted by signal %d\n", (int)interrupted);
    exit(1);
}

static void jobs_run(struct program *p) {
    struct sigaction action = {.sa_handler = note_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    unsigned running = 0;
    while (p->printed < p->count) {
        while (p->started < p->count && running < p->jobs) {
            job_start(p, &p->queue[p->started++]);
            running++;
        }
        int status;
        pid_t pid = wait(&status);
        if (interrupted)
            jobs_stop(p);
        for (unsigned i = 0; i < p->started; i++) {
            struct job *j = &p->queue[i];
            if (j->pid != pid)
                continue;
            j->status = status;
            j->pid = -1;
            job_clean(j);
            running--;
        }
        while (p->printed < p->started && p->queue[p->printed].pid == -1)
            job_print(p, &p->queue[p->printed++]);
    }
}

/* ---- the command line ------------------------------------------------------------------------------- */

static void usage(int status) {
    printf("usage: crash_test [--sample|--all] [--states N] [--jobs N] [--seed N] [--stop N] [--qemu N] [--keep "
           "FOLDER] [NAME...]\n"
           "       crash_test --self | --list\n"
           "       crash_test --scenario NAME --state K [--dump FILE]\n");
    exit(status);
}

static void parse(struct program *p, int argc, char **argv) {
    enum { ALL = 256, SELF, LIST, STATE, DUMP, KEEP, SEED, JOBS, QEMU, STATES, STOP_AFTER };
    static const struct option options[] = {
        {"sample", no_argument, NULL, 0},
        {"all", no_argument, NULL, ALL},
        {"self", no_argument, NULL, SELF},
        {"list", no_argument, NULL, LIST},
        {"scenario", required_argument, NULL, 's'},
        {"state", required_argument, NULL, STATE},
        {"dump", required_argument, NULL, DUMP},
        {"keep", required_argument, NULL, KEEP},
        {"seed", required_argument, NULL, SEED},
        {"jobs", required_argument, NULL, JOBS},
        {"qemu", required_argument, NULL, QEMU},
        {"states", required_argument, NULL, STATES},
        {"stop", required_argument, NULL, STOP_AFTER},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    p->jobs = cores > JOBS_MAX ? JOBS_MAX : cores < 1 ? 1 : (unsigned)cores;
    p->options = (struct run_options){.sample = SAMPLE, .stop = STOP, .qemu = -1, .state = -1, .seed = 1};
    p->names = xcalloc((size_t)argc, sizeof(*p->names));
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (c) {
        case 0:
            break;
        case ALL:
            p->options.all = true;
            break;
        case SELF:
            p->self = true;
            break;
        case LIST:
            p->list = true;
            break;
        case 's':
            p->names[p->nnames++] = optarg;
            break;
        case STATE:
            p->options.state = atol(optarg);
            break;
        case STATES:
            p->options.sample = (unsigned)atoi(optarg);
            break;
        case STOP_AFTER:
            p->options.stop = (unsigned)atoi(optarg);
            break;
        case DUMP:
            p->options.dump = optarg;
            break;
        case KEEP:
            p->options.keep = optarg;
            break;
        case SEED:
            p->options.seed = strtoull(optarg, NULL, 0);
            break;
        case JOBS:
            p->jobs = (unsigned)atoi(optarg) ? (unsigned)atoi(optarg) : 1;
            break;
        case QEMU:
            p->options.qemu = atol(optarg);
            break;
        default:
            usage(c == 'h' ? 0 : 2);
        }
    }
    while (optind < argc)
        p->names[p->nnames++] = argv[optind++];
}

int main(int argc, char **argv) {
    struct program p = {.jobs = 1};
    parse(&p, argc, argv);
    collect(&p);
    if (p.list) {
        for (unsigned i = 0; i < p.count; i++) {
            char name[128];
            run_name(p.queue[i].scenario, p.queue[i].executor, name, sizeof(name));
            puts(name);
        }
        return 0;
    }
    if (p.count == 0) {
        fprintf(stderr, "crash_test: no scenario has this name; --list names them\n");
        return 2;
    }
    unsigned first = p.nnames ? 0 : selftest_count();
    printf("1..%u\n", p.self ? first : first + p.count);
    if (first) {
        unsigned count;
        p.bad += (unsigned)selftest(1, &count);
    }
    for (unsigned i = 0; i < p.count; i++)
        p.queue[i].number = first + i + 1;
    if (!p.self)
        jobs_run(&p);
    free(p.queue);
    free(p.names);
    return p.bad ? 1 : 0;
}
