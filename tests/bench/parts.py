"""The parts of make bench: each runs its rows once for everybody, and adds what was measured."""
import os
import pathlib
import select
import subprocess
import sys
import time

import stage

GUEST_SECONDS, SHELL_SECONDS, BOOT_SECONDS = 400, 120, 60
ORDER = ('native', 'ours', 'tcg')
CACHE_BYTES, CACHE_UNLIMITED = '32M', '1G'
PROMPT, ASKED, ANSWER = b'root@debian', b'echo $((6*7))ready\n', b'42ready'


def run_lines(words, seconds, last='DONE', started=None, **more):
    """Runs WORDS; yields (seconds since the start, line) until LAST, the end, or too much time."""
    start = time.monotonic()
    buffer = b''
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **more) as process:
        if started:
            started(process.pid)
        try:
            while True:
                left = start + seconds - time.monotonic()
                if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                    yield time.monotonic() - start, f'no end within {seconds} s'
                    return
                data = os.read(process.stdout.fileno(), 65536)
                now = time.monotonic() - start
                *lines, buffer = (buffer + data).split(b'\n')
                for line in lines:
                    text = line.decode(errors='replace').strip()
                    yield now, text
                    if last is not None and text.endswith(last):
                        end_orderly(process)
                        return
                if not data:
                    return
        finally:
            process.kill()


def end_orderly(process):
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        pass


def cpu_and_wait_ns(pid):
    """Processor time of a process's threads, and how long they waited for a processor."""
    ran = waited = 0
    for path in pathlib.Path(f'/proc/{pid}/task').glob('*/schedstat'):
        try:
            one, two, _ = path.read_text().split()
            ran, waited = ran + int(one), waited + int(two)
        except (OSError, ValueError):
            pass  # a thread that has just ended
    return ran, waited


USED = {}  # by process: what cpu_and_wait_ns said last


def waited_share():
    """How long the guests of this run waited for a processor, as a part of what they wanted."""
    ran, waited = (sum(one[i] for one in USED.values()) for i in (0, 1))
    return waited / (ran + waited) if ran else 0


class Watch:
    """Follows ROUND and TOOK lines: what each measured run of a job took of the processor. A guest's is
    its whole process's, as the host accounts for it; native jobs say it themselves."""

    def __init__(self, is_guest):
        self.is_guest, self.pid, self.at = is_guest, None, 0
        self.best, self.shares = {}, {}

    def started(self, pid):
        self.pid = pid

    def now(self):
        """Processor time so far; keeps the latest figures for load()."""
        USED[self.pid] = cpu_and_wait_ns(self.pid)
        return USED[self.pid][0]

    def share(self):
        """Of the time that the guest wanted a processor, the part in which it had one."""
        ran, waited = USED[self.pid]
        return ran / (ran + waited) if ran else 1

    def line(self, words):
        if words[:1] == ['ROUND'] and self.is_guest:
            self.at = self.now()
        elif words[:1] == ['TOOK'] and len(words) == 4:
            wall, cpu = float(words[2]), float(words[3])
            if self.is_guest:
                cpu = self.now() - self.at
            if cpu > 0 and cpu < self.best.get(words[1], cpu + 1):
                self.best[words[1]], self.shares[words[1]] = cpu, cpu / wall


def take_results(run, who, names, words, **more):
    """Runs WORDS and adds the RESULT lines of the rows in NAMES; a row without one failed."""
    missing, tail = set(names), []
    watch = Watch(who != 'native')
    for _, line in run_lines(words, GUEST_SECONDS, started=watch.started, **more):
        tail = (tail + [line])[-12:]
        watch.line(line.split())
        at = line.find('RESULT ')
        parts = line[at:].split()
        if at >= 0 and len(parts) == 5 and parts[1] in missing:
            row, value = run.rows[parts[1]], float(parts[3])
            if run.options.cpu_time and parts[1] in watch.best and row.unit != 'x':
                is_own = row.group == 'crypto'  # measured by itself, by the wall's clock
                value = value * watch.shares[parts[1]] if is_own else watch.best[parts[1]]
            row.add(who, value, None if row.group == 'system' else parts[4])
            missing.remove(parts[1])
    for name in missing:
        run.rows[name].failures.append(f'no result under {who}')
    if missing:
        print(f'{who}: nothing for {", ".join(sorted(missing))}; the last lines:\n  '
              + '\n  '.join(tail), file=sys.stderr)


def read_counters(path):
    """What atoll run --debug-stats wrote, summed over all vCPUs; empty when it wrote nothing."""
    values = {}
    if path.exists():
        for line in path.read_text().splitlines():
            _, name, value = line.split()
            values[name] = values.get(name, 0) + int(value)
        path.unlink()
    return values


def take_translation(run, values, share):
    """What translating an instruction took, but for the time in which others had the processor."""
    if values.get('jit.insns'):
        seconds = values['jit.translate_tsc'] / values['tsc_hz'] * share
        run.rows['translation'].add('ours', seconds * 1e9 / values['jit.insns'])
    else:
        run.rows['translation'].failures.append('no counters were written')


