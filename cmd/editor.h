/* SPDX-License-Identifier: GPL-3.0-or-later */
/* editor.h - a process that runs an editor on texts of the guest, outside of the sandbox in which these are read. */
#ifndef EDITOR_H
#define EDITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define EDITOR_TEXT_MAX (256u << 20) /* bytes of one file */

struct editor {
    int fd;
    pid_t pid;
};

enum edited { EDITED_FAILED, EDITED_UNCHANGED, EDITED_CHANGED };

/* `expression`: a Perl expression that is done to each line; NULL: $EDITOR or vi is started, with the terminal. False
 * after reporting. */
bool editor_start(struct editor *editor, const char *expression);
/* Has a text edited. `name` tells which, and what the temporary file's name ends in. CHANGED: the new one is in *text,
 * which the caller frees. UNCHANGED: an editor did not save it. FAILED: it has been reported. */
enum edited editor_edit(struct editor *editor, const char *name, char **text, size_t *length);
void editor_end(struct editor *editor);

#endif
