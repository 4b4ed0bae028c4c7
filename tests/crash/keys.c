/* SPDX-License-Identifier: GPL-3.0-or-later */
/* keys.c - key slots that are filled and erased: told to the judge, and judged (keys.h). */
#include "keys.h"

#include <errno.h>

#include "judge.h"
#include "scenario.h"
#include "world.h"

struct img_key key_of(const char *passphrase) {
    return (struct img_key){passphrase, passphrase ? strlen(passphrase) : 0};
}

/* ---- what is known ---------------------------------------------------------------------------------- */

static struct key_known *know(struct keys_known *k, const char *passphrase) {
    if (k->count == KEYS_MAX)
        DIE("too many passphrases");
    struct key_known *key = &k->list[k->count++];
    *key = (struct key_known){.passphrase = passphrase, .asked_away = RECORD_NEVER, .gone = RECORD_NEVER};
    return key;
}

static struct key_known *find(struct keys_known *k, const char *passphrase) {
    for (unsigned i = 0; i < k->count; i++)
        if (strcmp(k->list[i].passphrase, passphrase) == 0)
            return &k->list[i];
    DIE("there is no passphrase %s", passphrase);
}

void keys_meet(struct keys_known *k, const char *passphrase) {
    if (passphrase)
        know(k, passphrase);
}

const char *keys_now(const struct keys_known *k) {
    for (unsigned i = 0; i < k->count; i++)
        if (k->list[i].gone == RECORD_NEVER)
            return k->list[i].passphrase;
    return NULL;
}

/* ---- changes ---------------------------------------------------------------------------------------- */

static void must(struct world *w, int rc, const char *what, const struct img_error *err) {
    if (rc < 0)
        DIE("%s: a key cannot be %s: %s", w->scenario->name, what, err->text);
}

void guest_key_add(struct world *w, const char *passphrase, int slot) {
    struct key_known *k = know(&w->judge.keys, passphrase);
    struct img_key key = key_of(passphrase);
    struct img_error err = {0};
    k->asked = log_tick(w->log);
    must(w, img_key_add(w->image, &key, slot, 1, &err), "added", &err);
    k->born = log_tick(w->log);
}

void guest_key_remove(struct world *w, const char *passphrase) {
    struct key_known *k = find(&w->judge.keys, passphrase);
    struct img_key key = key_of(passphrase);
    struct img_error err = {0};
    k->asked_away = log_tick(w->log);
    must(w, img_key_remove(w->image, &key, -1, false, &err), "removed", &err);
    k->gone = log_tick(w->log);
}

void guest_key_change(struct world *w, const char *from, const char *to) {
    struct key_known *new = know(&w->judge.keys, to), *old = find(&w->judge.keys, from);
    struct img_key old_key = key_of(from), new_key = key_of(to);
    struct img_error err = {0};
    new->asked = old->asked_away = log_tick(w->log);
    must(w, img_key_change(w->image, &old_key, &new_key, 1, &err), "changed", &err);
    new->born = old->gone = log_tick(w->log);
}

/* ---- the verdict ------------------------------------------------------------------------------------ */

static int active_slots(const struct judge *j, struct log *disk, struct img_error *err) {
    struct img_info info = {0};
    struct img *image;
    int active = 0;
    if (judge_open(j, disk, IMG_OPEN_INFO, NULL, NULL, &image, err))
        return -1;
    if (img_info(image, &info, err) || !info.luks)
        active = -1;
    for (unsigned i = 0; active >= 0 && i < 8; i++)
        active += info.luks->slots[i].active;
    img_close(image, NULL);
    return active;
}

bool keys_hold(const struct judge *j, struct log *disk, uint64_t cut, const char **passphrase, char *why,
               size_t why_size) {
    int opened = 0, active;
    struct img_error err = {0};
    *passphrase = NULL;
    if (j->keys.count == 0)
        return true;
    for (unsigned i = 0; i < j->keys.count; i++) {
        const struct key_known *k = &j->keys.list[i];
        struct img *image;
        int rc = judge_open(j, disk, 0, NULL, k->passphrase, &image, &err);
        bool must = cut >= k->born && cut < k->asked_away, may = cut >= k->asked && cut < k->gone;
        if (rc == 0) {
            img_close(image, NULL);
            *passphrase = k->passphrase;
            opened++;
        }
        if ((rc && must) || (rc && rc != -EACCES) || (!rc && !may)) {
            snprintf(why, why_size, "passphrase %s opens it%s%s", k->passphrase, rc ? " no more: " : "",
                     rc ? err.text : "");
            return false;
        }
    }
    active = active_slots(j, disk, &err);
    if (opened && active == opened)
        return true;
    snprintf(why, why_size, "%d slots are in use, %d passphrases open it %s", active, opened, err.text);
    return false;
}
