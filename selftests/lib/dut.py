# SPDX-License-Identifier: GPL-2.0
"""
The implementations: the reference, and xtjit, the device under test.  What they
are comes from the environment:

  XTJIT_DUT  shim    xtjit behind the shim, two variants: early stage off and on
             module  xtjit.ko in the place of ip_tables; its helper says whether
                     the early stage is on: one variant
             kernel  the kernel's own ip_tables: this checks the test
             record  nothing: what the reference does is kept for a later run
             traffic nothing: the packets that a test sends are kept for all runs
  XTJIT_REF  kernel  the kernel's own ip_tables
             oracle  what a run with XTJIT_DUT=record has kept (with module)
             nft     iptables-nft: the same extensions, run by nf_tables
"""
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import oracle
import proto

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get('XTJIT_BUILD', os.path.join(ROOT, 'build'))
PINS = '/sys/fs/bpf/xtjit'


class Kernel:
    """The kernel's own ip_tables."""
    name = 'kernel'
    real = False		# it is xtjit
    early = 'off'
    module = False		# it is xtjit's
    answers = False		# its answers may come a little later
    absent = False		# it has no routers
    exact = True		# as ip_tables on what is malformed, too
    recorder = False		# what it does is kept for a later run

    def __init__(self):
        self.cookies = []

    def result(self, key, fn):
        """What fn() returns for this implementation; @key names it within the test."""
        return fn(self)

    def command(self, tool):
        """The start of the command line that runs the legacy tool @tool."""
        return [tool]

    def env(self):
        return None

    def idle(self, ns):
        """Waits until what packets so far have led to in user space is done."""

    def close(self):
        pass


class Recorder(Kernel):
    recorder = True

    def result(self, key, fn):
        value = fn(self)
        oracle.keep(key, value)
        return value


class Recorded(Kernel):
    """All that can be had of it is result()."""
    absent = True

    def result(self, key, fn):
        return oracle.get(key)


class Nft(Kernel):
    name = 'nft'
    exact = False

    def command(self, tool):
        return [tool.replace('-legacy', '-nft')]


class Helper:
    """What both kinds of xtjit have: a helper that listens on self.socket."""
    real, absent, exact = True, False, True

    def result(self, key, fn):
        return fn(self)

    def xtjit(self, *args):
        return [os.path.join(BUILD, 'xtjit'), *args]

    def pid(self):
        """The helper, which listens on our socket; 0 if none does."""
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(self.base.socket)
            except OSError:
                return 0
            return struct.unpack('3i', s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]

    def kill(self, sig=signal.SIGKILL):
        """Signals the helper, if there is one: its process id, or 0."""
        pid = self.pid()
        try:
            pid and os.kill(pid, sig)
        except ProcessLookupError:
            return 0
        return pid

    def left(self):
        """What is pinned for the namespaces that it was used in."""
        return pins(self.cookies)


class Module(Helper):
    """xtjit.ko, which was loaded for us, and the one helper that it starts."""
    answers = False
    module = True

    def __init__(self):
        self.base = self
        self.early = os.environ.get('XTJIT_EARLY', 'off')
        self.name = f'early={self.early}'
        self.socket = '/run/xtjit/xtjitd.sock'
        self.cookies = []

    def variant(self, early='off', fallback='refuse'):
        return self

    def command(self, tool):
        return [tool]

    def env(self):
        return None

    def idle(self, ns):
        """Nothing is done in user space."""

    def close(self):
        pass


