/* SPDX-License-Identifier: GPL-3.0-or-later */
/* edit.c - `img edit`, virt-edit: files inside a guest's disk changed by an editor or by an expression.
 *
 * The new text becomes a new file with the old one's mode, owner and extended attributes, which takes the old one's
 * place in one transaction; with -b the old one stays beside it under another name.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "editor.h"
#include "fs/vfs_write.h"
#include "guest.h"
#include "report.h"

static const struct option long_opts[] = {
    GUEST_LONG,
    GUEST_LONG_MOUNT,
    {"expr", required_argument, NULL, 'e'},
    {"edit", required_argument, NULL, 'e'},
    {"expression", required_argument, NULL, 'e'},
    {"backup", required_argument, NULL, 'b'},
    GUEST_LONG_END,
};

struct edit {
    struct guest_options options;
    const char *expression; /* NULL: an editor */
    const char *backup;     /* what the old file's name gets at its end; NULL: it goes */
    struct session *session;
    struct editor editor;
};

struct place {
    struct guest_node dir, file;
    const char *name; /* in the directory */
};

/* ---- where the file is: links are followed to it, and the directory it is in is needed ---- */

static int find_place(struct guest *guest, char **path, struct place *place, struct img_error *err) {
    for (unsigned links = 0; links <= GUEST_LINKS_MAX; links++) {
        struct fs_stat stat = {0};
        char *target, *slash = strrchr(*path, '/');
        int ret = guest_resolve(guest, *path, false, &place->file, err);
        if (ret == 0)
            ret = guest_stat(&place->file, &stat, err);
        if (ret < 0)
            return ret;
        if (!S_ISLNK(stat.mode)) {
            *slash = '\0';
            ret = guest_resolve(guest, **path ? *path : "/", true, &place->dir, err);
            *slash = '/';
            place->name = slash + 1;
            return ret;
        }
        if ((ret = guest_readlink(&place->file, &target, err)) < 0)
            return ret;
        slash[1] = '\0';
        char *next = target[0] == '/' ? text_copy(target) : text_format("%s%s", *path, target);
        free(target);
        free(*path);
        *path = next;
    }
    snprintf(err->text, sizeof(err->text), "%s: %s", *path, strerror(ELOOP));
    return -ELOOP;
}

/* ---- the new file ---- */

struct copying {
    const struct guest_node *to;
    struct img_error *err;
};

static int copy_xattr(void *opaque, const char *name, const void *value, size_t length) {
    struct copying *copying = opaque;
    struct fs *fs = copying->to->fs;
    int ret = fs->write_ops->set_xattr(fs, copying->to->ino, name, value, length, copying->err);
    return ret == -ENOTSUP ? 0 : ret;
}

static int keep_old(struct edit *edit, const struct place *place, struct img_error *err) {
    char *name = text_format("%s%s", place->name, edit->backup);
    struct fs *fs = place->dir.fs;
    int ret = fs->write_ops->rename(fs, place->dir.ino, place->name, strlen(place->name), place->dir.ino, name,
                                    strlen(name), err);
    free(name);
    return ret;
}

static int put_text(struct edit *edit, const struct place *place, const char *text, size_t length,
                    struct img_error *err) {
    struct fs *fs = place->dir.fs;
    struct guest_node node = place->dir;
    struct fs_stat old;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int ret = guest_stat(&place->file, &old, err);
    if (ret == 0 && edit->backup)
        ret = keep_old(edit, place, err);
    if (ret < 0)
        return ret;
    struct fs_new file = {.mode = old.mode,
                          .uid = old.uid,
                          .gid = old.gid,
                          .size = length,
                          .replace = true,
                          .atime = {.seconds = now.tv_sec, .nanoseconds = (uint32_t)now.tv_nsec},
                          .mtime = {.seconds = now.tv_sec, .nanoseconds = (uint32_t)now.tv_nsec}};
    /* The old file is read for its attributes before it goes, so the new one has to take its name last. */
    char *temporary = text_format(".%.200s.img-edit", place->name);
    ret = fs->write_ops->create(fs, place->dir.ino, temporary, strlen(temporary), &file, &node.ino, err);
    if (ret == 0 && length > 0)
        ret = fs->write_ops->append(fs, node.ino, text, length, 0, err);
    struct copying copying = {.to = &node, .err = err};
    if (ret == 0 && fs->ops->xattrs)
        ret = fs->ops->xattrs(fs, place->file.ino, copy_xattr, &copying, err);
    if (ret == 0)
        ret = fs->write_ops->rename(fs, place->dir.ino, temporary, strlen(temporary), place->dir.ino, place->name,
                                    strlen(place->name), err);
    free(temporary);
    return ret;
}

