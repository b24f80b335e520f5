#!/usr/bin/env python3
"""The command's manners, without a guest: exit statuses, and messages that say what is accepted."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

ATOLL = sys.argv.pop(1) if len(sys.argv) > 1 else 'build/atoll'
ARGUMENT, FILE, HOST = 2, 4, 10


class Status(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='atoll-cli-')
        self.addCleanup(shutil.rmtree, self.folder)
        self.env = dict(os.environ, XDG_DATA_HOME=self.folder)

    def path(self, name, data=b''):
        path = os.path.join(self.folder, name)
        with open(path, 'wb') as file:
            file.write(data)
        return path

    def run_it(self, *args):
        return subprocess.run([ATOLL, *args], env=self.env, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)

    def check(self, args, status, *says):
        result = self.run_it(*args)
        self.assertEqual(result.returncode, status, (args, result))
        for text in says:
            self.assertIn(text, result.stdout + result.stderr, args)
        return result

    def test_help_shows_examples_first(self):
        for args in (['--help'], ['run', '--help'], ['image', '--help'], ['doctor', '--help']):
            result = self.check(args, 0)
            self.assertTrue(result.stdout.startswith('Example'), args)
            self.assertEqual(result.stderr, '')

    def test_arguments(self):
        kernel = self.path('kernel', b'x' * 4096)
        self.check([], ARGUMENT, 'Examples')
        self.check(['fly'], ARGUMENT, "'fly'", 'screenshot, sendkey and doctor')
        self.check(['run'], ARGUMENT, 'debian/12')
        self.check(['run', '--kernel', kernel, '--wings'], ARGUMENT, '--wings', '--initrd')
        self.check(['run', '--kernel', kernel, '--memory', '12'], ARGUMENT, '512M')
        self.check(['run', '--kernel', kernel, '--disk', kernel + ',fast'], ARGUMENT, 'readonly')
        self.check(['run', 'Debian'], ARGUMENT, 'debian/12')
        self.check(['image', 'build', 'plan/9'], ARGUMENT, 'debian/12')
        self.check(['image', 'build', 'debian/12', '--size', '3'], ARGUMENT, '8G')

    def test_missing_files(self):
        gone = os.path.join(self.folder, 'gone')
        self.check(['run', '--kernel', gone], FILE, gone)
        self.check(['run', '--kernel', self.folder], FILE, 'folder')
        kernel = self.path('kernel', b'x' * 4096)
        self.check(['run', '--kernel', kernel, '--initrd', gone], FILE, gone)
        self.check(['run', '--kernel', kernel, '--disk', gone], FILE, gone)
        self.check(['run', 'debian/12'], FILE, 'atoll image build')
        self.check(['image', 'rm', 'debian/12'], FILE, 'debian/12')

    def test_files_that_are_something_else(self):
        noise = self.path('noise', os.urandom(100000))
        empty = self.path('empty')
        self.check(['run', '--net', 'none', '--kernel', noise], FILE, noise)
        self.check(['run', '--net', 'none', '--kernel', empty], FILE, empty)
        self.check(['run', '--net', 'none', '--kernel', noise, '--disk', empty], FILE, 'truncate')
        self.check(['run', '--net', 'none', '--kernel', noise, '--disk', '/dev/null'], FILE,
                   '/dev/null')

    def test_images(self):
        self.assertEqual(self.check(['image', 'ls', '--quiet'], 0).stdout, '')
        self.check(['image', 'ls'], 0, 'atoll image build')
        os.makedirs(os.path.join(self.folder, 'atoll/images/own/1'))
        self.path('atoll/images/own/1/image.json', b'{"kernel_version": "6.1"}')
        self.path('atoll/images/own/1/disk.raw', b'x' * 1024)
        self.assertEqual(self.check(['image', 'ls', '--quiet'], 0).stdout, 'own/1\n')
        self.check(['image', 'ls'], 0, 'own/1', '6.1')
        self.check(['image', 'rm', 'own/1'], 0)
        self.assertEqual(self.check(['image', 'ls', '--quiet'], 0).stdout, '')

    def test_doctor(self):
        result = self.check(['doctor'], 0, 'processor', '--engine auto takes', 'io_uring')
        for line in result.stdout.splitlines():
            self.assertLess(len(line), 300)


if __name__ == '__main__':
    unittest.main()
