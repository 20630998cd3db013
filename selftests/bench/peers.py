# SPDX-License-Identifier: GPL-2.0
"""What is compared: each loads a shape's rules into a receiver, by the stock tools."""
import functools
import re
import subprocess
import time

import bpfsys


SETTLE_LIMIT = 6		# seconds; the early stage decides in 2 to 3


class Left(Exception):
    """Why a cell is left out."""


def timed(ns, cmd, text, limit, env=None):
    """Seconds that @cmd takes with @text as its input; Left if more than @limit."""
    start = time.perf_counter()
    with ns:
        p = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, env=env)
    try:
        _, err = p.communicate(text.encode(), limit)
    except subprocess.TimeoutExpired:
        p.kill()
        p.communicate()
        raise Left(f'loading takes more than {limit:g} s') from None
    if p.returncode:
        lines = [x.strip() for x in err.decode().splitlines() if x.strip()]
        raise Left(f'{cmd[0].rsplit("/", 1)[-1]}: {lines[0][:120] if lines else p.returncode}')
    return time.perf_counter() - start


class Peer:
    """@kind: which of a shape's texts."""

    def __init__(self, name, kind):
        self.name, self.kind = name, kind

    def text(self, shape):
        if self.kind in shape.why:
            raise Left(shape.why[self.kind])
        text = self.texts(shape)
        if text is None:
            raise Left('has no such thing')
        return text

    def load(self, receiver, text, limit):
        """Seconds."""
        raise NotImplementedError

    def settle(self, receiver, send, passes):
        """
        Calls send() until what is measured is what lasts: that the rules let in all that it
        sends (@passes), or drop it, may lead to a change.
        """


class Limit(Peer):
    """XDP drops without looking at the packet."""

    def texts(self, shape):
        return ''

    def load(self, receiver, text, limit):
        receiver.attach(bpfsys.XDP_DROP)
        return 0


class NoFirewall(Limit):
    def load(self, receiver, text, limit):
        return 0


class Pass(Limit):
    """XDP lets all pass: what is XDP's own cost, whatever the program does."""

    def load(self, receiver, text, limit):
        receiver.attach(bpfsys.XDP_PASS)
        return 0


class IpTables(Peer):
    """@impl: the kernel's own, or xtjit."""

    def __init__(self, name, impl, table='filter', part=None):
        super().__init__(name, table)
        self.impl, self.part = impl, part

    def texts(self, shape):
        if self.part:
            return getattr(shape, self.part)() if hasattr(shape, self.part) else None
        return shape.iptables(shape.table if self.kind == 'any table' else self.kind)

    def load(self, receiver, text, limit):
        cookie = receiver.ns.cookie
        if cookie not in self.impl.cookies:
            self.impl.cookies.append(cookie)
        return timed(receiver.ns, ['iptables-legacy-restore'], text, limit, env_of(self.impl))

    def settle(self, receiver, send, passes):
        """
        xtjit's early stage rests on a device where much passes and little is dropped, and is
        back when much is.  Where it does neither in time, that lasts, too.
        """
        end = time.monotonic() + SETTLE_LIMIT
        while self.early(receiver) not in (None, not passes) and time.monotonic() < end:
            pause = time.monotonic() + 0.2
            while time.monotonic() < pause:
                send()

    def early(self, receiver):
        """Whether the early stage is at work; None: it never is, or always."""
        if not self.impl.real or self.impl.early != 'on':
            return None
        text = receiver.ns.run(self.impl.xtjit('status'), env=self.impl.env()).stdout
        m = re.search('^early r0: (rests)?', text, re.M)
        return m and not m.group(1)


class Nft(Peer):
    def texts(self, shape):
        return getattr(shape, self.kind)()

    def load(self, receiver, text, limit):
        return timed(receiver.ns, ['nft', '-f', '-'], text, limit)


class IpSet(Peer):
    def texts(self, shape):
        return shape.ipset()

    def load(self, receiver, text, limit):
        sets, rules = text
        took = timed(receiver.ns, ['ipset', 'restore'], sets, limit)
        return took + timed(receiver.ns, ['iptables-legacy-restore'], rules, limit)


@functools.lru_cache(None)
def env_of(impl):
    """
    The environment that `xtjit run` gives to a script: its commands are started, and
    timed, as the script would.
    """
    if not impl.real:
        return None
    r = subprocess.run(impl.command('env')[:-1] + ['env', '-0'], env=impl.env(), check=True,
                       capture_output=True, text=True)
    return dict(x.split('=', 1) for x in r.stdout.split('\0') if '=' in x)


LIMIT, NONE, IPTABLES, RAW = 'XDP limit', 'no firewall', 'ip_tables filter', 'ip_tables raw'
NFT, NFT_SETS, IPSET = 'nft', 'nft sets', 'ipset'
EARLY, LATE, TEN = 'xtjit', 'xtjit early=off', 'xtjit, ten rules'


def peers(impls):
    """All of them. @impls: as dut.make() gives them."""
    ref, off, on = impls
    return [Limit(LIMIT, 'limit'), NoFirewall(NONE, 'none'),
            IpTables(EARLY, on, 'any table'), IpTables(LATE, off, 'any table'),
            IpTables(IPTABLES, ref), IpTables(RAW, ref, 'raw'),
            Nft(NFT, 'nft'), Nft(NFT_SETS, 'nft_sets'), IpSet(IPSET, 'ipset')]
