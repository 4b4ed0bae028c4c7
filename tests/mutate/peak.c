// SPDX-License-Identifier: GPL-3.0-or-later
/* peak.c - how much memory was asked for at once. AddressSanitizer keeps what is freed for a while and surrounds what
 * is not, so under it allocations are counted as they come and go, those of libraries too; elsewhere the process tells
 * how large it became. */
#include "mutate.h"

#include <sys/resource.h>

#if defined(__SANITIZE_ADDRESS__)

int __sanitizer_install_malloc_and_free_hooks(void (*malloc_hook)(const volatile void *, size_t),
                                              void (*free_hook)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *p);

static int64_t now, most;

static void on_malloc(const volatile void *p, size_t size) {
    (void)p;
    now += (int64_t)size;
    if (now > most)
        most = now;
}

static void on_free(const volatile void *p) {
    if (p)
        now -= (int64_t)__sanitizer_get_allocated_size(p);
}

void peak_begin(void) {
    static bool installed;
    if (!installed)
        __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
    installed = true;
    now = most = 0;
}

uint64_t peak_bytes(void) {
    return (uint64_t)most;
}

#else

static uint64_t start;

static uint64_t resident(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)usage.ru_maxrss * 1024;
}

/* It never falls: the first call counts. */
void peak_begin(void) {
    if (!start)
        start = resident();
}

uint64_t peak_bytes(void) {
    return resident() - start;
}

#endif
