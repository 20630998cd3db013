# SPDX-License-Identifier: GPL-2.0
"""
The rulesets that are measured, for each tool, and the headers of packets that meet them.

A Shape gives, of N rules: its text for iptables, nftables (one by one, and with sets) and
ipset, and headers for packets that a random rule drops, and for packets that all
rules let through.  A text that is None: the tool has nothing for it, and why says so.
"""
import collections
import os
import random
import re
from ipaddress import ip_address, ip_network

import feed
import net
from pkt import TCP, UDP

# Sources of rules are in 16.0.0.0 to 79.255.255.255; no rule is about 128.0.0.0/4.
RULES_FROM, MISSES_FROM = 16 << 24, 128 << 24
LENGTHS = (24, 22, 24, 16, 20, 32, 24, 23, 19, 32, 21, 18, 17, 28)
NAMES = {TCP: 'tcp', UDP: 'udp'}

# s, d: (address, length) or None; ports: destination ports, a list of (first, last)
Rule = collections.namedtuple('Rule', 's d proto ports', defaults=(None, None, 0, ()))


def number(a):
    return int(ip_address(a))


LOCAL = list(map(number, net.LOCAL))


def source(i, length=32):
    a = RULES_FROM + (i * 2654435761 & (1 << 30) - 1)
    return a & (~0 << 32 - length), length


def text(a):
    return f'{a >> 24}.{a >> 16 & 255}.{a >> 8 & 255}.{a & 255}'


def prefix(p):
    return text(p[0]) if p[1] == 32 else f'{text(p[0])}/{p[1]}'


def port(p, sep):
    return str(p[0]) if p[0] == p[1] else f'{p[0]}{sep}{p[1]}'


def one_port(rnd):
    p = rnd.randrange(1, 60000)
    return p, p


def port_range(rnd):
    p = rnd.randrange(1, 60000)
    return p, p + rnd.randrange(1, 500)


def mixed_rule(rnd, i):
    """As in real rulesets: half are sources of some length, the others of all kinds."""
    def dest():
        return rnd.choice(((LOCAL[1], 32), (LOCAL[2], 32), (LOCAL[3], 32), (LOCAL[1], 31)))
    kind, s = rnd.randrange(10), source(i, rnd.choice(LENGTHS))
    proto = rnd.choice((TCP, UDP))
    if kind < 5:
        return Rule(s, dest() if kind == 4 else None)
    if kind == 5:
        return Rule(None, dest(), proto, [one_port(rnd)])
    if kind == 6:
        return Rule(source(i, 24), None, proto, [one_port(rnd)])
    if kind == 7:
        return Rule(s, dest(), proto, [one_port(rnd)])
    if kind == 8:
        return Rule(source(i, 24), None, proto, [port_range(rnd)])
    return Rule(source(i, 20), None, proto, [one_port(rnd) for _ in range(3)] + [port_range(rnd)])


def iptables_rule(r):
    out = []
    if r.s:
        out.append('-s ' + prefix(r.s))
    if r.d:
        out.append('-d ' + prefix(r.d))
    if r.proto:
        out.append('-p ' + NAMES[r.proto])
    if len(r.ports) == 1:
        out.append('--dport ' + port(r.ports[0], ':'))
    elif r.ports:
        out.append('-m multiport --dports ' + ','.join(port(p, ':') for p in r.ports))
    return ' '.join(out)


def nft_rule(r):
    out = []
    if r.s:
        out.append('ip saddr ' + prefix(r.s))
    if r.d:
        out.append('ip daddr ' + prefix(r.d))
    if r.ports:
        ports = ', '.join(port(p, '-') for p in r.ports)
        out.append(f'{NAMES[r.proto]} dport ' + (f'{{ {ports} }}' if len(r.ports) > 1 else ports))
    return ' '.join(out)


class Shape:
    table, chain = 'filter', 'INPUT'	# where xtjit has the rules
    port = net.PORT
    why = {}				# by kind of text: why there is none

    def __init__(self, n):
        self.n = n
        self.rnd = random.Random(n)

    def keys(self, count, hit):
        """feed.Keys for dropped packets, or for accepted ones."""
        return feed.Keys([self.hit() if hit else self.miss() for _ in range(count)])

    def miss(self):
        r = self.rnd
        return feed.header(MISSES_FROM + r.getrandbits(28), LOCAL[0], UDP,
                           r.randrange(1024, 65536), self.port)

    def iptables(self, table='filter'):
        chain = self.chain if table == 'filter' else 'PREROUTING'
        rules = ''.join(f'-A {chain} {x} -j DROP\n' for x in map(iptables_rule, self.rules))
        return f'*{table}\n:{chain} ACCEPT [0:0]\n{rules}COMMIT\n'

    def nft(self):
        return nft_table(''.join(f'{x} drop\n' for x in map(nft_rule, self.rules)))

    def nft_sets(self):
        return None

    def ipset(self):
        """(what `ipset restore` reads, the rules that use it)"""
        return None

    def hit(self):
        return self.header_of(self.rnd.choice(self.rules))

    def header_of(self, r):
        rnd = self.rnd
        s, d = (a[0] | rnd.getrandbits(32 - a[1]) if a and a[1] < 32 else a and a[0]
                for a in (r.s, r.d))
        lo, hi = rnd.choice(r.ports) if r.ports else (self.port, self.port)
        return feed.header(s or MISSES_FROM + rnd.getrandbits(28), d or LOCAL[0], r.proto or UDP,
                           rnd.randrange(1024, 65536), rnd.randint(lo, hi))


