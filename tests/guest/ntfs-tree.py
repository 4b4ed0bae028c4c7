#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""ntfs-tree.py DIR MANY [--plain]: fills DIR, an NTFS mount of ntfs-3g -o compression, with what NTFS has beside plain
files: compressed and sparse contents, named streams, links of every kind, names for DOS, nodes, a directory of MANY files,
a deep one. --plain: what needs no attributes that only ntfs-3g has, for another driver."""
import hashlib
import os
import socket
import stat
import struct
import sys


def noise(count, seed):
    blocks = (hashlib.sha256(b'%s %d' % (seed, i)).digest() for i in range(count // 32 + 1))
    return b''.join(blocks)[:count]


def put(path, *pieces):
    with open(path, 'wb') as f:
        for at, data in pieces:
            f.seek(at)
            f.write(data)


def attribute(path, name, value):
    os.setxattr(path, 'system.ntfs_' + name, value)


def reparse(path, tag, data):
    attribute(path, 'reparse_data', struct.pack('<IHH', tag, len(data), 0) + data)


def names(target, shown, *flags):
    """The names of a symbolic link or junction, as they stand in its reparse point."""
    a, b = target.encode('utf-16-le'), shown.encode('utf-16-le')
    return struct.pack('<HHHH', 0, len(a), len(a), len(b)) + b''.join(struct.pack('<I', f) for f in flags) + a + b


def compressed():
    os.mkdir('compressed')
    attribute('compressed', 'attrib_be', b'\0\0\x08\0')
    text = b''.join(b'line %d of a text that can be compressed\n' % i for i in range(20000))
    put('compressed/text', (0, text))
    put('compressed/noise', (0, noise(200000, b'c')))
    put('compressed/mixed', (0, text[:100000]), (100000, noise(100000, b'm')), (200000, text[:70000]))
    put('compressed/zeroes', (0, bytes(300000)))
    put('compressed/small', (0, b'resident'))
    put('compressed/holes', (0, text[:5000]), (500000, text[:5000]))
    put('compressed/odd', (0, text[:65536]), (65536, b'x'))


def sparse(large):
    os.mkdir('sparse')
    put('sparse/holes', (0, noise(5000, b's')), (1 << 20, noise(5000, b't')), (3 << 20, b'end'))
    put('sparse/only', (10 << 20, b''))
    os.truncate('sparse/only', 10 << 20)
    put('sparse/tail', (0, b'head'))
    os.truncate('sparse/tail', 5 << 20)
    put('sparse/beyond', (large, b'far'))


def links():
    os.mkdir('links')
    put('links/one', (0, b'several names'))
    for i in range(3):
        os.link('links/one', 'links/name%d' % i)
    os.symlink('one', 'links/interix')
    os.symlink('/somewhere/ünï', 'links/absolute')
    os.symlink('x' * 1000, 'links/long')
    for i, (target, flags) in enumerate((('one', 1), ('..\\sizes\\1', 1), ('\\??\\C:\\links\\one', 0), ('nowhere', 1), ('\\links\\one', 1))):
        put('links/windows%d' % i)
        reparse('links/windows%d' % i, 0xa000000c, names(target, target, flags))
    for i, target in enumerate(('\\??\\C:\\links', '\\??\\D:\\other', '\\??\\c:\\LINKS', '\\??\\Volume{01234567-89ab-cdef-0123-456789abcdef}\\')):
        os.mkdir('links/junction%d' % i)
        reparse('links/junction%d' % i, 0xa0000003, names(target, target))
    put('links/wsl')
    reparse('links/wsl', 0xa000001d, struct.pack('<I', 2) + 'one/två'.encode())
    put('links/unknown')
    reparse('links/unknown', 0x80000017, struct.pack('<IIII', 1, 2, 1, 0))


def nodes():
    os.mkdir('nodes')
    os.mkfifo('nodes/fifo')
    os.mknod('nodes/char', 0o600 | stat.S_IFCHR, os.makedev(5, 1))
    os.mknod('nodes/block', 0o600 | stat.S_IFBLK, os.makedev(259, 70000))
    socket.socket(socket.AF_UNIX).bind('nodes/socket')
    put('nodes/system', (0, b'only marked so'))
    attribute('nodes/system', 'attrib_be', b'\0\0\0\x04')
    put('nodes/hidden')
    attribute('nodes/hidden', 'attrib_be', b'\0\0\0\x06')


def streams():
    os.mkdir('streams')
    put('streams/file', (0, b'content'))
    os.setxattr('streams/file', 'user.Zone.Identifier', b'[ZoneTransfer]\r\nZoneId=3\r\n')
    os.setxattr('streams/file', 'user.long', noise(60000, b'stream'))
    os.setxattr('streams/file', 'user.empty', b'')
    os.setxattr('streams/file', 'user.ünï', b'x')
    os.setxattr('streams', 'user.of a directory', b'y')


def dos_names():
    os.mkdir('dos')
    for i in range(5):
        put('dos/a long name %d' % i, (0, b'%d' % i))
        attribute('dos/a long name %d' % i, 'dos_name', b'LONG~%d' % i)
    put('dos/Case', (0, b'1'))
    put('dos/CASE', (0, b'2'))


def many(count):
    os.mkdir('many')
    for i in range(count):
        put('many/a file in a large directory %06d' % i)
    for i in range(0, count, 3):
        os.unlink('many/a file in a large directory %06d' % i)


def pieces():
    """A file in many pieces, which its own record cannot hold."""
    os.mkdir('pieces')
    for i in range(600):
        put('pieces/%d' % i, (0, noise(5000, b'p%d' % i)))
    for i in range(0, 600, 2):
        os.unlink('pieces/%d' % i)
    with open('pieces/file', 'wb') as f, open('pieces/other', 'wb') as g:
        for i in range(400):
            f.write(noise(4096, b'f%d' % i))
            f.flush()
            g.write(noise(4096, b'g%d' % i))
            g.flush()


def deep():
    path = 'deep'
    for i in range(60):
        os.mkdir(path)
        path += '/level%d' % i
    put(path, (0, b'bottom'))


def main():
    os.chdir(sys.argv[1])
    os.mkdir('sizes')
    for size in (0, 1, 500, 700, 701, 702, 800, 1024, 4095, 4096, 4097, 65536, 300000):
        put('sizes/%d' % size, (0, noise(size, b'%d' % size)))
    plain = '--plain' in sys.argv
    for make in (pieces, deep) if plain else (compressed, links, nodes, streams, dos_names, pieces, deep):
        make()
    count = int(sys.argv[2])
    many(count)
    sparse(5 << 30 if count > 1000 and not plain else 40 << 20)
    put('times', (0, b'old and new'))
    os.utime('times', ns=(-10 ** 18 + 100, 4 * 10 ** 18 + 700))


if __name__ == '__main__':
    main()
