#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""change.py DIR SEED COUNT: COUNT random changes below DIR, of all kinds that a guest makes."""
import os
import random
import shutil
import sys

top, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)


def paths():
    files, dirs, links = [], [top], []
    for folder, names, others in os.walk(top):
        for name in names + others:
            path = os.path.join(folder, name)
            if os.path.islink(path):
                links.append(path)
            elif os.path.isdir(path):
                dirs.append(path)
            elif os.path.isfile(path):
                files.append(path)
    return files, dirs, links


def new(folder):
    return os.path.join(folder, 'n%d' % rng.randrange(10 ** 9))


def write(path, how):
    size = os.path.getsize(path)
    with open(path, how) as f:
        if how == 'r+b' and size:
            f.seek(rng.randrange(size))
        f.write(rng.randbytes(rng.choice((1, 100, 5000, 70000))))


def in_place_with_old_times(path):
    status = os.stat(path)
    if status.st_size:
        with open(path, 'r+b') as f:
            f.write(b'#')
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def remove_tree(path):
    if path != top and not path.endswith('lost+found'):
        shutil.rmtree(path)


def swap(one, other):
    """Two names, and what they stood for, exchanged."""
    os.rename(one, one + '.tmp')
    os.rename(other, one)
    os.rename(one + '.tmp', other)


def step():
    files, dirs, links = paths()
    file, folder = rng.choice(files), rng.choice(dirs)
    rng.choice((
        lambda: write(file, 'ab'),
        lambda: write(file, 'r+b'),
        lambda: write(file, 'wb'),
        lambda: in_place_with_old_times(file),
        lambda: open(new(folder), 'wb').close(),
        lambda: os.remove(file),
        lambda: os.rename(file, new(folder)),
        lambda: swap(file, rng.choice([f for f in files if f != file])),
        lambda: os.mkdir(new(folder)),
        lambda: rng.random() < 0.2 and remove_tree(folder),
        lambda: os.chmod(file, rng.randrange(0o1000)),
        lambda: os.chown(file, rng.randrange(3000), 0),
        lambda: os.link(file, new(folder)),
        lambda: os.symlink('x' * rng.choice((5, 59, 60, 200)), new(folder)),
        lambda: links and os.remove(rng.choice(links)),
        lambda: os.setxattr(file, 'user.n%d' % rng.randrange(5), rng.randbytes(rng.choice((1, 50, 2000)))),
        lambda: os.truncate(file, rng.randrange(100000)),
        lambda: open(file, 'rb').read(1),
        lambda: [open(new(folder), 'wb').close() for _ in range(60)],
        lambda: (os.remove(file), os.mkdir(file)),
    ))()


for _ in range(count):
    try:
        step()
    except OSError:  # what the file system has no room for, or does not know, is left out
        pass
