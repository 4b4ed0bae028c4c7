#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""fat-tree.py DIR [MANY]: fills DIR with a tree for FAT: every kind of name, sizes around clusters, MANY files, of which a
directory gets no more than 1000 (but the first 3000) because FAT looks at all of them for each, a directory that is deep. Bytes and times are the same each time; times are even seconds, as FAT has them."""
import hashlib
import os
import sys

T0 = 1700000000
clock = 0


def put(path, data):
    global clock
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    with open(path, 'wb') as f:
        f.write(data)
    clock += 2
    os.utime(path, (T0 + clock, T0 + clock))


def noise(count, seed):
    blocks = (hashlib.sha256(b'%s %d' % (seed, i)).digest() for i in range(count // 32 + 1))
    return b''.join(blocks)[:count]


def main():
    os.chdir(sys.argv[1])
    many = int(sys.argv[2]) if len(sys.argv) > 2 else 150
    for name in ('UPPER.TXT', 'lower.txt', 'Mixed.Txt', 'UPPER.low', 'lower.UPP', 'noext', 'A', 'a.b.c', 'with space.txt',
                 'long name with spaces and no end in sight.text', 'x' * 250, 'ünï-日本.txt', 'ÄÖÜ.TXT', 'ß', 'Ω≈ç√∫˜µ≤≥÷',
                 'plus+comma,semi;equals=[brackets]', '.hidden', '.hidden.long.name', 'exactly13char', 'exactly26characters-in-name',
                 '日' * 85, 'a' * 12 + 'é', 'EIGHTCHR.EXT', 'ninechars.ext'):
        put('names/' + name, name.encode())
    for i in range(20):                     # the same short name but for a number
        put('alike/some long name %d.txt' % i, b'%d' % i)
    for size in (0, 1, 511, 512, 513, 1023, 1024, 1025, 4095, 4096, 4097, 32768, 100000):
        put('sizes/%d' % size, noise(size, b'%d' % size))
    for i in range(many):
        where = 'many' if i < 3000 else 'many%d' % (i // 1000)
        put('%s/a file with a number %04d' % (where, i), b'%d\n' % i)
    path = 'deep'
    for i in range(12):
        path += '/level%d' % i
    put(path + '/bottom', b'here\n')
    os.makedirs('empty')


if __name__ == '__main__':
    main()