def nft_table(rules, sets='', hook='input', priority=0):
    return (f'table ip bench {{\n{sets}chain c {{\ntype filter hook {hook} priority {priority};\n'
            f'{rules}}}\n}}\n')


def nft_set(name, kind, elements, flags=''):
    return f'set {name} {{ type {kind}; {flags}elements = {{ {", ".join(elements)} }} }}\n'


def uses(sets, chain='INPUT'):
    """iptables rules that drop what is in ipsets: [(name, flags)]"""
    rules = ''.join(f'-A {chain} -m set --match-set {n} {f} -j DROP\n' for n, f in sets)
    return f'*filter\n:{chain} ACCEPT [0:0]\n{rules}COMMIT\n'


class Sources(Shape):
    name = 'source'
    title = 'source addresses'

    def __init__(self, n, first=0):
        super().__init__(n)
        self.rules = [self.rule(i) for i in range(first, first + n)]

    def rule(self, i):
        return Rule(source(i))

    def nft_sets(self):
        return nft_table('ip saddr @s drop\n',
                         nft_set('s', 'ipv4_addr', (text(r.s[0]) for r in self.rules)))

    def ipset(self):
        return ('create s hash:ip maxelem 2000000\n' +
                ''.join(f'add s {text(r.s[0])}\n' for r in self.rules), uses([('s', 'src')]))


class Ports(Sources):
    name = 'port'
    title = 'source address and UDP port'

    def rule(self, i):
        return Rule(source(i), None, UDP, [(1 + i % 60000,) * 2])

    def nft_sets(self):
        return nft_table('ip saddr . udp dport @s drop\n', nft_set(
            's', 'ipv4_addr . inet_service',
            (f'{text(r.s[0])} . {r.ports[0][0]}' for r in self.rules)))

    def ipset(self):
        return ('create s hash:ip,port maxelem 2000000\n' +
                ''.join(f'add s {text(r.s[0])},udp:{r.ports[0][0]}\n' for r in self.rules),
                uses([('s', 'src,dst')]))


class Mixed(Shape):
    name = 'mixed'
    title = 'prefixes of many lengths, ports, ranges, multiport'
    why = dict(ipset='no type of set holds all of these')

    def __init__(self, n):
        super().__init__(n)
        self.rules = [mixed_rule(self.rnd, i) for i in range(n)]

    def nft_sets(self):
        """One set for each combination of fields."""
        groups = collections.defaultdict(dict)
        for r in self.rules:
            for p in r.ports or [None]:
                parts = [prefix(a) for a in (r.s, r.d) if a] + ([port(p, '-')] if p else [])
                groups[bool(r.s), bool(r.d), r.proto][' . '.join(parts)] = None
        sets, rules = '', ''
        for i, ((s, d, proto), elements) in enumerate(groups.items()):
            fields = [f for f, there in (('ip saddr', s), ('ip daddr', d), (
                f'{NAMES.get(proto)} dport', proto)) if there]
            kind = ' . '.join(['ipv4_addr'] * (s + d) + ['inet_service'] * bool(proto))
            merge = 'auto-merge; ' if len(fields) == 1 else ''
            sets += nft_set(f's{i}', kind, elements, f'flags interval; {merge}')
            rules += f'{" . ".join(fields)} @s{i} drop\n'
        return nft_table(rules, sets)


