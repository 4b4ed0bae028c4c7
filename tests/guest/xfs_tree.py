#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""xfs_tree.py DIR [SIZE]: fills a mounted XFS with every form that names, maps and attributes have on the disk, each by its
own folder. SIZE: small (default), large (15,000 files and more, fragmented files with deep trees), tiny (a few of each, for a
slow machine). The same each time."""
import os
import random
import socket
import stat
import struct
import sys

R = random.Random(7)


def write(path, data, at=0):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.pwrite(fd, data, at)
    os.close(fd)


def names(top, count, length=12):
    """A directory: its form follows from how many names there are, and how long they are."""
    os.makedirs(top, exist_ok=True)
    for i in range(count):
        name = ('n%06d' % i).ljust(length, 'x')
        os.mknod('%s/%s' % (top, name), 0o600 | stat.S_IFREG)


def holes(top, block):
    os.makedirs(top)
    write(top + '/end', b'end', 5 * 2 ** 20 - 3)
    write(top + '/far', b'far', 2 ** 25)
    for i in range(7):
        write(top + '/steps', R.randbytes(1000 + i), i * 300001)
    fd = os.open(top + '/unwritten', os.O_WRONLY | os.O_CREAT)
    os.posix_fallocate(fd, 0, 1 << 20)
    os.pwrite(fd, R.randbytes(5000), 300000)
    os.close(fd)
    write(top + '/odd', R.randbytes(3 * block + 17))
    os.truncate(top + '/odd', 3 * block + 5)
    write(top + '/empty', b'')


def fragments(path, count, block):
    """Every other block: as many extents as that."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    for i in range(count):
        os.pwrite(fd, bytes([1 + i % 255]) * block, 2 * i * block)
    os.close(fd)


def woven(top, dirs, count):
    """Directories that grow in turns, so that none lies in one piece: their maps become trees."""
    for d in range(dirs):
        os.makedirs('%s/%d' % (top, d))
    for i in range(count):
        for d in range(dirs):
            os.mknod('%s/%d/%s' % (top, d, ('w%06d' % i).ljust(200, 'x')), 0o600 | stat.S_IFREG)


def links(top):
    os.makedirs(top)
    for length in (1, 10, 80, 200, 330, 400, 600, 1000, 1023):
        os.symlink(('t%d/' % length + 'x' * 1024)[:length], '%s/to%d' % (top, length))
    write(top + '/a', b'a')
    os.makedirs(top + '/other')
    os.link(top + '/a', top + '/b')
    os.link(top + '/a', top + '/other/c')


def nodes(top):
    os.makedirs(top)
    os.mknod(top + '/null', 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(top + '/disk', 0o660 | stat.S_IFBLK, os.makedev(259, 70000))
    os.mkfifo(top + '/fifo')
    s = socket.socket(socket.AF_UNIX)
    s.bind(os.path.relpath(top + '/socket'))
    s.close()


def attributes(top, count):
    os.makedirs(top)
    for size in (0, 1, 20, 100, 250, 255, 256, 900, 2000, 4000, 5000, 20000, 65536):
        path = '%s/one%d' % (top, size)
        write(path, b'data')
        os.setxattr(path, 'user.one', R.randbytes(size))
    for many in (3, 40, count):
        path = '%s/many%d' % (top, many)
        write(path, b'data')
        for i in range(many):
            os.setxattr(path, 'user.%s%d' % ('n' * (i % 60), i), R.randbytes(i % 97))
    path = top + '/mixed'
    os.mkdir(path)
    os.setxattr(path, 'user.' + 'l' * 250, b'long name')
    os.setxattr(path, 'trusted.t', b'trusted')
    os.setxattr(path, 'security.s', b'secure')
    os.setxattr(path, 'security.selinux', b'system_u:object_r:etc_t:s0\0')
    for i in range(12):
        os.setxattr(path, 'user.remote%d' % i, R.randbytes(3000 * i))
    path = top + '/gone'
    write(path, b'data')
    for i in range(100):
        os.setxattr(path, 'user.%d' % i, R.randbytes(100))
    for i in range(100):
        os.removexattr(path, 'user.%d' % i)
    os.symlink('nowhere', top + '/link')
    os.setxattr(top + '/link', 'trusted.link', b'on a link', follow_symlinks=False)


def acl(*entries):
    return struct.pack('<I', 2) + b''.join(struct.pack('<HHI', *e) for e in entries)


def acls(top):
    os.makedirs(top)
    none = 0xffffffff
    rules = acl((1, 6, none), (2, 5, 1000), (2, 7, 70000), (4, 4, none), (8, 2, 50), (16, 7, none), (32, 0, none))
    write(top + '/file', b'acl')
    os.setxattr(top + '/file', 'system.posix_acl_access', rules)
    os.mkdir(top + '/dir')
    os.setxattr(top + '/dir', 'system.posix_acl_default', rules)
    os.mkdir(top + '/dir/inherits')
    write(top + '/dir/inherits/file', b'')


def strange(top):
    os.makedirs(top)
    for name in (b'\xff\xfe', b' ', b'a\nb', b'-', b'\xc3\xa4', b'n' * 255, b'..a', b'.hidden', b'\x01'):
        write(os.fsencode(top) + b'/' + name, name)
    deep = top
    for i in range(100):
        deep += '/%d' % i
        os.mkdir(deep)
    for i, when in enumerate((-2 ** 31, -1, 0, 2 ** 31 - 1, 2 ** 31, 4000000000, 16299260424)):
        path = '%s/time%d' % (top, i)
        write(path, b'')
        os.utime(path, ns=(when * 10 ** 9 + 1, when * 10 ** 9 + 123456789))
    for i, mode in enumerate((0, 0o4755, 0o2755, 0o1777)):
        path = '%s/mode%d' % (top, i)
        write(path, b'')
        os.chown(path, 65534 + i, 2 ** 32 - 10)
        os.chmod(path, mode)


def removed(top):
    """Directories with holes, and names that were removed from their leaves."""
    for count in (40, 1500):
        names('%s/%d' % (top, count), count, 40)
        for i in range(count):
            if count // 5 < i < count // 2 or i % 3 == 0:
                os.unlink('%s/%d/%s' % (top, count, ('n%06d' % i).ljust(40, 'x')))


def main():
    top, large, tiny = sys.argv[1], sys.argv[2:] == ['large'], sys.argv[2:] == ['tiny']
    block = os.statvfs(top).f_bsize
    for count in (0, 1, 5, 20, 100, 400) + (() if tiny else (3000,)):
        names('%s/names/%d' % (top, count), count)
    names(top + '/names/long', 30 if tiny else 300, 255)
    holes(top + '/holes', block)
    links(top + '/links')
    nodes(top + '/nodes')
    attributes(top + '/attributes', 60 if tiny else 500)
    acls(top + '/acls')
    strange(top + '/strange')
    if not tiny:
        removed(top + '/removed')
    os.makedirs(top + '/fragments')
    for count in (3, 30, 50 if tiny else 300):
        fragments('%s/fragments/%d' % (top, count), count, block)
    if large:
        names(top + '/names/huge', 15000, 30)
        woven(top + '/woven', 8, 800)
        fragments(top + '/fragments/deep', 40000 if block <= 4096 else 3000, block)
        for i in range(300):
            write('%s/fragments/random%d' % (top, i), R.randbytes(R.randrange(200000)))


if __name__ == '__main__':
    main()
