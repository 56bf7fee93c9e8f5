# SPDX-License-Identifier: Apache-2.0
"""The report as text for a terminal, and as Markdown."""
from . import analysis, goals, peers

HEAD = ["size", "best peer", "us"] + ["medley us", "ratio", "busbw", "limit", "goal"] + ["mem us", "ratio", "busbw",
                                                                                     "limit", "goal"] + ["cores"]


def size_name(size):
    """4096 -> 4K"""
    for unit, name in ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")):
        if size >= unit and size % unit == 0:
            return "%d%s" % (size // unit, name)
    return str(size)


def figure(us):
    """Three digits or all before the point."""
    if us is None:
        return "-"
    return "%.0f" % us if us >= 100 else "%.3g" % us


def two(value):
    """A ratio."""
    return "%.2f" % value if value is not None else "-"


def spread(ratio):
    """median [q1..q3]"""
    return "%.2f [%.2f..%.2f]" % (ratio[1], ratio[0], ratio[2]) if ratio else "-"


def cores(point):
    """Where the first two ranks' cores were: in how many rounds near, far, and on the move."""
    return ", ".join("%d %s" % (rounds, where) for where, rounds in point.get("cores", {}).items()) or "-"


def tables(config):
    """(collective, type) of a configuration with its points, in order."""
    found = {}
    for point in config["points"]:
        found.setdefault((point["collective"], point["type"]), []).append(point)
    return found


def _row(report, name, point):
    """The cells of a point."""
    config = report["configs"][name]
    peer = analysis.best_peer(point)
    best = analysis.median(point["series"][peer]) if peer else None
    row = [size_name(point["bytes"]), peer or "-", figure(best)]
    for series in peers.MEDLEY:
        us = analysis.median(point["series"].get(series))
        bandwidth = analysis.busbw(point["collective"], config["nranks"], point["bytes"], us) if us else None
        row += [figure(us), spread(analysis.ratio(point, series)), two(bandwidth),
                two(analysis.limit_ratio(config, point, series)), goals.verdict(report, name, point, series)]
    return row + [cores(point)]


def _align(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def refusals(config):
    """What was not measured, and why."""
    lines = ["not run: " + config["error"]] if config.get("error") else []
    for library, facts in config["libraries"].items():
        if facts.get("error"):
            lines.append("without %s: %s" % (library, facts["error"]))
    return lines


def goal_rows(report):
    """Cells of the table of goals."""
    rows = []
    for goal, number, met, (value, name, point, series) in goals.summary(report):
        worst = "%s at %s, %s, %s, %s, %s" % (two(value), size_name(point["bytes"]), name, point["collective"],
                                             point["type"], series)
        against = {"peer": "best peer", "limit": "limit"}.get(goal.against, goal.against)
        rows.append([goal.text, "<= %s x %s" % (two(goal.bound), against), "%d of %d" % (met, number),
                     "met" if met == number else "missed", worst])
    return rows


def whole(report):
    """Lines of all tables, for a terminal."""
    lines = []
    for name, config in report["configs"].items():
        lines += ["", "%s: %s" % (name, config["about"])] + refusals(config)
        for (collective, dtype), points in tables(config).items():
            lines += ["", "%s, %s, %s" % (name, collective, dtype)]
            lines += _align([HEAD] + [_row(report, name, point) for point in points])
    rows = goal_rows(report)
    if rows:
        lines += ["", "goals: bound, points that meet it, worst point"]
        lines += ["  %-6s %s: %s; %s; worst %s" % (row[3], row[0], row[1], row[2], row[4]) for row in rows]
    return lines


def _markdown(rows):
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows[1:]]


def machine_line(machine):
    """The machine in one sentence."""
    caches = ", ".join("%s %s" % (size, level) for level, size in machine["caches"].items())
    return "%s, %d cores (%s; caches of core 0: %s), %s GiB, Linux %s, %s" % (
        machine["cpu"], machine["cores"], ", ".join(machine["extensions"]) or machine["architecture"], caches,
        machine["memory_gib"], machine["kernel"], machine["system"])


def versions(report):
    """{library: version} over all configurations."""
    found = {}
    for config in report["configs"].values():
        for library, facts in config["libraries"].items():
            if facts.get("version"):
                found[library] = facts["version"]
    return found


def when_and_where(report):
    """Date, sources, machine and libraries, in sentences."""
    sources = report["date"] + (", commit %s" % report["commit"] if report.get("commit") else "")
    libraries = ", ".join(dict.fromkeys(versions(report).values()))
    return "%s. %s. %s." % (sources, machine_line(report["machine"]), libraries)


def _matrix_cell(report, name, point, series):
    """A ratio to the best peer, bold where a goal was missed, and that to the limit."""
    ratio = analysis.ratio(point, series) if point else None
    if not ratio:
        return "-"
    missed = goals.verdict(report, name, point, series) == "missed"
    limit = analysis.limit_ratio(report["configs"][name], point, series)
    return ("**%s**" if missed else "%s") % two(ratio[1]) + (" (%s)" % two(limit) if limit else "")


def _matrix(report, name):
    """Ratios of a configuration: a line for each collective and series, a column for each size."""
    config = report["configs"][name]
    sizes = sorted({point["bytes"] for point in config["points"]})
    rows = [["collective", "buffers"] + [size_name(size) for size in sizes]]
    for (collective, dtype), points in tables(config).items():
        by_size = {point["bytes"]: point for point in points}
        for series in peers.MEDLEY:
            cells = [_matrix_cell(report, name, by_size.get(size), series) for size in sizes]
            if any(cell != "-" for cell in cells):
                label = collective if dtype == "f32" else "%s %s" % (collective, dtype)
                rows.append([label, "ordinary" if series == "medley" else "medleyMemAlloc"] + cells)
    return _markdown(rows)


def markdown(report):
    """The report for people who read Markdown: goals, and ratios to the best peer."""
    lines = [when_and_where(report), ""]
    rows = goal_rows(report)
    if rows:
        lines += _markdown([["goal", "bound", "points that meet it", "", "worst point"]] + rows) + [""]
    for name, config in report["configs"].items():
        if config["points"]:
            lines += ["`%s`: %s. Median ratio to the best peer (and to the limit); bold: a goal was missed."
                      % (name, config["about"]), ""]
            lines += _matrix(report, name) + [""]
        elif config.get("error"):
            lines += ["`%s`: not run: %s" % (name, config["error"]), ""]
    return lines
