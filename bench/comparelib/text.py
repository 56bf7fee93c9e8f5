# SPDX-License-Identifier: Apache-2.0
"""The report as text for a terminal."""
from . import analysis, peers


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


def spread(ratio):
    """median [q1..q3]"""
    return "%.2f [%.2f..%.2f]" % (ratio[1], ratio[0], ratio[2]) if ratio else "-"


def point_row(config, point):
    """The cells of a point."""
    peer = analysis.best_peer(point)
    best = analysis.median(point["series"][peer]) if peer else None
    row = [size_name(point["bytes"]), peer or "-", figure(best)]
    for name in peers.MEDLEY:
        us = analysis.median(point["series"].get(name))
        limit = analysis.limit_ratio(config, point, name)
        row += [figure(us), spread(analysis.ratio(point, name)),
                "%.2f" % analysis.busbw(point["collective"], config["nranks"], point["bytes"], us) if us else "-",
                "%.2f" % limit if limit else "-"]
    return row


HEAD = ["size", "best peer", "us"] + ["medley us", "ratio", "busbw", "limit"] + ["mem us", "ratio", "busbw", "limit"]


def align(rows):
    """Lines of columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]


def tables(config):
    """(collective, type) of a configuration, in order."""
    return list(dict.fromkeys((point["collective"], point["type"]) for point in config["points"]))


def whole(report):
    """Lines of all tables."""
    lines = []
    for name, config in report["configs"].items():
        lines += ["", "%s: %s" % (name, config["about"])]
        if config.get("error"):
            lines.append("not run: " + config["error"])
        for library, facts in config["libraries"].items():
            if facts.get("error"):
                lines.append("without %s: %s" % (library, facts["error"]))
        for collective, dtype in tables(config):
            points = [p for p in config["points"] if (p["collective"], p["type"]) == (collective, dtype)]
            lines += ["", "%s, %s, %s" % (name, collective, dtype)]
            lines += align([HEAD] + [point_row(config, point) for point in points])
    return lines
