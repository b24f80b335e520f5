#!/usr/bin/env python3
"""What a stock Linux kernel makes of the paravirtual features and of the CPU model: which it uses, which
mitigations it leaves on, what it costs the host while idle, and that processors that interrupt one
another see what they must.

Usage: paravirt_test.py [TEST...]. The features are the dbt engine's; with another, the tests skip.
"""
import os
import pathlib
import re
import shutil
import tempfile
import time

import guest
from guest import Vm, check

BOOT_SECONDS = 240
STRESS_SECONDS = int(os.environ.get('ATOLL_STRESS_SECONDS', '8'))
IDLE_SECONDS, IDLE_PERCENT = 10, 2

kernel = None
scratch = pathlib.Path(tempfile.mkdtemp(prefix='atoll-paravirt.'))


def vm(script, files=None, **config):
    image = guest.initramfs(scratch / 'initramfs', script, kernel, files=files)
    return Vm({'kernel': kernel.image, 'initrd': image, 'engine': 'dbt', 'append': 'console=ttyS0',
               **config})


def run(script, **config):
    """Runs SCRIPT to its end; returns what stood on the console, without carriage returns."""
    with vm(script, **config) as machine:
        machine.expect(r'SCRIPT-ENDED', BOOT_SECONDS)
        check(machine.finish() == guest.STATUS_POWEROFF, 'the exit status is not 0')
        return machine.text().replace('\r', '')


LOOK = '''
dmesg | sed 's/^/DMESG /'
grep -H . /sys/devices/system/cpu/vulnerabilities/*
grep -m1 ^flags /proc/cpuinfo
grep -H . /sys/devices/system/clocksource/clocksource0/current_clocksource
cat /proc/interrupts
'''


def test_features_are_used():
    text = run(LOOK, cpus=2)
    for line in ('Hypervisor detected: KVM', 'kvm-clock: Using msrs', 'KVM setup pv remote TLB flush',
                 'PV spinlocks enabled', 'setup PV IPIs', 'setup PV sched yield',
                 'TSC deadline timer available', 'x2apic enabled'):
        check(re.search(rf'DMESG .*{re.escape(line)}', text), f'the kernel does not say {line!r}')
    check('unchecked MSR access' not in text, 'the kernel met an MSR that is not there')
    flags = re.search(r'^flags.*', text, re.M).group(0).split()
    for flag in ('pcid', 'invpcid', 'x2apic', 'tsc_deadline_timer', 'constant_tsc', 'nonstop_tsc', 'arat',
                 'erms', 'hypervisor'):
        check(flag in flags, f'the kernel does not see {flag}')
    check(re.search(r'current_clocksource:(tsc|kvm-clock)', text), 'the clock source is a slow one')
    timer = re.search(r'^ *0: +(\d+) .*timer', text, re.M)
    check(not re.search(r'DMESG .*hpet', text), 'the kernel calibrates a timer that it does not need')
    check(timer is None or int(timer.group(1)) < 200, 'the timer chip goes on ticking')


def test_one_processor():
    """What needs others is left out by itself."""
    text = run(LOOK, cpus=1)
    check('kvm-clock: Using msrs' in text, 'no clock')
    check('setup PV IPIs' not in text, 'IPIs to nobody')


# What no vendor's model may leave on: each costs time at every system call, branch or task switch.
COSTLY = ('Vulnerable', 'Retpoline', 'LFENCE', 'PTI', 'Clear CPU buffers', 'SW loop', 'thunk', 'untrained',
          'Safe RET', 'IBPB: always', 'Speculative Store Bypass disabled', 'Microcode')


def check_mitigations(vendor):
    os.environ['ATOLL_CPU_VENDOR'] = vendor
    try:
        text = run(LOOK, cpus=2)
    finally:
        del os.environ['ATOLL_CPU_VENDOR']
    found = re.findall(r'^/sys/devices/system/cpu/vulnerabilities/(\w+):(.*)', text, re.M)
    check(len(found) > 10, f'the kernel tells little of vulnerabilities: {found}')
    for name, what in found:
        costly = [word for word in COSTLY if word in what]
        check(not costly, f'{vendor}: {name}: {what}')
    check('unchecked MSR access' not in text, f'{vendor}: the kernel met an MSR that is not there')
    check(re.search('DMESG.*Spectre V2 : Mitigation: Enhanced / Automatic IBRS', text),
          f'{vendor}: no enhanced IBRS')


def test_mitigations_intel():
    check_mitigations('intel')


def test_mitigations_amd():
    check_mitigations('amd')


def cpu_seconds(pid):
    """What the process has used; the scheduler's own count where there is one, which has no ticks."""
    total = 0
    for task in pathlib.Path(f'/proc/{pid}/task').iterdir():
        words = (task / 'stat').read_text().rsplit(')', 1)[1].split()
        total += (int(words[11]) + int(words[12])) / os.sysconf('SC_CLK_TCK')
    return total


def test_idle_costs_little():
    for cpus in (1, 2, 4):
        with vm('echo READY; read -r line', cpus=cpus) as machine:
            machine.expect(r'READY', BOOT_SECONDS)
            time.sleep(3)
            before, start = cpu_seconds(machine.process.pid), time.monotonic()
            time.sleep(IDLE_SECONDS)
            used = cpu_seconds(machine.process.pid) - before
            percent = 100 * used / (time.monotonic() - start)
            print(f'idle with {cpus} vCPUs: {percent:.1f} % of a processor')
            check(percent < IDLE_PERCENT, f'an idle guest with {cpus} vCPUs uses {percent:.1f} %')
            # And it wakes when there is something to do.
            asked = time.monotonic()
            machine.send('\n')
            machine.expect(r'SCRIPT-ENDED', 30)
            print(f'awake after {1000 * (time.monotonic() - asked):.1f} ms')
            machine.finish()


def test_stress():
    program = (guest.BUILD / 'tests' / 'system' / 'smp_stress').read_bytes()
    for cpus in (2, 4):
        script = f'/bin/stress {STRESS_SECONDS} || echo "STATUS $?"; grep -E "RES|CAL|TLB" /proc/interrupts'
        with vm(script, files={'bin/stress': program}, cpus=cpus) as machine:
            machine.expect(r'STRESS OK|STRESS FAILED.*\n|STATUS \d+', BOOT_SECONDS + 8 * STRESS_SECONDS)
            machine.expect(r'SCRIPT-ENDED', 60)
            text = machine.text()
            check('STRESS OK' in text, 'the processors do not agree')
            check(not re.search(r'BUG|WARNING|stall|lockup', text), 'the kernel complains')
            for line in re.findall(r'^(?:\w+: \d+ rounds|RES:.*|CAL:.*|TLB:.*)', text, re.M):
                print(f'  {cpus} vCPUs: {line.strip()}')
            machine.finish()


if __name__ == '__main__':
    if os.environ.get('ATOLL_TEST_ENGINE', 'dbt') not in ('dbt', 'auto'):
        guest.skip('these are features of the dbt engine')
    kernel = guest.Kernel()
    try:
        guest.run_tests(globals())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
