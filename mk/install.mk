# SPDX-License-Identifier: GPL-3.0-or-later
# make install DESTDIR= PREFIX=: the tool, the links that start it as a subcommand, library, header, pkg-config file,
# manual pages (with a link for each subcommand's name) and the completion for bash.

COMMANDS := create info check map compare convert io measure dd bench snapshot commit rebase amend
BINDIR = $(DESTDIR)$(PREFIX)/bin
LIBDIR = $(DESTDIR)$(PREFIX)/lib
INCLUDEDIR = $(DESTDIR)$(PREFIX)/include
MANDIR = $(DESTDIR)$(PREFIX)/share/man/man1
COMPDIR = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
MAN := $(sort $(wildcard docs/man/*.1 man/*.1))
COMPLETION := $(firstword $(wildcard scripts/completions/img scripts/completions/img.bash scripts/completions/*))

$B/libimg.pc: Makefile mk/install.mk FORCE
	@mkdir -p $(@D)
	@printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$${prefix}/lib' 'includedir=$${prefix}/include' '' 'Name: libimg' \
	  'Description: disk images for KVM: open, read, write, map, check, create and copy raw and qcow2' \
	  'Version: $(VERSION)' 'Libs: -L$${libdir} -limg' 'Libs.private: $(LIBS)' 'Cflags: -I$${includedir}' > $@

install: all $B/libimg.pc
	install -d $(BINDIR) $(LIBDIR)/pkgconfig $(INCLUDEDIR) $(MANDIR) $(COMPDIR)
	install -m 755 $B/img $(BINDIR)/img
	for c in $(COMMANDS); do ln -sf img $(BINDIR)/img-$$c; done
	install -m 644 $B/libimg.a $(LIBDIR)/libimg.a
	install -m 755 $B/libimg.so $(LIBDIR)/libimg.so.$(SOVERSION)
	ln -sf libimg.so.$(SOVERSION) $(LIBDIR)/libimg.so
	install -m 644 include/img.h $(INCLUDEDIR)/img.h
	install -m 644 $B/libimg.pc $(LIBDIR)/pkgconfig/libimg.pc
	$(if $(MAN),install -m 644 $(MAN) $(MANDIR)/)
	for c in $(COMMANDS); do test -e $(MANDIR)/img-$$c.1 || echo '.so man1/img.1' > $(MANDIR)/img-$$c.1; done
	$(if $(COMPLETION),install -m 644 $(COMPLETION) $(COMPDIR)/img)
	for c in $(COMMANDS); do ln -sf img $(COMPDIR)/img-$$c; done

uninstall:
	rm -f $(BINDIR)/img $(COMMANDS:%=$(BINDIR)/img-%) $(LIBDIR)/libimg.a $(LIBDIR)/libimg.so $(LIBDIR)/libimg.so.$(SOVERSION)
	rm -f $(INCLUDEDIR)/img.h $(LIBDIR)/pkgconfig/libimg.pc $(MANDIR)/img.1 $(COMMANDS:%=$(MANDIR)/img-%.1)
	rm -f $(COMPDIR)/img $(COMMANDS:%=$(COMPDIR)/img-%)

.PHONY: install uninstall