/* ---- one file ---- */

static int read_text(const struct guest_node *file, const char *path, char **text, size_t *length,
                     struct img_error *err) {
    struct fs_stat stat;
    int ret = guest_stat(file, &stat, err);
    if (ret < 0)
        return ret;
    if (!S_ISREG(stat.mode) || stat.size > EDITOR_TEXT_MAX) {
        snprintf(err->text, sizeof(err->text), "%s: %s", path,
                 S_ISDIR(stat.mode)   ? "is a directory"
                 : S_ISREG(stat.mode) ? "is too large to be edited"
                                      : "is not a regular file");
        return -EINVAL;
    }
    *text = memory(1, stat.size + 1);
    ret = file->fs->ops->read(file->fs, file->ino, *text, stat.size, 0, length, err);
    if (ret < 0)
        free(*text);
    return ret;
}

static bool edit_place(struct edit *edit, const char *path, const struct place *place) {
    struct img_error err = {0};
    char *old, *text;
    size_t length;
    if (!place->dir.fs->write_ops) {
        report("%s: the filesystem cannot be written", path);
        return false;
    }
    if (read_text(&place->file, path, &old, &length, &err) < 0) {
        report_guest_error(&err);
        return false;
    }
    text = old;
    warn_if_not_whole(place->dir.fs);
    enum edited edited = editor_edit(&edit->editor, path, &text, &length);
    bool good = edited != EDITED_FAILED;
    if (edited == EDITED_UNCHANGED)
        puts("File not changed.");
    if (edited == EDITED_CHANGED) {
        if (put_text(edit, place, text, length, &err) < 0) {
            report_guest_error(&err);
            good = false;
        }
        good = good && commit_guest(edit->session->guest);
        free(text);
    }
    free(old);
    return good;
}

static bool edit_path(struct edit *edit, const char *argument) {
    struct img_error err = {0};
    struct place place;
    char *path = text_copy(argument);
    bool good = path[0] == '/';
    if (!good)
        report("%s: path must start with a / character", argument);
    else if (find_place(edit->session->guest, &path, &place, &err) < 0) {
        report_guest_error(&err);
        good = false;
    }
    good = good && edit_place(edit, argument, &place);
    free(path);
    return good;
}

static bool parse(int argc, char **argv, struct edit *edit) {
    int opt;
    while ((opt = next_option(&edit_command, argc, argv)) != -1) {
        if (opt == 'e')
            edit->expression = optarg;
        else if (opt == 'b')
            edit->backup = optarg;
        else if (!guest_option(opt, &edit->options))
            return false;
    }
    if (edit->backup && (!*edit->backup || strchr(edit->backup, '/'))) {
        report("'%s' cannot be put behind a file's name", edit->backup);
        return false;
    }
    if (!guest_old_style(&edit->options, argc, argv, 1))
        return false;
    if (optind == argc)
        usage_error("Expecting a file of the guest");
    return true;
}

static int run(int argc, char **argv) {
    struct edit edit = {0};
    int status = EXIT_SUCCESS;
    if (!parse(argc, argv, &edit) || !editor_start(&edit.editor, edit.expression))
        return EXIT_FAILURE;
    edit.session = session_open(&edit.options, SESSION_WRITE);
    if (!edit.session)
        status = EXIT_FAILURE;
    while (status == EXIT_SUCCESS && optind < argc)
        if (!edit_path(&edit, argv[optind++]))
            status = EXIT_FAILURE;
    if (edit.session && !session_close(edit.session))
        status = EXIT_FAILURE;
    editor_end(&edit.editor);
    return status;
}

const struct command edit_command = {
    .name = "edit",
    .summary = "edit files inside a disk",
    .usage = GUEST_USAGE " [-e EXPRESSION] [-b EXTENSION] [OPTION...] FILE...",
    .options = "  -e, --expr=EXPRESSION   do this Perl expression to each line, instead of $EDITOR\n"
               "  -b, --backup=EXTENSION  keep the old file, with this behind its name\n" GUEST_HELP GUEST_HELP_MOUNT,
    .short_opts = "e:b:" GUEST_SHORT GUEST_SHORT_MOUNT,
    .long_opts = long_opts,
    .run = run,
};
