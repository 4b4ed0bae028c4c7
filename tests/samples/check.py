#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""check.py BIN [CASE...]: runs the command of each case, or of these, in fresh copies of the disks, with BIN started as
virt-ls, virt-cat, guestmount ..., and compares with what the real tools did: exit status and stdout exactly, of stderr
only whether there is any. rules.tsv names the cases in which less is asked, and why; differs.tsv those that are left
out, since ours does something else (docs/compat.md). Prints TAP."""
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOOLS = ['virt-' + tool for tool in ('ls cat df filesystems inspector diff edit log copy-in copy-out tar-in '
                                     'tar-out').split()] + ['guestmount', 'guestunmount']


class Case:
    """What a file in cases/ says."""

    def __init__(self, path):
        with open(path, 'rb') as file:
            text = file.read()
        self.name = os.path.basename(path)[:-4]
        command, rest = text.split(b'\n', 1)
        status, rest = rest.split(b'\n', 1)
        self.command = command.decode()
        self.status = int(status.split()[1])
        self.stdout, rest = self.part(rest)
        self.stderr, _ = self.part(rest)

    @staticmethod
    def part(text):
        head, rest = text.split(b'\n', 1)
        length = int(head.split()[1])
        return rest[:length], rest[length + 1:]


def run(case, program):
    """The command in a folder of its own: exit status, stdout and stderr; None if it takes too long."""
    folder = tempfile.mkdtemp(prefix='sample-')
    try:
        for disk in glob.glob(HERE + '/*.qcow2'):
            shutil.copy(disk, folder)
            os.chmod(os.path.join(folder, os.path.basename(disk)), 0o644)
        os.mkdir(folder + '/.bin')
        for tool in TOOLS:
            os.symlink(os.path.abspath(program), folder + '/.bin/' + tool)
        path = folder + '/.bin:' + os.environ['PATH'] + ':/usr/sbin:/sbin'
        ended = subprocess.run(['bash', '-c', case.command], cwd=folder, capture_output=True, timeout=60,
                               stdin=subprocess.DEVNULL,
                               env=dict(os.environ, LC_ALL='C.UTF-8', TZ='UTC', HOME=folder, PATH=path))
        here = folder.encode()
        return ended.returncode, ended.stdout.replace(here + b'/', b'').replace(here, b'.'), ended.stderr
    except subprocess.TimeoutExpired:
        return None
    finally:
        if os.path.ismount(folder + '/mnt'):
            subprocess.run(['umount', '-l', folder + '/mnt'], capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


# ---- rules: what is compared when not all is; each makes of two outputs the two that must be the same ----

def unordered(want, got):
    return sorted(want.split(b'\n')), sorted(got.split(b'\n'))


def without_parents(text):
    rows = [re.split(rb'[,\s]+', line.replace(b'"', b'')) for line in text.split(b'\n')]
    groups = [b'vg'], [b'pv']
    return [b' '.join(word for i, word in enumerate(row) if row[1:2] not in groups or i == 0 or
                      word not in (b'', b'-') and not word.startswith(b'/dev/sd')) for row in rows]


def parents(want, got):
    return without_parents(want), without_parents(got)


def nodev(want, got):
    return tuple(re.sub(rb'([ ,])\d+:\d+([ ,]\d+[ ,]\d+[ ,]\d+:\d+[ ,])', rb'\1?\2', x) for x in (want, got))


def without_inventions(line):
    fields = line.split(b',')
    return b','.join(fields[:3] + fields[6:7] + fields[13:]) if b'/boot/efi' in line and len(fields) > 14 else line


def fat(want, got):
    return tuple([without_inventions(line) for line in text.split(b'\n')] for text in (want, got))


def superset(want, got):
    ours = iter(got.split(b'\n'))
    return (want, want) if all(line in ours for line in want.split(b'\n')) else (want, got)


RULES = {'unordered': unordered, 'parents': parents, 'nodev': nodev, 'fat': fat, 'superset': superset}


def first_difference(want, got):
    want, got = (x.split(b'\n') if isinstance(x, bytes) else x for x in (want, got))
    i = next((i for i, (x, y) in enumerate(zip(want, got)) if x != y), min(len(want), len(got)))
    return 'stdout, line %d: %r, should be %r' % (i + 1, got[i][:120] if i < len(got) else 'nothing more',
                                                  want[i][:120] if i < len(want) else 'nothing more')


def judge(case, rule, result):
    """What is wrong; '' if nothing is."""
    if result is None:
        return 'no answer in 60 s'
    status, stdout, stderr = result
    if rule == 'fails':  # where the peer wrongly exits 0
        good = status == 1 and stderr and not stdout
        return '' if good else 'exit status %d, should be 1, with a word of why' % status
    if status != case.status:
        return 'exit status %d, should be %d: %s' % (status, case.status, stderr.decode(errors='replace').strip()[-150:])
    if rule == 'status':
        return ''
    want, got = RULES.get(rule, lambda a, b: (a, b))(case.stdout, stdout)
    if want != got:
        return first_difference(want, got)
    if bool(case.stderr) != bool(stderr):
        return 'stderr: %r, should be %s' % (stderr[:150], 'something like %r' % case.stderr[:150] if case.stderr
                                             else 'empty')
    return ''


def table(name):
    with open(os.path.join(HERE, name), encoding='utf-8') as file:
        rows = [line.rstrip('\n').split('\t') for line in file if '\t' in line]
    return {row[0]: row[1] for row in rows}


def main():
    program, wanted = sys.argv[1], sys.argv[2:]
    rules, differs = table('rules.tsv'), table('differs.tsv')
    cases = [Case(path) for path in sorted(glob.glob(HERE + '/cases/*.txt'))]
    cases = [c for c in cases if (c.name in wanted if wanted else c.name not in differs) and rules.get(c.name) != 'skip']
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda c: judge(c, rules.get(c.name), run(c, program)), cases)
        for number, (case, wrong) in enumerate(zip(cases, results), 1):
            print('%sok %d - %s' % ('not ' if wrong else '', number, case.name), flush=True)
            if wrong:
                bad += 1
                print('# %s' % wrong, flush=True)
    print('1..%d' % len(cases))
    return bad > 0


if __name__ == '__main__':
    sys.exit(main())
