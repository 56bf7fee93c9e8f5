#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The file of -J has the published schema, for every collective, and no secret.
. "${srcdir:-.}/tests/lib.sh"
. "${srcdir:-.}/tests/perf/lib.sh"
need python3

cat >"$work/validate.py" <<'EOF_PY'
import json, sys

text = open(sys.argv[1], encoding="utf-8").read()
collective, nranks, lines = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
environment = dict(word.split("=") for word in sys.argv[5:])
doc = json.loads(text, parse_constant=lambda word: sys.exit("%s is no JSON" % word))

def keys(thing, *names):
    if list(thing) != list(names):
        sys.exit("keys %s, not %s" % (list(thing), list(names)))

def number(x, least=0):
    if isinstance(x, bool) or not isinstance(x, (int, float)) or x < least:
        sys.exit("%r is not a number from %r" % (x, least))

def figures(f, iters):
    if f is None:
        return
    keys(f, "time_us", "min_us", "p99_us", "algbw_gbps", "busbw_gbps", "wrong")
    for name in "time_us", "algbw_gbps", "busbw_gbps":
        number(f[name])
    assert f["wrong"] in (0, None), f
    if iters:
        number(f["min_us"])
        assert f["min_us"] <= f["p99_us"], f

keys(doc, "schema", "version", "collective", "nranks", "ranks", "links", "environment", "results", "average_busbw_gbps")
assert doc["schema"] == 1 and doc["collective"] == collective and doc["nranks"] == nranks, doc
assert doc["version"].count(".") == 2, doc["version"]
number(doc["average_busbw_gbps"])
assert [r["rank"] for r in doc["ranks"]] == list(range(nranks))
for r in doc["ranks"]:
    keys(r, "rank", "host", "arch", "vendor", "device", "driver", "library")
    assert r["host"] and r["arch"] and r["vendor"] == "host" and r["driver"].startswith("Linux "), r
    assert r["library"] == "medley " + doc["version"], r
extra = ("latency_us", "bandwidth_gbps") if collective == "matrix" else ()
for link in doc["links"]:
    keys(link, "a", "b", "transport", "interface", *extra)
    assert link["transport"] in ("shm", "tcp"), link
pairs = [(l["a"], l["b"]) for l in doc["links"]]
assert pairs == [(a, b) for a in range(nranks) for b in range(nranks) if (a != b if extra else a < b)], pairs
assert doc["environment"] == environment, doc["environment"]
assert len(doc["results"]) == lines, len(doc["results"])
for r in doc["results"]:
    named = ("collective",) if collective == "all" else ()
    keys(r, *named, "size_bytes", "count", "type", "redop", "root", "algorithm", "predicted_us", "out_of_place", "in_place")
    number(r["size_bytes"])
    number(r["count"])
    number(r["root"], -1)
    if r["algorithm"] is not None:
        assert r["algorithm"]
        number(r["predicted_us"])
    elif r["count"] and r.get("collective") not in ("sendrecv", "hypercube"):
        sys.exit("no algorithm: %r" % r)
    figures(r["out_of_place"], True)
    figures(r["in_place"], True)
    assert r["out_of_place"] is not None
EOF_PY

# validate ARG...: the file against what was asked for
validate() {
  python3 "$work/validate.py" "$work/result.json" "$@" >"$work/said" 2>&1 && return
  cat "$work/said"
  head -c 1500 "$work/result.json"
  fail "JSON: $*"
}

expect 0 all_reduce --local 3 -b 8 -e 512 -f 8 -n 4 -J "$work/result.json" && validate all_reduce 3 3
expect 0 all --local 2 -b 256 -e 256 -n 2 -d half -J "$work/result.json" && validate all 2 14
expect 0 broadcast -t 2 -g 2 -b 8 -e 8 -n 2 -r all -J "$work/result.json" && validate broadcast 4 4
expect 0 --matrix --local 3 -e 4K -n 2 -J "$work/result.json" && validate matrix 3 0

# Of the environment: what differs from its default, and never a key.
export MEDLEY_COMM_KEY="a-very-secret-key-of-mine" MEDLEY_TIMEOUT=77s MEDLEY_CMA=1 SECRET_TOKEN=abc
expect 0 all_reduce --local 2 -b 8 -e 8 -n 1 -J "$work/result.json" && validate all_reduce 2 1 MEDLEY_TIMEOUT=77s
grep -qE 'secret|SECRET|abc' "$work/result.json" && fail "a secret is in the file"
unset MEDLEY_COMM_KEY MEDLEY_TIMEOUT MEDLEY_CMA

# Single iterations are not known on a stream without waits.
expect 0 all_reduce -t 2 -y 0 -b 8 -e 8 -n 2 -J "$work/result.json"
grep -q '"min_us":null,"p99_us":null' "$work/result.json" || fail "min_us on a stream"
# Without the check nothing is known of wrong data.
expect 0 all_reduce -t 2 -c 0 -b 8 -e 8 -n 2 -J "$work/result.json"
grep -q '"wrong":null' "$work/result.json" || fail "wrong without a check"
# A run that fails leaves no file behind.
rm -f "$work/result.json"
expect 2 reduce -t 2 -r 5 -J "$work/result.json"
[ ! -e "$work/result.json" ] || fail "a file without content was left"
finish
