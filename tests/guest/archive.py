# SPDX-License-Identifier: GPL-3.0-or-later
# Writes a tar archive as nobody's tar would make it: archive.py FILE, then an entry in each line of the standard input:
#   TYPE MODE OWNER NAME [CONTENT, TARGET OR SIZE]
# TYPE: f(ile) d(irectory) s(ymbolic link) h(ard link) p(ipe) l(arge: a file of SIZE bytes that are all a hole).
import io
import sys
import tarfile

TYPES = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "s": tarfile.SYMTYPE, "h": tarfile.LNKTYPE, "p": tarfile.FIFOTYPE,
         "l": tarfile.REGTYPE}

with tarfile.open(sys.argv[1], "w", format=tarfile.PAX_FORMAT) as tar:
    for line in sys.stdin:
        kind, mode, owner, name, *rest = line.rstrip("\n").split(" ", 4)
        rest = rest[0] if rest else ""
        entry = tarfile.TarInfo(name)
        entry.type, entry.mode, entry.uid, entry.mtime = TYPES[kind], int(mode, 8), int(owner), 1500000000
        content = b""
        if kind == "f":
            content = rest.encode() + b"\n"
        elif kind == "l":  # a map of one piece, empty and at the end
            content = f"1\n{rest}\n0\n".encode().ljust(512, b"\0")
            entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name,
                                 "GNU.sparse.realsize": rest}
        elif kind in "sh":
            entry.linkname = rest
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
