#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""xfs_proto.py SOURCES PROTO: writes a prototype for mkfs.xfs -p, whose files lie in SOURCES, and prints what tree.py would
print of it but for the times: for filesystems that this kernel does not mount (version 4)."""
import hashlib
import os
import random
import sys

R = random.Random(7)
sources, proto = sys.argv[1], open(sys.argv[2], 'w')
lines = []


def text(name):
    plain = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-'
    return ''.join(c if c in plain else '\\x%02x' % ord(c) for c in name)


def show(path, *words):
    lines.append((path.split('/'), ' '.join([text(path), *map(str, words)])))


def regular(path, name, size):
    data = R.randbytes(size)
    source = '%s/%d' % (sources, size)
    with open(source, 'wb') as f:
        f.write(data)
    proto.write('%s ---640 10 20 %s\n' % (name, source))
    show(path + name, '100640', 1, 10, 20, size, '0:0', hashlib.sha256(data).hexdigest())


def empty(path, count):
    for i in range(count):
        name = 'file%06d' % i
        proto.write('%s ---600 0 0 /dev/null\n' % name)
        show(path + name, '100600', 1, 0, 0, 0, '0:0', hashlib.sha256(b'').hexdigest())


def main():
    proto.write('/dev/null\n0 0\nd--755 0 0\n')
    for size in (1, 100, 512, 4096, 70001, 3000000):
        regular('/', 'size%d' % size, size)
    for length in (1, 100, 155, 156, 157, 300, 600, 1000):
        target = ('t%d-' % length + 'x' * 1024)[:length]
        proto.write('link%d l--777 0 0 %s\n' % (length, target))
        show('/link%d' % length, '120777', 1, 0, 0, length, '0:0', '->', target)
    proto.write('null c--666 0 0 1 3\ndisk b--660 0 6 259 70000\nfifo p--600 0 0\n')
    show('/null', '20666', 1, 0, 0, 0, '1:3')
    show('/disk', '60660', 1, 0, 6, 0, '259:70000')
    show('/fifo', '10600', 1, 0, 0, 0, '0:0')
    counts = (0, 3, 30, 150, 3000)
    for count in counts:
        proto.write('dir%d d-g755 7 8\n' % count)
        show('/dir%d' % count, '42755', 2, 7, 8, 0, '0:0')
        empty('/dir%d/' % count, count)
        proto.write('$\n')
    show('/', '40755', 2 + len(counts), 0, 0, 0, '0:0')
    proto.write('$\n')
    lines.sort(key=lambda entry: [] if entry[0] == ['', ''] else entry[0])
    print('\n'.join(entry[1] for entry in lines))


main()
