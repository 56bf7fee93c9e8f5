# SPDX-License-Identifier: Apache-2.0
"""What the figures say: medians, ratios by round, bus bandwidth, limits."""
import statistics

from . import peers

COLLECTIVES = ("allreduce", "allgather", "reducescatter", "broadcast", "alltoall", "gather", "scatter", "reduce")
# A shaped link carries so much of its rate as payload: 1448 of the 1514 bytes of a TCP segment's frame.
PAYLOAD_SHARE = 1448 / 1514
# Smaller messages pass the token bucket of a shaped link in its burst.
LEAST_OF_LINE = 1 << 20


def quartiles(values):
    """First quartile, median, third quartile; of few values their extremes."""
    if len(values) < 4:
        return min(values), statistics.median(values), max(values)
    return tuple(statistics.quantiles(values, n=4, method="inclusive"))


def median(series):
    """Median time in us, None if there is none."""
    if not series:
        return None
    if "quartiles" in series:
        return series["quartiles"][1]
    return statistics.median(series["us"]) if series.get("us") else None


def best_peer(point):
    """Name of the peer with the least median time, None if there is none."""
    found = {name: median(series) for name, series in point["series"].items() if name in peers.PEERS}
    found = {name: us for name, us in found.items() if us is not None}
    return min(found, key=found.get) if found else None


def ratio(point, name):
    """Quartiles over the rounds of a series' time divided by the best peer's, None without a peer."""
    peer = best_peer(point)
    mine = point["series"].get(name, {})
    if "ratio" in mine:
        return tuple(mine["ratio"])
    if not peer or not mine.get("us") or not point["series"][peer].get("us"):
        return None
    return quartiles([a / b for a, b in zip(mine["us"], point["series"][peer]["us"])])


def bus_factor(collective, nranks):
    """Bytes over the busiest link per byte of size, as nccl-tests count."""
    part = (nranks - 1) / nranks
    return {"allreduce": 2 * part, "broadcast": 1.0, "reduce": 1.0}.get(collective, part)


def busbw(collective, nranks, size, us):
    """GB/s."""
    return bus_factor(collective, nranks) * size / us / 1e3


def line_us(config, point):
    """The time that a shaped line needs for what must cross it in one direction, None if there is no such line.

    Both directions are used, and what a host's ranks have in common crosses once (the hierarchical bound)."""
    if not config.get("gbit") or point["bytes"] < LEAST_OF_LINE:
        return None
    size, per_host = point["bytes"], config["nranks"] // config["hosts"]
    crossing = {"allreduce": size, "broadcast": size, "reduce": size, "alltoall": per_host * size / 2}
    return crossing.get(point["collective"], size / 2) * 8 / (config["gbit"] * 1e3 * PAYLOAD_SHARE)


def limit_us(config, point, name):
    """What bare programs (bench/limits, sockets), or the line, reach in place of a series of Medley; None if unknown.
    """
    network = [us for us in (line_us(config, point), median(point["series"].get("pump"))) if us]
    if network:
        return max(network)  # in its burst a shaped line lets the sockets be faster than it is
    limits = point.get("limits") or {}
    kinds = ("direct",) if name == "medley-mem" else ("pvr", "slots")
    found = [limits[kind] for kind in kinds if kind in limits]
    return min(found) if found else None


def limit_ratio(config, point, name):
    """Median time divided by the limit's."""
    limit, mine = limit_us(config, point, name), median(point["series"].get(name))
    return mine / limit if limit and mine else None


def wrong(report):
    """What went wrong: lines of text."""
    lines = []
    for name, config in report["configs"].items():
        for point in config["points"]:
            for series, result in point["series"].items():
                if "error" in result and result["error"] != "not offered":
                    lines.append("%s %s %s %d: %s: %s" % (name, point["collective"], point["type"], point["bytes"],
                                                          series, result["error"]))
    return lines
