# SPDX-License-Identifier: Apache-2.0
"""What Medley wants to reach, and whether it does. The one table of goals."""
from dataclasses import dataclass

from . import analysis, peers

K, M = 1 << 10, 1 << 20
ORDINARY, MEMORY = ("medley",), ("medley-mem",)
BOTH = ORDINARY + MEMORY
REST = tuple(name for name in analysis.COLLECTIVES if name != "allreduce")
LINE = 1 / 0.95  # at least 95 % of a line's payload rate


@dataclass(frozen=True)
class Goal:
    """Median time / reference <= bound, for the points that fit.

    against: "peer": the best peer, by round; "limit": bare programs; "line": a shaped line; "f32": fp32 of as many
    bytes; or another configuration, at the same size."""

    text: str
    configs: tuple
    bound: float
    against: str = "peer"
    collectives: tuple = ("allreduce",)
    series: tuple = ORDINARY
    low: int = 0
    high: int = 1 << 40
    types: tuple = ("f32",)

    def fits(self, config, point, series):
        """Is it about this point?"""
        return (config in self.configs and point["collective"] in self.collectives and series in self.series
                and point["type"] in self.types and self.low <= point["bytes"] <= self.high)


GOALS = (
    Goal("2 ranks: not behind any peer", ("shm2",), 1.05),
    Goal("2 ranks, from 256 KiB", ("shm2",), 0.7, low=256 * K),
    Goal("2 ranks, other collectives: not behind any peer", ("shm2",), 1.05, collectives=REST),
    Goal("2 ranks, reduce-scatter from 64 KiB", ("shm2",), 0.5, collectives=("reducescatter",), low=64 * K),
    Goal("2 ranks, medleyMemAlloc, 64 KiB to 1 MiB", ("shm2",), 0.25, series=MEMORY, low=64 * K, high=M),
    Goal("2 ranks, medleyMemAlloc, to 64 MiB", ("shm2",), 0.45, series=MEMORY, low=M + 1, high=64 * M),
    Goal("2 ranks, medleyMemAlloc, from 64 KiB: within 15 % of the bare program", ("shm2",), 1.15, "limit",
         series=MEMORY, low=64 * K),
    Goal("4 ranks: not behind any peer", ("shm4",), 1.05),
    Goal("8 ranks: no cliff: at most 3 times their share (twice the time) of 4 ranks", ("shm8",), 6.0, "shm4",
         series=BOTH),
    Goal("other types: at least 80 % of fp32's bytes per second, from 1 MiB", ("shm2",), 1.25, "f32", low=M,
         series=BOTH, types=("f64", "i8", "f16", "bf16", "f8e4m3", "f8e5m2")),
    Goal("two hosts, 8 bytes", ("hosts1", "hosts1-10g", "hosts1-1g"), 1.05, high=8),
    Goal("two hosts, unshaped: not behind any peer", ("hosts1", "hosts2"), 1.05),
    Goal("two hosts at 10 Gbit/s, 4 to 256 MiB: 95 % of the line", ("hosts1-10g",), LINE, "line", low=4 * M,
         high=256 * M),
    Goal("two hosts of 2 ranks at 1 Gbit/s, from 4 MiB: 95 % of the hierarchical bound", ("hosts2-1g",), LINE, "line",
         low=4 * M),
    Goal("two hosts of 2 ranks at 10 Gbit/s, from 4 MiB: 1.1 times the best peer", ("hosts2-10g",), 1 / 1.1,
         low=4 * M),
)


def _other_point(report, config, point, **changes):
    wanted = dict(collective=point["collective"], type=point["type"], bytes=point["bytes"])
    wanted.update(changes)
    for other in report["configs"].get(config, {"points": []})["points"]:
        if all(other[word] == value for word, value in wanted.items()):
            return other
    return None


def value_of(goal, report, config, point, series):
    """What the goal bounds, None if it is not known."""
    if goal.against == "peer":
        ratio = analysis.ratio(point, series)
        return ratio[1] if ratio else None
    if goal.against == "limit":
        return analysis.limit_ratio(report["configs"][config], point, series)
    if goal.against == "line":
        line, mine = analysis.line_us(report["configs"][config], point), analysis.median(point["series"].get(series))
        return mine / line if mine and line else None
    if goal.against == "f32":
        other = _other_point(report, config, point, type="f32")
    else:
        other = _other_point(report, goal.against, point)
    mine = analysis.median(point["series"].get(series))
    reference = analysis.median(other["series"].get(series)) if other else None
    return mine / reference if mine and reference else None


def judged(report, config, point, series):
    """[(goal, value)] of the goals that are about a series at a point."""
    found = []
    for goal in GOALS:
        if goal.fits(config, point, series):
            value = value_of(goal, report, config, point, series)
            if value is not None:
                found.append((goal, value))
    return found


def verdict(report, config, point, series):
    """"met", "missed", or "" if no goal is about it."""
    found = judged(report, config, point, series)
    if not found:
        return ""
    return "met" if all(value <= goal.bound for goal, value in found) else "missed"


def summary(report):
    """For each goal that is about something measured: (goal, points, points met, (worst value, where))."""
    rows = []
    for goal in GOALS:
        values = []
        for name in goal.configs:
            for point in report["configs"].get(name, {"points": []})["points"]:
                for series in peers.MEDLEY:
                    if goal.fits(name, point, series):
                        value = value_of(goal, report, name, point, series)
                        if value is not None:
                            values.append((value, name, point, series))
        if values:
            met = sum(value <= goal.bound for value, *_ in values)
            rows.append((goal, len(values), met, max(values, key=lambda one: one[0])))
    return rows
