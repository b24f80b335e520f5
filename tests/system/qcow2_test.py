#!/usr/bin/env python3
"""Guests on qcow2 disks: file systems, a root disk at the end of a chain, VMs that are killed.

Usage: qcow2_test.py [TEST...]. Exit status 77 where image_test.py has not built the image, or where
there is no qemu-img, which judges what is left.
"""
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

BUILD = os.environ.get('ATOLL_BUILD', 'build')
DATA = os.environ.get('ATOLL_TEST_DATA', os.path.join(BUILD, 'test-data'))
os.environ['XDG_DATA_HOME'] = os.path.abspath(DATA)
ATOLL = os.path.join(BUILD, 'atoll')
IMAGE = os.path.join(os.environ['XDG_DATA_HOME'], 'atoll/images/debian/12')
GUEST_SECONDS = 600
KILLS = int(os.environ.get('ATOLL_TEST_KILLS', '2'))
BLOCK = 65536


def run(options, command, **more):
    return subprocess.run([ATOLL, 'run', 'debian/12', '--net', 'none', *options, '--', *command],
                          capture_output=True, text=True, timeout=GUEST_SECONDS, **more)


def vol(*words):
    subprocess.run([ATOLL, 'vol', *words], check=True, stdout=subprocess.DEVNULL)


class Qcow2(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix='atoll-qcow2-test.', dir='/var/tmp')
        self.addCleanup(scratch.cleanup)
        self.folder = scratch.name

    def path(self, name):
        return os.path.join(self.folder, name)

    def check(self, path):
        """0: sound; 3: sound, but for lost clusters."""
        done = subprocess.run(['qemu-img', 'check', '-q', path], check=False)
        self.assertIn(done.returncode, (0, 3))
        return done.returncode

    def wait_for_lock(self, path):
        """The kernel takes an io_uring of a killed process apart in its own time, and its files with it."""
        for _ in range(100):
            if subprocess.run(['qemu-img', 'info', path], check=False,
                              capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        self.fail(f'{path} is still locked')

    def test_file_system_with_snapshot_and_trim(self):
        disk = self.path('data.qcow2')
        vol('create', disk, '600M', '--extended-l2')
        done = run(['--disk', disk], ['sh', '-ec', '''
            mkfs.ext4 -q /dev/vdb; mount /dev/vdb /mnt
            dd if=/dev/urandom of=/mnt/a bs=1M count=40 2>/dev/null; cp -r /usr/share/perl5 /mnt
            sha256sum /mnt/a; rm -r /mnt/perl5; fstrim /mnt; umount /mnt'''])
        self.assertEqual(done.returncode, 0, done)
        self.assertEqual(self.check(disk), 0)
        vol('snapshot', 'create', disk, 'before')
        again = run(['--disk', disk], ['sh', '-ec', '''
            mount /dev/vdb /mnt; sha256sum /mnt/a; rm /mnt/a; umount /mnt; e2fsck -fn /dev/vdb'''])
        self.assertEqual(again.returncode, 0, again)
        self.assertEqual(again.stdout.split()[0], done.stdout.split()[0])
        vol('snapshot', 'apply', disk, 'before')
        self.assertEqual(self.check(disk), 0)
        back = run(['--disk', disk + ',readonly'],
                   ['sh', '-ec', 'mount -o ro,noload /dev/vdb /mnt; sha256sum /mnt/a'])
        self.assertEqual(back.stdout.split()[0], done.stdout.split()[0])

    def test_root_at_the_end_of_a_chain(self):
        """Three images on the raw one, whose changes are read back by the next VM."""
        previous, kind = os.path.join(IMAGE, 'disk.raw'), 'raw'
        for i in range(3):
            vol('create', self.path(f'{i}.qcow2'), '--backing', previous, '--backing-format', kind,
                '--allow', IMAGE)
            previous, kind = f'{i}.qcow2', 'qcow2'
        command = [ATOLL, 'run', '--net', 'none', '--kernel', os.path.join(IMAGE, 'vmlinuz'),
                   '--initrd', os.path.join(IMAGE, 'initrd.img'), '--disk',
                   f'{self.path("2.qcow2")},backing={IMAGE}', '--append',
                   'root=/dev/vda rw quiet console=ttyS0']
        for words, expected in (('echo it is $((40+2)) >/root/mark; sync; poweroff', None),
                                ('cat /root/mark; poweroff', b'it is 42')):
            guest = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, bufsize=0)
            self.addCleanup(guest.kill)
            output = b''
            while b'root@' not in output:  # what is typed before the shell is there is lost
                more = guest.stdout.read(4096)
                self.assertTrue(more, output[-2000:])
                output += more
            guest.stdin.write(words.encode() + b'\n')
            output += guest.stdout.read()
            self.assertEqual(guest.wait(GUEST_SECONDS), 0, output[-2000:])
            if expected:
                self.assertIn(expected, output)
        self.assertEqual(self.check(self.path('2.qcow2')), 0)

    def test_synced_data_survives_sigkill(self):
        """Blocks that the guest has been told are on disk, killed at random moments under load."""
        disk = self.path('kill.qcow2')
        vol('create', disk, '256M', '--cluster', '4K')
        script = f'''
            (while :; do dd if=/dev/urandom of=/dev/vdb bs=4k seek=$((32768 + RANDOM)) count=9 \\
                conv=notrunc 2>/dev/null; done) &
            i=$0; while :; do
                yes "$i" | head -c {BLOCK} | dd of=/dev/vdb bs={BLOCK} seek=$((i * 3 % 1900)) \\
                    iflag=fullblock oflag=direct conv=notrunc,fsync 2>/dev/null && echo "$i"
                i=$((i + 1)); done'''
        told = {}
        for kill in range(KILLS):
            guest = subprocess.Popen([ATOLL, 'run', 'debian/12', '--net', 'none', '--cpus', '2',
                                      '--disk', disk, '--', 'bash', '-c', script,
                                      str(kill * 600 + 1)],
                                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            self.addCleanup(guest.kill)
            for _ in range(random.randrange(20, 150)):
                number = int(guest.stdout.readline())
                told[number * 3 % 1900] = number
            subprocess.run(['pkill', '-KILL', '-P', str(guest.pid)], check=False)
            guest.send_signal(signal.SIGKILL)
            number = guest.stdout.read().split('\n')
            for text in number[:-1]:
                told[int(text) * 3 % 1900] = int(text)
            guest.wait()
            self.wait_for_lock(disk)
            self.check(disk)
            subprocess.run(['qemu-img', 'convert', '-O', 'raw', disk, self.path('out.raw')],
                           check=True)
            with open(self.path('out.raw'), 'rb') as file:
                for place, number in told.items():
                    file.seek(place * BLOCK)
                    lines = file.read(BLOCK).split(b'\n')
                    # The one that was under way when the VM died may be there as well.
                    self.assertGreaterEqual(int(lines[0]), number)
                    self.assertLessEqual(len(set(lines[:-1])), 2)
            vol('check', disk, '--repair', 'leaks')
            self.assertEqual(self.check(disk), 0)


if __name__ == '__main__':
    if not os.path.exists(os.path.join(IMAGE, 'disk.raw')) or shutil.which('qemu-img') is None:
        print('skipped: no image, or no qemu-img')
        sys.exit(77)
    unittest.main()
