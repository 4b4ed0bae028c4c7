/* SPDX-License-Identifier: GPL-3.0-or-later */
/* editor.c - see editor.h. Texts go to the process and back over a socket: a head with a length, and the bytes. The
 * guest's words reach the host as the content of a temporary file only; its name is ours but for its ending, in which
 * nothing but letters and digits is kept. */
#include "editor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "report.h"

struct head {
    char ending[16];     /* of the temporary file's name, so that editors know what it is */
    enum edited outcome; /* of an answer */
    uint64_t length;
};

static bool send_all(int fd, const void *bytes, size_t count) {
    for (const char *at = bytes; count > 0;) {
        ssize_t sent = write(fd, at, count);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        at += sent;
        count -= (size_t)sent;
    }
    return true;
}

static bool receive_all(int fd, void *bytes, size_t count) {
    for (char *at = bytes; count > 0;) {
        ssize_t got = read(fd, at, count);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        at += got;
        count -= (size_t)got;
    }
    return true;
}

/* A text behind its head, or NULL. */
static char *receive_text(int fd, const struct head *head) {
    char *text = head->length <= EDITOR_TEXT_MAX ? malloc(head->length + 1) : NULL;
    if (text && receive_all(fd, text, head->length)) {
        text[head->length] = '\0';
        return text;
    }
    free(text);
    return NULL;
}

/* ---- the process ---- */

static bool run_shell(const char *command, const char *file) {
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, "sh", file, (char *)NULL);
        _exit(127);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static bool run_perl(const char *expression, const char *file) {
    int status;
    char *program = text_format("$lineno = 0; while (<>) { $lineno++; %s; print or die \"print: $!\"; }", expression);
    pid_t pid = fork();
    if (pid == 0) {
        execlp("perl", "perl", "-i", "-e", program, file, (char *)NULL);
        _exit(127);
    }
    free(program);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static char *read_file(const char *path, uint64_t *length) {
    struct stat stat;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    char *text = NULL;
    if (fd >= 0 && fstat(fd, &stat) == 0 && stat.st_size <= (off_t)EDITOR_TEXT_MAX) {
        *length = (uint64_t)stat.st_size;
        text = malloc(*length + 1);
        if (text && !receive_all(fd, text, *length)) {
            free(text);
            text = NULL;
        }
    }
    if (fd >= 0)
        close(fd);
    return text;
}

/* Has the file been saved? As libguestfs sees it: by its time and its size. */
static bool is_saved(const struct stat *before, const char *path) {
    struct stat after;
    return stat(path, &after) == 0 &&
           (after.st_mtim.tv_sec != before->st_mtim.tv_sec || after.st_mtim.tv_nsec != before->st_mtim.tv_nsec ||
            after.st_size != before->st_size);
}

static enum edited edit_file(const char *path, const char *expression) {
    struct stat before;
    if (stat(path, &before) < 0)
        return EDITED_FAILED;
    if (expression) /* perl -i makes a new file; all of it counts */
        return run_perl(expression, path) ? EDITED_CHANGED : EDITED_FAILED;
    const char *editor = getenv("EDITOR");
    char *command = text_format("%s \"$1\"", editor && *editor ? editor : "vi");
    bool good = run_shell(command, path);
    free(command);
    if (!good)
        return EDITED_FAILED;
    return is_saved(&before, path) ? EDITED_CHANGED : EDITED_UNCHANGED;
}

static void edit_text(int fd, const char *expression, const struct head *wish, const char *text) {
    const char *folder = getenv("TMPDIR");
    char *path = text_format("%s/img-editXXXXXX%.*s", folder && *folder ? folder : "/tmp", (int)sizeof(wish->ending),
                             wish->ending);
    struct head answer = {.outcome = EDITED_FAILED};
    char *edited = NULL;
    int file = mkostemps(path, (int)strnlen(wish->ending, sizeof(wish->ending)), O_CLOEXEC);
    if (file >= 0) {
        bool written = send_all(file, text, wish->length);
        written = close(file) == 0 && written;
        if (written)
            answer.outcome = edit_file(path, expression);
        if (answer.outcome == EDITED_CHANGED && !(edited = read_file(path, &answer.length)))
            answer.outcome = EDITED_FAILED;
        unlink(path);
    }
    if (send_all(fd, &answer, sizeof(answer)) && edited)
        send_all(fd, edited, answer.length);
    free(edited);
    free(path);
}

static void serve(int fd, const char *expression) {
    struct head wish;
    while (receive_all(fd, &wish, sizeof(wish))) {
        char *text = receive_text(fd, &wish);
        if (!text)
            return;
        edit_text(fd, expression, &wish, text);
        free(text);
    }
}

bool editor_start(struct editor *editor, const char *expression) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 || (editor->pid = fork()) < 0) {
        report("The editor cannot be started: %s", strerror(errno));
        return false;
    }
    if (editor->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        signal(SIGPIPE, SIG_IGN);
        close(ends[0]);
        serve(ends[1], expression);
        _exit(EXIT_SUCCESS);
    }
    close(ends[1]);
    editor->fd = ends[0];
    return true;
}

/* ---- the side that reads the guest ---- */

static void set_ending(struct head *head, const char *name) {
    const char *dot = strrchr(name, '.');
    size_t length = dot && dot != name && !strchr(dot, '/') ? strlen(dot) : 0;
    if (length < 2 || length >= sizeof(head->ending))
        return;
    for (const char *c = dot + 1; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9')))
            return;
    memcpy(head->ending, dot, length);
}

enum edited editor_edit(struct editor *editor, const char *name, char **text, size_t *length) {
    struct head head = {.length = *length};
    set_ending(&head, name);
    if (!send_all(editor->fd, &head, sizeof(head)) || !send_all(editor->fd, *text, *length) ||
        !receive_all(editor->fd, &head, sizeof(head)) || head.outcome == EDITED_FAILED) {
        report("%s: the editor failed", name);
        return EDITED_FAILED;
    }
    if (head.outcome == EDITED_UNCHANGED)
        return EDITED_UNCHANGED;
    char *edited = receive_text(editor->fd, &head);
    if (!edited) {
        report("%s: the edited text is too long", name);
        return EDITED_FAILED;
    }
    *text = edited;
    *length = head.length;
    return EDITED_CHANGED;
}

void editor_end(struct editor *editor) {
    close(editor->fd);
    waitpid(editor->pid, NULL, 0);
}