class Xtjit(Helper):
    """One helper behind a socket of its own; variants differ in their environment."""
    answers = True
    module = False

    def __init__(self, base=None, early='off', fallback='refuse', start=True):
        self.base = base or self
        self.early, self.fallback = early, fallback
        self.name = f'early={early}'
        self.cookies = base.cookies if base else []	# of namespaces it was used in
        if not base:
            self.dir = tempfile.mkdtemp(prefix='xtjit-test.')
            self.socket = os.path.join(self.dir, 'xtjitd.sock')
            if start:
                subprocess.run(self.xtjit('run', '--', 'true'), env=self.env(), check=True)

    def variant(self, early='off', fallback='refuse'):
        """The same helper, asked otherwise."""
        return Xtjit(self.base, early, fallback)

    def command(self, tool):
        return [os.path.join(BUILD, 'xtjit'), 'run', '--', tool]

    def env(self):
        return dict(os.environ, XTJIT_SOCKET=self.base.socket, XTJIT_EARLY=self.early,
                    XTJIT_FALLBACK=self.fallback,
                    XTJIT_HELPER=os.path.join(BUILD, 'xtjitd'))

    def idle(self, ns):
        """
        The helper's event loop has turned twice: what was in the ring buffer
        before, answers and log lines, is sent.  Its status is not told before the
        early stage is as it is to be.
        """
        for op, payload in ((proto.PROC, b'names'), (proto.STATUS, b'')):
            proto.exchange(self.base.socket, proto.header(op, len(payload)), payload, [ns.fd])

    def close(self):
        """
        Ends the helper, after the namespaces were deleted.  It should let go of
        them by itself; what it leaves behind goes by hand.
        """
        wait(lambda: not self.left(), 5)
        pid = self.kill(signal.SIGTERM)
        if pid and not wait(lambda: not alive(pid), 3):
            os.kill(pid, signal.SIGKILL)
        for p in self.left():
            shutil.rmtree(p, ignore_errors=True) if os.path.isdir(p) else os.unlink(p)
        unmount_below(self.base.dir)
        shutil.rmtree(self.base.dir, ignore_errors=True)


def wait(done, limit):
    """
    Until done() is true: then True; False after @limit seconds, in each of which it was
    asked ten times: a machine that is too busy for that has more time.
    """
    end, asked = time.monotonic() + limit, 0
    while not done():
        asked += 1
        if time.monotonic() > end and asked > 10 * limit:
            return False
        time.sleep(0.02)
    return True


def alive(pid):
    try:
        with open(f'/proc/{pid}/stat') as f:
            return f.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except (FileNotFoundError, ProcessLookupError):
        return False


def unmount_below(path):
    with open('/proc/mounts') as f:
        points = [line.split()[1] for line in f]
    for p in sorted(points, reverse=True):
        if p == path or p.startswith(path + '/'):
            subprocess.run(['umount', '-l', p], capture_output=True)


def pins(cookies):
    """Paths on bpffs that name one of the namespaces, the outermost ones."""
    names = {f'{c:x}' for c in cookies}
    out = []
    for top, dirs, files in os.walk(PINS):
        for n in list(dirs) + files:
            if n in names:
                out.append(os.path.join(top, n))
                if n in dirs:
                    dirs.remove(n)
    return out


def make(early=('off', 'on'), fallback='refuse'):
    """
    [reference, dut...]: what a differential test compares; with the shim, one DUT
    for each of @early.  Of a recording, only the reference.  close() the last one.
    """
    kind = os.environ.get('XTJIT_DUT', 'shim')
    if kind == 'record':
        return [Recorder()]
    default = 'oracle' if kind == 'module' else 'kernel'
    ref = dict(kernel=Kernel, oracle=Recorded, nft=Nft)[os.environ.get('XTJIT_REF', default)]()
    if kind == 'module':
        return [ref, Module()]
    if kind in ('kernel', 'traffic'):
        return [ref, Kernel()]
    if kind != 'shim':
        raise ValueError(f'XTJIT_DUT={kind}')
    base = Xtjit(None, early[0], fallback)
    return [ref, base] + [base.variant(e, fallback) for e in early[1:]]


def only_shim():
    """Ends a test that makes no sense but with the shim."""
    kind = os.environ.get('XTJIT_DUT', 'shim')
    if kind != 'shim':
        print('1..0 # SKIP about the shim, and tables that move between xtjit and ip_tables')
        sys.exit(4)
