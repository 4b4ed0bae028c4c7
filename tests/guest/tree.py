#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""tree.py DIR [--no-contents] [--no-xattrs]: a line for each file of a kernel mount, as tests/tools/fsdump.c prints it."""
import hashlib
import os
import stat
import sys

PLAIN = set(b'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-')


def text(name):
    return ''.join(chr(c) if c in PLAIN else '\\x%02x' % c for c in name)


def line(path, shown, contents, xattrs):
    s = os.lstat(path)
    words = [text(shown), '%o' % s.st_mode, s.st_nlink, s.st_uid, s.st_gid, 0 if stat.S_ISDIR(s.st_mode) else s.st_size,
             '%d.%09d' % divmod(s.st_mtime_ns, 10 ** 9), '%d:%d' % (os.major(s.st_rdev), os.minor(s.st_rdev))]
    if stat.S_ISREG(s.st_mode) and contents:
        digest = hashlib.sha256()
        with open(path, 'rb') as f:
            while block := f.read(1 << 20):
                digest.update(block)
        words.append(digest.hexdigest())
    if stat.S_ISLNK(s.st_mode):
        words += ['->', text(os.readlink(path))]
    if xattrs:
        names = sorted(os.listxattr(path, follow_symlinks=False))
        words += sorted('%s=%s' % (n, os.getxattr(path, n, follow_symlinks=False).hex()) for n in names)
    print(*words)
    return stat.S_ISDIR(s.st_mode)


def walk(path, shown, options):
    if line(path, shown, *options):
        for name in sorted(os.listdir(path)):
            walk(path + b'/' + name, (b'' if shown == b'/' else shown) + b'/' + name, options)


def main():
    args = [a for a in sys.argv[1:] if not a.startswith('--')]
    sys.setrecursionlimit(10000)
    walk(os.fsencode(args[0]), b'/', ('--no-contents' not in sys.argv, '--no-xattrs' not in sys.argv))


if __name__ == '__main__':
    main()
