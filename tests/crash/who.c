/* SPDX-License-Identifier: GPL-3.0-or-later */
/* who.c - identities, and how they get into the engine's helper threads (who.h). */
#include "who.h"

#include "helpers.h"
#include "img.h"
#include "util.h"

_Thread_local struct who who;

/* A job with the identity of whoever posted it. */
struct errand {
    struct job job; /* first */
    struct job *real;
    struct who who;
};

static void run_errand(struct job *job) {
    struct errand *e = (struct errand *)job;
    struct job *real = e->real;
    who = e->who;
    free(e);
    real->run(real);
    who = (struct who){0};
}

void __real_helpers_post(struct helpers *h, struct job *job);
void __wrap_helpers_post(struct helpers *h, struct job *job);

void __wrap_helpers_post(struct helpers *h, struct job *job) {
    struct errand *e = xcalloc(1, sizeof(*e));
    *e = (struct errand){.job.run = run_errand, .real = job, .who = who};
    __real_helpers_post(h, &e->job);
}

int __real_qcow2_flush(struct img *image, struct img_error *err);
int __wrap_qcow2_flush(struct img *image, struct img_error *err);

int __wrap_qcow2_flush(struct img *image, struct img_error *err) {
    who.flushing = true;
    int r = __real_qcow2_flush(image, err);
    who.flushing = false;
    return r;
}
