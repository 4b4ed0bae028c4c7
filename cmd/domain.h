/* SPDX-License-Identifier: GPL-3.0-or-later */
/* domain.h - the disks of a libvirt domain, from its XML description alone: no libvirtd is asked. */
#ifndef DOMAIN_H
#define DOMAIN_H

#include "guest.h"

/* Adds the disks of a domain to the options: `name` is that of a domain of this host, or the path of an XML file. The
 * descriptions are looked for where libvirt keeps them: of the system in /etc/libvirt/qemu, or of a user, which is
 * meant with -c qemu:///session and by who is not root without -c. False after reporting. */
bool domain_add_disks(struct guest_options *options, const char *name);

/* Calls `call` with the name of each domain of this host, in the order of the alphabet; stops when it returns false,
 * and returns that. False, after reporting, if there is no list of them. */
bool domain_each(const struct guest_options *options, bool (*call)(void *opaque, const char *name), void *opaque);

#endif
