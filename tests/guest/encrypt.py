#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""encrypt.py MOUNT: a directory e in an ext4 file system that can encrypt, with names and files under a key that nobody
keeps. Exits with 77 where the kernel cannot."""
import fcntl
import os
import struct
import sys

ADD_KEY, SET_POLICY = 0xc0506617, 0x800c6613


def main():
    top = sys.argv[1]
    directory = os.path.join(top, 'e')
    os.mkdir(directory)
    key = bytearray(struct.pack('<II32sII32s', 2, 0, b'', 64, 0, b'') + os.urandom(64))
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, ADD_KEY, key)
        fcntl.ioctl(fd, SET_POLICY, struct.pack('<BBBBB3s16s', 2, 1, 4, 0, 0, b'', bytes(key[8:24])))
    except OSError as e:
        print(e, file=sys.stderr)
        sys.exit(77)
    os.close(fd)
    for i in range(int(sys.argv[2])):
        name = '%s/%d-%s' % (directory, i, 'n' * (i * 7 % 230))
        with open(name, 'w') as f:
            f.write('secret\n' * i)
    os.mkdir(directory + '/below')
    for target in ('t', 'target' * 30):
        os.symlink(target, '%s/below/link%d' % (directory, len(target)))


if __name__ == '__main__':
    main()
