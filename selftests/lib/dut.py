# SPDX-License-Identifier: GPL-2.0
"""
The two implementations: the kernel's own ip_tables, and xtjit.

XTJIT_DUT=kernel in the environment lets the kernel stand in for xtjit: then a
differential test compares the kernel with itself, which checks the test.
"""
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

import proto

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get('XTJIT_BUILD', os.path.join(ROOT, 'build'))
PINS = '/sys/fs/bpf/xtjit'


class Kernel:
    name = 'kernel'
    real = False

    def __init__(self):
        self.cookies = []

    def command(self, tool):
        """The start of the command line that runs the legacy tool @tool."""
        return [tool]

    def env(self):
        return None

    def idle(self, ns):
        """Waits until what packets so far have led to in user space is done."""

    def close(self):
        pass


class Xtjit:
    """One helper behind a socket of its own; variants differ in their environment."""
    real = True

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

    def xtjit(self, *args):
        return [os.path.join(BUILD, 'xtjit'), *args]

    def env(self):
        return dict(os.environ, XTJIT_SOCKET=self.base.socket, XTJIT_EARLY=self.early,
                    XTJIT_FALLBACK=self.fallback,
                    XTJIT_HELPER=os.path.join(BUILD, 'xtjitd'))

    def pid(self):
        """The helper, which listens on our socket; 0 if none does."""
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(self.base.socket)
            except OSError:
                return 0
            return struct.unpack('3i', s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]

    def idle(self, ns):
        """
        The helper's event loop has turned twice: what was in the ring buffer
        before, answers and log lines, is sent.
        """
        for _ in range(2):
            proto.exchange(self.base.socket, proto.header(proto.PROC, 5), b'names', [ns.fd])

    def kill(self, sig=signal.SIGKILL):
        """Signals the helper, if there is one: its process id, or 0."""
        pid = self.pid()
        try:
            pid and os.kill(pid, sig)
        except ProcessLookupError:
            return 0
        return pid

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

    def left(self):
        """What is pinned for the namespaces that it was used in."""
        return pins(self.cookies)


def wait(done, limit):
    """Until done() is true: then True; False after @limit seconds."""
    end = time.monotonic() + limit
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def alive(pid):
    try:
        with open(f'/proc/{pid}/stat') as f:
            return f.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
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
    [reference, dut...]: what a differential test compares, one DUT for each of
    @early.  close() the last one.
    """
    if os.environ.get('XTJIT_DUT') == 'kernel':
        return [Kernel(), Kernel()]
    base = Xtjit(None, early[0], fallback)
    return [Kernel(), base] + [base.variant(e, fallback) for e in early[1:]]
