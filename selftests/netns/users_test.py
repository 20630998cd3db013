#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 120
"""
Rules about users (-m owner) where the network namespace belongs to a user namespace of
its own: who may set them, and whom they mean, as with the kernel's own ip_tables.
"""
import os
import signal
import socket
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import diff
import dut
import router
import tap
from netns import Netns, libc

# The user namespace's ids, the kernel's, how many: not in the same order, with gaps.
MAP = '0 0 1\n1000 70000 10\n1010 500 5\n2000 90000 1000\n'
# The kernel's ids of who sends.
SENDERS = (0, 1, 499, 500, 504, 505, 1000, 1010, 2000, 69999, 70000, 70009, 70010, 90000, 90999)

INSIDE, OUTSIDE = ('-U', '-n'), ('-n',)
LESS = 'setpriv --bounding-set -net_admin --inh-caps -net_admin'.split()
BELOW = 'unshare -U -r'.split()
# (what, writer, in what iptables runs): who may change rules at all.
PEERS = (
    ('inside', INSIDE, ()), ('inside, without the capability', INSIDE, LESS),
    ('in a user namespace below', INSIDE, BELOW),
    ('outside', OUTSIDE, ()), ('who made the user namespace', OUTSIDE, LESS),
    ('in another user namespace', OUTSIDE, BELOW),
)
# (writer, rule of OUTPUT): what is taken, and what is refused.  From outside in
# mangle: every change of filter sets its rules about users again.
RULES = (
    (INSIDE, '--uid-owner 0'), (INSIDE, '--uid-owner 1'), (INSIDE, '--uid-owner 70000'),
    (INSIDE, '--uid-owner 1000'), (INSIDE, '--uid-owner 1002-1009'),
    (INSIDE, '--uid-owner 1000-1010'),		# 70000-500
    (INSIDE, '--uid-owner 1009-2000'), (INSIDE, '--uid-owner 2000-2999'),
    (INSIDE, '--uid-owner 2000-3000'), (INSIDE, '! --uid-owner 1010-1014'),
    (INSIDE, '--gid-owner 1000-1009'), (INSIDE, '--gid-owner 1010 --suppl-groups'),
    (INSIDE, '--gid-owner 999'), (INSIDE, '! --gid-owner 0'),
    (INSIDE, '--uid-owner 1000-1009 --gid-owner 1000-1009'), (INSIDE, '--socket-exists'),
    (OUTSIDE, '--uid-owner 0'), (OUTSIDE, '--uid-owner 70000'), (OUTSIDE, '--gid-owner 0'),
    (OUTSIDE, '--socket-exists'), (OUTSIDE, '! --socket-exists'),
)
FOREIGN = '-p tcp -m recent --rcheck --name xtjit-test'.split()


class Realm:
    """A user namespace, and a network namespace that belongs to it."""

    def __init__(self, impl, v6):
        self.impl, self.v6 = impl, v6
        self.tool = 'ip6tables-legacy' if v6 else 'iptables-legacy'
        self.ns = None
        # a mount of ours, to be seen everywhere, is not made from in there
        self.init = subprocess.Popen(['unshare', '-U', '-n', 'sh', '-c', 'echo; exec sleep 600'],
                                     stdout=subprocess.PIPE)
        try:
            self.init.stdout.read(1)
            for which in ('uid_map', 'gid_map'):
                with open(f'/proc/{self.init.pid}/{which}', 'w') as f:
                    f.write(MAP)
            self.ns = Netns('u', self.init.pid)
            impl.cookies.append(self.ns.cookie)
            self.ns.ip('link set lo up')
        except Exception:
            self.close()
            raise

    def run(self, writer, cmd, check=True, **kw):
        return subprocess.run(['nsenter', *writer, '-t', str(self.init.pid), *cmd], check=check,
                              capture_output=True, text=True, env=self.impl.env(), **kw)

    def iptables(self, writer, *args, check=True, by=()):
        return self.run(writer, [*by, *self.impl.command(self.tool), *args], check)

    def save(self):
        return self.run(INSIDE, self.impl.command(self.tool + '-save') + ['-c']).stdout

    def in_kernel(self):
        return self.run(INSIDE, [self.tool, '-S']).stdout.count('-A ')

    def send(self):
        """A datagram by each user, by each group, and by one in the group besides."""
        for i in SENDERS:
            for uid, gid, groups in ((i, 0, ()), (1, i, ()), (i, i, ()), (1, 1, (i, 3))):
                self.send_as(uid, gid, groups)

    def send_as(self, uid, gid, groups):
        router.setgroups(groups)
        libc.setfsgid(gid)
        libc.setfsuid(uid)
        try:
            s = self.ns.socket(socket.AF_INET6 if self.v6 else socket.AF_INET, socket.SOCK_DGRAM)
        finally:
            libc.setfsuid(0)
            libc.setfsgid(0)
            router.setgroups(())
        with s:
            s.sendto(b'', ('::1' if self.v6 else '127.0.0.1', 9))

    def close(self):
        if self.ns:
            self.ns.delete()
        self.init.kill()
        self.init.wait()
        self.init.stdout.close()


