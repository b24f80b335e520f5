#!/usr/bin/env python3
"""The command's errors: each wrong argument or file ends at once, with the status that the help names
and with a message that says what is accepted. No guest is started to its end here.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import guest  # noqa: E402
from guest import check  # noqa: E402

ATOLL = guest.BUILD / 'atoll'
ARGUMENT, FILE, CRASH = guest.STATUS_ARGUMENT, guest.STATUS_FILE, guest.STATUS_CRASH
LIMIT_SECONDS = 60
scratch = pathlib.Path(tempfile.mkdtemp(prefix='atoll-command.'))


def atoll(*words, seconds=LIMIT_SECONDS):
    """(status, standard output, standard error) of a run in an empty user's home."""
    env = {**os.environ, 'XDG_DATA_HOME': str(scratch / 'data'), 'HOME': str(scratch)}
    done = subprocess.run([ATOLL, *map(str, words)], stdin=subprocess.DEVNULL, env=env,
                          capture_output=True, timeout=seconds * guest.PATIENCE, check=False)
    return done.returncode, done.stdout.decode(errors='replace'), done.stderr.decode()


def expect(words, status, *says):
    found, out, err = atoll(*words)
    shown = f'atoll {" ".join(map(str, words))}: status {found}, stderr {err!r}'
    check(found == status, f'{shown}; the status must be {status}')
    check(out == '', f'{shown}; nothing belongs on standard output: {out!r}')
    for text in says:
        check(text in err, f'{shown}; it must say {text!r}')


def test_arguments():
    kernel = ('--kernel', '/nonexistent')
    for words, says in [
            ((), ('Examples', 'doctor')),
            (('frobnicate',), ("'frobnicate'", 'run, image, vol, screenshot, sendkey and doctor')),
            (('run',), ('--kernel', 'debian/12')),
            (('run', '--bogus'), ("'--bogus'", '--memory', '--cpus')),
            (('run', '--kernel'), ('--kernel needs a value',)),
            (('run', *kernel, '--memory', '3x'), ("'3x'", '512M')),
            (('run', *kernel, '--memory', '-1G'), ("'-1G'", '512M')),
            (('run', *kernel, '--memory', '99999999999999999999G'), ('--memory', '512M')),
            (('run', *kernel, '--memory', '0'), ("'0'", '512M')),
            (('run', *kernel, '--cpus', '0'), ("'0'", 'from 1 to')),
            (('run', *kernel, '--cpus', 'many'), ("'many'", 'from 1 to')),
            (('run', *kernel, '--cpus', '4294967297'), ('from 1 to',)),
            (('run', *kernel, '--engine', 'warp'), ("'warp'", 'auto, kvm or dbt')),
            (('run', *kernel, '--net', 'carrier-pigeon'), ('user, none', 'tap:NAME')),
            (('run', *kernel, '-p', '80'), ("'80'", 'HOST_PORT:GUEST_PORT')),
            (('run', *kernel, '-p', '70000:80'), ("'70000:80'", '65535')),
            (('run', *kernel, '--net', 'none', '-p', '8080:80'), ('-p',)),
            (('run', *kernel, '--console', 'moon'), ('stdio or none',)),
            (('run', *kernel, '--device', 'toaster'), ('testdev',)),
            (('run', *kernel, '--name', 'a b'), ("'a b'", 'letters')),
            (('run', *kernel, '--disk', 'x,format=vmdk'), ('format=raw', 'readonly')),
            (('run', *kernel, '--disk', ','), ('--disk',)),
            (('run', *kernel, '--', 'true'), ('needs an image',)),
            (('run', 'debian/12', 'debian/13'), ("'debian/13'", "after '--'")),
            (('run', '../../etc'), ("'../../etc'",)),
            (('image',), ('build NAME, ls',)),
            (('image', 'build', 'debian/99'), ('debian/12',)),
            (('image', 'build', 'debian/12', '--size', 'x'), ('--size', '8G'))]:
        expect(words, ARGUMENT, *says)


def test_files():
    folder, noise, empty = scratch / 'folder', scratch / 'noise', scratch / 'empty'
    folder.mkdir()
    noise.write_bytes(os.urandom(1 << 20))
    empty.write_bytes(b'')
    expect(('run', '--kernel', '/nonexistent'), FILE, "'/nonexistent'", 'No such file')
    expect(('run', '--kernel', folder), FILE, 'folder')
    expect(('run', '--kernel', empty), FILE, 'kernel')
    expect(('run', '--kernel', noise), FILE, str(noise), 'bzImage', 'ELF')
    expect(('run', '--kernel', noise, '--initrd', '/nonexistent'), FILE, '--initrd')
    expect(('run', '--kernel', noise, '--disk', '/nonexistent'), FILE, '--disk')
    expect(('run', '--kernel', noise, '--disk', folder), FILE, 'folder')
    expect(('run', 'nosuch/1'), FILE, "'nosuch/1'", 'atoll image ls')
    expect(('image', 'rm', 'nosuch/1'), FILE, "'nosuch/1'")


def test_cut_kernels():
    """A kernel that ends early, or whose header lies, is refused, or dies in the guest only."""
    whole = bytearray(guest.Kernel().image.read_bytes())
    cut = scratch / 'cut'
    for bytes_kept in (0x1ff, 0x202, 0x264, 0x400, 0x4000):
        cut.write_bytes(whole[:bytes_kept])
        expect(('run', '--kernel', cut, '--net', 'none'), FILE, str(cut))
    lying = whole[:]
    lying[0x1f1] = 0xff  # the sectors of setup code
    cut.write_bytes(lying[:0x8000])
    expect(('run', '--kernel', cut, '--net', 'none'), FILE, str(cut))


def test_random_initrd_and_disk():
    """What the guest makes of them is its own affair: it panics, and reboots by a triple fault."""
    noise = scratch / 'random'
    noise.write_bytes(os.urandom(3 << 20 | 123))
    found, out, err = atoll('run', '--kernel', guest.Kernel().image, '--initrd', noise, '--disk',
                            f'{noise},snapshot', '--net', 'none', '--append',
                            'console=ttyS0 panic=-1 reboot=t', seconds=300)
    check(found == CRASH, f'status {found}: {err} {out[-2000:]}')
    check('Kernel panic' in out, f'no panic in {out[-2000:]}')
    check('triple fault' in err, f'no reason in {err!r}')


def test_help_and_version():
    for words, says in [(('--help',), 'atoll run debian/12'), (('run', '--help'), 'Exit status'),
                        (('image', '--help'), 'atoll image build'), (('--version',), 'atoll ')]:
        found, out, err = atoll(*words)
        check(found == 0 and says in out and err == '', f'{words}: {found} {out!r} {err!r}')
    found, out, _ = atoll('doctor')
    check(found in (0, 1) and 'engine' in out, f'doctor: {found} {out!r}')


if __name__ == '__main__':
    try:
        guest.run_tests(globals())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
