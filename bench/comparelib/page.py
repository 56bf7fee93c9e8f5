# SPDX-License-Identifier: Apache-2.0
"""The report as one HTML page that needs nothing else: tables, and curves as inline SVG."""
import html
import math

from . import analysis, goals, peers, text

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 460, 270, 46, 26, 8, 8

# series: colour on light, colour on dark, dashes
LOOK = {
    "medley": ("#0b57d0", "#7db0ff", ""),
    "medley-mem": ("#00796b", "#4dd0b5", ""),
    "ompi": ("#c2410c", "#ff9e66", "6 3"),
    "ompi-ucx": ("#b91c5c", "#ff8ab5", "6 3"),
    "ompi-han": ("#8a6d00", "#e0c04a", "6 3"),
    "mpich": ("#7c3aed", "#c3a3ff", "2 3"),
    "gloo": ("#5f6368", "#a8adb3", "2 3"),
    "pump": ("#202124", "#e8eaed", "3 3"),
    "limit": ("#202124", "#e8eaed", "1 4"),
    "limit-mem": ("#202124", "#e8eaed", "8 4 1 4"),
}
NAMES = dict(peers.WHAT, **{"limit": "limit, ordinary buffers, or sockets and the line",
                             "limit-mem": "limit, mapped buffers"})

STYLE = """
:root{color-scheme:light dark;--fg:#202124;--bg:#fff;--soft:#5f6368;--rule:#dadce0;--good:#146c2e;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--fg:#e8eaed;--bg:#17181a;--soft:#a8adb3;--rule:#3c4043;--good:#7fd99a;
--bad:#ff9c93}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:1180px;margin:2em auto;
padding:0 1em}
h1{font-size:1.5em}h2{margin-top:2.2em;border-bottom:1px solid var(--rule)}h3{margin:1.6em 0 .3em}
p.soft,td.soft,figcaption{color:var(--soft)}.charts{display:flex;flex-wrap:wrap;gap:12px}figure{margin:0}
svg{max-width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:var(--soft);
text-anchor:middle}svg text.e{text-anchor:end}
.g{stroke:var(--rule);stroke-width:1}.c{fill:none;stroke-width:1.6;stroke-linejoin:round}
.wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:13px}
th,td{padding:2px 8px;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}
td.left,th.left{text-align:left;white-space:normal}.met{color:var(--good)}.missed{color:var(--bad);font-weight:600}
.key span{display:inline-block;margin-right:1.3em}.key svg{vertical-align:middle;margin-right:.4em}
code{font-size:12px}
"""


def _style():
    light = "".join(".%s{stroke:%s}" % (name, look[0]) for name, look in LOOK.items())
    dark = "".join(".%s{stroke:%s}" % (name, look[1]) for name, look in LOOK.items())
    dashes = "".join(".%s{stroke-dasharray:%s}" % (name, look[2]) for name, look in LOOK.items() if look[2])
    bold = ".medley,.medley-mem{stroke-width:2.4}"
    return STYLE + light + "@media(prefers-color-scheme:dark){%s}" % dark + dashes + bold


def curves(config, points):
    """{line: [(bytes, us)]}: the series that have figures, then the limits."""
    lines = {}
    for name in LOOK:
        for point in points:
            if name.startswith("limit"):
                us = analysis.limit_us(config, point, "medley-mem" if name == "limit-mem" else "medley")
            else:
                us = analysis.median(point["series"].get(name))
            if us:
                lines.setdefault(name, []).append((point["bytes"], us))
    if lines.get("limit-mem") == lines.get("limit"):
        lines.pop("limit-mem", None)
    return lines


class Axis:
    """A logarithmic axis from values to pixels."""

    def __init__(self, values, first, last, base):
        self.base = base
        self.low = math.floor(math.log(min(values), base) + 1e-9)
        self.high = max(math.ceil(math.log(max(values), base) - 1e-9), self.low + 1)
        self.first, self.last = first, last

    def at(self, value):
        """The pixel of a value."""
        share = (math.log(value, self.base) - self.low) / (self.high - self.low)
        return round(self.first + share * (self.last - self.first))

    def ticks(self, most):
        """Powers of the base, few enough to be read."""
        step = max(1, math.ceil((self.high - self.low) / most))
        return [self.base ** power for power in range(self.low, self.high + 1, step)]


def _number(value):
    return "%g" % value if value < 1e4 else "%.0e" % value


def _frame(x, y):
    grid, parts = [], []
    for value in y.ticks(7):
        grid.append("M%d %dH%d" % (LEFT, y.at(value), WIDTH - RIGHT))
        parts.append('<text x="%d" y="%d" class="e">%s</text>' % (LEFT - 5, y.at(value) + 4, _number(value)))
    for value in x.ticks(8):
        grid.append("M%d %dV%d" % (x.at(value), TOP, HEIGHT - BOTTOM))
        parts.append('<text x="%d" y="%d">%s</text>' % (x.at(value), HEIGHT - BOTTOM + 15, text.size_name(int(value))))
    return ['<path class="g" d="%s"/>' % "".join(grid)] + parts


