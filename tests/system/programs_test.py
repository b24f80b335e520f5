#!/usr/bin/env python3
"""Debian's programs in a debian/12 guest with 2 vCPUs: programs that compile code while they run give the
results of programs/expected.txt, which a processor gave; stress-ng verifies what it computes; much data
goes through memory, processes and disk and comes back whole.

Usage: programs_test.py [BUILD] [TEST...]. The guest fetches the packages. PROGRAMS_SECONDS (600): how long
stress-ng runs. Part of `make guests`. Exit status 77 where there is no image or no packages.
"""
import difflib
import io
import os
import pathlib
import shutil
import sys
import tarfile
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import guest  # noqa: E402
if len(sys.argv) > 1 and os.path.isdir(sys.argv[1]):
    guest.BUILD = pathlib.Path(sys.argv.pop(1)).resolve()
import image_test  # noqa: E402
from guest import check  # noqa: E402

HERE = pathlib.Path(__file__).parent / 'programs'
PACKAGES = 'nodejs luajit pcre2-utils python3 stress-ng'
STRESS_SECONDS = int(os.environ.get('PROGRAMS_SECONDS', '600'))
RUN_SECONDS = 1200
COMPLAINTS = "dmesg -r | grep -E '^<[0-4]>' | grep -vE 'hrtimer: interrupt took|clocksource'"
scratch = tempfile.TemporaryDirectory(prefix='atoll-programs.')


def programs_disk():
    """programs/ as a tar archive on a disk."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode='w') as tar:
        tar.add(HERE, 'programs')
    data = archive.getvalue()
    path = pathlib.Path(scratch.name) / 'programs.tar'
    path.write_bytes(data + bytes(-len(data) % 4096))
    return path


def in_guest(script, packages, seconds=RUN_SECONDS):
    install = f'''
export DEBIAN_FRONTEND=noninteractive
(apt-get update && apt-get install -y --no-install-recommends {packages}) >/tmp/log 2>&1 ||
    {{ tail -5 /tmp/log; echo NO-PACKAGES; exit 3; }}
cd /tmp && tar xf /dev/vdb
'''
    status, out, err = image_test.atoll(
        'run', 'debian/12', '--cpus', 2, '--memory', '2G', '--disk', f'{programs_disk()},readonly',
        '--', 'sh', '-c', install + script, seconds=seconds)
    if 'NO-PACKAGES' in out:
        guest.skip('the guest cannot fetch packages')
    return status, out, err


def test_compilers():
    status, out, err = in_guest(f'programs/run.sh; {COMPLAINTS} | sed "s/^/COMPLAINT /"; exit 0',
                                'nodejs luajit pcre2-utils python3')
    expected = (HERE / 'expected.txt').read_text(errors='replace')
    wrong = list(difflib.unified_diff(expected.splitlines(), out.splitlines(), 'native', 'guest',
                                      lineterm='', n=0))
    check(not wrong, 'other results than a processor gave:\n' + '\n'.join(wrong[:40]) + err)
    check(status == 0, f'status {status}')


def test_stress():
    script = f'''
stress-ng --cpu 1 --vm 1 --vm-bytes 64M --matrix 1 --atomic 1 --futex 1 --fork 1 --signal 1 --mmap 1 \\
    --mmap-bytes 64M --verify -t {STRESS_SECONDS} 2>&1
echo "STATUS $?"
{COMPLAINTS} | sed "s/^/COMPLAINT /"
exit 0
'''
    _, out, err = in_guest(script, 'stress-ng', RUN_SECONDS + 2 * STRESS_SECONDS)
    check('STATUS 0' in out, out[-2000:] + err)
    check('COMPLAINT' not in out, out[-2000:])


def test_data_comes_back():
    """Trees packed, unpacked and compared by three processes at once, through the disk."""
    script = '''
part() {
    mkdir -p /var/tmp/$1 && tar cf - -C / $2 | gzip -1 >/var/tmp/$1.tgz
    tar xzf /var/tmp/$1.tgz -C /var/tmp/$1
    (cd / && find $2 -type f -exec sha256sum {} +) | sort >/tmp/$1.a
    sync; echo 3 >/proc/sys/vm/drop_caches
    (cd /var/tmp/$1 && find $2 -type f -exec sha256sum {} +) | sort >/tmp/$1.b
    cmp /tmp/$1.a /tmp/$1.b && [ -s /tmp/$1.a ] && echo "SAME $1"
}
part a usr/bin & part b usr/share/perl & part c usr/lib/systemd &
wait
'''
    _, out, err = in_guest(script, 'tar')
    check(out.count('SAME') == 3, out[-2000:] + err)


if __name__ == '__main__':
    try:
        image_test.image_build()
        guest.run_tests(globals())
    finally:
        shutil.rmtree(image_test.scratch, ignore_errors=True)
