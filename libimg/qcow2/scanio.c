/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* scanio.c - how a scan reads and how it reports.
 *
 * Reading goes through one window. A read that continues where the window ends doubles the amount read ahead up to the
 * whole window, so tables that lie together (small clusters) cost few calls and a table that lies alone costs just
 * itself. Holes are asked for one extent at a time; the answer is kept and serves all neighbours.
 */
#include "scan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- the window -------------------------------------------------------------------------------- */

static int fill_window(struct scan *s, uint64_t offset, uint64_t length) {
    s->window_length = 0;
    int code = storage_read(s->file, s->window, length, offset);
    if (code)
        return code;
    s->window_start = offset;
    s->window_length = length;
    return 0;
}

int scan_read(struct scan *s, uint64_t offset, size_t length, const void **out) {
    if (!s->window) {
        s->window = malloc(SCAN_WINDOW);
        if (!s->window)
            return -ENOMEM;
    }
    uint64_t end = s->window_start + s->window_length;
    if (!s->window_length || offset < s->window_start || offset + length > end) {
        bool on = s->window_length && offset >= s->window_start && offset <= end;
        s->window_ahead = on ? s->window_ahead * 2 : 0;
        if (s->window_ahead < length)
            s->window_ahead = length;
        if (s->window_ahead > SCAN_WINDOW)
            s->window_ahead = SCAN_WINDOW;
        int code = fill_window(s, offset, s->window_ahead);
        if (code && s->window_ahead > length)
            code = fill_window(s, offset, length);
        if (code == -ENOMEM)
            return code;
        if (code) {
            scan_found(s, IMG_FINDING_ERROR, SCAN_NO_GUEST, 0, "ERROR: could not read %zu bytes at offset 0x%llx: %s",
                       length, (unsigned long long)offset, strerror(-code));
            return code;
        }
    }
    *out = s->window + (offset - s->window_start);
    return 0;
}

void scan_next_data(struct scan *s, uint64_t *position, uint64_t end, size_t *length) {
    if (end > s->file_size)
        end = s->file_size;
    while (*position < end) {
        if (*position < s->extent_start || *position >= s->extent_end) {
            struct storage_extent extent = {.length = s->file_size - *position};
            if (s->file->ops->extent(s->file, *position, s->file_size - *position, &extent) || !extent.length)
                extent = (struct storage_extent){.length = s->file_size - *position};
            s->extent_start = *position;
            s->extent_end = *position + extent.length;
            s->extent_zero = extent.zero;
        }
        /* Tables are read in whole sectors: a hole is taken as a little shorter, data as a little longer. */
        uint64_t stop = s->extent_zero ? s->extent_end & ~511ull : (s->extent_end + 511) & ~511ull;
        if (s->extent_end >= end || stop > end)
            stop = end;
        if (!s->extent_zero || stop <= *position) {
            stop = stop <= *position ? end : stop;
            *length = stop - *position < SCAN_WINDOW ? stop - *position : SCAN_WINDOW;
            return;
        }
        *position = stop;
    }
    *length = 0;
}

/* ---- overlapping ranges --------------------------------------------------------------------------- */

struct edge {
    uint64_t at;
    int64_t weight, active; /* what begins here; negative: ends */
};

static int compare_edges(const void *a, const void *b) {
    const struct edge *x = a, *y = b;
    return x->at < y->at ? -1 : x->at > y->at;
}

int scan_sweep(scan_ranges *ranges) {
    size_t n = 0;
    struct edge *edges = malloc((ranges->n * 2 + 1) * sizeof *edges);
    if (!edges)
        return -ENOMEM;
    for (size_t i = 0; i < ranges->n; i++) {
        const struct scan_range *r = &ranges->list[i];
        if (r->start >= r->end)
            continue;
        edges[n++] = (struct edge){r->start, r->weight, r->active};
        edges[n++] = (struct edge){r->end, -(int64_t)r->weight, -(int64_t)r->active};
    }
    qsort(edges, n, sizeof *edges, compare_edges);
    ranges->n = 0;
    int code = 0;
    int64_t weight = 0, active = 0;
    for (size_t i = 0; i < n && !code; i++) {
        weight += edges[i].weight;
        active += edges[i].active;
        if (weight && i + 1 < n && edges[i + 1].at > edges[i].at)
            code = scan_push(ranges, ((struct scan_range){edges[i].at, edges[i + 1].at, weight, active}));
    }
    free(edges);
    return code;
}

/* ---- findings ----------------------------------------------------------------------------------------- */

static void tell(struct scan *s, enum img_finding_kind kind, uint64_t guest, uint64_t length, const char *format,
                 va_list args) {
    if ((s->quiet && kind != IMG_FINDING_REPAIR) || !s->options || !s->options->report)
        return;
    char text[512];
    vsnprintf(text, sizeof text, format, args);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127)
            *p = '?';
    struct img_finding finding = {.kind = kind, .text = text};
    if (guest != SCAN_NO_GUEST) {
        finding.has_guest = true;
        finding.guest_start = guest;
        finding.guest_length = length;
    }
    s->options->report(s->options->opaque, &finding);
}

void scan_tell(struct scan *s, enum img_finding_kind kind, uint64_t guest, uint64_t length, const char *format, ...) {
    va_list args;
    va_start(args, format);
    tell(s, kind, guest, length, format, args);
    va_end(args);
}

void scan_found(struct scan *s, enum img_finding_kind kind, uint64_t guest, uint64_t length, const char *format, ...) {
    if (kind == IMG_FINDING_CORRUPTION)
        s->result.corruptions++;
    else if (kind == IMG_FINDING_LEAK)
        s->result.leaks++;
    else if (kind == IMG_FINDING_ERROR)
        s->result.check_errors++;
    va_list args;
    va_start(args, format);
    tell(s, kind, guest, length, format, args);
    va_end(args);
}

void scan_progress(struct scan *s, uint64_t more) {
    uint64_t before = s->done;
    s->done += more;
    if (s->options && s->options->progress && !s->quiet && (before / 64 != s->done / 64 || s->done == s->total))
        s->options->progress(s->options->opaque, s->done, s->total);
}
