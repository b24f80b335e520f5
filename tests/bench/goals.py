"""The rows of make bench: what each is compared with, its goal, and the table that shows them.

A row holds samples by who made them ('native', 'ours', 'tcg'); the table shows medians and the ratios of
medians. "Met" is 'yes' only when every goal of the row is.
"""
import dataclasses
import math
import statistics


@dataclasses.dataclass
class Row:
    name: str
    part: str                    # which part of the run makes its samples
    group: str
    unit: str = 'ns'             # what the samples are divided by for the table
    native_most: float = None    # atoll / native, at most
    tcg_least: float = None      # TCG / atoll, at least
    ours_most: float = None      # atoll itself, in the unit, at most
    ours_least: float = None
    samples: dict = dataclasses.field(default_factory=lambda: {'native': [], 'ours': [], 'tcg': []})
    checks: dict = dataclasses.field(default_factory=dict)
    failures: list = dataclasses.field(default_factory=list)

    def add(self, who, value, check=None):
        self.samples[who].append(value)
        if check is not None:
            self.checks.setdefault(check, set()).add(who)

    def median(self, who):
        values = self.samples[who]
        return statistics.median(values) / UNITS[self.unit] if values else math.nan

    def slower(self):
        return math.nan if self.unit == 'x' else self.median('ours') / self.median('native')

    def faster(self):
        return math.nan if self.unit == 'x' else self.median('tcg') / self.median('ours')

    def is_empty(self):
        return not any(self.samples.values()) and not self.failures


UNITS = {'ns': 1, 'us': 1e3, 'ms': 1e6, 's': 1e9, 'x': 1}
INTEGER = ('crc', 'sort', 'chase', 'calls', 'indirect', 'coremark', 'sha256', 'lz', 'interp')
INTEGER_NATIVE_MOST = 2.0


def make_rows():
    rows = [Row('kernel-boot', 'boot', 'boot', 's', tcg_least=2.5, ours_most=0.9)]
    rows += [Row(name, 'micro', 'integer', tcg_least=1.0) for name in INTEGER]
    rows += [Row(name, 'jobs', 'programs', 'ms', native_most=3.0, tcg_least=4.0)
             for name in ('sqlite', 'python', 'gcc', 'perl')]
    rows += [Row(name, 'micro', 'vector', native_most=most, tcg_least=10.0)
             for name, most in (('fp-scalar', 3.0), ('fp-packed', 3.0), ('x87', 1.1), ('simd-int', 3.0),
                                ('memcpy', 1.1))]
    rows += [Row(name, 'jobs', 'crypto', unit, native_most=1.5)
             for name, unit in (('aes-gcm', 'ns'), ('openssl-sha256', 'ns'), ('rsa-sign', 'us'))]
    rows += [Row(name, 'micro', 'system', tcg_least=least)
             for name, least in (('getppid', 2.0), ('page-touch', 4.0), ('fork-wait', 4.0), ('exec', 6.0),
                                 ('pipe', 4.0))]
    rows += [Row(name, 'jobs', 'shell', 'ms', tcg_least=5.0)
             for name in ('sh-forks', 'hackbench', 'apt-install')]
    rows += [Row('four-on-one', 'scaling', 'scaling', 'ms'), Row('four-on-two', 'scaling', 'scaling', 'ms'),
             Row('speed-up', 'scaling', 'scaling', 'x', ours_least=1.8),
             Row('debian-shell', 'console', 'boot', 's', tcg_least=2.5),
             Row('translation', 'boot', 'translator', 'us', ours_most=0.15),
             Row('code-cache', 'cache', 'translator', 'x', ours_most=1.3)]
    return rows


def number(value):
    if math.isnan(value):
        return '-'
    return f'{value:.0f}' if value >= 100 else f'{value:.1f}' if value >= 10 else f'{value:.2f}'


def goal_text(mark, goal):
    return '' if goal is None else f'{mark} {goal:g}'


def is_met(row):
    """True or False; None when the row has no goal or a figure is missing."""
    pairs = [(row.native_most, lambda: row.slower() <= row.native_most),
             (row.tcg_least, lambda: row.faster() >= row.tcg_least),
             (row.ours_most, lambda: row.median('ours') <= row.ours_most),
             (row.ours_least, lambda: row.median('ours') >= row.ours_least)]
    if is_wrong(row):
        return False
    found = [test() for goal, test in pairs if goal is not None]
    needed = [row.median('ours')] + ([row.median('native')] if row.native_most else []) \
        + ([row.median('tcg')] if row.tcg_least else [])
    return None if not found or any(math.isnan(v) for v in needed) else all(found)


def is_wrong(row):
    """Whether somebody computed something else, or could not do it at all."""
    return len(row.checks) > 1 or bool(row.failures)


VERDICTS = {True: 'yes', False: 'NO', None: ''}


def show(rows):
    """Prints the table; returns how many rows are wrong (not: slow)."""
    print('\n| row | | native | atoll | goal | TCG | atoll / native | goal | TCG / atoll | goal | met |')
    print('|---|---|---|---|---|---|---|---|---|---|---|')
    shown = [row for row in rows if not row.is_empty()]
    for row in shown:
        own = goal_text('<=', row.ours_most) or goal_text('>=', row.ours_least)
        print(f'| {row.name} | {row.unit} | {number(row.median("native"))} | {number(row.median("ours"))} '
              f'| {own} | {number(row.median("tcg"))} | {number(row.slower())} '
              f'| {goal_text("<=", row.native_most)} | {number(row.faster())} '
              f'| {goal_text(">=", row.tcg_least)} | {VERDICTS[is_met(row)]} |')
    for group in dict.fromkeys(row.group for row in shown):
        show_geomean(group, [row for row in shown if row.group == group])
    met = [is_met(row) for row in shown]
    print(f'\n{met.count(True)} of {met.count(True) + met.count(False)} rows with a goal meet it')
    for row in shown:
        if len(row.checks) > 1:
            print(f'WRONG: {row.name}: ' + ', '.join(
                f'{"/".join(sorted(who))} computed {check}' for check, who in row.checks.items()))
        for text in dict.fromkeys(row.failures):
            print(f'FAILED: {row.name}: {text}')
    return sum(map(is_wrong, shown))


def show_geomean(group, rows):
    whole = [r for r in rows if not math.isnan(r.slower()) and not math.isnan(r.faster())]
    if len(whole) < 2:
        return
    slower = statistics.geometric_mean([r.slower() for r in whole])
    faster = statistics.geometric_mean([r.faster() for r in whole])
    goal, verdict = '', ''
    if group == 'integer' and len(whole) == len(INTEGER):
        goal, verdict = goal_text('<=', INTEGER_NATIVE_MOST), VERDICTS[slower <= INTEGER_NATIVE_MOST]
    print(f'| **{group} geomean** | | | | | | {slower:.2f} | {goal} | {faster:.2f} | | {verdict} |')
