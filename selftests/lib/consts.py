# SPDX-License-Identifier: GPL-2.0
"""What a ruleset mentions, so that packets can be made that meet its rules."""
import re
from ipaddress import ip_address

import pkt

PROTOCOLS = {'icmp': 1, 'igmp': 2, 'ipencap': 4, 'tcp': 6, 'udp': 17, 'ipv6': 41, 'gre': 47,
             'esp': 50, 'ah': 51, 'ipv6-icmp': 58, 'icmpv6': 58, 'ospf': 89, 'sctp': 132,
             'dccp': 33, 'udplite': 136, 'ipv6-route': 43, 'ipv6-frag': 44, 'ipv6-nonxt': 59,
             'ipv6-opts': 60, 'hopopt': 0, 'mobility-header': 135, 'l2tp': 115}
FLAGS = {'FIN': 1, 'SYN': 2, 'RST': 4, 'PSH': 8, 'ACK': 16, 'URG': 32, 'ALL': 63, 'NONE': 0}


def network(text, v6):
    """An address, a prefix, or address/mask with any mask: (value, mask)."""
    width = 128 if v6 else 32
    addr, _, mask = text.partition('/')
    a = ip_address(addr)
    if (a.version == 6) != v6:
        raise ValueError(text)
    if not mask:
        m = (1 << width) - 1
    elif mask.isdigit():
        m = ((1 << int(mask)) - 1) << (width - int(mask))
    else:
        m = int(ip_address(mask))
    return int(a) & m, m


class Consts:
    def __init__(self, text, v6):
        self.v6 = v6
        self.src, self.dst, self.ports, self.icmp, self.protos = [], [], [], [], []
        self.lengths, self.ttls, self.tos, self.marks, self.mss = [], [], [], [], []
        self.macs, self.flags, self.opts, self.uids, self.gids = [], [], [], [], []
        self.chunks, self.ids = [], []
        # Large rulesets repeat themselves: unique lines, a bounded number of them.
        lines = list(dict.fromkeys(text.splitlines()))
        if len(lines) > 3000:
            lines = lines[:1500] + lines[1500::len(lines) // 1500]
        body = '\n'.join(lines)
        self.addresses(body)
        self.numbers(body)
        self.tcp(body)
        self.ifs = self.devices(text)

    def addresses(self, text):
        for m in re.finditer(r'(?:^|\s)-([sd])\s+(\S+)', text, re.M):
            for part in m.group(2).split(','):
                try:
                    net = network(part, self.v6)
                except ValueError:
                    continue
                (self.src if m.group(1) == 's' else self.dst).append(net)
        for m in re.finditer(r'--(src|dst)-range\s+(\S+?)(?:-(\S+))?(?=\s|$)', text):
            for part in filter(None, m.groups()[1:]):
                try:
                    net = network(part, self.v6)
                except ValueError:
                    continue
                (self.src if m.group(1) == 'src' else self.dst).append(net)
        for m in re.finditer(r'--mac-source\s+(\S+)', text):
            self.macs.append(pkt.mac(m.group(1)))

    def numbers(self, text):
        def each(pattern, out, split='[,:/]', base=0):
            for m in re.finditer(pattern, text):
                for part in re.split(split, m.group(1)):
                    try:
                        out.append(int(part, base))
                    except ValueError:
                        pass
        each(r'--(?:source-port|destination-port|[sd]port|[sd]ports|ports)\s+(\S+)', self.ports)
        each(r'--length\s+(\S+)', self.lengths)
        each(r'--(?:ttl|hl)-(?:eq|lt|gt)\s+(\S+)', self.ttls)
        each(r'--tos\s+(\S+)', self.tos)
        each(r'--mark\s+(\S+)', self.marks)
        each(r'--mss\s+(\S+)', self.mss)
        each(r'--tcp-option\s+(\S+)', self.opts)
        each(r'--uid-owner\s+(\S+)', self.uids, split='-')
        each(r'--gid-owner\s+(\S+)', self.gids, split='-')
        dscp = []
        each(r'--dscp\s+(\S+)', dscp)
        self.tos += [d << 2 for d in dscp]
        for m in re.finditer(r'--icmp(?:v6)?-type\s+(\d+)(?:/(\d+))?', text):
            self.icmp.append((int(m.group(1)), int(m.group(2) or 0)))
        for m in re.finditer(r'(?:^|\s)-p\s+(\S+)', text):
            p = m.group(1)
            if p in PROTOCOLS or p.isdigit():
                self.protos.append(PROTOCOLS[p] if p in PROTOCOLS else int(p))
        self.protos = list(dict.fromkeys(self.protos))

    def tcp(self, text):
        for m in re.finditer(r'--tcp-flags\s+(\S+)\s+(\S+)', text):
            mask, comp = (sum(FLAGS.get(f, 0) for f in g.split(',')) for g in m.groups())
            self.flags += [comp, comp ^ mask, comp | (0x3f & ~mask)]

    def devices(self, text):
        """Two names for the router's devices: the ruleset's first, or its own order."""
        m = re.search(r'^# ifs: (\S+) (\S+)', text, re.M)
        if m:
            return list(m.groups())
        out = []
        for m in re.finditer(r'(?:^|\s)-[io]\s+(\S+)', text):
            name = m.group(1).strip('"').replace('+', '0')
            if name != 'lo' and name not in out and len(name) < 16 and '/' not in name:
                out.append(name)
                if len(out) == 2:
                    return out
        return out + [d for d in ('eth0', 'eth1') if d not in out][:2 - len(out)]

    def hosts(self, limit=6):
        """Some single addresses of -d rules, to be made local to the router."""
        full = (1 << (128 if self.v6 else 32)) - 1
        out = []
        for value, mask in self.dst:
            a = ip_address(value.to_bytes(16 if self.v6 else 4, 'big'))
            if mask == full and str(a) not in out and not (
                    a.is_multicast or a.is_loopback or a.is_unspecified or a.is_reserved):
                out.append(str(a))
        return out[::2][:limit]
