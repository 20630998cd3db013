#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# timeout: 900
"""
500 updates while packets flow and the helper is killed at random moments: no
packet comes through that no complete ruleset lets through, none is lost, no count.
"""
import os
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '../lib'))
import diff
import dut
import stream
import tap

# Rules enough for a group, which most updates change; the one that drops BAD is in it.
MANY = ''.join(f'-A part -p {p} -m {p} --dport {30000 + i} -j DROP\n' for i in range(20)
               for p in ('tcp', 'udp'))
DROPS = f'-A part -p udp -m udp --dport {stream.BAD} -j DROP'
# In each of the rulesets GOOD goes through and BAD does not, each by another rule.
BASE = stream.RULES.replace('COMMIT', MANY + 'COMMIT') + f'''*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -p udp -m udp --dport {stream.GOOD}
-A PREROUTING -p udp -m udp --dport {stream.BAD}
COMMIT
'''
UPDATES = int(os.environ.get('XTJIT_UPDATES', '500'))
PPS = int(os.environ.get('XTJIT_PPS', '10000'))
PAUSES = [float(s) for s in os.environ.get('XTJIT_PAUSES', '0.01,0.3').split(',')]	# of the killer


class Killer(threading.Thread):
    """
    Kills the helper at random moments, twice in one update at most: of a third time the
    module takes the request for the reason.
    """

    def __init__(self, impl, rnd):
        super().__init__()
        self.impl, self.rnd, self.done, self.kills = impl, rnd, threading.Event(), 0
        self.lives = 2		# in this update

    def run(self):
        while not self.done.wait(self.rnd.uniform(*PAUSES)):
            if self.lives > 0 and self.impl.kill(signal.SIGKILL):
                self.lives -= 1
                self.kills += 1

    def stop(self):
        self.done.set()
        self.join()


def updates(rnd):
    """Commands that keep the promise above; also the model of the chain part, and of raw."""
    extra, n = [], 0
    while True:
        n += 1
        x = rnd.random()
        if x < 0.3 or not extra:
            extra.append(n)
            yield ['-A', 'part', '-p', 'tcp', '--dport', str(n), '-j', 'DROP']
        elif x < 0.5:
            extra.insert(0, n)
            yield ['-I', 'part', '1', '-p', 'tcp', '--dport', str(n), '-j', 'DROP']
        elif x < 0.75:
            yield ['-D', 'part', '-p', 'tcp', '--dport', str(extra.pop(rnd.randrange(len(extra)))),
                   '-j', 'DROP']
        elif x < 0.85:
            yield ['-P', 'INPUT', rnd.choice(('ACCEPT', 'DROP'))]
        elif x < 0.95:
            yield ['-t', 'raw', rnd.choice(('-A', '-I')), 'OUTPUT', '-p', 'tcp', '--dport', str(n)]
        else:
            yield ['-t', 'raw', '-F', 'OUTPUT']


def check(t, s, n, what):
    def read():
        got = [stream.counted(n, chain) for chain in ('FORWARD', 'PREROUTING')]
        dropped = stream.rule_packets(n.save(), DROPS)
        return got[0] if got[0] == got[1] and got[0][1] == dropped else (*got, dropped)
    s.check(t, what, read)


def run(t, impl, seed, kill):
    """UPDATES updates under traffic; the text of the rules without counters."""
    killer = Killer(impl, random.Random(f'{seed}kill'))
    label = f'{impl.name}{" killed" if kill else ""}'
    with stream.running(impl, False, BASE, pps=PPS) as (n, s):
        if kill:
            killer.start()
        try:
            failed = update(t, n, s, seed, label, killer)
        finally:
            if kill:
                killer.stop()
        if kill:
            t.ok(killer.kills > 0, f'{label}: the helper was killed {killer.kills} times')
        t.ok(not failed, f'{label}: every update succeeds', '\n'.join(failed[:10]))
        time.sleep(0.2)
        check(t, s, n, f'{label}: counters in the end')
        return diff.tables(n.save())


def update(t, n, s, seed, label, killer):
    """Texts of the updates that failed."""
    gen, failed = updates(random.Random(seed)), []
    for i in range(UPDATES):
        args = next(gen)
        killer.lives = 2
        r = n.firewall('-w', '20', *args, check=False)
        if r.returncode:
            failed.append(f'{i}: {args}: {r.returncode} {r.stderr.strip()[:200]}')
        if i % 100 == 99:
            check(t, s, n, f'{label}: counters after {i + 1} updates')
    return failed


def main():
    t = tap.Tap()
    oracle = 'XTJIT_ORACLE' in os.environ	# the same updates in both runs
    now = 4711 if oracle else int(time.time()) % 1000000
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else now
    t.diag(f'seed {seed}: again by {sys.argv[0]} {seed}')
    impls = dut.make(fallback='refuse')
    try:
        ref = t.guard('reference', impls[0].result, seed,
                      lambda m: run(t, m, seed, False))
        for impl in impls[1:]:
            got = t.guard(impl.name, run, t, impl, seed, impl.real)
            if ref and got:
                a, b = ({k: diff.uncounted(v) for k, v in x.items()} for x in (ref, got))
                t.eq(b, a, f'{impl.name}: the rules are those that the updates make')
    finally:
        impls[-1].close()
    return t.done()


sys.exit(main())
