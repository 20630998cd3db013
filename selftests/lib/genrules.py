# SPDX-License-Identifier: GPL-2.0
"""Random rulesets in iptables-save format, of the extensions that xtjit compiles."""
HOOKS = {'raw': ['PREROUTING', 'OUTPUT'],
         'mangle': ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
         'filter': ['INPUT', 'FORWARD', 'OUTPUT'],
         'security': ['INPUT', 'FORWARD', 'OUTPUT']}
IN, OUT = {'PREROUTING', 'INPUT', 'FORWARD'}, {'FORWARD', 'OUTPUT', 'POSTROUTING'}
OWNED = {'OUTPUT', 'POSTROUTING'}
REJECTS = {False: ('net-unreachable', 'host-unreachable', 'proto-unreachable', 'port-unreachable',
                   'net-prohibited', 'host-prohibited', 'admin-prohibited'),
           True: ('no-route', 'adm-prohibited', 'addr-unreachable', 'port-unreachable',
                  'policy-fail', 'reject-route')}
PORTS = [22, 53, 80, 443, 1024, 8080, 33333, 65535]
NETS = {False: ['10.71.0.2/32', '10.72.0.2/32', '10.71.0.0/24', '10.72.0.1/32', '10.71.0.1/32',
                '8.0.0.0/5', '10.64.0.0/10', '0.0.0.1/0.0.0.1', '172.16.0.0/12', '203.0.113.7/32'],
        True: ['fd71::2/128', 'fd72::2/128', 'fd71::/64', 'fd72::1/128', 'fd71::1/128', '2001::/17',
               'fd00::/8', '::1/::1', 'fe80::/10', '2001:db8::7/128']}


