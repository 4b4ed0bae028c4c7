/* SPDX-License-Identifier: GPL-3.0-or-later */
/* target.c - see target.h. */
#include "target.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "names.h"
#include "report.h"

/* Leaves room in NAME_MAX for the dots and the random letters. */
#define NAME_PART 200
#define MAX_PENDING 2

static volatile sig_atomic_t caught;
/* The temporary files that must not be left behind; NULL: none. A slot changes with one write. */
static const char *volatile pending[MAX_PENDING];

static void add_pending(const char *path) {
    for (size_t i = 0; i < MAX_PENDING; i++) {
        if (!pending[i]) {
            pending[i] = path;
            return;
        }
    }
}

static void drop_pending(const char *path) {
    for (size_t i = 0; i < MAX_PENDING; i++)
        if (pending[i] == path)
            pending[i] = NULL;
}

static void remove_pending(void) {
    for (size_t i = 0; i < MAX_PENDING; i++) {
        const char *path = pending[i];
        pending[i] = NULL;
        if (path)
            unlink(path);
    }
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
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU, SIGALRM};
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

int ask_interrupted(void *unused) {
    (void)unused;
    return interrupted();
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

/* 0, or the errno. */
static int make_temporary(struct target *t) {
    const char *last = path_last(t->path);
    char *template = text_format("%.*s.%.*s.XXXXXX", (int)(last - t->path), t->path, NAME_PART, last);
    int fd = mkstemp(template);
    if (fd < 0) {
        int code = errno;
        free(template);
        return code;
    }
    close(fd);
    t->temporary = template;
    add_pending(template);
    return 0;
}

/* A folder that takes no new file is no reason to fail where the file is there: the caller has shown that it may be
 * written, and img_create locks it anew. */
static int make_file(struct target *t, struct img_error *err) {
    int code = make_temporary(t);
    t->empty = true;
    if (t->exists && (code == EACCES || code == EPERM || code == EROFS)) {
        img_close(t->guard, NULL);
        t->guard = NULL;
        return 0;
    }
    return code ? fail(err, -code, "Could not create", t->path, strerror(code)) : 0;
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
    t->path = path_follow_links(path_of(name));
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
    return ret < 0 ? ret : make_file(t, err);
}

int target_begin_data(struct target *t, const struct target *image, const char *name, struct img_error *err) {
    char *path = path_beside(image->path, name);
    *t = (struct target){0};
    int ret = names_same(path, image->path)
                  ? fail(err, -EINVAL, "Could not create", path, "The image and its data file are the same file")
                  : target_begin(t, path, err);
    free(path);
    return ret;
}

const char *target_path(const struct target *t) {
    return t->temporary ? t->temporary : t->path;
}

const char *target_write_to(const struct target *t) {
    return t->empty ? target_path(t) : NULL;
}

/* A name in the same folder is the shorter one, and the room for names in an image is small. */
char *target_data_name(const struct target *data, const struct target *image) {
    const char *path = target_path(data), *last = path_last(path), *image_path = target_path(image);
    size_t folder = (size_t)(last - path);
    char absolute[PATH_MAX];
    if (folder == (size_t)(path_last(image_path) - image_path) && strncmp(path, image_path, folder) == 0)
        return text_copy(last);
    return text_copy(realpath(path, absolute) ? absolute : path);
}

void target_show_name(const struct target *t, struct img_error *err) {
    char *found = t->temporary ? strstr(err->text, t->temporary) : NULL;
    if (!found)
        return;
    char *text = text_format("%.*s%s%s", (int)(found - err->text), err->text, t->path, found + strlen(t->temporary));
    snprintf(err->text, sizeof(err->text), "%s", text);
    free(text);
    target_show_name(t, err); /* the wanted name is no part of the temporary one's end: this ends */
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

static int sync_path(const char *path, int flags) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | flags);
    int ret = fd < 0 || fsync(fd) < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return ret;
}

/* A file system whose folders have no such thing says EINVAL. */
static int sync_folder(const char *path) {
    char *folder = path_folder(path);
    int ret = sync_path(folder, O_DIRECTORY);
    free(folder);
    return ret == -EINVAL ? 0 : ret;
}

int target_commit(struct target *t, bool durable, struct img_error *err) {
    if (!t->path)
        return 0;
    int ret = durable && t->empty ? sync_path(target_path(t), 0) : 0;
    if (ret < 0)
        return fail(err, ret, "Could not write", t->path, strerror(-ret));
    if (!t->temporary)
        return 0;
    if (rename(t->temporary, t->path) < 0)
        return fail(err, -errno, "Could not create", t->path, strerror(errno));
    drop_pending(t->temporary);
    free(t->temporary);
    t->temporary = NULL;
    ret = durable ? sync_folder(t->path) : 0;
    return ret < 0 ? fail(err, ret, "Could not make the name durable of", t->path, strerror(-ret)) : 0;
}

void target_abort(struct target *t) {
    if (t->temporary) {
        unlink(t->temporary);
        drop_pending(t->temporary);
    }
    if (t->guard)
        img_close(t->guard, NULL);
    free(t->temporary);
    free(t->path);
    *t = (struct target){0};
}
