# SPDX-License-Identifier: Apache-2.0
"""The report: what is kept of a run, how runs are joined, and its short form.

  {"schema": 1, "machine": {...}, "date": "...", "commit": "...", "rounds": 15, "configs": {NAME: {
      "about", "nranks", "hosts", "gbit",
      "libraries": {NAME: {"command", "version", "error"}},
      "points": [{"collective", "type", "bytes", "rounds",
                  "cores": {"near", "far", "mixed": rounds},
                  "series": {NAME: {"us": [one per round], "iterations", "variant"} or {"error"}},
                  "limits": {NAME: us}}]}}}

In the short form, which is for files that are kept, a series has "quartiles" (us) in place of "us", and Medley's have
"ratio", the quartiles of their ratio to the best peer by round.
"""
import json
import os

from . import analysis, peers

SCHEMA = 1


class BadReport(Exception):
    """A file is not a report, or two do not fit together."""


def key_of(point):
    """What a point is."""
    return point["collective"], point["type"], point["bytes"]


def load(path):
    """Reads a report."""
    try:
        with open(path, encoding="utf-8") as source:
            report = json.load(source)
    except (OSError, ValueError) as error:
        raise BadReport("%s: %s" % (path, error)) from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA or "configs" not in report:
        raise BadReport("%s: not a report of bench/compare with schema %d" % (path, SCHEMA))
    return report


def save(report, path):
    """Writes a report, a line for each point; the file is whole at any time."""
    text = json.dumps(report, separators=(",", ":"))
    text = text.replace('{"collective"', '\n{"collective"').replace('"libraries"', '\n"libraries"')
    with open(path + ".new", "w", encoding="utf-8") as out:
        out.write(text + "\n")
    os.replace(path + ".new", path)


def join_config(old, new):
    """Points of the later run replace those of the earlier."""
    points = {key_of(point): point for point in old["points"] + new["points"]}
    libraries = dict(old["libraries"])
    for name, library in new["libraries"].items():
        if "error" not in library or name not in libraries:
            libraries[name] = library
    order = {name: number for number, name in enumerate(analysis.COLLECTIVES)}
    ordered = sorted(points.values(), key=lambda p: (order.get(p["collective"], 99), p["type"], p["bytes"]))
    return dict(new, libraries=libraries, points=ordered)


def join(old, new):
    """One report of two from the same machine."""
    if old is None:
        return new
    if old["machine"] != new["machine"]:
        raise BadReport("these reports come from different machines")
    configs = dict(old["configs"])
    for name, config in new["configs"].items():
        configs[name] = join_config(configs[name], config) if name in configs else config
    return dict(new, configs=configs)


def _rounded(values):
    return [float("%.4g" % value) for value in values]


def _short_series(point, name, series):
    if "us" not in series:
        return series
    short = {word: value for word, value in series.items() if word not in ("us", "iterations")}
    short["quartiles"] = _rounded(analysis.quartiles(series["us"]))
    ratio = analysis.ratio(point, name) if name in peers.MEDLEY else None
    if ratio:
        short["ratio"] = _rounded(ratio)
    return short


def shorten(report):
    """The short form."""
    configs = {}
    for name, config in report["configs"].items():
        points = [dict(point, series={s: _short_series(point, s, series) for s, series in point["series"].items()})
                  for point in config["points"]]
        configs[name] = dict(config, points=points)
    return dict(report, configs=configs)
