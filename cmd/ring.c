/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ring.c - see ring.h. One sender, one receiver.
 *
 * `head` counts the bytes that were ever sent, `tail` those that were given back; both only grow. A chunk is a word
 * with its size and the bytes behind it, never in two pieces: where one would not fit before the end of the memory, a
 * word SKIP says that it follows at the beginning.
 *
 * Who has to wait says so in a flag, looks once more, and reads one byte from the socket; who changes a counter takes
 * the flag down and writes that byte. A byte too many only makes the other look for nothing.
 */
#include "ring.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "report.h"

#define ROOM (4u << 20)
#define SKIP UINT64_MAX
#define HELD_BACK_MAX (64u << 10) /* bytes that are ready and not yet told of */

struct shared {
    uint64_t head, tail;
    uint32_t receiver_sleeps, sender_sleeps;
    unsigned char pad[4096 - 24];
    unsigned char bytes[ROOM];
};

struct ring {
    struct shared *shared;
    int sockets[2]; /* of the sender, of the receiver */
    int own;        /* the one of this process */
    uint64_t head;  /* the sender's, with what is held back; */
    uint64_t sent;  /* without */
    uint64_t tail;  /* the receiver's */
    uint64_t front; /* what the chunk in its hands takes; 0: none */
};

static uint64_t load(const uint64_t *counter) {
    return __atomic_load_n(counter, __ATOMIC_SEQ_CST);
}

static void store(uint64_t *counter, uint64_t value) {
    __atomic_store_n(counter, value, __ATOMIC_SEQ_CST);
}

static void set(uint32_t *flag, uint32_t value) {
    __atomic_store_n(flag, value, __ATOMIC_SEQ_CST);
}

static uint64_t space_of(size_t size) {
    return sizeof(uint64_t) + (((uint64_t)size + 7) & ~(uint64_t)7);
}

struct ring *ring_create(void) {
    struct ring *ring = memory(1, sizeof(*ring));
    ring->shared = mmap(NULL, sizeof(*ring->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ring->shared != MAP_FAILED && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ring->sockets) == 0)
        return ring;
    report("Two processes cannot be connected: %s", strerror(errno));
    if (ring->shared != MAP_FAILED)
        munmap(ring->shared, sizeof(*ring->shared));
    free(ring);
    return NULL;
}

static void choose(struct ring *ring, int own) {
    close(ring->sockets[1 - own]);
    ring->own = ring->sockets[own];
}

void ring_be_sender(struct ring *ring) {
    choose(ring, 0);
}

void ring_be_receiver(struct ring *ring) {
    choose(ring, 1);
}

void ring_close(struct ring *ring) {
    close(ring->own);
    munmap(ring->shared, sizeof(*ring->shared));
    free(ring);
}

/* False: the other process is gone. */
static bool sleep_until_woken(const struct ring *ring) {
    char byte;
    ssize_t got;
    do
        got = read(ring->own, &byte, 1);
    while (got < 0 && errno == EINTR);
    return got == 1;
}

/* ---- the sender; a call that does not exist in the sandbox must not be made here ---- */

void ring_flush(struct ring *ring) {
    if (ring->sent == ring->head)
        return;
    ring->sent = ring->head;
    store(&ring->shared->head, ring->head);
    if (__atomic_exchange_n(&ring->shared->receiver_sleeps, 0, __ATOMIC_SEQ_CST)) {
        ssize_t wrote = write(ring->own, "", 1);
        (void)wrote; /* a receiver that is gone is seen when the room is used up */
    }
}

static bool has_room(const struct ring *ring, uint64_t wanted) {
    return ROOM - (ring->head - load(&ring->shared->tail)) >= wanted;
}

static bool wait_for_room(struct ring *ring, uint64_t wanted) {
    while (!has_room(ring, wanted)) {
        ring_flush(ring);
        set(&ring->shared->sender_sleeps, 1);
        if (!has_room(ring, wanted) && !sleep_until_woken(ring))
            return false;
        set(&ring->shared->sender_sleeps, 0);
    }
    return true;
}

void *ring_reserve(struct ring *ring, size_t size) {
    uint64_t at = ring->head % ROOM, space = space_of(size), rest = ROOM - at < space ? ROOM - at : 0;
    if (!wait_for_room(ring, rest + space))
        return NULL;
    if (rest > 0) {
        store((uint64_t *)(void *)(ring->shared->bytes + at), SKIP);
        ring->head += rest;
        at = 0;
    }
    return ring->shared->bytes + at + sizeof(uint64_t);
}

void ring_commit(struct ring *ring, size_t size) {
    store((uint64_t *)(void *)(ring->shared->bytes + ring->head % ROOM), size);
    ring->head += space_of(size);
    if (ring->head - ring->sent >= HELD_BACK_MAX)
        ring_flush(ring);
}

/* ---- the receiver ---- */

/* A sender that wants nothing but to be woken must not make this process wait or end. */
static void wake_sender(struct ring *ring) {
    if (__atomic_exchange_n(&ring->shared->sender_sleeps, 0, __ATOMIC_SEQ_CST))
        send(ring->own, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void give_back(struct ring *ring) {
    ring->tail += ring->front;
    ring->front = 0;
    store(&ring->shared->tail, ring->tail);
    /* not for each small chunk */
    if (load(&ring->shared->head) - ring->tail <= ROOM / 2)
        wake_sender(ring);
}

/* Waits until something was sent; 0: the sender is gone and nothing is left. */
static uint64_t wait_for_bytes(struct ring *ring) {
    uint64_t sent;
    bool there = true;
    while ((sent = load(&ring->shared->head) - ring->tail) == 0 && there) {
        set(&ring->shared->receiver_sleeps, 1);
        wake_sender(ring);
        if (load(&ring->shared->head) == ring->tail)
            there = sleep_until_woken(ring);
        set(&ring->shared->receiver_sleeps, 0);
    }
    return sent;
}

enum ring_state ring_next(struct ring *ring, const void **chunk, size_t *size) {
    give_back(ring);
    for (;;) {
        uint64_t sent = wait_for_bytes(ring), at = ring->tail % ROOM;
        if (sent == 0)
            return RING_END;
        if (sent > ROOM || sent % 8 != 0)
            return RING_NONSENSE;
        uint64_t length = load((const uint64_t *)(const void *)(ring->shared->bytes + at));
        if (length != SKIP) {
            if (length > RING_CHUNK_MAX || space_of(length) > sent || space_of(length) > ROOM - at)
                return RING_NONSENSE;
            ring->front = space_of(length);
            *chunk = ring->shared->bytes + at + sizeof(uint64_t);
            *size = length;
            return RING_CHUNK;
        }
        if (ROOM - at > sent)
            return RING_NONSENSE;
        ring->tail += ROOM - at;
        store(&ring->shared->tail, ring->tail);
    }
}
