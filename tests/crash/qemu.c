/* SPDX-License-Identifier: GPL-3.0-or-later */
/* qemu.c - a qemu-img that is kept, and fresh ones (qemu.h). */
#include "qemu.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util.h"

extern char **environ;

enum { CONVERSATION = 3, FRESH_EVERY = 50 };

static pid_t start(const char *path, const char *passphrase, char **environment, int channel, int output) {
    char secret[100], options[600];
    char *plain[] = {"qemu-img", "check", "-f", "qcow2", (char *)path, NULL};
    char *encrypted[] = {"qemu-img", "check", "--object", secret, "--image-opts", options, NULL};
    char **argv = passphrase ? encrypted : plain;
    posix_spawn_file_actions_t files;
    snprintf(secret, sizeof(secret), "secret,id=s0,data=%s", passphrase ? passphrase : "");
    snprintf(options, sizeof(options), "driver=qcow2,encrypt.key-secret=s0,file.filename=%s", path);
    pid_t pid;
    posix_spawn_file_actions_init(&files);
    if (channel >= 0)
        posix_spawn_file_actions_adddup2(&files, channel, CONVERSATION);
    posix_spawn_file_actions_adddup2(&files, output, 1);
    posix_spawn_file_actions_adddup2(&files, output, 2);
    if (posix_spawnp(&pid, argv[0], &files, NULL, argv, environment))
        DIE("cannot run qemu-img");
    posix_spawn_file_actions_destroy(&files);
    return pid;
}

/* ---- a fresh one ---- */

static bool ask_fresh(const char *path, const char *passphrase, char *why, size_t why_size) {
    char line[400] = "";
    FILE *report = tmpfile();
    if (!report)
        DIE("cannot make a temporary file");
    int status;
    waitpid(start(path, passphrase, environ, -1, fileno(report)), &status, 0);
    bool good = WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3);
    rewind(report);
    if (!good && fgets(line, sizeof(line), report))
        line[strcspn(line, "\n")] = 0;
    fclose(report);
    if (!good)
        snprintf(why, why_size, "qemu-img check exits with %d: %s", WEXITSTATUS(status), line);
    return good;
}

/* ---- the kept one ---- */

/* This program's environment with one variable more; to be freed. */
static char **environment_with(char *variable) {
    size_t n = 0;
    while (environ[n])
        n++;
    char **copy = xcalloc(n + 2, sizeof(*copy));
    memcpy(copy, environ, n * sizeof(*copy));
    copy[n] = variable;
    return copy;
}

static void keep(struct qemu *q, const char *path) {
    char folder[400] = "", preload[500];
    int ends[2], nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    ssize_t length = readlink("/proc/self/exe", folder, sizeof(folder) - 1);
    char *slash = length > 0 ? strrchr(folder, '/') : NULL;
    if (nowhere < 0 || !slash || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        DIE("cannot prepare a qemu-img to keep");
    snprintf(preload, sizeof(preload), "LD_PRELOAD=%.*s/qemu_img_again.so", (int)(slash - folder), folder);
    char **environment = environment_with(preload);
    snprintf(q->path, sizeof(q->path), "%s", path);
    q->kept = start(path, NULL, environment, ends[1], nowhere);
    q->channel = ends[0];
    close(ends[1]);
    close(nowhere);
    free(environment);
}

/* Forgets it, whatever it does. */
static void let_go(struct qemu *q) {
    close(q->channel);
    kill(q->kept, SIGKILL);
    waitpid(q->kept, NULL, 0);
    q->kept = 0;
}

enum answer { GOOD = 'g', BAD = 'b', SILENT = 0 /* it is gone */ };

static enum answer ask_kept(struct qemu *q, const char *path) {
    char answer = SILENT;
    if (!q->kept)
        keep(q, path); /* which checks at once */
    else if (strcmp(path, q->path))
        DIE("another path than before");
    else
        (void)send(q->channel, "?", 1, MSG_NOSIGNAL);
    if (read(q->channel, &answer, 1) == 1)
        return (enum answer)answer;
    let_go(q);
    return SILENT;
}

bool qemu_check(struct qemu *q, const char *path, const char *passphrase, char *why, size_t why_size) {
    bool every = q->asked++ % FRESH_EVERY == 0;
    enum answer answer = passphrase ? SILENT : ask_kept(q, path);
    if (answer == GOOD && !every)
        return true;
    q->fresh++;
    bool good = ask_fresh(path, passphrase, why, why_size);
    if (good && answer == BAD)
        snprintf(why, why_size, "a kept qemu-img finds something in %s, and a fresh one nothing", path);
    return good && answer != BAD;
}

void qemu_end(struct qemu *q) {
    if (q->kept)
        let_go(q);
}
