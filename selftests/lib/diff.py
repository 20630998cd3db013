# SPDX-License-Identifier: GPL-2.0
"""
The differential test: one ruleset and the same packets on several routers, the
first of which is the reference (dut.make).  Equal must be: the text of
`iptables-save -c`, the frames that come out, and the errno of each local send.
"""
import functools
import os
import pickle
import queue
import random
import re
import struct
import threading
from collections import Counter
from hashlib import sha256

import dut
import oracle
import pkt
from consts import Consts
from frames import Frames
from router import Router

# Extensions whose outcome depends on the clock or on chance.
CHANCE = re.compile(r'-m (limit|hashlimit|recent|statistic|time|rateest)\b')
# Those with a certain outcome: what own rulesets use.
CERTAIN = re.compile(r'--(limit|hashlimit-\w+) \d+/(day|hour)|--mode nth|--probability 1\.0|'
                     r'-m recent (?!.*--seconds)|--timestart 00:00:00 --timestop 23:59:59')
# Of entries not yet confirmed it depends on jiffies' sign, as nf_ct_expires() has it:
# below 0 in a kernel's first five minutes, maybe not any more when it is compared.
UPTIME = re.compile(r'^-A .*--ctexpire .*\n', re.M)
REPEATS = 3		# of a case that differs, by the kernel against itself


CHAINS = {'raw': ('PREROUTING', 'OUTPUT'),
          'mangle': ('PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'),
          'nat': ('PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'),
          'filter': ('INPUT', 'FORWARD', 'OUTPUT'), 'security': ('INPUT', 'FORWARD', 'OUTPUT')}


class Case:
    """A ruleset in iptables-save format, and how to run it."""

    def __init__(self, name, text, v6, pre='', packets=1000, local=40, seed=1):
        self.name, self.v6, self.pre, self.packets, self.local = name, v6, pre, packets, local
        if oracle.in_use():
            text = UPTIME.sub('', text)
        self.text = complete(zeroed(text))
        m = re.search(r'^# fallback: (\w+)', text, re.M)
        self.fallback = m.group(1) if m else ''
        m = re.search(r'^# early: (.+)', text, re.M)
        self.early = m.group(1) if m else ''	# what `xtjit status` must say of it
        self.counted = all(CERTAIN.search(line) for line in text.splitlines()
                           if CHANCE.search(line))
        self.nat = bool(re.search(r'-j (MASQUERADE|SNAT|DNAT|REDIRECT|NETMAP)|type nat', text))
        self.consts = Consts(self.text, v6)
        self.seed = f'{seed}:{name}'
        self.left = False
        self.tame = False	# nothing malformed among the packets

    @classmethod
    def file(cls, path, **kw):
        with open(path, errors='replace') as f:
            text = f.read()
        pre = path + '.pre.sh'
        own = re.findall(r'^# pre: (.*)', text, re.M)
        if os.path.exists(pre):
            with open(pre) as f:
                own.append(f.read())
        return cls(os.path.basename(path), text, path.endswith('.v6'), '\n'.join(own), **kw)

    def router(self, tag, impl):
        """
        None if the implementation needs none.  A ruleset may say "# fallback:
        kernel": it need not be compiled.
        """
        if impl.absent:
            return None
        if impl.real and self.fallback:
            impl = impl.variant(impl.early, self.fallback)
        r = Router(tag, impl, self.v6, self.consts.ifs, self.consts.hosts(),
                   patient='REJECT' in self.text)
        if self.pre:
            r.ns.run(['sh', '-c', self.pre], check=False)
        return r

    def traffic(self):
        """(port, frame) pairs, local sends: the same at every call."""
        try:
            with open(self.kept(), 'rb') as f:
                return pickle.load(f)
        except FileNotFoundError:
            return self.make_traffic()

    def make_traffic(self):
        f = Frames(self.consts, random.Random(self.seed), self.tame)
        return f.make(self.packets), f.local_ops(self.local)

    def kept(self):
        """The file that may have the traffic: to make it takes long in a VM."""
        what = repr((self.text, self.seed, self.packets, self.local, self.tame, self.consts.ifs))
        return os.path.join(dut.BUILD, 'traffic', sha256(what.encode() + sources()).hexdigest())

    def keep_traffic(self):
        path = self.kept()
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.exists(path):
            with open(path + '.part', 'wb') as f:
                pickle.dump(self.make_traffic(), f)
            os.rename(path + '.part', path)


