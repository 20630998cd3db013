# SPDX-License-Identifier: GPL-2.0
"""Runs one TAP program: Suite(command, limit, logs).run(), then what came of it."""
import os
import re
import signal
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RESULT = re.compile(r'^(not )?ok\b\s*(\d*)\s*(.*)')


def limit_of(path, default):
    with open(path, 'rb') as f:
        m = re.search(rb'^# timeout: (\d+)', f.read(1000), re.M)
    return int(m.group(1)) if m else default


def end(process):
    """SIGTERM first, so that it can clean up; then its whole session."""
    for sig, patience in ((signal.SIGTERM, 15), (signal.SIGKILL, 5)):
        try:
            process.send_signal(sig) if sig == signal.SIGTERM else os.killpg(process.pid, sig)
            process.wait(patience)
            return
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


class Suite:
    """@command: a program's path, maybe arguments, in one string."""

    def __init__(self, command, limit, logs, env=None):
        path, *args = command.split()
        self.command, self.limit, self.env = [os.path.abspath(path)] + args, limit, env
        name = os.path.splitext(os.path.relpath(self.command[0], ROOT))[0]
        self.name = ' '.join([re.sub(r'^(selftests|build)/', '', name)] + args)
        self.log = os.path.join(logs, re.sub(r'[/ ]', '-', self.name) + '.log')
        self.passed = self.failed = self.skipped = 0
        self.seconds = 0
        self.lines = []		# what to show
        self.process = None

    def run(self):
        self.limit = limit_of(self.command[0], self.limit)
        start = time.monotonic()
        with open(self.log, 'w') as log:
            p = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, env=self.env,
                                 stderr=subprocess.STDOUT, cwd=ROOT, start_new_session=True)
            self.process = p
            try:
                status = p.wait(self.limit)
            except subprocess.TimeoutExpired:
                end(p)
                status = None
            except BaseException:
                end(p)
                raise
        try:			# what it left running in its session
            os.killpg(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.seconds = time.monotonic() - start
        self.read(status)

    def stop(self):
        """If it is running: from another thread."""
        if self.process and self.process.poll() is None:
            end(self.process)

    def counts(self):
        return (f'{self.passed:5} passed {self.failed:4} failed {self.skipped:4} skipped '
                f'{self.seconds:7.1f} s')

    def fail(self, text):
        self.failed += 1
        self.lines.append(f'not ok - {text}')

    def read(self, status):
        plan, bad = None, False
        with open(self.log, errors='replace') as f:
            for line in map(str.rstrip, f):
                m, p = RESULT.match(line), re.match(r'^1\.\.(\d+)\s*(# *SKIP\b.*)?', line, re.I)
                if m and re.search(r'# *SKIP\b', m.group(3), re.I):
                    self.skipped += 1
                    self.lines.append(line)
                elif m:
                    bad = bool(m.group(1))
                    self.failed += bad
                    self.passed += not bad
                    if bad:
                        self.lines.append(line)
                elif p:
                    plan = int(p.group(1))
                    self.skipped += bool(p.group(2))
                elif line.startswith('# note: '):
                    self.lines.append(line[8:])
                elif bad and line.startswith('#'):
                    self.lines.append('  ' + line[:300])
        self.judge(status, plan)

    def judge(self, status, plan):
        seen = self.passed + self.failed + self.skipped
        if status is None:
            self.fail(f'{self.name}: not done after {self.limit} s')
        elif status == 4 and not self.failed:
            self.skipped += not self.skipped
        elif status and not self.failed:
            self.fail(f'{self.name}: exit status {status} (see {self.log})')
        elif plan is None:
            self.fail(f'{self.name}: it printed no plan')
        elif plan and plan != seen:
            self.fail(f'{self.name}: {plan} tests planned, {seen} run')
