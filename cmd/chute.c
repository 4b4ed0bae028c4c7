/* SPDX-License-Identifier: GPL-3.0-or-later */
/* chute.c - see chute.h. One sender, one receiver.
 *
 * `head` counts the bytes that were ever sent, `tail` those that were given back; both only grow. A chunk is a word
 * with its size and the bytes behind it, never in two pieces: where one would not fit before the end of the memory, a
 * word SKIP says that it follows at the beginning.
 *
 * Who has to wait says so in a flag, looks once more, and reads one byte from the socket; who changes a counter takes
 * the flag down and writes that byte. A byte too many only makes the other look for nothing.
 */
#include "chute.h"

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

struct chute {
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

struct chute *chute_create(void) {
    struct chute *chute = memory(1, sizeof(*chute));
    chute->shared = mmap(NULL, sizeof(*chute->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (chute->shared != MAP_FAILED && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, chute->sockets) == 0)
        return chute;
    report("Two processes cannot be connected: %s", strerror(errno));
    if (chute->shared != MAP_FAILED)
        munmap(chute->shared, sizeof(*chute->shared));
    free(chute);
    return NULL;
}

static void choose(struct chute *chute, int own) {
    close(chute->sockets[1 - own]);
    chute->own = chute->sockets[own];
}

void chute_be_sender(struct chute *chute) {
    choose(chute, 0);
}

void chute_be_receiver(struct chute *chute) {
    choose(chute, 1);
}

void chute_close(struct chute *chute) {
    close(chute->own);
    munmap(chute->shared, sizeof(*chute->shared));
    free(chute);
}

/* False: the other process is gone. */
static bool sleep_until_woken(const struct chute *chute) {
    char byte;
    ssize_t got;
    do
        got = read(chute->own, &byte, 1);
    while (got < 0 && errno == EINTR);
    return got == 1;
}

/* ---- the sender; a call that does not exist in the sandbox must not be made here ---- */

void chute_flush(struct chute *chute) {
    if (chute->sent == chute->head)
        return;
    chute->sent = chute->head;
    store(&chute->shared->head, chute->head);
    if (__atomic_exchange_n(&chute->shared->receiver_sleeps, 0, __ATOMIC_SEQ_CST)) {
        ssize_t wrote = write(chute->own, "", 1);
        (void)wrote; /* a receiver that is gone is seen when the room is used up */
    }
}

static bool has_room(const struct chute *chute, uint64_t wanted) {
    return ROOM - (chute->head - load(&chute->shared->tail)) >= wanted;
}

static bool wait_for_room(struct chute *chute, uint64_t wanted) {
    while (!has_room(chute, wanted)) {
        chute_flush(chute);
        set(&chute->shared->sender_sleeps, 1);
        if (!has_room(chute, wanted) && !sleep_until_woken(chute))
            return false;
        set(&chute->shared->sender_sleeps, 0);
    }
    return true;
}

void *chute_reserve(struct chute *chute, size_t size) {
    uint64_t at = chute->head % ROOM, space = space_of(size), rest = ROOM - at < space ? ROOM - at : 0;
    if (!wait_for_room(chute, rest + space))
        return NULL;
    if (rest > 0) {
        store((uint64_t *)(void *)(chute->shared->bytes + at), SKIP);
        chute->head += rest;
        at = 0;
    }
    return chute->shared->bytes + at + sizeof(uint64_t);
}

void chute_commit(struct chute *chute, size_t size) {
    store((uint64_t *)(void *)(chute->shared->bytes + chute->head % ROOM), size);
    chute->head += space_of(size);
    if (chute->head - chute->sent >= HELD_BACK_MAX)
        chute_flush(chute);
}

/* ---- the receiver ---- */

/* A sender that wants nothing but to be woken must not make this process wait or end. */
static void wake_sender(struct chute *chute) {
    if (__atomic_exchange_n(&chute->shared->sender_sleeps, 0, __ATOMIC_SEQ_CST))
        send(chute->own, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void give_back(struct chute *chute) {
    chute->tail += chute->front;
    chute->front = 0;
    store(&chute->shared->tail, chute->tail);
    /* not for each small chunk */
    if (load(&chute->shared->head) - chute->tail <= ROOM / 2)
        wake_sender(chute);
}

/* Waits until something was sent; 0: the sender is gone and nothing is left. */
static uint64_t wait_for_bytes(struct chute *chute) {
    uint64_t sent;
    bool there = true;
    while ((sent = load(&chute->shared->head) - chute->tail) == 0 && there) {
        set(&chute->shared->receiver_sleeps, 1);
        wake_sender(chute);
        if (load(&chute->shared->head) == chute->tail)
            there = sleep_until_woken(chute);
        set(&chute->shared->receiver_sleeps, 0);
    }
    return sent;
}

enum chute_state chute_next(struct chute *chute, const void **chunk, size_t *size) {
    give_back(chute);
    for (;;) {
        uint64_t sent = wait_for_bytes(chute), at = chute->tail % ROOM;
        if (sent == 0)
            return CHUTE_END;
        if (sent > ROOM || sent % 8 != 0)
            return CHUTE_NONSENSE;
        uint64_t length = load((const uint64_t *)(const void *)(chute->shared->bytes + at));
        if (length != SKIP) {
            if (length > CHUTE_CHUNK_MAX || space_of(length) > sent || space_of(length) > ROOM - at)
                return CHUTE_NONSENSE;
            chute->front = space_of(length);
            *chunk = chute->shared->bytes + at + sizeof(uint64_t);
            *size = length;
            return CHUTE_CHUNK;
        }
        if (ROOM - at > sent)
            return CHUTE_NONSENSE;
        chute->tail += ROOM - at;
        store(&chute->shared->tail, chute->tail);
    }
}
