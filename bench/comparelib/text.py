# SPDX-License-Identifier: Apache-2.0
"""The report as text for a terminal."""
from . import analysis, configs


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


def point_row(point, nranks):
    """The cells of a point."""
    peer = analysis.best_peer(point)
    row = [size_name(point["bytes"])]
    for name in configs.MEDLEY:
        us = analysis.median(point["series"].get(name))
        row += [figure(us), spread(analysis.ratio(point, name)),
                "%.2f" % analysis.busbw(point["collective"], nranks, point["bytes"], us) if us else "-"]
    best = analysis.median(point["series"][peer]) if peer else None
    return row[:1] + [peer or "-", figure(best)] + row[1:]


HEAD = ["size", "best peer", "us", "medley us", "ratio", "busbw", "mem us", "ratio", "busbw"]


def align(rows):
    """Lines of columns."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths)) for row in rows]


def table(name, config, collective, dtype):
    """Lines of the table of one collective."""
    points = [p for p in config["points"] if p["collective"] == collective and p["type"] == dtype]
    rows = [HEAD] + [point_row(point, config["nranks"]) for point in points]
    return ["%s %s %s" % (name, collective, dtype)] + align(rows)
