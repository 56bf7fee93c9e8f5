# SPDX-License-Identifier: Apache-2.0
"""What the machine reaches without any library: runs bench/limits for a point."""
import json
import os
import subprocess

ROUNDS = 5
PLACES = ("bench/limits/limits", "bench/limits")
KINDS = ("direct", "pvr", "slots")


def program(build):
    """Its path, None if it was not built."""
    for place in PLACES:
        path = os.path.join(build, place)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def measure(build, config, collective, dtype, size):
    """{kind: us} of what bare programs reach; empty where there is nothing like it."""
    path = program(build)
    if not path or config.hosts > 1 or config.tcp or dtype != "f32":
        return {}
    only = ",".join("%s_%d" % (kind, config.nranks) for kind in KINDS)
    command = [path, "--json", "--only", only, "--coll", collective, "--sizes", str(size), "--rounds", str(ROUNDS)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return read(done.stdout, config.nranks, collective, size)


def read(lines, nranks, collective, size):
    """{kind: least us} of the lines that fit."""
    found = {}
    for line in lines.splitlines():
        try:
            one = json.loads(line)
        except ValueError:
            continue
        name = str(one.get("coll", "")).replace("_", "").replace("-", "")
        if one.get("ranks") == nranks and name == collective and one.get("bytes") == size and one.get("us", 0) > 0:
            kind = one["limit"]
            found[kind] = min(found.get(kind, one["us"]), one["us"])
    return found