def chart(lines, title):
    """One picture: a curve for each line, both axes logarithmic."""
    if not lines:
        return ""
    x = Axis([size for line in lines.values() for size, _ in line], LEFT, WIDTH - RIGHT, 2)
    y = Axis([value for line in lines.values() for _, value in line], HEIGHT - BOTTOM, TOP, 10)
    parts = ['<figure><svg viewBox="0 0 %d %d" width="%d" role="img" aria-label="%s">' % (
        WIDTH, HEIGHT, WIDTH, html.escape(title))] + _frame(x, y)
    for name, line in reversed(lines.items()):
        where = " ".join("%d,%d" % (x.at(size), y.at(value)) for size, value in line)
        parts.append('<polyline class="c %s" points="%s"><title>%s</title></polyline>' % (name, where, NAMES[name]))
    parts.append("</svg><figcaption>%s</figcaption></figure>" % html.escape(title))
    return "".join(parts)


def _legend(names):
    keys = ['<span><svg width="30" height="8"><path class="c %s" d="M0 4H30"/></svg>%s</span>' % (name, NAMES[name])
            for name in names]
    return '<p class="key">%s</p>' % "".join(keys)


def _cells(tag, cells, classes=()):
    marked = dict(classes)
    return "<tr>%s</tr>" % "".join(
        "<%s%s>%s</%s>" % (tag, ' class="%s"' % marked[i] if i in marked else "", html.escape(cell), tag)
        for i, cell in enumerate(cells))


def _table(report, name, points):
    """All medians, and what becomes of Medley's."""
    config = report["configs"][name]
    measured = {n for point in points for n, series in point["series"].items() if analysis.median(series)}
    others = [n for n in LOOK if n in measured and n not in peers.MEDLEY]
    head = ["size"] + [n + " us" for n in others]
    for series in peers.MEDLEY:
        head += [series + " us", "busbw", "ratio [quartiles]", "to limit"]
    rows = [_cells("th", head)]
    for point in points:
        cells = [text.size_name(point["bytes"])]
        cells += [text.figure(analysis.median(point["series"].get(n))) for n in others]
        classes = []
        for series in peers.MEDLEY:
            us = analysis.median(point["series"].get(series))
            verdict = goals.verdict(report, name, point, series)
            if verdict:
                classes.append((len(cells) + 2, verdict))
            busbw = analysis.busbw(point["collective"], config["nranks"], point["bytes"], us) if us else None
            cells += [text.figure(us), text.two(busbw), text.spread(analysis.ratio(point, series)),
                      text.two(analysis.limit_ratio(config, point, series))]
        rows.append(_cells("td", cells, classes))
    return '<div class="wide"><table>%s</table></div>' % "".join(rows)


def _variants(points):
    """Which of a library's algorithms was the fastest, where it was asked."""
    found = {}
    for point in points:
        for series, result in point["series"].items():
            if result.get("variant"):
                found.setdefault(series, []).append("%s %s" % (text.size_name(point["bytes"]), result["variant"]))
    return "".join('<p class="soft">%s: %s</p>' % (series, html.escape(", ".join(words)))
                   for series, words in found.items())


def _collective(report, name, collective, dtype, points):
    config = report["configs"][name]
    lines = curves(config, points)
    rates = {line: [(size, analysis.busbw(collective, config["nranks"], size, us)) for size, us in values]
             for line, values in lines.items()}
    return "<h3>%s, %s</h3>%s<div class=\"charts\">%s%s</div>%s%s" % (
        collective, dtype, _legend(lines), chart(lines, "time, us, by bytes"), chart(rates, "busbw, GB/s, by bytes"),
        _table(report, name, points), _variants(points))


def _config(report, name):
    config = report["configs"][name]
    parts = ['<h2 id="%s">%s: %s</h2>' % (name, name, html.escape(config["about"]))]
    parts += ['<p class="missed">%s</p>' % html.escape(line) for line in text.refusals(config)]
    started = [[library, facts.get("version", ""), facts["command"]]
               for library, facts in config["libraries"].items() if facts.get("command")]
    if started:
        rows = "".join('<tr><td class="left">%s</td><td class="left">%s</td><td class="left"><code>%s</code></td></tr>'
                       % tuple(html.escape(cell) for cell in row) for row in started)
        parts.append("<details><summary>how they were started</summary><table>%s</table></details>" % rows)
    parts += [_collective(report, name, collective, dtype, points)
              for (collective, dtype), points in text.tables(config).items()]
    return "".join(parts)


def _goals(report):
    rows = text.goal_rows(report)
    if not rows:
        return ""
    body = "".join(_cells("td", row, [(0, "left"), (3, row[3]), (4, "left")]) for row in rows)
    head = _cells("th", ["goal", "bound", "points that meet it", "", "worst point"], [(0, "left"), (4, "left")])
    return '<h2>Goals</h2><div class="wide"><table>%s%s</table></div>' % (head, body)


def page(report):
    """The whole page."""
    links = " ".join('<a href="#%s">%s</a>' % (name, name) for name in report["configs"])
    wrong = "".join('<p class="missed">%s</p>' % html.escape(line) for line in analysis.wrong(report))
    intro = ("Median over %s interleaved rounds. ratio: Medley's time by the best peer's, median [quartiles] of the "
             "rounds; to limit: Medley's time by that of bare programs without an API, or of the line."
             % report.get("rounds", "the"))
    return "".join((
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Medley beside its peers</title>',
        "<style>%s</style></head><body><h1>Medley beside its peers</h1>" % _style(),
        "<p>%s</p>" % html.escape(text.when_and_where(report)),
        '<p class="soft">%s</p><p>%s</p>%s%s' % (intro, links, wrong, _goals(report)),
        "".join(_config(report, name) for name in report["configs"]), "</body></html>\n"))
