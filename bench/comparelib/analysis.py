# SPDX-License-Identifier: Apache-2.0
"""What the figures say: medians, ratios by round, bus bandwidth, limits and goals."""
import statistics


def quartiles(values):
    """First quartile, median, third quartile; of few values their extremes."""
    if len(values) < 4:
        return min(values), statistics.median(values), max(values)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def median(series):
    """Median time in us, None if there is none."""
    rounds = series.get("us") if series else None
    return statistics.median(rounds) if rounds else None


def best_peer(point):
    """Name of the peer with the least median time, None if there is none."""
    peers = {name: median(series) for name, series in point["series"].items() if not name.startswith("medley")}
    peers = {name: us for name, us in peers.items() if us is not None}
    return min(peers, key=peers.get) if peers else None


def ratio(point, name):
    """Quartiles over the rounds of a series' time divided by the best peer's, None without a peer."""
    peer = best_peer(point)
    mine = point["series"].get(name, {}).get("us")
    if not peer or not mine:
        return None
    return quartiles([a / b for a, b in zip(mine, point["series"][peer]["us"])])


def bus_factor(collective, nranks):
    """Bytes over the busiest link per byte of size, as nccl-tests count."""
    part = (nranks - 1) / nranks
    return {"allreduce": 2 * part, "broadcast": 1.0, "reduce": 1.0}.get(collective, part)


def busbw(collective, nranks, size, us):
    """GB/s."""
    return bus_factor(collective, nranks) * size / us / 1e3
