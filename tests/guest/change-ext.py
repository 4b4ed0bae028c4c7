#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""change-ext.py FILES SEED COUNT: COUNT random changes for debugfs -w -f, of a file system with the files of a list.

debugfs leaves the times of a directory as they are when its names change, so no time tells of these."""
import random
import sys

paths = open(sys.argv[1]).read().split('\n')[:-1]
rng = random.Random(int(sys.argv[2]))
files = [p for p in paths if not p.endswith('/')]
dirs = [p[:-1] for p in paths if p.endswith('/')]


def new():
    return '%s/n%d' % (rng.choice(dirs), rng.randrange(10 ** 9))


def step():
    file = rng.choice(files)
    kind = rng.randrange(12)
    if kind == 0:
        print('rm', file)
        files.remove(file)
    elif kind == 1:
        print('write source%d %s' % (rng.randrange(3), new()))
    elif kind == 2:
        print('mkdir', new())
    elif kind == 3:
        print('symlink %s %s' % (new(), 'x' * rng.choice((5, 59, 60, 200))))
    elif kind == 4:
        print('ln %s %s' % (file, new()))
    elif kind == 5:  # a name that stands for another file
        other = rng.choice(files)
        print('unlink %s\nln %s %s' % (file, other, file))
        files.remove(file)
    elif kind == 6:
        print('ea_set %s user.n%d value%d' % (file, rng.randrange(3), rng.randrange(100)))
    elif kind == 7:
        print('rm %s\nmkdir %s' % (file, file))
        files.remove(file)
    else:
        name, value = rng.choice((('mtime', '@%d' % rng.randrange(1 << 30)), ('ctime', '@%d' % rng.randrange(1 << 30)),
                                  ('atime', '@%d' % rng.randrange(1 << 30)), ('uid', rng.randrange(3000)),
                                  ('mode', '0%o' % (0o100000 | rng.randrange(0o1000)))))
        print('set_inode_field %s %s %s' % (rng.choice((file, rng.choice(dirs))) if name != 'mode' else file, name, value))


for _ in range(int(sys.argv[3])):
    step()
