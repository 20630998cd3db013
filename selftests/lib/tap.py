# SPDX-License-Identifier: GPL-2.0
"""TAP output of one test program: Tap(), ok() for each test, exit(t.done())."""
import signal
import sys
import traceback


class Tap:
    def __init__(self):
        self.tests = self.failures = 0
        # The runner ends a test by SIGTERM: leave through the finally blocks.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def ok(self, good, name, why=''):
        self.tests += 1
        self.failures += not good
        name = name.replace('#', '\\#')
        print(f"{'ok' if good else 'not ok'} {self.tests} - {name}", flush=True)
        if not good and why:
            self.diag(why)
        return bool(good)

    def eq(self, got, want, name):
        return self.ok(got == want, name, f'got  {got!r}\nwant {want!r}')

    def skip(self, name, why):
        self.tests += 1
        print(f'ok {self.tests} - {name} # SKIP {why}', flush=True)

    def diag(self, text):
        for line in str(text).splitlines():
            print(f'# {line}', flush=True)

    def guard(self, name, fn, *args):
        """fn(), whose exception is a failure of the test @name."""
        try:
            return fn(*args)
        except Exception:
            self.ok(False, name, traceback.format_exc())
            return None

    def done(self):
        print(f'1..{self.tests}', flush=True)
        return 1 if self.failures else 0
