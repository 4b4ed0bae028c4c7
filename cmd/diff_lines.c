/* SPDX-License-Identifier: GPL-3.0-or-later */
/* diff_lines.c - see diff_lines.h.
 *
 * Lines are numbered so that equal lines have equal numbers (by sorting them: no choice of text makes that slow). Then
 * Myers' algorithm in linear space: a path through the grid of both texts is looked for from both ends at once, where
 * they meet the problem falls into two halves. Groups of changed lines are slid to where `diff` shows them: as far down
 * as they go, or level with a change of the other text.
 */
#include "diff_lines.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

#define CONTEXT 3
#define NO_PATH (-1)
#define WORK_MAX (1u << 27)  /* steps of all searches together */
#define LINES_MAX (1l << 21) /* of both texts together, each of which takes some 70 bytes */

struct line {
    const char *text;
    size_t length;
    long id;
};

struct side {
    struct line *lines;
    long count;
    char *changed; /* has a zero in front of the first and one behind the last */
};

struct search {
    struct side *a, *b;
    long *forward, *backward; /* furthest x on each diagonal, by x - y */
    uint64_t work;
};

/* ---- lines and their numbers ---- */

static long count_lines(const char *text, size_t length) {
    long count = 0;
    for (const char *p = text, *end = text + length; p < end; count++) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        p = newline ? newline + 1 : end;
    }
    return count;
}

static void split(struct side *side, const char *text, size_t length, long count) {
    side->lines = memory((size_t)count + 1, sizeof(side->lines[0]));
    side->changed = (char *)memory((size_t)count + 2, 1) + 1;
    for (const char *end = text + length; side->count < count; side->count++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *next = newline ? newline + 1 : end;
        side->lines[side->count] = (struct line){.text = text, .length = (size_t)(next - text)};
        text = next;
    }
}

