/* SPDX-License-Identifier: GPL-3.0-or-later */
/* secret.h - passphrases: objects of the command line (--object secret,...), a key for all images (--key, --key-file),
 * and a question on the terminal.
 *
 * No option takes a passphrase by itself but --object's data=, which is qemu-img's. All that is kept here is wiped when
 * the program ends.
 */
#ifndef SECRET_H
#define SECRET_H

#include <stdbool.h>

#include "img.h"

/* Takes the definition of an object, "secret,id=ID,..." or as JSON, as --object has it. False after reporting. */
bool secret_add(const char *definition);
/* The secret of this id, owned here until the program ends; NULL: there is none. */
const struct img_key *secret_find(const char *id);

/* --key ID and --key-file PATH: what opens every encrypted image that has no key of its own. False after reporting. */
bool secret_use(const char *id);
bool secret_use_file(const char *path);

/* img_open_options.ask_key: the key of --key, else a question where there is a terminal, else -ENOKEY. */
int secret_ask(void *unused, const char *path, struct img_key *key);
/* The same for an image that is to be made: asks twice. */
int secret_ask_new(const char *path, struct img_key *key);

#endif