@functools.cache
def sources():
    """Of what makes frames."""
    out = b''
    for name in ('consts.py', 'frames.py', 'pkt.py'):
        with open(os.path.join(os.path.dirname(__file__), name), 'rb') as f:
            out += f.read()
    return out


def zeroed(text):
    """Without counters and comments; `[1:2] -A` and `:INPUT DROP [1:2]` start from 0."""
    out = []
    for line in text.splitlines():
        line = re.sub(r'^\[\d+:\d+\]\s*', '', line.rstrip())
        if line.startswith(':'):
            line = re.sub(r'\[\d+:\d+\]\s*$', '[0:0]', line)
        out.append(line)
    return '\n'.join(out) + '\n'


def complete(text):
    """With all built-in chains: iptables-nft makes but those that are named."""
    out, seen = [], set()
    for line in text.splitlines(True):
        out.append(line)
        table = line[1:].strip()
        if line[0] == '*' and table not in seen:
            seen.add(table)
            block = text[text.index(line):].split('\nCOMMIT', 1)[0]
            out += [f':{c} ACCEPT [0:0]\n' for c in CHAINS.get(table, ())
                    if f'\n:{c} ' not in block]
    return ''.join(out)


def tables(text):
    """iptables-save's text as {table: lines}, in order, without comments."""
    out, cur = {}, []
    for line in text.splitlines():
        if line.startswith('*'):
            cur = out.setdefault(line, [])
        elif line and not line.startswith('#') and line != 'COMMIT':
            cur.append(line)
    return out


def uncounted(lines):
    return [re.sub(r'\[\d+:\d+\]', '', line).strip() for line in lines]


def compare_save(ref, dut, counted=True):
    """Differences of two -save -c texts, as text lines."""
    a, b = tables(ref), tables(dut)
    out = [f'{t}: only in one of them' for t in a.keys() ^ b.keys()]
    for t in a:
        x, y = a[t], b.get(t, [])
        if not counted:
            x, y = uncounted(x), uncounted(y)
        if len(x) != len(y) and t in b:
            out.append(f'{t}: {len(x)} and {len(y)} lines')
        out += [f'{t} ref {p}\n{t} dut {q}' for p, q in zip(x, y) if p != q]
    return out


def hits(text):
    """(rules with packets, rules) of a -save -c text."""
    rules = [line for lines in tables(text).values() for line in lines if line[0] == '[']
    return sum(not r.startswith('[0:') for r in rules), len(rules)


def normal(frame):
    """
    A frame without what the kernel makes up: ids of what it has (re)fragmented or
    sent itself, checksums that are right, the time in a timestamp reply.
    """
    if frame[12:14] == b'\x86\xdd' and len(frame) >= 54:
        if frame[20] == pkt.FRAGMENT and len(frame) >= 62:
            return frame[:58] + b'\0' * 4 + frame[62:]
        if frame[20] == pkt.TCP:
            return frame[:54] + tcp_unsummed(True, frame[22:38], frame[38:54], frame[54:])
        return frame
    if frame[12:14] != b'\x08\x00' or len(frame) < 34 or frame[14] >> 4 != 4:
        return frame
    ihl = (frame[14] & 15) * 4
    head, rest = frame[14:14 + ihl], frame[14 + ihl:]
    if len(head) < 20 or pkt.checksum(head):
        return frame
    off = struct.unpack_from('!H', head, 6)[0]
    ident = head[4:6] if off & 0x3fff else b'\0\0'
    if head[9] == pkt.ICMP and rest[:1] == b'\x0e' and not pkt.checksum(rest):
        rest = rest[:2] + b'\0\0' + rest[4:12] + b'\0' * 8 + rest[20:]
    if head[9] == pkt.TCP and not off & 0x3fff:
        rest = tcp_unsummed(False, head[12:16], head[16:20], rest)
    return frame[:18] + ident + head[6:10] + b'\0\0' + head[12:] + rest


