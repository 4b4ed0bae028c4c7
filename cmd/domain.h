/* SPDX-License-Identifier: GPL-3.0-or-later */
/* domain.h - the disks of a libvirt domain, from its XML description alone: no libvirtd is asked. */
#ifndef DOMAIN_H
#define DOMAIN_H

#include "guest.h"

/* Adds the disks of a domain to the options: `name` is that of a domain of this host (in /etc/libvirt/qemu), or the
 * path of an XML file. False after reporting. */
bool domain_add_disks(struct guest_options *options, const char *name);

/* Calls `call` with the name of each domain of this host, in the order of the alphabet; stops when it returns false,
 * and returns that. */
bool domain_each(bool (*call)(void *opaque, const char *name), void *opaque);

#endif
