/* SPDX-License-Identifier: GPL-3.0-or-later */
/* target.c - see target.h. */
#include "target.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "names.h"
#include "report.h"

/* Leaves room in NAME_MAX for the dot, the random letters, and what img_create adds while it works. */
#define NAME_PART 200

static volatile sig_atomic_t caught;
/* The temporary file that must not be left behind; NULL: none. Changed with signals blocked or before they matter. */
static const char *volatile pending;

static void remove_pending(void) {
    const char *path = pending;
    pending = NULL;
    if (path)
        unlink(path);
}

static void on_signal(int signal_number) {
    if (caught) {
        remove_pending();
        signal(signal_number, SIG_DFL);
        raise(signal_number);
    }
    caught = signal_number;
}

void catch_signals(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    static bool done;
    if (done)
        return;
    done = true;
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        struct sigaction old, action = {.sa_handler = on_signal};
        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN)
            continue; /* nohup */
        sigaction(signals[i], &action, NULL);
    }
    /* A reader of the progress that went away, and a limit on file sizes, come back as errors of a write. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    atexit(remove_pending);
}

bool interrupted(void) {
    return caught != 0;
}

void die_if_interrupted(void) {
    if (!caught)
        return;
    fflush(stdout);
    remove_pending();
    signal(caught, SIG_DFL);
    raise(caught);
}

static int fail(struct img_error *err, int code, const char *what, const char *path, const char *reason) {
    snprintf(err->text, sizeof(err->text), "%s '%s': %s", what, path, reason);
    err->code = code;
    return code;
}

static int make_temporary(struct target *t, struct img_error *err) {
    const char *last = path_last(t->path);
    char *template = text_format("%.*s.%.*s.XXXXXX", (int)(last - t->path), t->path, NAME_PART, last);
    int fd = mkstemp(template);
    if (fd < 0) {
        int code = errno;
        free(template);
        return fail(err, -code, "Could not create", t->path, strerror(code));
    }
    close(fd);
    t->temporary = template;
    pending = template;
    return 0;
}

/* Holds the file that will be replaced as a writer holds it; as raw, for it need not be an image. */
static int hold_old(struct target *t, struct img_error *err) {
    struct img_open_options options = {.flags = IMG_OPEN_WRITE, .cache = IMG_CACHE_UNSAFE, .format = "raw"};
    int ret = img_open(t->path, &options, &t->guard, err);
    if (ret == 0)
        return 0;
    t->guard = NULL;
    if (ret == -EAGAIN) {
        /* in use: the lock says it all, as it was not to be opened but to be made */
        char *prefix = text_format("Could not open '%s': ", t->path);
        size_t length = strlen(prefix);
        if (strncmp(err->text, prefix, length) == 0)
            memmove(err->text, err->text + length, strlen(err->text + length) + 1);
        free(prefix);
    }
    return ret;
}

int target_begin(struct target *t, const char *name, struct img_error *err) {
    *t = (struct target){0};
    catch_signals();
    t->path = path_follow_links(name);
    if (!t->path)
        return fail(err, -errno, "Could not create", name, strerror(errno));
    t->exists = stat(t->path, &t->old) == 0;
    if (!t->exists && errno != ENOENT)
        return fail(err, -errno, "Could not create", t->path, strerror(errno));
    if (t->exists && S_ISBLK(t->old.st_mode))
        return 0;
    if (t->exists && S_ISDIR(t->old.st_mode))
        return fail(err, -EISDIR, "Could not create", t->path, strerror(EISDIR));
    if (t->exists && !S_ISREG(t->old.st_mode))
        return fail(err, -EINVAL, "Could not create", t->path, "A regular file or a block device is needed");
    int ret = t->exists ? hold_old(t, err) : 0;
    return ret < 0 ? ret : make_temporary(t, err);
}

const char *target_path(const struct target *t) {
    return t->temporary ? t->temporary : t->path;
}

/* The owner can be kept only where the system allows it: then the mode is cut to what the new owner's group had. */
void target_adopt(const struct target *t) {
    if (!t->temporary)
        return;
    mode_t mode = 0644;
    if (t->exists) {
        mode = t->old.st_mode & 07777;
        if (chown(t->temporary, t->old.st_uid, t->old.st_gid) < 0 && chown(t->temporary, (uid_t)-1, t->old.st_gid) < 0)
            mode &= 0707;
    } else {
        mode_t mask = umask(0);
        umask(mask);
        mode &= ~mask;
    }
    /* A file system without modes is no reason to fail. */
    if (chmod(t->temporary, mode) < 0)
        return;
}

int target_commit(struct target *t, struct img_error *err) {
    if (!t->temporary)
        return 0;
    if (rename(t->temporary, t->path) < 0)
        return fail(err, -errno, "Could not create", t->path, strerror(errno));
    pending = NULL;
    free(t->temporary);
    t->temporary = NULL;
    return 0;
}

void target_abort(struct target *t) {
    if (t->temporary)
        remove_pending();
    if (t->guard)
        img_close(t->guard, NULL);
    free(t->temporary);
    free(t->path);
    *t = (struct target){0};
}
