# SPDX-License-Identifier: Apache-2.0
"""What the machine reaches without any library: runs bench/limits for a point, or reads what it said before."""
import json
import os
import statistics
import subprocess
import time

PLACES = ("bench/limits/limits", "bench/limits")
KINDS = ("direct", "pvr", "slots")
NAMES = {"reducescatter": "reduce_scatter"}  # where bench/limits has another name
SMALL = 1 << 20  # up to here the program is quick
GUESS = 1 / (4 << 20)  # seconds for a byte of size and rank, for a first estimate


def program(build):
    """Its path, None if it was not built."""
    for place in PLACES:
        path = os.path.join(build, place)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


class Limits:
    """Where limits come from: a file with what bench/limits --json said, or the program, run for each point."""

    def __init__(self, build, source):
        """source: "live", "none", or the path of a file."""
        self.path = program(build) if source == "live" else None
        self.lines = []
        self.cost = GUESS
        if source not in ("live", "none"):
            with open(source, encoding="utf-8") as lines:
                self.lines = _parse(lines.read())

    def sampler(self, config, collective, dtype, size, clock):
        """A Sampler for a point; None where there is nothing like it."""
        if dtype != "f32" or config.network:
            return None
        return Sampler(self, (KINDS, config.nranks, NAMES.get(collective, collective), size), clock)

    def known(self, wanted):
        """{kind: us} from the file."""
        return _pick(self.lines, *wanted)

    def run(self, wanted, seconds):
        """{kind: us} by running the program, if that takes no more than so many seconds (None: however long)."""
        kinds, nranks, name, size = wanted
        if not self.path or (seconds is not None and self.cost * size * nranks > seconds):
            return {}
        command = [self.path, "--json", "--only", ",".join("%s_%d" % (kind, nranks) for kind in kinds), "--coll", name,
                   "--sizes", str(size), "--rounds", "3" if size <= SMALL else "1"]
        start = time.monotonic()
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        except (OSError, subprocess.TimeoutExpired):
            return {}
        if size >= SMALL:
            self.cost = (time.monotonic() - start) / (size * nranks)
        return _pick(_parse(done.stdout), *wanted)


class Sampler:
    """Finds the limits of one point: between the rounds, three times where that is quick."""

    def __init__(self, limits, wanted, clock):
        self.limits, self.wanted, self.clock = limits, wanted, clock
        self.found = {}  # kind: list of us
        self.seconds = 0.0

    def __call__(self, number, rounds):
        quick = self.wanted[3] <= SMALL
        if self.limits.known(self.wanted) or number not in ({0, rounds // 2, rounds - 1} if quick else {rounds // 2}):
            return
        start = time.monotonic()
        for kind, us in self.limits.run(self.wanted, self.clock.left()).items():
            self.found.setdefault(kind, []).append(us)
        self.seconds += time.monotonic() - start

    def result(self):
        """{kind: us}"""
        known = self.limits.known(self.wanted)
        return known or {kind: float("%.4g" % statistics.median(us)) for kind, us in self.found.items()}


def _parse(text):
    """The objects of its lines."""
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _pick(lines, kinds, nranks, name, size):
    """{kind: least us} of the lines that fit."""
    found = {}
    for line in lines:
        kind, us = line.get("limit"), line.get("us", 0)
        if (kind, line.get("ranks"), line.get("coll"), line.get("bytes")) == (kind, nranks, name, size) and us > 0:
            if kind in kinds:
                found[kind] = min(found.get(kind, us), us)
    return found
