/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* failure.c - when an image takes no more writes, and why.
 *
 * A failed barrier, or a metadata write that fails with anything but lack of space, is for good: what the host holds is
 * not known any more, so no metadata is written and every flush fails until the image is opened anew. A corruption that
 * is found stops writes too, and is marked in the header (switch.c). Reads go on.
 */
#include "qcow2.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void fail_for_good(struct qcow2 *q, int code, const char *what) {
    int none = 0;
    pthread_mutex_lock(&q->meta_lock);
    if (atomic_load(&q->failed) == none)
        snprintf(q->failed_text, sizeof q->failed_text, "%s: %s", what, strerror(-code));
    pthread_mutex_unlock(&q->meta_lock);
    atomic_compare_exchange_strong(&q->failed, &none, code);
}

void metadata_write_failed(struct qcow2 *q, int code, const char *what) {
    if (code != -ENOSPC && code != -EDQUOT)
        fail_for_good(q, code, what);
}

int failed_error(struct qcow2 *q, struct img_error *err) {
    return img_fail(err, atomic_load(&q->failed), "'%s' takes no more writes since an earlier failure: %s",
                    q->image->path, q->failed_text);
}

int writes_allowed(struct qcow2 *q, struct img_error *err) {
    if (!q->writable)
        return img_fail(err, -EBADF, "'%s' is open for reading only", q->image->path);
    if (atomic_load_explicit(&q->corrupt, memory_order_acquire))
        return img_fail(err, -EIO, "'%s' is corrupt and takes no more writes: %s", q->image->path, q->corrupt_text);
    if (atomic_load_explicit(&q->failed, memory_order_acquire))
        return failed_error(q, err);
    return 0;
}

int barrier(struct qcow2 *q, bool data) {
    if (q->image->cache == IMG_CACHE_UNSAFE)
        return 0;
    int r = data && q->data && q->data != q->file ? storage_flush(q->data) : 0;
    if (r == 0)
        r = storage_flush(q->file);
    if (r < 0)
        fail_for_good(q, r, "the host could not make writes durable");
    return r;
}

void corrupt_found(struct qcow2 *q, const char *format, ...) {
    pthread_mutex_lock(&q->meta_lock);
    if (atomic_load(&q->corrupt) == CORRUPT_NO) {
        va_list args;
        va_start(args, format);
        vsnprintf(q->corrupt_text, sizeof q->corrupt_text, format, args);
        va_end(args);
        atomic_store(&q->corrupt, CORRUPT_FOUND);
    }
    pthread_mutex_unlock(&q->meta_lock);
}
