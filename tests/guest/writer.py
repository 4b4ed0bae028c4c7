#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""writer.py DIR SEED [gentle]: changes DIR without end, at random, in some processes: what a crash is to be caught in.

Every way to change a file or directory, now and then with fsync. gentle: hardly anything that makes ext4 write a whole
transaction instead of a fast commit, or a fast commit that the kernel itself cannot replay (of a file without a name).
"""
import ctypes
import errno
import fcntl
import mmap
import os
import random
import signal
import stat
import struct
import sys

PROCESSES = 4
MOST_FILES = 200  # of a process
FICLONE, FICLONERANGE = 0x40049409, 0x4020940d
KEEP_SIZE, PUNCH, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32
EXCHANGE, WHITEOUT = 2, 4
DIE_WITH_PARENT = 1
libc = ctypes.CDLL(None, use_errno=True)


def called(result):
    if result:
        raise OSError(ctypes.get_errno(), 'call')


def fallocate(fd, mode, offset, length):
    called(libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


def renameat2(old, new, flags):
    called(libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags))


class Writer:
    """A process with a tree of its own, and a folder that it shares with the others."""

    def __init__(self, top, shared, seed, gentle):
        self.random = random.Random(seed)
        self.top, self.shared = top, shared
        self.dirs, self.files, self.open = [shared], [], []
        for where, _, files in os.walk(top):  # of one that died
            self.dirs.append(where)
            self.files += [where + '/' + f for f in files if os.path.isfile(where + '/' + f)]
        self.number, self.gentle = seed << 20, gentle
        self.choose_phase()

    # ---- names and bytes ----

    def name(self):
        self.number += 1
        where = self.random.choice(self.dirs)
        return '%s/%s%d%s' % (where, os.path.basename(self.top), self.number,
                              'x' * self.random.choice((0, 3, 40, 200)))

    def old(self):
        return self.random.choice(self.files) if self.files else self.create()

    def content(self, size):
        """Now and then blocks that begin as those of a journal do, which a journal has to hide."""
        data = bytearray(self.random.randbytes(size))
        if self.random.random() < 0.2:
            for at in range(0, size - 4, 1024):
                data[at:at + 4] = b'\xc0\x3b\x39\x98'
        return bytes(data)

    def sync(self, path):
        if self.random.random() < self.syncs:
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def with_file(self, change, flags=os.O_RDWR):
        path = self.old()
        fd = os.open(path, flags)
        try:
            change(fd)
            if self.random.random() < self.syncs:
                self.random.choice((os.fsync, os.fdatasync))(fd)
        finally:
            os.close(fd)

    # ---- files ----

    def create(self):
        path = self.name()
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
        self.files.append(path)
        try:
            os.write(fd, self.content(self.random.choice((0, 10, 100, 3000, 20000, 200000))))
            if self.random.random() < self.syncs:
                os.fsync(fd)
        finally:
            os.close(fd)
        return path

    def write(self):
        def change(fd):
            where = self.random.choice(('start', 'end', 'inside', 'hole'))
            size = os.fstat(fd).st_size
            at = {'start': 0, 'end': size, 'inside': self.random.randrange(size + 1),
                  'hole': self.random.randrange(1 << 20)}[where]
            os.pwrite(fd, self.content(self.random.randrange(1, 60000)), at)
        self.with_file(change)

    def write_direct(self):
        def change(fd):
            size = 4096 * self.random.randrange(1, 12)
            with mmap.mmap(-1, size) as buffer:
                buffer[:] = self.random.randbytes(size)
                os.pwritev(fd, [buffer], 4096 * self.random.randrange(40))
        self.with_file(change, os.O_RDWR | os.O_DIRECT)

    def write_mapped(self):
        def change(fd):
            size = os.fstat(fd).st_size
            if size == 0:
                os.ftruncate(fd, size := 50000)
            with mmap.mmap(fd, size) as buffer:
                for _ in range(4):
                    at = self.random.randrange(size)
                    part = self.random.randbytes(min(300, size - at))
                    buffer[at:at + len(part)] = part
                if self.random.random() < 0.5:
                    buffer.flush()
        self.with_file(change)

    def truncate(self):
        self.with_file(lambda fd: os.ftruncate(fd, self.random.choice((0, self.random.randrange(100000)))))

    def allocate(self):
        def change(fd):
            fallocate(fd, self.random.choice((0, KEEP_SIZE)), self.random.randrange(1 << 16),
                      1 + self.random.randrange(1 << 17))
            os.write(fd, self.random.randbytes(self.random.randrange(5000)))
        self.with_file(change)

    def punch(self):
        self.with_file(lambda fd: fallocate(fd, self.random.choice((PUNCH | KEEP_SIZE, ZERO, ZERO | KEEP_SIZE)),
                                            self.random.randrange(1 << 16), 1 + self.random.randrange(1 << 16)))

    def shift(self):
        self.with_file(lambda fd: fallocate(fd, self.random.choice((COLLAPSE, INSERT)),
                                            65536 * self.random.randrange(2), 65536))

    def fragment(self):
        """Many extents, so that the map grows to a tree, or is cut down from one."""
        def change(fd):
            if self.random.random() < 0.3:
                os.ftruncate(fd, 0)
            step = self.random.choice((8192, 16384))
            for at in range(0, step * self.random.choice((10, 60)), step):
                os.pwrite(fd, b'piece', at)
        self.with_file(change)

    def clone(self):
        source = self.old()
        def change(fd):
            with open(source, 'rb') as f:
                if self.random.random() < 0.5:
                    fcntl.ioctl(fd, FICLONE, f.fileno())
                else:
                    size = os.fstat(f.fileno()).st_size // 65536 * 65536
                    fcntl.ioctl(fd, FICLONERANGE, struct.pack('=qQQQ', f.fileno(), 0, size, 65536))
            if self.random.random() < 0.7: # of what is shared now a part is not
                os.pwrite(fd, self.random.randbytes(10000), self.random.randrange(100000))
        self.with_file(change)

    # ---- names ----

    def rename(self):
        old, new = self.old(), self.name()
        os.rename(old, new)
        self.files[self.files.index(old)] = new
        self.sync(new)

    def rename_over(self):
        """As editors do: a new file with its contents takes the place of the old one."""
        old = self.old()
        new = self.create()
        os.rename(new, old)
        self.files.remove(new)
        self.sync(old)
        self.sync(os.path.dirname(old))

    def exchange(self):
        old = self.old()
        if self.random.random() < 0.5:
            renameat2(old, self.old(), EXCHANGE)
        else:
            new = self.name()
            renameat2(old, new, WHITEOUT)
            self.files.append(new)

    def link(self):
        old, new = self.old(), self.name()
        os.link(old, new)
        self.files.append(new)
        self.sync(new)

    def unlink(self):
        path = self.old()
        self.files.remove(path)
        os.unlink(path)
        self.sync(os.path.dirname(path))

    def unlink_open(self):
        path = self.old()
        self.open.append(os.open(path, os.O_RDWR))
        self.files.remove(path)
        os.unlink(path)
        os.pwrite(self.open[-1], self.random.randbytes(5000), 0)
        self.sync(os.path.dirname(path))
        while len(self.open) > self.random.randrange(6):
            os.close(self.open.pop(0))

    def unnamed(self):
        fd = os.open(self.random.choice(self.dirs), os.O_TMPFILE | os.O_RDWR, 0o600)
        try:
            os.write(fd, self.content(3000))
            if self.random.random() < 0.7:
                path = self.name()
                os.link('/proc/self/fd/%d' % fd, path, follow_symlinks=True)
                self.files.append(path)
            if self.random.random() < self.syncs:
                os.fsync(fd)
        finally:
            os.close(fd)

    def symlink(self):
        path = self.name()
        os.symlink('t' * self.random.choice((1, 59, 60, 300, 1000, 1023, 4000)), path)
        if self.random.random() < 0.5:
            os.unlink(path)
        self.sync(os.path.dirname(path))

    def node(self):
        path = self.name()
        os.mknod(path, self.random.choice((stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK)) | 0o644,
                 os.makedev(self.random.randrange(1000), self.random.randrange(100000)))
        if self.random.random() < 0.7:
            os.unlink(path)

    # ---- directories ----

    def mkdir(self):
        if len(self.dirs) > 30:
            return self.rmdir()
        path = self.name()
        os.mkdir(path)
        self.dirs.append(path)
        self.sync(path)
        return None

    def rmdir(self):
        path = self.random.choice(self.dirs)
        if path in (self.top, self.shared):
            return
        self.dirs = [d for d in self.dirs if not (d + '/').startswith(path + '/')]
        self.files = [f for f in self.files if not f.startswith(path + '/')]
        for where, _, files in os.walk(path, topdown=False):
            for name in files:
                os.unlink(where + '/' + name)
            os.rmdir(where)
        self.sync(os.path.dirname(path))

    def rename_dir(self):
        path, new = self.random.choice(self.dirs), self.name()
        if path in (self.top, self.shared):
            return
        os.rename(path, new)
        self.dirs = [new + d[len(path):] if (d + '/').startswith(path + '/') else d for d in self.dirs]
        self.files = [new + f[len(path):] if f.startswith(path + '/') else f for f in self.files]
        self.sync(os.path.dirname(new))

    def crowd(self):
        """A directory that grows through its forms, and shrinks again."""
        path = self.top + '/crowd'
        os.makedirs(path, exist_ok=True)
        names = os.listdir(path)
        if len(names) > self.random.randrange(800):
            for name in self.random.sample(names, len(names) * self.random.choice((1, 2)) // 2):
                os.unlink(path + '/' + name)
        else:
            one = self.old()
            for _ in range(self.random.choice((10, 300))):
                self.number += 1
                name = '%s/%d%s' % (path, self.number, 'n' * self.random.choice((1, 60, 200)))
                if self.random.random() < 0.9:
                    os.link(one, name)
                else:
                    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))
        self.sync(path)

    # ---- attributes ----

    def set_attribute(self):
        path = self.random.choice([self.old(), self.random.choice(self.dirs)])
        name = self.random.choice(('user', 'trusted', 'security')) + '.a%d' % self.random.randrange(6)
        if self.random.random() < 0.3:
            os.removexattr(path, name)
        else:
            os.setxattr(path, name, self.random.randbytes(self.random.choice((0, 3, 50, 500, 900, 3000, 20000))))
        self.sync(path)

    def attributes(self):
        path = self.old()
        os.chmod(path, self.random.choice((0o600, 0o755, 0o4711)))
        os.chown(path, self.random.randrange(1 << 31), self.random.randrange(70000))
        os.utime(path, ns=(self.number, self.random.randrange(1 << 62)))
        self.sync(path)

    def sync_all(self):
        fd = os.open(self.top, os.O_RDONLY)
        called(libc.syncfs(fd))
        os.close(fd)

    # ---- the choice ----

    COMMON = ((create, 12), (write, 15), (write_direct, 5), (write_mapped, 5), (truncate, 7), (allocate, 5), (punch, 5),
              (fragment, 3), (rename, 8), (rename_over, 6), (link, 5), (unlink, 10),
              (symlink, 3), (node, 2), (mkdir, 3), (rmdir, 1.5), (crowd, 1.5), (attributes, 5), (clone, 4))
    ROUGH = ((shift, 3), (exchange, 3), (rename_dir, 2), (set_attribute, 6), (sync_all, 0.5), (unlink_open, 3),
             (unnamed, 2))

    def choose_phase(self):
        """For a while some changes are frequent and others are not made."""
        chosen = self.COMMON + tuple((change, weight / (50 if self.gentle else 1)) for change, weight in self.ROUGH)
        self.changes = [change for change, _ in chosen]
        self.weights = [weight * self.random.choice((0, 1, 1, 5)) for _, weight in chosen]
        self.weights[0] += 1
        self.syncs = self.random.choice((0.1, 0.4, 0.9))
        self.phase = self.random.randrange(20, 200)

    def make_room(self):
        for path in self.random.sample(self.files, len(self.files) // 2):
            self.files.remove(path)
            try:
                os.unlink(path)
            except OSError:
                pass

    def step(self):
        self.phase -= 1
        if self.phase < 0:
            self.choose_phase()
        if len(self.files) > MOST_FILES:
            self.make_room()
        try:
            self.random.choices(self.changes, self.weights)[0](self)
        except OSError as e:
            if e.errno in (errno.EIO, errno.EROFS, errno.ENOTCONN, 117):
                return False
            if e.errno in (errno.ENOSPC, errno.EDQUOT):
                self.make_room()
            elif e.errno in (errno.ENOENT, errno.ENOTDIR):
                self.files = [f for f in self.files if os.path.lexists(f)]
                self.dirs = [d for d in self.dirs if os.path.isdir(d)]
        return True

    def run(self):
        while self.step():
            pass


def work(top, which, seed, gentle):
    libc.prctl(DIE_WITH_PARENT, signal.SIGKILL)
    own = '%s/%c' % (top, ord('a') + which)
    os.makedirs(own, exist_ok=True)
    Writer(own, top + '/shared', seed, gentle).run()


def main():
    top, seed, gentle = sys.argv[1], int(sys.argv[2]) * 1000, 'gentle' in sys.argv[3:]
    os.makedirs(top + '/shared', exist_ok=True)
    waiting, running = list(range(PROCESSES)), {}
    while True:
        for which in waiting:
            seed += 1
            if (pid := os.fork()) == 0:
                work(top, which, seed, gentle)
                os._exit(0)
            running[pid] = which
        pid, status = os.wait()
        if status == 0:  # the disk is gone
            return
        waiting = [running.pop(pid)]  # a page of a file found no room: SIGBUS


if __name__ == '__main__':
    main()
