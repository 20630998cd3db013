# SPDX-License-Identifier: GPL-2.0
"""
What was measured, as tables, CSV, SVG plots (by gnuplot) and one HTML page.

A row is a dict: part, shape, n (rules), what, peer; value, unit and maybe ratio (to the
peer named in of), or a note that says why there is no value.
"""
import csv
import html
import math
import os
import re
import subprocess

FIELDS = ('part', 'shape', 'n', 'what', 'peer', 'value', 'unit', 'ratio', 'of', 'note')
PARTS = dict(rate='Packets per second', alone='The early program alone, random keys',
             path='With sockets, through rules that all miss', load='Loading',
             update='Whole commands by the stock tools',
             cpu='Processor time of these, the helper\'s with it', memory='Kernel memory')
COLOURS = {'xtjit': '#c03020', 'xtjit early=off': '#e0a030', 'ip_tables filter': '#2050a0',
           'ip_tables raw': '#60a0e0', 'nft': '#207030', 'nft sets': '#70c060',
           'ipset': '#804090', 'XDP limit': '#000000', 'no firewall': '#707070'}


def number(x):
    """Three digits; two below 0.1."""
    if not x:
        return '0'
    size = math.floor(math.log10(abs(x)))
    return f'{x:.{max(0, min(2 - size, 2)) if size >= -1 else 1 - size}f}'


def cell(row):
    """A row's text in a table."""
    if row is None:
        return ''
    if 'value' not in row:
        return '-'
    text = number(row['value'])
    return f"{text} ({number(row['ratio'])})" if 'ratio' in row else text


def tables(rows):
    """[(title, column names, [[cell]])], one for each part, shape and what."""
    keys = dict.fromkeys((r['part'], r['shape'] if r['part'] != 'alone' else '',
                          r['what'] if r['part'] != 'memory' else '') for r in rows if r['what'])
    return [table(rows, *k) for k in keys]


def table(rows, part, shape, what):
    mine = [r for r in rows if r['part'] == part and (not shape or r['shape'] == shape) and
            (not what or r['what'] == what)]
    column = {'alone': lambda r: r['shape'], 'memory': lambda r: f"{r['peer']}: {r['what']}"}.get(
        part, lambda r: r['peer'])
    columns = list(dict.fromkeys(map(column, mine)))
    found = {(r['n'], column(r)): r for r in mine}
    units = {r['unit'] for r in mine if 'unit' in r}
    of = {r['of'] for r in mine if 'of' in r}
    title = ', '.join(filter(None, (PARTS[part], shape, what))) + ': ' + ', '.join(units)
    if of:
        title += f' (in parentheses: ratio to {", ".join(of)})'
    body = [[f'{n:,}'] + [cell(found.get((n, c))) for c in columns]
            for n in dict.fromkeys(r['n'] for r in mine)]
    return title, ['rules'] + columns, body


def notes(rows):
    """Texts: what is left out, and why; what is odd."""
    out = {}
    for r in rows:
        if 'note' in r:
            out.setdefault((r['peer'], r['shape'], r['note']), []).append(f"{r['n']:,}")
    return [f'{shape}, {peer}, {", ".join(dict.fromkeys(n))} rules: {note}'
            for (peer, shape, note), n in out.items()]


def plain(rows):
    """All tables as text."""
    out = []
    for title, head, body in tables(rows):
        widths = [max(len(x) for x in column) for column in zip(head, *body)]
        out += [title] + ['  ' + '  '.join(x.rjust(w) for x, w in zip(line, widths))
                          for line in [head] + body] + ['']
    return '\n'.join(out + notes(rows)) + '\n'


def series(rows, part, shape, what, value='value'):
    """{peer: [(n, value)]} of what has one; of the part "alone", by shape."""
    out = {}
    for r in rows:
        if (r['part'], r['what']) == (part, what) and (not shape or r['shape'] == shape) and \
           value in r and r['n']:
            out.setdefault(r['peer'] if shape else r['shape'], []).append((r['n'], r[value]))
    return out


