#!/usr/bin/env python3
"""Runs the x86 tests of kvm-unit-tests, each in a VM of its own, and says which pass, fail and are skipped.

Usage: kvm_unit_tests.py [BUILD] [--source DIR] [--only NAME,...] [--qemu] [--table FILE] [--logs DIR]

DIR is a checkout of kvm-unit-tests (KVM_UNIT_TESTS in the environment; fetched with git when neither is
given). It is built outside of it, in BUILD/kvm-unit-tests, for x86_64 and i386. NAMEs are those of
x86/unittests.cfg. --qemu runs the tests under QEMU's TCG instead, which tells whose fault a failure is.
Failures that are understood are in EXPECTED: the exit status is 1 when a test fails that is not there, or
when one that is there passes. Status 77: no source here.
"""
import argparse
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import guest  # noqa: E402

REPOSITORY = 'https://gitlab.com/kvm-unit-tests/kvm-unit-tests.git'
TIMEOUT_SECONDS = 90
MEMORY_MIB = 1024  # svm and a few others ask for more themselves
STATUS_PASS, STATUS_SKIP, STATUS_TIMEOUT = 1, 77, None

# Tests of what this machine does not have, and does not claim to have: they would report a skip, or
# wait for ever for an interrupt of a device that is not there.
NOT_HERE = {
    'vmx': 'no nested virtualization', 'ept': 'no nested virtualization',
    'svm': 'no nested virtualization', 'hyperv': 'no Hyper-V interface',
    'intel-iommu': 'no IOMMU',
}
# file: why it fails.
EXPECTED = {
    'realmode': 'wants a BIOS: its interrupt vectors, its PIC set up and its timer ticking',
    's3': 'sleep state S3 is not offered',
}
EXPECTED_SECONDS = 10  # what the expected ones get: they would wait for ever
TRIES = 3  # several tests count on real time, which other work on the host can take away


class Test:
    def __init__(self, name, fields, arch):
        self.name, self.arch = name, arch
        self.file = fields['file'].removesuffix('.flat')
        self.cpus = int(fields.get('smp', '1'))
        self.args = ' '.join(shlex.split(fields.get('test_args', '').replace('`', '')))
        self.kvm_only = fields.get('accel') == 'kvm'
        self.seconds = EXPECTED_SECONDS if self.file in EXPECTED else max(int(fields.get('timeout', 0)), TIMEOUT_SECONDS)
        self.groups = fields.get('groups', '').split()
        self.params = fields.get('qemu_params', '')
        found = re.search(r'-m (\w+)', self.params)
        size = found.group(1) if found else str(MEMORY_MIB)
        self.memory_mib = int(size.rstrip('gG')) << (10 if size[-1] in 'gG' else 0)

    def not_here(self):
        """Why the test cannot be run, or None."""
        if 'nodefault' in self.groups:
            return 'not a default test'
        if self.kvm_only:
            return 'for KVM only, says its configuration'
        for prefix, why in NOT_HERE.items():
            if self.file.startswith(prefix):
                return why
        return None


def tests_of(source):
    """The tests of unittests.cfg, for each architecture that they are for."""
    fields, name, found = {}, None, []

    def add():
        if name:
            for arch in ('x86_64', 'i386'):
                if fields.get('arch', arch) == arch:
                    found.append(Test(name, fields, arch))

    for line in (source / 'x86' / 'unittests.cfg').read_text().splitlines():
        if line.startswith('#') or not line.strip():
            continue
        header = re.fullmatch(r'\[(.*)\]\s*', line)
        if header:
            add()
            fields, name = {}, header.group(1)
        else:
            key, _, value = line.partition('=')
            fields[key.strip()] = value.strip()
    add()
    return found


def source_dir(given):
    if given:
        return pathlib.Path(given).resolve()
    place = guest.BUILD / 'kvm-unit-tests' / 'source'
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        if subprocess.run(['git', 'clone', '-q', '--depth', '1', REPOSITORY, place],
                          timeout=300).returncode != 0:
            guest.skip('kvm-unit-tests cannot be fetched here; give a checkout with --source')
    return place


def build(source, arch):
    """Builds the tests of ARCH; their directory, or None when the compiler cannot."""
    place = guest.BUILD / 'kvm-unit-tests' / arch
    done = place / 'built'
    if done.exists():
        return place / 'x86'
    place.mkdir(parents=True, exist_ok=True)
    with open(place / 'build.log', 'wb') as log:
        for words in ([source / 'configure', f'--arch={arch}'], ['make', '-k', '-j2']):
            if subprocess.run(words, cwd=place, stdout=log, stderr=log,
                              timeout=900).returncode != 0:
                print(f'{arch}: not everything could be built; see {place}/build.log')
                if words[0] != 'make':
                    return None
    done.touch()
    return place / 'x86'


def arguments(test):
    return test.args.replace('date +%s', str(int(time.time())))


