/* SPDX-License-Identifier: GPL-3.0-or-later */
/* pack.c - see pack.h. The format is pax, whose names are taken as bytes and whose attributes keep what the host has:
 * owners, times to the nanosecond, links, holes, ACLs, capabilities, the user's extended attributes. */
#include "pack.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libarchive.h"
#include "report.h"

#define PIPE_SIZE (1 << 20)

struct packing {
    struct archive *from, *to;
    struct archive_entry_linkresolver *links;
    size_t cut; /* so much of each name is in front of the part that is kept */
    bool failed;
};

static void tell(struct packing *p, struct archive *archive, const char *path) {
    /* A reader that has gone has told why. */
    if (la.archive_errno(archive) != EPIPE)
        report("%s: %s", path, la.archive_error_string(archive));
    p->failed = true;
}

static void put_data(struct packing *p, const char *path) {
    const void *bytes;
    size_t count;
    la_int64_t offset, written = 0;
    static const char zeroes[65536];
    int ret;
    while ((ret = la.archive_read_data_block(p->from, &bytes, &count, &offset)) == ARCHIVE_OK) {
        /* The writer leaves the holes out by itself; it wants to be given them. */
        while (written < offset && !p->failed) {
            size_t gap = offset - written < (la_int64_t)sizeof(zeroes) ? (size_t)(offset - written) : sizeof(zeroes);
            if (la.archive_write_data(p->to, zeroes, gap) < 0)
                tell(p, p->to, path);
            written += (la_int64_t)gap;
        }
        if (!p->failed && la.archive_write_data(p->to, bytes, count) < 0)
            tell(p, p->to, path);
        if (p->failed)
            return;
        written += (la_int64_t)count;
    }
    if (ret != ARCHIVE_EOF)
        tell(p, p->from, path);
}

static void put(struct packing *p, struct archive_entry *entry) {
    if (la.archive_write_header(p->to, entry) < ARCHIVE_WARN) {
        tell(p, p->to, la.archive_entry_sourcepath(entry));
        return;
    }
    if (la.archive_entry_size(entry) > 0)
        put_data(p, la.archive_entry_sourcepath(entry));
}

/* Of the host's attributes only those that mean the same in a guest: its labels and the marks of its overlays do not.
 */
static void keep_attributes(struct archive_entry *entry) {
    struct archive_entry *all = la.archive_entry_xattr_count(entry) > 0 ? la.archive_entry_clone(entry) : NULL;
    const char *name;
    const void *value;
    size_t length;
    if (!all)
        return;
    la.archive_entry_xattr_clear(entry);
    la.archive_entry_xattr_reset(all);
    while (la.archive_entry_xattr_next(all, &name, &value, &length) == ARCHIVE_OK)
        if (strncmp(name, "user.", 5) == 0 || strcmp(name, "security.capability") == 0)
            la.archive_entry_xattr_add_entry(entry, name, value, length);
    la.archive_entry_free(all);
}

static void pack_one(struct packing *p, struct archive_entry *entry) {
    struct archive_entry *later = NULL;
    const char *path = la.archive_entry_pathname(entry);
    char *kept = text_copy(strlen(path) > p->cut ? path + p->cut : ".");
    la.archive_entry_set_pathname(entry, kept);
    free(kept);
    keep_attributes(entry);
    la.archive_entry_linkify(p->links, &entry, &later);
    if (entry)
        put(p, entry);
}

/* The path without '/' at its end, and where its last part begins. */
static char *trimmed(const char *path, size_t *last) {
    char *text = text_copy(path);
    size_t length = strlen(text);
    while (length > 1 && text[length - 1] == '/')
        text[--length] = '\0';
    char *slash = strrchr(text, '/');
    *last = slash && slash[1] ? (size_t)(slash - text) + 1 : 0;
    return text;
}

static void pack_path(struct packing *p, const char *path) {
    char *top = trimmed(path, &p->cut);
    struct archive_entry *entry = la.archive_entry_new();
    if (la.archive_read_disk_open(p->from, top) != ARCHIVE_OK)
        tell(p, p->from, path);
    else {
        int ret;
        while ((ret = la.archive_read_next_header2(p->from, entry)) != ARCHIVE_EOF) {
            if (ret < ARCHIVE_WARN) {
                tell(p, p->from, path);
                if (ret == ARCHIVE_FATAL)
                    break;
                continue;
            }
            pack_one(p, entry);
            la.archive_read_disk_descend(p->from);
            la.archive_entry_clear(entry);
        }
        la.archive_read_close(p->from);
    }
    la.archive_entry_free(entry);
    free(top);
}

static bool pack_all(int fd, char *const *paths, size_t npaths) {
    struct packing p = {
        .from = la.archive_read_disk_new(), .to = la.archive_write_new(), .links = la.archive_entry_linkresolver_new()};
    if (!p.from || !p.to || !p.links)
        out_of_memory();
    la.archive_read_disk_set_symlink_physical(p.from);
    la.archive_write_set_format_pax(p.to);
    la.archive_write_set_options(p.to, "hdrcharset=BINARY");
    la.archive_write_set_bytes_per_block(p.to, PIPE_SIZE);
    la.archive_write_set_bytes_in_last_block(p.to, 1);
    la.archive_entry_linkresolver_set_strategy(p.links, ARCHIVE_FORMAT_TAR_PAX_INTERCHANGE);
    if (la.archive_write_open_fd(p.to, fd) != ARCHIVE_OK)
        tell(&p, p.to, "tar");
    for (size_t i = 0; i < npaths && !p.failed; i++)
        pack_path(&p, paths[i]);
    /* An archive that is not complete must not look so: it ends in the middle. */
    if (p.failed)
        return false;
    if (la.archive_write_close(p.to) != ARCHIVE_OK)
        tell(&p, p.to, "tar");
    return !p.failed;
}

bool pack_start(struct packer *packer, char *const *paths, size_t npaths) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0 || (packer->pid = fork()) < 0) {
        report("The files cannot be packed: %s", strerror(errno));
        return false;
    }
    if (packer->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        close(ends[0]);
        _exit(pack_all(ends[1], paths, npaths) ? EXIT_SUCCESS : EXIT_FAILURE);
    }
    close(ends[1]);
    fcntl(ends[0], F_SETPIPE_SZ, PIPE_SIZE);
    packer->fd = ends[0];
    return true;
}

bool pack_end(struct packer *packer) {
    int status;
    close(packer->fd);
    return waitpid(packer->pid, &status, 0) == packer->pid && status == 0;
}