def part_boot(run, names):
    """The kernel to its init, and what the translation of its code took."""
    machine = run.stage(stage.Tiny).machine('micro.boot')
    stats = run.work / 'stats'
    for who, words in (('ours', machine.ours('--debug-stats', str(stats))), ('tcg', machine.tcg())):
        watch, ready = Watch(True), []
        for now, line in run_lines(words, BOOT_SECONDS, started=watch.started):
            if line.endswith('READY'):
                ran = watch.now()
                ready.append(ran if run.options.cpu_time else now * 1e9)
        if ready:
            run.rows['kernel-boot'].add(who, ready[0])
        else:
            run.rows['kernel-boot'].failures.append(f'{who}: the guest did not start')
        if who == 'ours' and 'translation' in names:
            take_translation(run, read_counters(stats), watch.share() if ready else 1)


def part_micro(run, names):
    tiny = run.stage(stage.Tiny)
    only = ','.join(names)
    machine = tiny.machine(f'micro.ms={run.options.ms} micro.only={only}')
    commands = {'native': [str(tiny.micro), '--ms', str(run.options.ms), '--only', only],
                'ours': machine.ours(), 'tcg': machine.tcg()}
    for who in ORDER:
        take_results(run, who, names, commands[who])


def pin_to_one():
    """As many processors as the guest has."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def run_jobs(run, names, rounds, cpus):
    system = run.stage(stage.System)
    only = ','.join(names)
    machine = system.machine(f'jobs.rounds={rounds} jobs.names={only}', cpus)
    native = [n for n in names if n != 'apt-install']
    words, folder = system.native(['./jobs', '--rounds', str(rounds), ','.join(native)])
    if native:
        take_results(run, 'native', native, words, cwd=folder,
                     preexec_fn=pin_to_one if cpus == 1 else None)
    take_results(run, 'ours', names, machine.ours())
    take_results(run, 'tcg', names, machine.tcg())


def part_jobs(run, names):
    run_jobs(run, names, run.options.job_rounds, 1)


def part_scaling(run, names):
    """The same work by one and by two processors; by processor time, two that hinder each other in
    nothing take as much together as one."""
    one, two, speed_up = (run.rows[n] for n in ('four-on-one', 'four-on-two', 'speed-up'))
    run_jobs(run, [one.name, two.name], 1, 2)
    for who in ORDER:
        if one.samples[who] and two.samples[who]:
            speed_up.add(who, one.samples[who][-1] / two.samples[who][-1]
                         * (2 if run.options.cpu_time else 1))


def time_to_shell_ns(words, is_cpu):
    """From the start of a machine until its console's shell has run a command; None: it did not."""
    start = time.monotonic()
    seen, asked = b'', False
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        try:
            while ANSWER not in seen:
                left = start + SHELL_SECONDS - time.monotonic()
                if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                    return None
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    return None
                seen += data
                if PROMPT in seen and not asked:
                    os.write(process.stdin.fileno(), ASKED)
                    asked = True
            wall_ns = (time.monotonic() - start) * 1e9
            return cpu_and_wait_ns(process.pid)[0] if is_cpu else wall_ns
        finally:
            process.kill()


def part_shell(run, names):
    machine = run.stage(stage.System).shell_machine(2)
    for who, words in (('ours', machine.ours()), ('tcg', machine.tcg())):
        took_ns = time_to_shell_ns(words, run.options.cpu_time)
        if took_ns is None:
            run.rows[names[0]].failures.append(f'{who}: no shell within {SHELL_SECONDS} s')
        else:
            run.rows[names[0]].add(who, took_ns)


def part_cache(run, names):
    """The same work with little room for code and with as much as it wants; the row is the ratio."""
    machine = run.stage(stage.System).machine('jobs.rounds=1 jobs.names=footprint')
    row, stats, took, room = run.rows[names[0]], run.work / 'stats', {}, {}
    for size in (CACHE_BYTES, CACHE_UNLIMITED):
        watch = Watch(True)
        for _, line in run_lines(machine.ours('--debug-stats', str(stats)), GUEST_SECONDS,
                                 started=watch.started,
                                 env={**os.environ, 'ATOLL_CODE_CACHE': size}):
            parts = line.split()
            watch.line(parts)
            if parts[:2] == ['RESULT', 'footprint']:
                took[size] = watch.best['footprint'] if run.options.cpu_time else float(parts[3])
                row.checks.setdefault(parts[4], set()).add(size)
        room[size] = read_counters(stats).get('jit.code_bytes_room', 0)
    if len(took) < 2:
        row.failures.append('no result')
    elif not 0 < room[CACHE_BYTES] < room[CACHE_UNLIMITED]:
        row.failures.append(f'ATOLL_CODE_CACHE did not set the room for code: {room}')
    else:
        row.add('ours', took[CACHE_BYTES] / took[CACHE_UNLIMITED])


PARTS = {'boot': part_boot, 'micro': part_micro, 'jobs': part_jobs, 'console': part_shell,
         'scaling': part_scaling, 'cache': part_cache}
