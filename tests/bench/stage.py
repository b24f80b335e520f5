"""What the benchmarks run: the kernel, the tiny initrd, the Debian image, the jobs, and the commands that
start the same guest under Atoll and under QEMU's TCG.

Everything that takes long to make is made once, below the build folder (or in ATOLL_BENCH_DATA).
"""
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = pathlib.Path(os.environ.get('ATOLL_BUILD', ROOT / 'build'))
DATA = pathlib.Path(os.environ.get('ATOLL_BENCH_DATA', BUILD / 'bench'))
PACKAGES = 'python3-minimal,libpython3-stdlib,gcc,libc6-dev,perl,openssl,rt-tests,sqlite3'
DISK_SIZE, IMAGE_SECONDS = '4G', 1200
TINY_APPEND = 'console=ttyS0 quiet panic=-1 '
JOBS_APPEND = 'console=ttyS0 quiet panic=-1 root=/dev/vdb rw init=/jobs '
SHELL_APPEND = 'console=ttyS0 quiet root=/dev/vda rw '

sys.path.insert(0, str(ROOT / 'tests' / 'system'))
import guest  # noqa: E402


def sh(*words, **more):
    return subprocess.run([str(w) for w in words], check=True, **more)


def find_tool(name):
    """A program that may lie where an ordinary user does not look."""
    return shutil.which(name, path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin') or name


def build_programs():
    sh('ninja', '-C', BUILD, 'tests/bench/micro', 'tests/bench/jobs', stdout=subprocess.DEVNULL)


class Tiny:
    """The cloud kernel with one file, the micro-benchmarks, as its init."""

    def __init__(self, work):
        self.micro = BUILD / 'tests' / 'bench' / 'micro'
        guest.CACHE.mkdir(parents=True, exist_ok=True)
        self.kernel = guest.Kernel().image
        self.initrd = work / 'initrd'
        self.initrd.write_bytes(guest.cpio([
            ('dev', 0o040755, b'', (0, 0)), ('dev/console', 0o020600, b'', (5, 1)),
            ('init', 0o100755, self.micro.read_bytes(), (0, 0))]))

    def machine(self, append, cpus=1):
        return Machine(self.kernel, self.initrd, TINY_APPEND + append, cpus, '512M')


class System:
    """A Debian image with compilers and interpreters, the same tree for chroot, and the jobs' disk."""

    def __init__(self, work):
        self.tree, self.image = DATA / 'root', DATA / 'atoll' / 'images' / 'debian' / '12'
        self.jobs = work / 'jobs'
        self.jobs_disk = work / 'jobs.raw'
        self.make_image()
        self.make_jobs()

    def make_image(self):
        stamp = DATA / 'stamp'
        wanted = f'{PACKAGES} {DISK_SIZE}\n'
        if stamp.exists() and stamp.read_text() == wanted:
            return
        print(f'making the image for the benchmarks in {DATA}, once', file=sys.stderr)
        DATA.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.tree, ignore_errors=True)
        sh(BUILD / 'atoll', 'image', 'build', 'debian/12', '--force', '--include', PACKAGES, '--size',
           DISK_SIZE, timeout=IMAGE_SECONDS, env={**os.environ, 'XDG_DATA_HOME': str(DATA)})
        self.tree.mkdir()
        sh(find_tool('debugfs'), '-R', f'rdump / {self.tree}', self.image / 'disk.raw',
           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stamp.write_text(wanted)

    def make_jobs(self):
        """A folder with what the jobs need, and the same as a file system that guests mount."""
        self.jobs.mkdir()
        for name in ('work.sh', 'python.py', 'perl.pl', 'sqlite.sql'):
            shutil.copy(HERE / 'jobs' / name, self.jobs)
        for name in ('jobs', 'micro'):
            shutil.copy(BUILD / 'tests' / 'bench' / name, self.jobs)
        sh('gcc', '-E', '-P', '-D_GNU_SOURCE', HERE / 'jobs' / 'compile.c', '-o', self.jobs / 'compile.i')
        sh('openssl', 'genrsa', '-out', self.jobs / 'rsa.pem', '2048', stderr=subprocess.DEVNULL)
        for name in ('root', 'dev', 'proc', 'sys'):
            (self.jobs / name).mkdir()
        self.make_package(self.jobs / 'atoll-bench.deb')
        self.jobs_disk.write_bytes(b'')
        os.truncate(self.jobs_disk, 64 << 20)
        sh(find_tool('mke2fs'), '-q', '-F', '-t', 'ext4', '-d', self.jobs, self.jobs_disk)

    @staticmethod
    def make_package(path):
        """A small Debian package: a program, forty documents, and scripts that run at installation."""
        tree = path.with_suffix('.tree')
        docs, control = tree / 'usr' / 'share' / 'doc' / 'atoll-bench', tree / 'DEBIAN'
        for folder in (docs, control, tree / 'usr' / 'bin'):
            folder.mkdir(parents=True)
        for number in range(40):
            text = hashlib.sha256(bytes([number])).hexdigest() + '\n'
            (docs / f'{number:02}.txt').write_text(text * 40)
        program = tree / 'usr' / 'bin' / 'atoll-bench'
        program.write_text('#!/bin/sh\ncat /usr/share/doc/atoll-bench/*.txt | cksum\n')
        program.chmod(0o755)
        (control / 'control').write_text(
            'Package: atoll-bench\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@invalid>\n'
            'Depends: libc6\nDescription: something small to install\n')
        for name in ('preinst', 'postinst', 'prerm'):
            (control / name).write_text('#!/bin/sh\nset -e\n[ -d /usr/share/doc ]\n')
            (control / name).chmod(0o755)
        sh('dpkg-deb', '--root-owner-group', '-b', tree, path, stdout=subprocess.DEVNULL)
        shutil.rmtree(tree)

    def machine(self, append, cpus=1):
        return Machine(self.image / 'vmlinuz', self.image / 'initrd.img', JOBS_APPEND + append, cpus,
                       '1G', [self.image / 'disk.raw', self.jobs_disk])

    def shell_machine(self, cpus):
        """As it comes, with systemd and a network, to a prompt on the serial console."""
        return Machine(self.image / 'vmlinuz', self.image / 'initrd.img', SHELL_APPEND, cpus, '1G',
                       [self.image / 'disk.raw'], 'user')

    def native(self, words):
        """WORDS (starting in the jobs' folder) in the image's own tree; without the right to a name
        space of mounts, by this host's programs."""
        script = ('mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && '
                  'mount -t tmpfs tmpfs "$0/tmp" && mount --bind "$1" "$0/mnt" && root=$0 && shift && '
                  'exec chroot "$root" /bin/sh -c \'cd /mnt && exec "$@"\' sh "$@"')
        space = ['unshare', '--mount', '--pid', '--fork']
        space += [] if os.geteuid() == 0 else ['--map-root-user']
        if subprocess.run(space + ['true'], check=False, capture_output=True).returncode == 0:
            return space + ['sh', '-c', script, str(self.tree), str(self.jobs)] + words, None
        return words, str(self.jobs)


class Machine:
    """One guest, and how each engine starts it."""

    def __init__(self, kernel, initrd, append, cpus, memory, disks=(), net='none'):
        self.kernel, self.initrd, self.append = str(kernel), str(initrd), append
        self.cpus, self.memory, self.net = str(cpus), memory, net
        self.disks = [str(d) for d in disks]

    def ours(self, *more):
        words = [str(BUILD / 'atoll'), 'run', '--engine', 'dbt', '--kernel', self.kernel, '--initrd',
                 self.initrd, '--append', self.append, '--memory', self.memory, '--cpus', self.cpus,
                 '--net', self.net, *more]
        for disk in self.disks:
            words += ['--disk', disk + ',snapshot']
        return words

    def tcg(self):
        net = 'user,model=virtio-net-pci' if self.net == 'user' else self.net
        words = ['qemu-system-x86_64', '-accel', 'tcg', '-cpu', 'max', '-m', self.memory, '-smp', self.cpus,
                 '-nographic', '-no-reboot', '-nic', net, '-global', 'virtio-net-pci.romfile=',
                 '-kernel', self.kernel, '-initrd', self.initrd, '-append', self.append]
        for disk in self.disks:
            words += ['-drive', f'file={disk},format=raw,if=virtio,snapshot=on,file.locking=off']
        return words