def tcp_unsummed(v6, src, dst, seg):
    """Without the checksum if it is right, or left to the device (CHECKSUM_PARTIAL)."""
    pseudo = pkt.Builder(v6).pseudo(src, dst, pkt.TCP, len(seg))
    if len(seg) < 20:
        return seg
    partial = pkt.checksum(pseudo) ^ 0xffff
    if pkt.checksum(pseudo + seg) and struct.unpack_from('!H', seg, 16)[0] != partial:
        return seg
    return seg[:16] + b'\0\0' + seg[18:]


def compare_frames(case, ref, dut):
    """As multisets.  Where nat picks ports by chance, only their number counts."""
    kind = pkt.Builder(case.v6).ethertype.to_bytes(2, 'big')
    key = (lambda f: b'') if case.nat else normal
    a, b = (Counter((port, key(f)) for port, f in x if f[12:14] == kind) for x in (ref, dut))
    out = []
    for side, only in (('ref', a - b), ('dut', b - a)):
        for (port, f), n in list(only.items())[:4]:
            out.append(f'only {side} sent {n} of these from port {port}: {f[:110].hex()}')
        if len(only) > 4:
            out.append(f'only {side}: {len(only) - 4} more kinds of frames')
    return out


class Outcome:
    """What one router did with a case."""

    def __init__(self, case, router, frames, ops):
        self.refused = ''
        r = router.restore(case.text, check=False)
        if r.returncode:
            self.refused = r.stderr.strip() or f'status {r.returncode}'
            return
        router.inject(frames)
        self.errnos = router.local(ops)
        router.settle()
        self.early = early_stage(router)
        self.save = router.save()
        self.compiled = not shim(router.impl) or '\n-A' not in router.kernel_rules()
        self.frames = router.captured()


def shim(impl):
    return impl.real and not impl.module


def early_stage(router):
    """What `xtjit status` says of the early stage; '' if it is off."""
    impl = router.impl
    if not impl.real or impl.early == 'off':
        return ''
    text = router.ns.run(impl.xtjit('status'), env=impl.env()).stdout
    m = re.search(f"^early {'ip6' if router.v6 else 'ip'}: (.*)", text, re.M)
    return m.group(1) if m else ''


def compare(case, ref, dut):
    """Differences as a list of texts; [] if there are none."""
    if dut.refused:
        return [f'refused: {dut.refused[:600]}']
    out = compare_save(ref.save, dut.save, case.counted)
    if dut.early and dut.early != (case.early or dut.early):
        out.append(f'early stage: {dut.early}, not: {case.early}')
    elif 'code generation' in dut.early or 'verifier' in dut.early or 'load' in dut.early:
        out.append(f'early stage: {dut.early}')
    if case.counted:
        out += compare_frames(case, ref.frames, dut.frames)
        out += [f'local send {i}: errno {a}, {b}'
                for i, (a, b) in enumerate(zip(ref.errnos, dut.errnos)) if a != b]
    return out


def reference(case, impl, router):
    """The traffic, and what the reference does with it."""
    def run(_):
        traffic = case.traffic()
        got = Outcome(case, router, *traffic)
        return traffic, confirmed(case, impl, traffic, got) if impl.recorder else got
    return impl.result(case.name, run)


def confirmed(case, impl, traffic, got):
    """
    What @impl does with it twice, @got if possible: a later run that is compared with
    it cannot ask whether the reference differs from itself.
    """
    seen = [got]
    while not got.refused and len(seen) < 2 + REPEATS:
        router = case.router(f'{case.name[:3]}c', impl)
        try:
            again = Outcome(case, router, *traffic)
        finally:
            close([router])
        same = next((o for o in seen if not compare(case, o, again)), None)
        if same:
            return same
        seen.append(again)
    return got


def once_more(case, impls):
    """The differences of a second run, in routers of its own."""
    routers = []
    try:
        routers = [case.router(f'{case.name[:3]}k{i}', m) for i, m in enumerate(impls)]
        traffic, ref = reference(case, impls[0], routers[0])
        return compare(case, ref, Outcome(case, routers[1], *traffic))
    finally:
        close(routers)