class Rules:
    def __init__(self, rnd, v6, rules=40):
        self.r, self.v6, self.size = rnd, v6, rules
        # The order of REJECT's answers among other packets is not fixed, so that what
        # depends on order (nth, a bucket that runs empty) goes without it.
        self.answers = rnd.random() < 0.6

    def text(self):
        tables = self.r.sample(list(HOOKS), self.r.choice((1, 1, 2, 3, 4)))
        if 'filter' not in tables:
            tables[0] = 'filter'
        return ''.join(self.table(t) for t in dict.fromkeys(tables))

    def table(self, name):
        r = self.r
        users = [f'u{i}' for i in range(r.choice((0, 2, 5, 12)))]
        lines = [f'*{name}']
        lines += [f':{c} {"DROP" if r.random() < 0.15 else "ACCEPT"} [0:0]' for c in HOOKS[name]]
        lines += [f':{u} - [0:0]' for u in users]
        # A user chain may be called from any hook of the table, or is kept to one kind.
        hooks = {u: set(r.choice((HOOKS[name], [r.choice(HOOKS[name])]))) for u in users}
        for c in HOOKS[name]:
            hooks[c] = {c}
        share = max(2, self.size // (len(hooks) or 1))
        for c in HOOKS[name] + users:
            below = users[users.index(c) + 1:] if c in users else users
            callable_ = [u for u in below if hooks[c] <= hooks[u]]
            rules = [self.rule(name, hooks[c], callable_)
                     for _ in range(r.randrange(share + 1) + (c not in users))]
            if r.random() < 0.15:
                at = r.randrange(len(rules) + 1)
                rules[at:at] = self.run(name, hooks[c], callable_)
            lines += [f'-A {c} {rule}'.rstrip() for rule in rules]
        return '\n'.join(lines) + '\nCOMMIT\n'

    def rule(self, table, hooks, chains):
        r = self.r
        proto = r.choice((None, None, 'tcp', 'tcp', 'udp', 'udp', 'icmp', 'sctp', '47', '255',
                          '! tcp', '! udp'))
        parts = self.base(hooks, proto)
        if proto in ('tcp', 'udp', 'icmp', 'sctp') and r.random() < 0.75:
            parts.append(getattr(self, proto)())
        for _ in range(r.choice((0, 0, 0, 1, 1, 2))):
            parts.append(self.match(hooks, proto))
        target = self.target(table, hooks, proto, chains)
        if target.split()[-1:] in (['DROP'], ['ACCEPT'], ['REJECT']) and not any(parts):
            parts.append(f'-s {r.choice(NETS[self.v6])}')
        parts.append(target)
        return ' '.join(dict.fromkeys(filter(None, parts)))

    def run(self, table, hooks, chains):
        """Rules that differ in a value or two, as lookups are made of."""
        r, v6 = self.r, self.v6
        proto = r.choice((None, 'tcp', 'tcp', 'udp'))
        kinds = ['-s', '-s', '-d', '-d'] + (['--sport', '--dport', '--dport'] if proto else [])
        kinds += (['-i', '--mac-source'] if hooks <= IN else []) + (['-o'] if hooks <= OUT else [])
        kinds = list(dict.fromkeys(r.sample(kinds, r.choice((1, 2, 2, 3)))))
        lens = r.choice(((128,), (128, 120, 64, 16)) if v6 else ((32,), (32, 32, 24, 27, 9)))
        also = self.match(hooks, proto) if r.random() < 0.3 else ''
        odd = self.match(hooks, proto) if r.random() < 0.3 else ''
        targets = [self.target(table, hooks, proto, chains) or '-j DROP'
                   for _ in range(r.choice((1, 1, 2, 4)))]

        def value(kind):
            if kind in ('-s', '-d'):
                net = r.choice(('fd71::', 'fd72::', '2001:db8::') if v6
                               else ('10.71.0.', '10.72.0.', '203.0.113.'))
                return f'{net}{r.randrange(1, 60)}/{r.choice(lens)}'
            if kind == '--mac-source':
                return f'-m mac --mac-source 02:00:00:00:b1:{r.randrange(1, 40):02x}'
            if kind in ('-i', '-o'):
                return r.choice(('eth0', 'eth1', 'eth2', 'eth+', 'lo'))
            return r.choice((self.port(), str(r.randrange(1, 2000))))

        def one():
            parts = [f'-p {proto} -m {proto}' if proto else '']
            for k in kinds:
                v = value(k)
                parts.append(v if k == '--mac-source' else f'{self.no(0.03)}{k} {v}')
            parts += [also, odd if r.random() < 0.2 else '']
            parts.append(r.choice(targets) if r.random() < 0.9 else '')
            return ' '.join(filter(None, parts))
        return [one() for _ in range(r.choice((5, 9, 17, 40, 90)))]

    def no(self, p=0.2):
        return '! ' if self.r.random() < p else ''

    def base(self, hooks, proto):
        r, parts = self.r, []
        if r.random() < 0.3:
            parts.append(f'{self.no()}-s {r.choice(NETS[self.v6])}')
        if r.random() < 0.3:
            parts.append(f'{self.no()}-d {r.choice(NETS[self.v6])}')
        dev = ('eth0', 'eth1', 'eth+', 'lo', 'wan+', 'eth2')
        if hooks <= IN and r.random() < 0.25:
            parts.append(f'{self.no()}-i {r.choice(dev)}')
        if hooks <= OUT and r.random() < 0.25:
            parts.append(f'{self.no()}-o {r.choice(dev)}')
        if proto:
            name = proto.replace('icmp', 'ipv6-icmp') if self.v6 else proto
            parts.append(f'! -p {name[2:]}' if name[0] == '!' else f'-p {name}')
        if not self.v6 and r.random() < 0.04:
            parts.append(self.no() + '-f')
        return parts

    def port(self):
        r = self.r
        a = r.choice(PORTS)
        return str(a) if r.random() < 0.7 else f'{a}:{r.choice([p for p in PORTS if p >= a])}'

    def ports(self, p):
        r = self.r
        return ' '.join(filter(None, [
            f'{self.no()}--sport {self.port()}' if r.random() < 0.3 else '',
            f'{self.no()}--dport {self.port()}' if r.random() < 0.7 else '']))

    def tcp(self):
        r = self.r
        extra = ['', '', '', self.no() + '--syn', f'{self.no()}--tcp-option {r.choice((2, 4, 8))}',
                 '--tcp-flags ALL ' + r.choice(('NONE', 'SYN', 'ALL', 'FIN,PSH,URG')),
                 f'{self.no()}--tcp-flags SYN,ACK,RST {r.choice(("SYN", "ACK", "RST"))}']
        if r.random() < 0.1:
            return f'-m tcpmss {self.no()}--mss {r.choice(("1460", "500:1400", "1:65535"))}'
        return f'-m tcp {self.ports("tcp")} {r.choice(extra)}'.strip()

    def udp(self):
        return f'-m udp {self.ports("udp")}'.strip()

    def sctp(self):
        return f'-m sctp {self.ports("sctp")}'.strip()

    def icmp(self):
        kind = self.r.choice((1, 3, 4, 128, 129, '1/4') if self.v6 else (0, 3, 8, 11, '3/1', 'any'))
        return (f'-m icmp6 {self.no()}--icmpv6-type {kind}' if self.v6
                else f'-m icmp {self.no()}--icmp-type {kind}')

    def match(self, hooks, proto):
        r = self.r
        states = ','.join(r.sample(('NEW', 'ESTABLISHED', 'RELATED', 'INVALID', 'UNTRACKED'),
                                   r.choice((1, 1, 2))))
        a, b = ('fd71::1', 'fd72::1') if self.v6 else ('10.71.0.1', '10.72.0.1')
        rows = [
            f'-m conntrack {self.no()}--ctstate {states}', f'-m state {self.no()}--state {states}',
            self.conntrack(states), self.conntrack(states),
            f'-m mark {self.no()}--mark {r.choice(("0x0", "0x7", "0x3/0x3"))}',
            f'-m length {self.no()}--length {r.choice(("0:60", "100:", "28", "61:99"))}',
            f'-m {"hl --hl" if self.v6 else "ttl --ttl"}-{r.choice(("eq 64", "lt 64", "gt 100"))}',
            f'-m tos {self.no()}--tos {r.choice(("0x10/0x3f", "0xb8/0xff", "0x00/0xff"))}',
            f'-m dscp {self.no()}--dscp {r.choice(("0x00", "0x2e"))}',
            f'-m iprange {self.no()}--src-range {a}-{b}', f'-m iprange --dst-range {a}-{b}',
            f'-m pkttype {self.no()}--pkt-type {r.choice(("unicast", "broadcast", "multicast"))}',
            f'-m comment --comment "number {r.randrange(100)}"',
        ]
        if not self.v6:
            kinds = ','.join(r.sample(('LOCAL', 'UNICAST', 'BROADCAST', 'MULTICAST', 'ANYCAST',
                                       'UNREACHABLE'), r.choice((1, 1, 2))))
            rows.append(f'-m addrtype {self.no()}--{r.choice(("src", "dst"))}-type {kinds}')
        if not self.answers:
            rows += [
                f'-m limit --limit {r.choice((1, 3))}/hour --limit-burst {r.choice((1, 5, 12))}',
                f'-m statistic --mode nth --every {r.choice((2, 3))} --packet {r.choice((0, 1))}']
        if hooks <= IN:
            rows.append(f'-m mac {self.no()}--mac-source 02:00:00:00:b1:0{r.choice("127")}')
        if hooks <= OWNED:
            rows.append(self.owner())
        if proto in ('tcp', 'udp', 'sctp'):
            some = ','.join(map(str, sorted(r.sample(PORTS[:5], 3))))
            rows += [f'-m multiport {self.no()}--{k} {some},2000:9000'
                     for k in ('dports', 'sports', 'ports')]
        return r.choice(rows)

    def conntrack(self, states):
        """One condition or two, of those that do not depend on the clock."""
        r = self.r
        way = r.choice(('orig', 'repl'))
        net = r.choice([n for n in NETS[self.v6] if n.count('.') < 4])
        status = ','.join(r.sample(('EXPECTED', 'SEEN_REPLY', 'ASSURED', 'CONFIRMED'),
                                   r.choice((1, 1, 2))))
        rows = [f'{self.no()}--ctstate {states}', f'{self.no()}--ctstatus {status}',
                f'{self.no()}--ct{way}{r.choice(("src", "dst"))} {net}',
                f'{self.no()}--ct{way}{r.choice(("src", "dst"))}port {self.port()}',
                f'--ctdir {r.choice(("ORIGINAL", "REPLY"))}',
                f'{self.no()}--ctproto {r.choice((6, 17))}']
        return '-m conntrack ' + ' '.join(r.sample(rows, r.choice((1, 1, 2))))

    def owner(self):
        r = self.r
        uid = f'{self.no()}--uid-owner {r.choice(("0", "1000", "30-1000", "1-4000000"))}'
        gid = f'{self.no()}--gid-owner {r.choice(("0", "50-100", "100 --suppl-groups"))}'
        sock = f'{self.no()}--socket-exists'
        return '-m owner ' + r.choice((uid, gid, sock, f'{uid} {gid}', f'{sock} {uid}'))

    def target(self, table, hooks, proto, chains):
        r = self.r
        x = r.random()
        if chains and x < 0.25:
            return r.choice(('-j ', '-j ', '-j ', '-g ')) + r.choice(chains)
        if x < 0.4:
            return '-j DROP'
        if x < 0.52:
            return '-j ACCEPT'
        if x < 0.6:
            return '-j RETURN'
        if x < 0.66:
            return r.choice(('-j LOG', '-j LOG --log-prefix "x " --log-level 7',
                             '-j LOG --log-uid'))
        if x < 0.74 and table == 'filter' and self.answers:
            if proto == 'tcp' and r.random() < 0.5:
                return '-j REJECT --reject-with tcp-reset'
            return f'-j REJECT --reject-with icmp{"6" * self.v6}-{r.choice(REJECTS[self.v6])}'
        return ''