def gnuplot(title, ylabel, lines, logy=True, size=(640, 360)):
    """A plot over the number of rules as SVG text. @lines: as series() gives them."""
    names = list(lines)
    script = [f'set terminal svg size {size[0]},{size[1]} font "sans-serif,11" noenhanced '
              'background rgb "white"',
              f'set title "{title}"', f'set ylabel "{ylabel}"', 'set xlabel "rules"',
              'set logscale x', 'set format x "%.0s%c"', 'unset mxtics', 'unset mytics',
              'set key outside right Left reverse samplen 1.5 width -5',
              'set grid', 'set logscale y' if logy else 'set yrange [0:*]']
    plots = []
    for i, name in enumerate(names):
        data = '\n'.join(f'{n} {v:.6g}' for n, v in sorted(lines[name]))
        script.append(f'$d{i} << EOD\n{data}\nEOD')
        colour = f' lc rgb "{COLOURS[name]}"' if name in COLOURS else ''
        plots.append(f'$d{i} with linespoints lw 2 pt 7 ps 0.4{colour} title "{name}"')
    script.append('plot ' + ', '.join(plots))
    r = subprocess.run(['gnuplot'], input='\n'.join(script), capture_output=True, text=True)
    if r.returncode or '<svg' not in r.stdout:
        raise RuntimeError(f'gnuplot: {r.stderr[:400]}')
    return re.sub(r'\n\s*', '\n', r.stdout)


def overview(rows):
    """Lines of the plot that says most: what is dropped, of the limit."""
    wanted = [('xtjit', 'source'), ('xtjit', 'port'), ('xtjit', 'mixed'), ('nft sets', 'source'),
              ('ipset', 'source'), ('ip_tables filter', 'source'), ('nft', 'source')]
    found = {(p, s): series(rows, 'rate', s, 'drop', 'ratio').get(p) for p, s in wanted}
    return {f'{p}: {s}': x for (p, s), x in found.items() if x}


def plots(rows):
    """{name: SVG text}"""
    wanted = [('overview', 'packets dropped per second', 'of the XDP limit', overview(rows))]
    titles = {r['shape']: r.get('title') for r in rows if r['part'] == 'rate'}
    for shape, title in titles.items():
        wanted += [(f'drop-{shape}', f'dropped: {title}', 'of the limit',
                    series(rows, 'rate', shape, 'drop', 'ratio')),
                   (f'accept-{shape}', f'accepted: {title}', 'of no firewall',
                    series(rows, 'rate', shape, 'accept', 'ratio')),
                   (f'load-{shape}', f'restore: {title}', 'ms',
                    series(rows, 'load', shape, 'restore'))]
    wanted.append(('alone', 'the early program alone, beyond parse and drop', 'ns',
                   series(rows, 'alone', '', 'beyond parse and drop')))
    for what in ('-A', '-I', '-D'):
        wanted.append((f'update{what}', f'iptables {what} of one rule', 'ms',
                       series(rows, 'update', 'source', what)))
    return {name: gnuplot(title, label, lines, logy=name != 'alone')
            for name, title, label, lines in wanted
            if max(map(len, lines.values()), default=0) > 1}


def page(rows, svgs, head):
    """The HTML page. @head: lines about the run."""
    e = html.escape
    out = ['<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>xtjit benchmark</title>',
           '<style>body{font:14px sans-serif;margin:2em;max-width:80em}'
           'table{border-collapse:collapse;margin:.5em 0 1.5em}'
           'td,th{border:1px solid #ccc;padding:.2em .6em;text-align:right}'
           'figure{display:inline-block;margin:.5em}</style><h1>xtjit benchmark</h1>']
    out += [f'<p>{e(x)}</p>' for x in head]
    out += ['<figure>' + svg[svg.index('<svg'):] + '</figure>' for svg in svgs.values()]
    for title, names, body in tables(rows):
        out.append(f'<h3>{e(title)}</h3><table>')
        out += ['<tr>' + ''.join(f'<{t}>{e(x)}</{t}>' for x in line) + '</tr>'
                for t, line in [('th', names)] + [('td', line) for line in body]]
        out.append('</table>')
    out.append('<h3>Left out, and notes</h3><ul>')
    out += [f'<li>{e(x)}</li>' for x in notes(rows)]
    return '\n'.join(out + ['</ul></html>\n'])


def write(rows, folder, head):
    """results.csv, NAME.svg, index.html into @folder."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, 'results.csv'), 'w', newline='') as f:
        w = csv.DictWriter(f, FIELDS, extrasaction='ignore')
        w.writeheader()
        w.writerows(rows)
    svgs = plots(rows)
    for name, svg in svgs.items():
        with open(os.path.join(folder, name + '.svg'), 'w') as f:
            f.write(svg)
    with open(os.path.join(folder, 'index.html'), 'w') as f:
        f.write(page(rows, svgs, head))