static int by_text(const void *a, const void *b) {
    const struct line *x = *(struct line *const *)a, *y = *(struct line *const *)b;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

static void number_lines(struct side *a, struct side *b) {
    size_t count = (size_t)(a->count + b->count);
    struct line **all = memory(count + 1, sizeof(all[0]));
    for (long i = 0; i < a->count; i++)
        all[i] = &a->lines[i];
    for (long i = 0; i < b->count; i++)
        all[a->count + i] = &b->lines[i];
    qsort(all, count, sizeof(all[0]), by_text);
    for (size_t i = 0; i < count; i++)
        all[i]->id = i == 0 ? 0 : all[i - 1]->id + (by_text(&all[i - 1], &all[i]) != 0);
    free(all);
}

/* ---- the search ---- */

struct box {
    long a, a_end, b, b_end;
};

static bool same(const struct search *s, long x, long y) {
    return s->a->lines[x].id == s->b->lines[y].id;
}

/* The diagonals that both the box and paths of `round` changes from diagonal `from` can reach. */
static bool reaches(const struct box *box, long from, long round, long k) {
    return k >= from - round && k <= from + round && k >= box->a - box->b_end && k <= box->a_end - box->b;
}

/* One round from the beginning: on each diagonal, how far a path with `round` changes comes; a path that would leave
 * the box is none. True: one met a path from the end, at (*x, *y). */
static bool step_forward(struct search *s, const struct box *box, long round, long *x, long *y) {
    long from = box->a - box->b, other = box->a_end - box->b_end;
    bool odd = (from - other) & 1;
    for (long k = from - round; k <= from + round; k += 2) {
        if (!reaches(box, from, round, k))
            continue;
        long right =
            reaches(box, from, round - 1, k - 1) && s->forward[k - 1] != NO_PATH ? s->forward[k - 1] + 1 : NO_PATH;
        long down = reaches(box, from, round - 1, k + 1) ? s->forward[k + 1] : NO_PATH;
        if (right > box->a_end)
            right = NO_PATH;
        if (down - k > box->b_end)
            down = NO_PATH;
        long at = right > down ? right : down;
        while (at != NO_PATH && at < box->a_end && at - k < box->b_end && same(s, at, at - k))
            at++;
        s->forward[k] = at;
        if (odd && at != NO_PATH && reaches(box, other, round - 1, k) && s->backward[k] != NO_PATH &&
            s->backward[k] <= at) {
            *x = at;
            *y = at - k;
            return true;
        }
    }
    return false;
}

static bool step_backward(struct search *s, const struct box *box, long round, long *x, long *y) {
    long from = box->a_end - box->b_end, other = box->a - box->b;
    bool odd = (from - other) & 1;
    for (long k = from - round; k <= from + round; k += 2) {
        if (!reaches(box, from, round, k))
            continue;
        long left =
            reaches(box, from, round - 1, k + 1) && s->backward[k + 1] != NO_PATH ? s->backward[k + 1] - 1 : NO_PATH;
        long up = reaches(box, from, round - 1, k - 1) ? s->backward[k - 1] : NO_PATH;
        if (left < box->a)
            left = NO_PATH;
        if (up != NO_PATH && up - k < box->b)
            up = NO_PATH;
        long at = left == NO_PATH || (up != NO_PATH && up < left) ? up : left;
        while (at != NO_PATH && at > box->a && at - k > box->b && same(s, at - 1, at - k - 1))
            at--;
        s->backward[k] = at;
        if (!odd && at != NO_PATH && reaches(box, other, round, k) && s->forward[k] != NO_PATH && at <= s->forward[k]) {
            *x = at;
            *y = at - k;
            return true;
        }
    }
    return false;
}

/* A point on a shortest path through the box, which has no equal lines at its ends. False: too much work. */
static bool find_middle(struct search *s, const struct box *box, long *x, long *y) {
    s->forward[box->a - box->b] = box->a;
    s->backward[box->a_end - box->b_end] = box->a_end;
    for (long round = 1;; round++) {
        s->work += 4 * (uint64_t)round;
        if (s->work > WORK_MAX)
            return false;
        if (step_forward(s, box, round, x, y) || step_backward(s, box, round, x, y))
            return true;
    }
}

static void compare(struct search *s, struct box box) {
    long x, y;
    while (box.a < box.a_end && box.b < box.b_end && same(s, box.a, box.b))
        box.a++, box.b++;
    while (box.a < box.a_end && box.b < box.b_end && same(s, box.a_end - 1, box.b_end - 1))
        box.a_end--, box.b_end--;
    if (box.a == box.a_end || box.b == box.b_end || !find_middle(s, &box, &x, &y)) {
        memset(s->a->changed + box.a, 1, (size_t)(box.a_end - box.a));
        memset(s->b->changed + box.b, 1, (size_t)(box.b_end - box.b));
        return;
    }
    compare(s, (struct box){box.a, x, box.b, y});
    compare(s, (struct box){x, box.a_end, y, box.b_end});
}

/* ---- where groups of changed lines are shown ---- */

/* A group [start, end) of `side`, and what stands beside its end in the other text: the unchanged line `beside`, with
 * as many unchanged ones before it. */
struct group {
    struct side *side, *other;
    long start, end, beside;
};

static void move_up(struct group *g) {
    g->side->changed[--g->start] = 1;
    g->side->changed[--g->end] = 0;
    while (g->other->changed[g->beside - 1])
        g->beside--;
    g->beside--;
}

/* Slides it up by a line; a group that it meets becomes a part of it. */
static bool slide_up(struct group *g) {
    if (g->start == 0 || g->side->lines[g->start - 1].id != g->side->lines[g->end - 1].id)
        return false;
    move_up(g);
    while (g->side->changed[g->start - 1])
        g->start--;
    return true;
}

static void skip_changed(const struct side *side, long *line) {
    while (side->changed[*line])
        ++*line;
}

static bool slide_down(struct group *g) {
    if (g->end == g->side->count || g->side->lines[g->start].id != g->side->lines[g->end].id)
        return false;
    g->side->changed[g->start++] = 0;
    g->side->changed[g->end++] = 1;
    skip_changed(g->side, &g->end);
    g->beside++;
    skip_changed(g->other, &g->beside);
    return true;
}

/* Does a change of the other text end beside it? */
static bool is_level(const struct group *g) {
    return g->other->changed[g->beside - 1];
}

static void slide(struct group *g) {
    long length, level;
    do {
        length = g->end - g->start;
        while (slide_up(g))
            ;
        level = is_level(g) ? g->end : -1;
        while (slide_down(g))
            if (is_level(g))
                level = g->end;
    } while (length != g->end - g->start);
    while (level >= 0 && g->end > level)
        move_up(g);
}

static void slide_all(struct side *side, struct side *other) {
    struct group g = {.side = side, .other = other};
    skip_changed(other, &g.beside);
    while (g.end < side->count) {
        g.start = g.end;
        skip_changed(side, &g.end);
        if (g.end > g.start)
            slide(&g);
        if (g.end < side->count) { /* an unchanged line, here and there */
            g.end++;
            g.beside++;
            skip_changed(other, &g.beside);
        }
    }
}

/* ---- hunks ---- */

static void print_range(FILE *out, char sign, long start, long end) {
    long count = end - start;
    fprintf(out, "%c%ld", sign, count == 0 ? start : start + 1);
    if (count != 1)
        fprintf(out, ",%ld", count);
}

static void print_line(FILE *out, char sign, const struct line *line) {
    putc(sign, out);
    fwrite(line->text, 1, line->length, out);
    if (line->text[line->length - 1] != '\n')
        fputs("\n\\ No newline at end of file\n", out);
}

static void print_hunk(FILE *out, const struct side *a, const struct side *b, const struct box *hunk) {
    fputs("@@ ", out);
    print_range(out, '-', hunk->a, hunk->a_end);
    putc(' ', out);
    print_range(out, '+', hunk->b, hunk->b_end);
    fputs(" @@\n", out);
    for (long i = hunk->a, j = hunk->b; i < hunk->a_end || j < hunk->b_end;) {
        if (i < hunk->a_end && a->changed[i])
            print_line(out, '-', &a->lines[i++]);
        else if (j < hunk->b_end && b->changed[j])
            print_line(out, '+', &b->lines[j++]);
        else {
            print_line(out, ' ', &a->lines[i++]);
            j++;
        }
    }
}

/* Changes with no more than twice the context between them are one hunk. */
static void print_hunks(FILE *out, const struct side *a, const struct side *b) {
    long i = 0, j = 0;
    for (;;) {
        for (; i < a->count && j < b->count && !a->changed[i] && !b->changed[j]; i++, j++)
            ;
        if (i == a->count && j == b->count)
            return;
        long before = i < CONTEXT ? i : CONTEXT, quiet = 0;
        struct box hunk = {.a = i - before, .b = j - before};
        while (quiet <= 2 * CONTEXT && (i < a->count || j < b->count)) {
            if (a->changed[i] || b->changed[j]) {
                for (; a->changed[i]; i++)
                    ;
                for (; b->changed[j]; j++)
                    ;
                quiet = 0;
            } else
                i++, j++, quiet++;
        }
        long surplus = quiet > CONTEXT ? quiet - CONTEXT : 0;
        hunk.a_end = i - surplus;
        hunk.b_end = j - surplus;
        print_hunk(out, a, b, &hunk);
    }
}

bool print_line_diff(FILE *out, const char *a_text, size_t a_length, const char *b_text, size_t b_length) {
    struct side a = {0}, b = {0};
    long a_count = count_lines(a_text, a_length), b_count = count_lines(b_text, b_length);
    if (a_count + b_count > LINES_MAX)
        return false;
    split(&a, a_text, a_length, a_count);
    split(&b, b_text, b_length, b_count);
    number_lines(&a, &b);
    size_t diagonals = (size_t)(a.count + b.count) + 5;
    long *forward = memory(diagonals, sizeof(long)), *backward = memory(diagonals, sizeof(long));
    struct search search = {.a = &a, .b = &b, .forward = forward + b.count + 2, .backward = backward + b.count + 2};
    compare(&search, (struct box){0, a.count, 0, b.count});
    slide_all(&a, &b);
    slide_all(&b, &a);
    print_hunks(out, &a, &b);
    free(forward);
    free(backward);
    free(a.lines);
    free(a.changed - 1);
    free(b.lines);
    free(b.changed - 1);
    return true;
}
