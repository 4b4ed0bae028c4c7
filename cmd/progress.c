/* SPDX-License-Identifier: GPL-3.0-or-later */
/* progress.c - see progress.h. */
#include "progress.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "report.h"
#include "size.h"

#define NSEC_PER_SEC UINT64_C(1000000000)
#define DRAW_INTERVAL_NS (NSEC_PER_SEC / 10)
#define NARROWEST 20
#define WIDEST 120

static volatile sig_atomic_t asked;

static void on_usr1(int signal_number) {
    (void)signal_number;
    asked = 1;
}

static uint64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

bool progress_parse(const char *text, enum progress_style *style) {
    static const struct {
        const char *name;
        enum progress_style style;
    } styles[] = {
        {"auto", PROGRESS_AUTO}, {"bar", PROGRESS_BAR}, {"percent", PROGRESS_PERCENT}, {"json", PROGRESS_JSON}};
    for (size_t i = 0; i < sizeof(styles) / sizeof(styles[0]); i++) {
        if (!text || strcmp(text, styles[i].name) == 0) {
            *style = styles[i].style;
            return true;
        }
    }
    report("--progress must be used with auto, bar, percent or json as argument.");
    return false;
}

static double percent_of(const struct progress *p) {
    return p->total ? 100.0 * (double)p->done / (double)p->total : 100;
}

/* Bytes per second so far, 0 when nothing can be said. */
static double rate_of(const struct progress *p, uint64_t now) {
    double seconds = (double)(now - p->start_ns) / (double)NSEC_PER_SEC;
    return seconds > 0 ? (double)p->done / seconds : 0;
}

/* Seconds left, -1 when nothing can be said. */
static double time_left(const struct progress *p, double rate) {
    return rate > 0 ? (double)(p->total - p->done) / rate : -1;
}

/* Sends what was printed. Nobody need see it: after an error there is no more of it, and the error is no result. */
static void push(struct progress *p) {
    if (fflush(p->out) == 0)
        return;
    __fpurge(p->out);
    clearerr(p->out);
    p->style = PROGRESS_NONE;
}

static void print_percent(struct progress *p, FILE *out, const char *end) {
    fprintf(out, "    (%3.2f/100%%)%s", percent_of(p), end);
    if (out == p->out)
        push(p);
    else
        fflush(out);
}

static void print_json(struct progress *p, uint64_t now) {
    double rate = rate_of(p, now), left = time_left(p, rate);
    fprintf(p->out, "{\"done\": %" PRIu64 ", \"total\": %" PRIu64 ", \"rate\": %.0f, \"eta\": ", p->done, p->total,
            rate);
    if (left < 0)
        fprintf(p->out, "null}\n");
    else
        fprintf(p->out, "%.0f}\n", left);
    push(p);
}

static void format_time(double seconds, char *text, size_t size) {
    uint64_t s = seconds > 1e9 ? UINT64_C(1000000000) : (uint64_t)(seconds + 0.5);
    if (s >= 3600)
        snprintf(text, size, "%" PRIu64 ":%02u:%02u", s / 3600, (unsigned)(s / 60 % 60), (unsigned)(s % 60));
    else
        snprintf(text, size, "%u:%02u", (unsigned)(s / 60), (unsigned)(s % 60));
}

static int terminal_width(FILE *out) {
    struct winsize size;
    if (ioctl(fileno(out), TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
        return 80;
    return size.ws_col < WIDEST ? size.ws_col : WIDEST;
}

/* "[====>    ]" of `width` characters. */
static void format_bar(double percent, char *text, int width) {
    int inner = width - 2, filled = (int)(percent / 100 * inner);
    memset(text, ' ', (size_t)width);
    memset(text + 1, '=', (size_t)filled);
    if (filled < inner)
        text[1 + filled] = '>';
    text[0] = '[';
    text[width - 1] = ']';
    text[width] = '\0';
}

static void draw_bar(struct progress *p, uint64_t now, bool last) {
    char head[16], tail[96] = "", bar[WIDEST + 1] = "", speed[HUMAN_SIZE_MAX], size[HUMAN_SIZE_MAX], clock[32];
    int room = terminal_width(p->out) - 1;
    double rate = rate_of(p, now), left = time_left(p, rate);

    int used = snprintf(head, sizeof(head), "%5.1f%%", percent_of(p));
    if (last)
        format_time((double)(now - p->start_ns) / (double)NSEC_PER_SEC, clock, sizeof(clock));
    else if (left >= 0)
        format_time(left, clock, sizeof(clock));
    if (last)
        snprintf(tail, sizeof(tail), " %s in %s, %s/s", human_size(p->done, size), clock,
                 human_size((uint64_t)rate, speed));
    else if (left >= 0)
        snprintf(tail, sizeof(tail), " %s/s %s left", human_size((uint64_t)rate, speed), clock);
    if (used + (int)strlen(tail) > room)
        tail[0] = '\0';
    used += (int)strlen(tail);
    if (room - used > NARROWEST / 2) {
        bar[0] = ' ';
        format_bar(percent_of(p), bar + 1, room - used - 1);
        used = room;
    }
    int blank = p->width > used ? p->width - used : 0;
    fprintf(p->out, "\r%s%s%s%*s", head, bar, tail, blank, "");
    push(p);
    p->width = used;
    p->drawn_ns = now;
}

void progress_start(struct progress *p, enum progress_style style, uint64_t total, double step, FILE *out) {
    if (style == PROGRESS_AUTO)
        style = isatty(fileno(out)) ? PROGRESS_BAR : PROGRESS_PERCENT;
    *p = (struct progress){.style = style, .total = total, .step = step, .start_ns = now_ns()};
    p->out = style == PROGRESS_JSON ? stderr : out;
    p->drawn_ns = p->start_ns;

    struct sigaction action = {.sa_handler = on_usr1, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    if (style != PROGRESS_NONE)
        signal(SIGPIPE, SIG_IGN); /* a reader that goes away is an error of a write */
    if (style == PROGRESS_PERCENT) {
        fprintf(p->out, "    (%3.2f/100%%)\r", 0.0);
        push(p);
    }
}

void progress_update(struct progress *p, uint64_t done) {
    p->done = done < p->total ? done : p->total;
    if (asked) {
        asked = 0;
        print_percent(p, stderr, "\n");
    }
    if (p->style == PROGRESS_NONE)
        return;
    if (p->style == PROGRESS_PERCENT) {
        double percent = percent_of(p);
        if (percent > p->percent + p->step) {
            p->percent = percent;
            print_percent(p, p->out, "\r");
        }
        return;
    }
    uint64_t now = now_ns();
    if (now - p->drawn_ns < DRAW_INTERVAL_NS)
        return;
    if (p->style == PROGRESS_BAR) {
        draw_bar(p, now, false);
    } else {
        p->drawn_ns = now;
        print_json(p, now);
    }
}

void progress_finish(struct progress *p, bool complete) {
    if (p->style == PROGRESS_NONE)
        return;
    if (complete)
        p->done = p->total;
    if (p->style == PROGRESS_JSON) {
        print_json(p, now_ns());
        return;
    }
    if (p->style == PROGRESS_BAR)
        draw_bar(p, now_ns(), complete);
    else if (complete)
        print_percent(p, p->out, "\r");
    if (p->style == PROGRESS_NONE)
        return;
    fputc('\n', p->out);
    push(p);
}