def close(routers):
    for r in filter(None, routers):
        r.close()


def unsteady(case, ref):
    """What the reference does differently from itself in @case, tried @REPEATS times; or []."""
    for _ in range(REPEATS):
        found = once_more(case, (ref, ref))
        if found:
            return found
    return []


def judge(tap, case, name, found, impls):
    """
    A difference is a failure, unless the reference differs from itself, too, or it
    goes away (which CPU is first is chance): REPEATS times in a row, and is noted;
    where there are but the reference's results of before: once.
    """
    own = []
    if found and not impls[0].absent:
        own = unsteady(case, impls[0])
        if not own and not any(once_more(case, impls) for _ in range(REPEATS)):
            tap.diag(f'note: {name}: differed in one of {REPEATS + 1} runs: {found[:2]}')
            found = []
    for _ in range(2):
        if found and impls[0].absent:
            tap.diag(f'{case.name} {impls[1].name}: once more; {found[:2]}')
            found = once_more(case, impls)
    if own:
        tap.diag(f'{len(found)} differences: {found[:2]}')
        tap.skip(name, f'the kernel differs from itself: {own[0].splitlines()[-1][:200]}')
    else:
        tap.ok(not found, name, '\n'.join([f'{len(found)} differences'] + found[:8]))


def check(tap, case, impls, traffic, ref, router):
    """One test: impls[1], whose router it is, against the reference's outcome."""
    got = Outcome(case, router, *traffic)
    notes = '' if case.counted else ' uncounted'
    if not got.refused and not got.compiled:
        notes += ' by ip_tables'
        case.left = True	# some of it, to ip_tables
    n, of = hits(ref.save)
    name = f'{case.name} {impls[1].name}{notes} ({n}/{of} hit)'
    judge(tap, case, name, compare(case, ref, got), impls)


def run_case(tap, case, impls, routers=None):
    """
    One test for each implementation after the first, against that one.  @routers:
    made before (Case.router), one each; closed here.  Returns the reference's
    save text, or None.
    """
    routers = routers or [case.router(f'{case.name[:3]}{i}', m) for i, m in enumerate(impls)]
    try:
        traffic, ref = reference(case, impls[0], routers[0])
        if ref.refused:
            if len(impls) > 1:
                why = ' '.join(ref.refused.split())[:200]
                tap.skip(case.name, f'the kernel refuses it: {why}')
            return None
        for impl, router in zip(impls[1:], routers[1:]):
            check(tap, case, (impls[0], impl), traffic, ref, router)
        return ref.save
    finally:
        close(routers)


def prepare(cases, impls, out, stop):
    """Makes the routers of the next cases while one is being run."""
    for make in cases:
        if stop.is_set():
            break
        case, routers = None, []
        try:
            case = make()
            case.tame = not impls[0].exact
            for i, m in enumerate(impls):
                routers.append(case.router(str(i), m))
        except Exception as e:
            close(routers)
            routers = e
        out.put((case, routers))
    out.put((None, None))


def run_cases(tap, cases, impls, after=None):
    """
    run_case() for each of @cases, which are functions that return a Case;
    after(case, save) is called with the reference's text.  Closes @impls.
    """
    if os.environ.get('XTJIT_DUT') == 'traffic':
        for make in cases:
            case = make()
            case.tame = not impls[0].exact
            case.keep_traffic()
        return
    todo, stop = queue.Queue(2), threading.Event()
    maker = threading.Thread(target=prepare, args=(cases, impls, todo, stop))
    maker.start()
    case, routers = None, []
    try:
        while True:
            case, routers = todo.get()
            if routers is None:
                break
            if isinstance(routers, Exception):
                tap.ok(False, case.name if case else 'a case', repr(routers))
                continue
            save = tap.guard(case.name, run_case, tap, case, impls, routers)
            if after and save is not None:
                after(case, save)
    finally:
        stop.set()
        while routers is not None:
            _, routers = todo.get()
            close(routers if isinstance(routers, list) else ())
        maker.join()
        impls[-1].close()