class Services(Shape):
    """As kube-proxy writes it: dispatch to two chains a service."""
    name = 'services'
    title = 'kube-proxy-like dispatch'
    table = 'raw'
    why = dict(filter='dispatch is in PREROUTING', ipset='sets do not dispatch')

    def __init__(self, n, first=0):
        super().__init__(n)
        self.each = range(first, first + n)

    def service(self, i):
        return (172 << 24) + (16 << 16) + i, (80, 443, 8080)[i % 3]

    def own(self, i):
        return (f'-A KUBE-SVC-{i:08X} -s 10.244.0.0/16 -j RETURN\n'
                f'-A KUBE-SVC-{i:08X} -j KUBE-SEP-{i:08X}\n'
                f'-A KUBE-SEP-{i:08X} -s 10.244.{i >> 8 & 255}.{i & 255}/32 -j RETURN\n'
                f'-A KUBE-SEP-{i:08X} -p tcp -j DROP\n')

    def dispatch(self, i):
        a, p = self.service(i)
        return (f'-A KUBE-SERVICES -d {text(a)}/32 -p tcp -m comment --comment '
                f'"ns/svc-{i}:http cluster IP" -m tcp --dport {p} -j KUBE-SVC-{i:08X}\n')

    def heads(self, i):
        return f':KUBE-SVC-{i:08X} - [0:0]\n:KUBE-SEP-{i:08X} - [0:0]\n'

    def iptables(self, table='raw'):
        out = ['*raw\n:PREROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n']
        out += map(self.heads, self.each)
        out.append('-A PREROUTING -j KUBE-SERVICES\n')
        out += map(self.dispatch, self.each)
        return ''.join(out + [self.own(i) for i in self.each]) + 'COMMIT\n'

    def change(self, i, turn):
        """What kube-proxy gives to `iptables-restore -n` when service @i changes."""
        new = self.own(i).replace('-p tcp -j DROP', f'-p tcp -m tcp --sport {1 + turn}: -j DROP')
        return f'*raw\n{self.heads(i)}{new}COMMIT\n'

    def more(self, i):
        """The same when it is a new one."""
        return f'*raw\n{self.heads(i)}{self.dispatch(i)}{self.own(i)}COMMIT\n'

    def chains(self):
        return ''.join(
            f'chain p{i} {{\nip saddr 10.244.{i >> 8 & 255}.{i & 255} return\n'
            'ip protocol tcp drop\n}\n'
            f'chain v{i} {{\nip saddr 10.244.0.0/16 return\njump p{i}\n}}\n' for i in self.each)

    def nft(self):
        rules = ''.join('ip daddr {} tcp dport {} jump v{}\n'.format(*self.row(i))
                        for i in self.each)
        return nft_table(rules, self.chains(), 'prerouting', -300)

    def nft_sets(self):
        rows = ', '.join('{} . {} : goto v{}'.format(*self.row(i)) for i in self.each)
        return nft_table('ip daddr . tcp dport vmap @m\n', self.chains() + (
            f'map m {{ type ipv4_addr . inet_service : verdict; elements = {{ {rows} }} }}\n'),
            'prerouting', -300)

    def row(self, i):
        a, p = self.service(i)
        return text(a), p, i

    def hit(self):
        a, p = self.service(self.rnd.choice(self.each))
        return feed.header(MISSES_FROM + self.rnd.getrandbits(28), a, TCP,
                           self.rnd.randrange(1024, 65536), p)


class Corpus(Shape):
    """
    The filter table of a ruleset of the corpus.  What it says of sources decides which
    packets are sent.
    """
    why = dict.fromkeys(('raw', 'nft', 'nft_sets', 'ipset'), 'written for iptables filter')

    def __init__(self, path):
        with open(path) as f:
            self.text = re.search(r'^\*filter\n.*?^COMMIT\n', f.read(), re.M | re.S).group()
        super().__init__(len(re.findall('^-A', self.text, re.M)))
        self.name = os.path.basename(path).split('__')[0]
        self.title = f'{self.name}, a real ruleset'
        self.closed = bool(re.search(r'^:INPUT DROP', self.text, re.M))
        self.dropped = self.sources('DROP')
        self.accepted = self.sources('ACCEPT')

    def sources(self, verdict):
        """The sources of rules that have nothing else but maybe a UDP port."""
        rows = re.findall(r'^-A \S+ -s ([\d./]+)(?: -p udp -m udp --dport (\d+))? -j ' + verdict +
                          '$', self.text, re.M)
        nets = [(ip_network(a, strict=False), int(p or 0)) for a, p in rows]
        return [((int(a.network_address), a.prefixlen), p) for a, p in nets
                if not (a.is_loopback or a.is_multicast)]

    def iptables(self, table='filter'):
        return self.text

    def first_ten(self):
        """The first rules with a source, alone."""
        rows = re.findall(r'^-A \S+ (-s .*)', self.text, re.M)[:10]
        rules = ''.join(f'-A INPUT {r}\n' for r in rows)
        return f'*filter\n:INPUT ACCEPT [0:0]\n{rules}COMMIT\n'

    def hit(self):
        if len(self.dropped) < 100 and self.closed:
            return super().miss()
        s, p = self.rnd.choice(self.dropped)
        return self.header_of(Rule(s, None, UDP, [(p or self.port,) * 2]))

    def miss(self):
        if not self.closed:
            return super().miss()
        s, p = self.rnd.choice(self.accepted)
        return self.header_of(Rule(s, None, UDP, [(p or self.port,) * 2]))


SYNTHETIC = (Sources, Ports, Mixed)


def largest(folder, count):
    """Paths of the largest IPv4 rulesets."""
    paths = [os.path.join(folder, f) for f in os.listdir(folder) if f.endswith('.v4')]
    return sorted(paths, key=os.path.getsize, reverse=True)[:count]