def environment(test, place):
    """What the tests ask of QEMU's firmware interface, as the environment file that they take too."""
    path = place / 'env'
    path.write_text(f'NR_CPUS={test.cpus}\nMEMSIZE={test.memory_mib}\nTEST_DEVICE=1\nMEMLIMIT=0\n'
                    )
    return path


def run_atoll(test, image, place):
    config = {'kernel': image, 'initrd': environment(test, place), 'cpus': test.cpus,
              'memory_bytes': test.memory_mib << 20, 'append': arguments(test), 'devices': ['testdev']}
    with guest.Vm(config) as machine:
        try:
            status = machine.finish(test.seconds)
        except AssertionError:
            return STATUS_TIMEOUT, machine.text()
    return status, machine.text()


def run_qemu(test, image, place):
    words = ['qemu-system-x86_64', '-nodefaults', '-device', 'pc-testdev', '-device',
             'isa-debug-exit,iobase=0xf4,iosize=0x4', '-display', 'none', '-serial', 'stdio',
             '-no-reboot', '-machine', 'accel=tcg', '-cpu', 'max', '-smp', str(test.cpus),
             '-m', str(test.memory_mib), '-kernel', image, '-append', arguments(test)]
    words += [w for w in shlex.split(test.params) if not w.startswith('-enable-kvm')]
    if test.file != 'realmode':
        words += ['-initrd', environment(test, place)]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=test.seconds)
    except subprocess.TimeoutExpired as late:
        return STATUS_TIMEOUT, (late.stdout or b'').decode(errors='replace')
    return done.returncode, done.stdout.decode(errors='replace')


def verdict(status, text):
    """('pass', 'fail' or 'skip', detail). The exit port makes 2 N + 1 of the test's own status N."""
    summary = re.findall(r'^SUMMARY: (.*?)\r?$', text, re.M)
    failures = re.findall(r'^FAIL: (.*?)\r?$', text, re.M)
    detail = summary[-1] if summary else ''
    if status == STATUS_TIMEOUT:
        return 'fail', 'did not end in time'
    if status == STATUS_PASS:
        return 'pass', detail
    if status == STATUS_SKIP:
        skipped = re.findall(r'SKIP: (.*?)\r?$', text, re.M)
        return 'skip', skipped[-1] if skipped else text.strip().splitlines()[-2]
    return 'fail', '; '.join([detail] + failures[:6]).strip('; ') or f'exit status {status}'


def run_test(test, image, logs, is_qemu):
    for attempt in range(1, TRIES + 1):
        status, text = (run_qemu if is_qemu else run_atoll)(test, image, logs)
        (logs / f'{test.name}.{test.arch}.{attempt}.log').write_text(text)
        result, detail = verdict(status, text)
        if result != 'fail' or test.file in EXPECTED or is_qemu:
            break
    return result, detail + (f' (attempt {attempt})' if attempt > 1 else '')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('build', nargs='?', default=guest.BUILD)
    parser.add_argument('--source', default=os.environ.get('KVM_UNIT_TESTS'))
    parser.add_argument('--qemu', action='store_true')
    parser.add_argument('--logs', default=None)
    parser.add_argument('--table', default=None)
    parser.add_argument('--only', default=None, help='names, separated by commas')
    args = parser.parse_args()
    guest.BUILD = pathlib.Path(args.build).resolve()
    source = source_dir(args.source)
    only = args.only.split(',') if args.only else None
    logs = pathlib.Path(args.logs or tempfile.mkdtemp(prefix='atoll-kut.'))
    logs.mkdir(parents=True, exist_ok=True)
    images, counts, wrong, rows = {}, {'pass': 0, 'fail': 0, 'skip': 0}, [], []
    for test in tests_of(source):
        name = test.name + ('' if test.arch == 'x86_64' else '/i386')
        if only and test.name not in only and name not in only:
            continue
        if test.arch not in images:
            images[test.arch] = build(source, test.arch)
        image = images[test.arch] and images[test.arch] / f'{test.file}.flat'
        start = time.monotonic()
        why = test.not_here()
        if why:
            result, detail = 'skip', why
        elif not image or not image.exists():
            result, detail = 'skip', 'not built'
        else:
            result, detail = run_test(test, image, logs, args.qemu)
        counts[result] += 1
        if result == 'fail' and test.file in EXPECTED:
            detail = EXPECTED[test.file]
        elif (result == 'fail') != (test.file in EXPECTED):
            wrong.append(name)
        rows.append((name, result, detail))
        print(f'{result.upper():5}{name:36}{time.monotonic() - start:6.1f} s  {detail}', flush=True)
    if args.table:
        pathlib.Path(args.table).write_text(''.join(f'| {n} | {r} | {d} |\n' for n, r, d in rows))
    print(f'{counts["pass"]} pass, {counts["fail"]} fail, {counts["skip"]} skipped; logs in {logs}')
    for name in wrong:
        print(f'not as expected: {name}')
    sys.exit(1 if wrong and not args.qemu else 0)


if __name__ == '__main__':
    main()
