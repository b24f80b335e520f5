#!/usr/bin/env python3
"""`atoll vol` against qemu-img: vol_test.py PATH_OF_ATOLL [ROUNDS [SEED]].

A random driver makes images with every option, writes to them with qemu-io, resizes, snapshots,
rebases, commits and converts them here and there; after each step `qemu-img check` accepts the image
and `qemu-img compare` finds what a raw model of the disk holds. Skipped without qemu-img.
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

ATOLL = os.path.abspath(sys.argv[1])
ROUNDS = int(sys.argv[2]) if len(sys.argv) > 2 else 40
random.seed(int(sys.argv[3]) if len(sys.argv) > 3 else 1)
MIB = 1 << 20


def run(*command, status=0):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if status is not None and done.returncode != status:
        raise AssertionError(f'{" ".join(command)}: status {done.returncode}, not {status}\n'
                             f'{done.stdout}{done.stderr}')
    return done


def vol(*words, status=0):
    return run(ATOLL, 'vol', *words, status=status)


def raw_of(name):
    """The disk as bytes, as qemu-img reads it."""
    run('qemu-img', 'convert', '-f', 'qcow2', '-O', 'raw', name, 'out.raw')
    with open('out.raw', 'rb') as file:
        return file.read()


def expect(name, content):
    run('qemu-img', 'check', '-q', '-f', 'qcow2', name)
    checked = json.loads(vol('check', name, '--format', 'json').stdout)
    assert checked['leaked'] == 0, checked
    found = raw_of(name)
    if found != content:
        at = next((i for i, (a, b) in enumerate(zip(found, content)) if a != b), None)
        print(f'{name}: {len(found)} bytes, not {len(content)}; the first difference is at {at}')
        raise AssertionError(f'{name} does not hold what it should')


def scribble(name, content):
    """Random writes by qemu-io, on the image and on the model."""
    content = bytearray(content)
    words = []
    for _ in range(random.randrange(1, 6)):
        start = random.randrange(len(content) // 512) * 512
        size = min(random.randrange(1, 300) * 512, len(content) - start)
        kind = random.randrange(3)
        pattern = random.randrange(256) if kind == 0 else 0
        content[start:start + size] = bytes([pattern]) * size
        words += ['-c', [f'write -P {pattern}', 'write -z', 'write -zu'][kind] +
                  f' {start} {size}']
    run('qemu-io', '-f', 'qcow2', *words, name)
    return bytes(content)


def random_options():
    words = ['--cluster', random.choice(['512', '4K', '16K', '64K', '2M'])]
    if random.random() < 0.2:
        return words + ['--version', '2']
    if words[1] in ('16K', '64K', '2M') and random.random() < 0.5:
        words.append('--extended-l2')
    if random.random() < 0.3:
        words += ['--compression', 'zstd']
    if random.random() < 0.3:
        words += ['--refcount-bits', random.choice(['8', '32', '64'])]
    if random.random() < 0.3:
        words.append('--lazy-refcounts')
    return words


class Driver:
    """One image, its model, and what may be done to both."""

    def __init__(self):
        words = random_options()
        size = random.randrange(1, 9) * 512 * 1024
        if random.random() < 0.3:
            words += ['--preallocation', random.choice(['metadata', 'falloc', 'full'])]
        vol('create', 'a.qcow2', str(size), *words)
        self.content = bytes(size)
        self.snapshots = {}
        self.depth = 0
        self.log = [str(size), *words]

    def write(self):
        self.content = scribble('a.qcow2', self.content)

    def resize(self):
        size = random.randrange(1, 12) * 512 * 1024
        vol('resize', 'a.qcow2', str(size), '--shrink')
        self.content = self.content[:size] + bytes(max(0, size - len(self.content)))

    def snapshot(self):
        name = f's{random.randrange(4)}'
        if name in self.snapshots:
            vol('snapshot', 'rm', 'a.qcow2', name)
            del self.snapshots[name]
        else:
            vol('snapshot', 'create', 'a.qcow2', name)
            self.snapshots[name] = self.content
        listed = json.loads(vol('snapshot', 'ls', 'a.qcow2', '--format', 'json').stdout)
        assert {entry['name'] for entry in listed} == set(self.snapshots)

    def apply(self):
        if self.snapshots:
            name = random.choice(sorted(self.snapshots))
            vol('snapshot', 'apply', 'a.qcow2', name)
            self.content = self.snapshots[name]

    def overlay(self):
        """What was the image becomes the backing file of a new one."""
        if self.depth == 4 or self.snapshots:
            return
        name = f'base{self.depth}.qcow2'
        os.rename('a.qcow2', name)
        vol('create', 'a.qcow2', '--backing', name, '--backing-format', 'qcow2', *random_options())
        self.depth += 1

    def commit(self):
        if self.depth and not self.snapshots:
            vol('commit', 'a.qcow2')
            name = f'base{self.depth - 1}.qcow2'
            expect('a.qcow2', self.content)
            os.rename(name, 'a.qcow2')
            self.depth -= 1

    def rebase(self):
        if self.depth and not self.snapshots:
            if self.depth > 1 and random.random() < 0.5:
                self.depth -= 1
                vol('rebase', 'a.qcow2', '--backing', f'base{self.depth - 1}.qcow2',
                    '--backing-format', 'qcow2')
            else:
                vol('rebase', 'a.qcow2', '--backing', '')
                self.depth = 0

    def convert(self):
        for name in ('b.qcow2', 'b.raw'):
            if os.path.exists(name):
                os.unlink(name)
        vol('convert', 'a.qcow2', 'b.raw')
        with open('b.raw', 'rb') as file:
            assert file.read() == self.content
        vol('convert', 'b.raw', 'b.qcow2', *random_options(),
            *(['--compress'] if random.random() < 0.5 else []))
        expect('b.qcow2', self.content)

    def step(self):
        verb = random.choice(['write'] * 6 + ['resize', 'snapshot', 'snapshot', 'apply', 'overlay',
                                              'commit', 'rebase', 'convert'])
        self.log.append(verb)
        try:
            getattr(self, verb)()
            expect('a.qcow2', self.content)
        except AssertionError:
            print('steps:', *self.log)
            raise


def test_driver():
    for _ in range(max(1, ROUNDS // 10)):
        for name in os.listdir('.'):
            os.unlink(name)
        driver = Driver()
        expect('a.qcow2', driver.content)
        for _ in range(10):
            driver.step()


def test_large_disks():
    for size in ('10T', '1000T'):
        vol('create', f'{size}.qcow2', size, '--cluster', '2M')
        run('qemu-img', 'check', '-q', f'{size}.qcow2')
        info = json.loads(vol('info', f'{size}.qcow2', '--format', 'json').stdout)
        assert info['size_bytes'] == int(size[:-1]) << 40, info
    vol('create', 'ten.qcow2', '10T')
    run('qemu-io', '-f', 'qcow2', '-c', f'write -P 3 {(10 << 40) - 4096} 4096', 'ten.qcow2')
    vol('check', 'ten.qcow2')


def test_repair():
    """Counts that are lost altogether, and marks, are mended so that qemu-img agrees."""
    for name in os.listdir('.'):
        os.unlink(name)
    vol('create', 'a.qcow2', '4M', '--cluster', '4K')
    content = scribble('a.qcow2', bytes(4 * MIB))
    with open('a.qcow2', 'r+b') as file:
        file.seek(48)
        table = int.from_bytes(file.read(8), 'big')
        file.seek(table)
        block = int.from_bytes(file.read(8), 'big')
        file.seek(block + 8)
        file.write(bytes(400))
        file.seek(79)
        file.write(b'\1')  # not closed
    vol('check', 'a.qcow2', status=4)
    vol('resize', 'a.qcow2', '5M', status=4)
    vol('check', 'a.qcow2', '--repair', 'all')
    expect('a.qcow2', content)
    assert not json.loads(vol('info', 'a.qcow2', '--format', 'json').stdout)['dirty']


def test_refusals():
    for name in os.listdir('.'):
        os.unlink(name)
    vol('create', 'a.qcow2', '1M')
    assert 'exists' in vol('create', 'a.qcow2', '1M', status=4).stderr
    vol('create', 'bad.qcow2', '1000T', '--cluster', '512', status=4)
    assert not os.path.exists('bad.qcow2')
    run('qemu-img', 'create', '-q', '-u', '-f', 'qcow2', '-b', '/etc/passwd', '-F', 'raw',
        'evil.qcow2', '1M')
    done = vol('convert', 'evil.qcow2', 'leak.raw', status=4)
    assert 'outside' in done.stderr and not os.path.exists('leak.raw')
    vol('convert', 'evil.qcow2', 'leak.raw', '--allow', '/etc')
    shutil.copy('a.qcow2', 'a.img')
    assert 'format=qcow2' in vol('convert', 'a.img', 'x.raw', status=2).stderr
    vol('resize', 'a.qcow2', '512K', status=2)
    vol('commit', 'a.qcow2', status=2)
    vol('snapshot', 'apply', 'a.qcow2', 'none', status=4)


def main():
    if shutil.which('qemu-img') is None or shutil.which('qemu-io') is None:
        print('skipped: no qemu-img')
        sys.exit(77)
    where = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        os.chdir(folder)
        for name, test in sorted(globals().items()):
            if name.startswith('test_'):
                test()
                print(f'ok {name}')
        os.chdir('/')


main()
