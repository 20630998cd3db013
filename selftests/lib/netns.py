# SPDX-License-Identifier: GPL-2.0
"""Network namespaces: made, entered by one thread, configured, deleted."""
import ctypes
import os
import socket
import struct
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

CLONE_NEWNET = 0x40000000
MS_BIND, MNT_DETACH = 0x1000, 2
SO_NETNS_COOKIE = 71
NAMED = '/run/netns'
libc = ctypes.CDLL(None, use_errno=True)
_local = threading.local()
_serial = 0


def fail_text(cmd, r):
    return f"{' '.join(cmd)}: status {r.returncode}: {r.stderr.strip()[:400]}"


def run(cmd, check=True, **kw):
    """Runs @cmd, its output as text; RuntimeError if it fails and @check."""
    r = subprocess.run(cmd, capture_output=True, text=True, **kw)
    if check and r.returncode:
        raise RuntimeError(fail_text(cmd, r))
    return r


def _setns(fd):
    if libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), 'setns')


def unique(tag):
    """A name that no other running test has."""
    global _serial
    _serial += 1
    return f'xt{os.getpid()}-{_serial}-{tag}'


def _call(name, *args):
    if getattr(libc, name)(*args):
        raise OSError(ctypes.get_errno(), name)


def _make(name, pid):
    """As `ip netns add` does, which is asked only to set up the folder."""
    path = f'{NAMED}/{name}'
    if pid or not os.path.ismount(NAMED):
        run(['ip', 'netns', 'attach', name, str(pid)] if pid else ['ip', 'netns', 'add', name])
        return
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL, 0o444))

    def bind():
        _call('unshare', CLONE_NEWNET)
        _call('mount', b'/proc/thread-self/ns/net', path.encode(), b'none', MS_BIND, None)

    with ThreadPoolExecutor(1) as pool:		# in a thread that ends there
        pool.submit(bind).result()


class Netns:
    """
    `with ns:` moves this thread (and what it starts) into the namespace: a new one,
    or that of process @pid.
    """

    def __init__(self, tag, pid=0):
        self.name = unique(tag)
        _make(self.name, pid)
        self.fd = os.open(f'{NAMED}/{self.name}', os.O_RDONLY | os.O_CLOEXEC)
        with self, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            raw = s.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8)
        self.cookie = struct.unpack('Q', raw)[0]

    def __enter__(self):
        stack = _local.__dict__.setdefault('stack', [])
        stack.append(os.open('/proc/thread-self/ns/net', os.O_RDONLY | os.O_CLOEXEC))
        _setns(self.fd)
        return self

    def __exit__(self, *_):
        fd = _local.stack.pop()
        _setns(fd)
        os.close(fd)

    def run(self, cmd, check=True, **kw):
        with self:
            return run(cmd, check, **kw)

    def popen(self, cmd, **kw):
        with self:
            return subprocess.Popen(cmd, **kw)

    def socket(self, *args):
        with self:
            return socket.socket(*args)

    def ip(self, *lines):
        """Runs all @lines by one `ip -batch`."""
        self.run(['ip', '-batch', '-'], input='\n'.join(lines) + '\n')

    def sysctl(self, **settings):
        """net__ipv4__ip_forward=1; what this kernel lacks is passed over."""
        with self:
            for key, value in settings.items():
                try:
                    with open('/proc/sys/' + key.replace('__', '/'), 'w') as f:
                        f.write(str(value))
                except FileNotFoundError:
                    pass

    def devices(self):
        """{name: the 16 numbers of /proc/net/dev}"""
        with self, open('/proc/thread-self/net/dev') as f:
            lines = f.read().splitlines()[2:]
        out = {}
        for line in lines:
            name, numbers = line.split(':', 1)
            out[name.strip()] = [int(x) for x in numbers.split()]
        return out

    def delete(self):
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        path = f'{NAMED}/{self.name}'
        _call('umount2', path.encode(), MNT_DETACH)
        os.unlink(path)
