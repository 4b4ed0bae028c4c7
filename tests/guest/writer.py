#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""writer.py DIR SEED: changes DIR without end, at random: files made, written, cut off, renamed, linked, removed;
directories made and removed; attributes; now and then fsync. What a crash is to be caught in."""
import os
import random
import sys


def some(names):
    return random.choice(names) if names else None


def content(size):
    """Now and then blocks that begin as those of a journal do, which a journal has to hide."""
    data = bytearray(random.randbytes(size))
    if random.random() < 0.2:
        for at in range(0, size, 1024):
            data[at:at + 4] = b'\xc0\x3b\x39\x98'
    return bytes(data[:size])


def write(path, size, sync, how):
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    if how == 'end':
        os.lseek(fd, 0, os.SEEK_END)
    elif how == 'hole':
        os.lseek(fd, random.randrange(1 << 20), os.SEEK_SET)
    os.write(fd, content(size))
    if sync:
        os.fsync(fd)
    os.close(fd)


def allocate(path, sync):
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(fd, random.randrange(1 << 16), 1 + random.randrange(1 << 17))
        os.write(fd, random.randbytes(random.randrange(5000)))
    finally:
        if sync:
            os.fsync(fd)
        os.close(fd)


def fsync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def step(top, dirs, files, number):
    action = random.random()
    sync = random.random() < 0.3
    here = some(dirs)
    name = '%s/f%d%s' % (here, number, 'x' * random.choice((0, 3, 40, 200)))
    old = some(files)
    if action < 0.35 or not old:
        write(name, random.choice((0, 10, 100, 3000, 20000, 200000)), sync, 'start')
        files.append(name)
    elif action < 0.5:
        write(old, random.randrange(1, 60000), sync, random.choice(('start', 'end', 'hole')))
    elif action < 0.55:
        allocate(old, sync)
    elif action < 0.62:
        os.truncate(old, random.randrange(100000))
        if sync:
            fsync(old)
    elif action < 0.70:
        os.rename(old, name)
        files[files.index(old)] = name
        if sync:
            fsync(name)
    elif action < 0.75:
        os.link(old, name)
        files.append(name)
        if sync:
            fsync(name)
    elif action < 0.87:
        os.unlink(old)
        files.remove(old)
        if sync:
            fsync(os.path.dirname(old))
    elif action < 0.90:
        made = '%s/d%d' % (here, number)
        os.mkdir(made)
        dirs.append(made)
        if sync:
            fsync(made)
    elif action < 0.93:
        os.symlink('t' * random.choice((5, 59, 60, 300)), name)
        files_of_links = name
        if random.random() < 0.5:
            os.unlink(files_of_links)
    elif action < 0.97:
        os.setxattr(old, 'user.a%d' % random.randrange(3), random.randbytes(random.choice((3, 50, 500))))
        if sync:
            fsync(old)
    else:
        os.chmod(old, random.choice((0o600, 0o755, 0o4711)))
        os.utime(old, (number, number))


def main():
    top, seed = sys.argv[1], int(sys.argv[2])
    random.seed(seed)
    dirs, files = [top], []
    for number in range(1 << 30):
        try:
            step(top, dirs, files, number)
        except OSError:
            for name in random.sample(files, len(files) // 2):
                try:
                    os.unlink(name)
                    files.remove(name)
                except OSError:
                    pass


if __name__ == '__main__':
    main()
