/* SPDX-License-Identifier: GPL-3.0-or-later */
/* scenarios_keys.c - key slots of encrypted images are filled and erased, with writes of the guest between. */
#include "scenario.h"
#include "world.h"

/* QEMU cannot measure its key derivation on a machine that is busy: then it tries again. */
#define CREATE(options)                                                                                                \
    "for i in 1 2 3 4 5 6 7 8; do qemu-img create -q --object secret,id=s0,data=one " options " && break; done"

static void change_keys(struct world *w) {
    guest_write(w, 0, 8 << 10);
    guest_key_add(w, "two", 6); /* the slot that lies in two sectors */
    guest_write(w, 4 << 10, 3 << 10);
    guest_flush(w);
    guest_key_change(w, "one", "three");
    guest_write(w, 12 << 10, 2 << 10);
    guest_key_remove(w, "two");
    guest_flush(w);
    world_close(w);
    world_open(w);
    guest_write(w, 1 << 10, 1 << 10);
    guest_key_change(w, "three", "four");
    guest_write(w, 14 << 10, 1 << 10);
    guest_flush(w);
    guest_verify(w);
}

const struct scenario scenarios_keys[] = {
    {
        .name = "keys-luks",
        .prepare = CREATE("-f luks -o key-secret=s0,iter-time=1,cipher-alg=aes-128,cipher-mode=cbc image.qcow2 16k"),
        .run = change_keys,
        .format = "luks",
        .key = "one",
        .states_wanted = 150, /* there is little to be written */
    },
    {
        .name = "keys-qcow2",
        .prepare = CREATE("-f qcow2 -o cluster_size=4k,encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=1,"
                          "encrypt.cipher-alg=aes-128,encrypt.cipher-mode=cbc image.qcow2 16k"),
        .run = change_keys,
        .key = "one",
    },
    {0},
};