def outcome(r):
    return r.returncode, r.stdout, r.stderr


class Play:
    """
    What one implementation makes of it: .same, (what, value) pairs that are the
    same for all; .facts, (good, what) pairs about xtjit alone.
    """

    def __init__(self, impl, v6):
        self.impl, self.same, self.facts = impl, [], []
        self.realm = Realm(impl, v6)
        try:
            self.peers()
            self.rules()
            if impl.real:
                self.restart()
            self.realm.iptables(INSIDE, '-I', 'OUTPUT', '-m', 'owner', '--uid-owner', '1003')
            self.counters('by another helper')
            if os.environ.get('XTJIT_DUT', 'shim') in ('shim', 'kernel'):
                self.moves()
        finally:
            self.realm.close()

    def peers(self):
        for what, writer, by in PEERS:
            for args in ('-S FORWARD', '-A FORWARD -p tcp'):
                self.outcome(f'{what}, {args}', writer, *args.split(), by=by)
        ns = Netns('p')			# of the first user namespace
        self.impl.cookies.append(ns.cookie)
        try:
            for by in ((), LESS, BELOW):
                for args in ('-S FORWARD', '-A FORWARD -p tcp'):
                    r = ns.run([*by, *self.impl.command(self.realm.tool), *args.split()],
                               env=self.impl.env(), check=False)
                    self.same.append((f'{" ".join(by)} {args}', outcome(r)))
        finally:
            ns.delete()

    def outcome(self, what, writer, *args, by=()):
        r = self.realm.iptables(writer, *args, check=False, by=by)
        self.same.append((what, outcome(r)))

    def counters(self, what):
        self.realm.send()
        self.same.append((what, self.realm.save()))

    def fact(self, good, what):
        if self.impl.real:
            self.facts.append((bool(good), what))

    def rules(self):
        for writer, rule in RULES:
            self.outcome(f'{"in" if writer == INSIDE else "out"}side, {rule}', writer,
                         '-t', 'filter' if writer == INSIDE else 'mangle',
                         '-A', 'OUTPUT', '-m', 'owner', *rule.split())
        self.counters('whom they mean')

    def restart(self):
        """A helper that takes over has nobody to ask who set the rules."""
        impl = self.impl
        pid = impl.kill(signal.SIGKILL)
        dut.wait(lambda: not dut.alive(pid), 5)
        if not impl.module:		# which starts it by itself
            subprocess.run(impl.xtjit('run', '--', 'true'), env=impl.env(), check=True)
        self.realm.save()
        self.fact(impl.pid() not in (0, pid), 'another helper')

    def moves(self):
        """What goes to ip_tables is set there as by the same users."""
        realm = self.realm
        first = realm.in_kernel()
        self.outcome('refused by ip_tables', OUTSIDE, '-t', 'raw', '-A', 'OUTPUT',
                     *'-m owner --uid-owner 0'.split(), *FOREIGN)
        realm.iptables(INSIDE, '-A', 'INPUT', *FOREIGN)
        self.fact(realm.in_kernel() > 10 and not first, 'in ip_tables')
        self.counters('counters in ip_tables')
        self.outcome('from outside, of a table in ip_tables', OUTSIDE, '-A', 'OUTPUT', '-p', 'tcp')
        realm.iptables(INSIDE, '-D', 'INPUT', *FOREIGN)
        self.fact(realm.in_kernel() == 0, 'back')
        self.counters('counters at the end')
        for what, there in (('release', True), ('adopt', False)):
            if self.impl.real:
                realm.run(OUTSIDE, self.impl.xtjit(what, 'filter'))
            self.fact(bool(realm.in_kernel()) == there, what)
            self.counters(f'counters after {what}')


def test(t, impls, v6):
    label = f'v{6 if v6 else 4}'

    def play(impl):
        p = Play(impl, v6)
        return p.same, p.facts

    (want, _), *rest = [m.result(v6, play) for m in impls]
    for same, facts in rest:
        for good, what in facts:
            t.ok(good, f'{label}: {what}')
        for (what, a), (_, b) in zip(want, same):
            if isinstance(a, tuple):
                t.eq(b, a, f'{label}: {what}: status {a[0]}')
            else:
                bad = diff.compare_save(a, b)
                n, of = diff.hits(a)
                t.ok(not bad and n, f'{label}: {what} ({n}/{of} rules hit)', '\n'.join(bad))
        t.eq(len(same), len(want), f'{label}: as many steps')


def main():
    t = tap.Tap()
    if subprocess.run(['unshare', '-U', '-n', 'true'], capture_output=True).returncode:
        t.skip('users', 'no user namespaces here')
        return t.done()
    impls = dut.make(early=('on',), fallback='kernel')
    try:
        for v6 in (False, True):
            t.guard('users', test, t, impls, v6)
    finally:
        impls[-1].close()
    return t.done()


sys.exit(main())
