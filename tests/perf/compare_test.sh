#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# bench/compare: what it makes of made-up figures (medians, ratios, limits, goals, its files), and a short real run.
. "${srcdir:-.}/tests/lib.sh"
need python3
need timeout
for name in $(env | sed -n 's/^\(\(MEDLEY\|OMPI\|PMIX\|PMI\|UCX\|COMPARE\)_[A-Za-z0-9_]*\)=.*/\1/p'); do unset "$name"; done

# compare STATUS ARG...: it ends with that status; leaves $work/out
compare() {
  wanted=$1
  shift
  timeout -k 5 60 python3 "$top/bench/compare" --build "$build" "$@" >"$work/out" 2>&1 </dev/null
  status=$?
  [ $status = "$wanted" ] && return 0
  tail -n 25 "$work/out"
  fail "compare $*: exit status $status, not $wanted"
  return 1
}
# row WORDS: a line of the output, blanks apart
row() {
  sed 's/  */ /g; s/^ //' "$work/out" | grep -qF -- "$1" && return 0
  cat "$work/out"
  fail "no line '$1'"
}

cat >"$work/make.py" <<'EOF_PY'
"""Reports with figures that can be worked out by hand."""
import json, sys

def point(collective, size, series, **more):
    made = {name: {"us": us, "iterations": 1} if isinstance(us, list) else {"error": us} for name, us in series.items()}
    return dict({"collective": collective, "type": "f32", "bytes": size, "rounds": 4, "series": made}, **more)

def config(nranks, hosts, gbit, *points):
    return {"about": "made up <&>", "nranks": nranks, "hosts": hosts, "gbit": gbit, "points": list(points),
            "libraries": {"medley": {"command": "worker", "version": "Medley 1 <&>"}, "gloo": {"error": "no <gloo>"}}}

machine = {"cpu": "Made (R) CPU @ 1 GHz", "architecture": "x", "cores": 2, "caches": {"L2": "1M"}, "extensions": [],
           "memory_gib": 1, "kernel": "1", "system": "none"}
# By round 0.5, 1, 1.5, 4 of mpich, whose median is the least.
first = point("allreduce", 8, {"medley": [1.0, 2.0, 3.0, 8.0], "medley-mem": [1.0] * 4, "ompi": [1.0, 9.0, 9.0, 9.0],
                               "mpich": [2.0] * 4, "gloo": "not offered"}, limits={"direct": 0.5, "pvr": 4.0, "slots": 0.8})
# Medley 500 us of 1000: 1 MiB of 2 ranks moves 2 x 1/2 x 1 MiB.
second = point("allreduce", 1 << 20, {"medley": [500.0] * 4, "ompi": [1000.0] * 4})
third = point("gather", 1 << 20, {"medley": [100.0] * 4, "ompi": [50.0] * 4})
# 4 MiB over 10 Gbit/s, of which 1448/1514 carry payload: 3508.4 us.
line = point("allreduce", 4 << 20, {"medley": [3600.0] * 4, "ompi": [4000.0] * 4})
report = {"schema": 1, "machine": machine, "date": "2020-02-02", "rounds": 4,
          "configs": {"shm2": config(2, 1, 0, first, second, third), "hosts1-10g": config(2, 2, 10, line)}}
json.dump(report, open(sys.argv[1] + "/report.json", "w"))

# A later run that replaces the second point, and fails in another.
worse = point("allreduce", 1 << 20, {"medley": [900.0] * 4, "ompi": [1000.0] * 4})
bad = point("reduce", 8, {"medley": "wrong result (default): rank 1: element 0", "ompi": [1.0] * 4})
json.dump(dict(report, configs={"shm2": config(2, 1, 0, worse, bad)}), open(sys.argv[1] + "/later.json", "w"))
json.dump(dict(report, machine=dict(machine, cores=9)), open(sys.argv[1] + "/other.json", "w"))
EOF_PY

cat >"$work/check_page.py" <<'EOF_PY'
"""The page is well formed and refers to nothing outside itself."""
import sys
from html.parser import HTMLParser

class Checker(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen, self.ids, self.links = [], {}, set(), set()

    def handle_starttag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag in ("script", "link", "img", "iframe", "object", "use", "image"):
            sys.exit("a <%s>" % tag)
        for name, value in attrs:
            if name in ("src", "srcset", "data", "xlink:href", "action") or "url(" in (value or "") or "//" in (value or ""):
                sys.exit("%s=%s" % (name, value))
            if name == "href":
                self.links.add(value)
            if name == "id":
                self.ids.add("#" + value)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            sys.exit("</%s> closes nothing" % tag)

    def handle_data(self, data):
        if self.open[-1:] == ["style"] and ("url(" in data or "@import" in data):
            sys.exit("the style refers to something")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag != "meta":
            self.open.pop()

checker = Checker()
checker.feed(open(sys.argv[1], encoding="utf-8").read())
checker.close()
assert not checker.open, checker.open
assert checker.links <= checker.ids, (checker.links, checker.ids)
assert checker.seen["svg"] >= int(sys.argv[2]) and checker.seen["polyline"] >= int(sys.argv[2]), checker.seen
EOF_PY

python3 "$work/make.py" "$work" || fail "no reports"
echo "== figures"
printf 'before\n<!-- compare: begin -->\nold\n<!-- compare: end -->\nafter\n' >"$work/readme"
compare 0 --from "$work/report.json" --out "$work/files" --publish "$work/kept" --readme "$work/readme" && {
  row '8 mpich 2 2.5 1.25 [0.88..2.12] 0.00 3.12 missed 1 0.50 [0.50..0.50] 0.01 2.00'
  row '1M ompi 1000 500 0.50 [0.50..0.50] 2.10 - met'
  row '1M ompi 50 100 2.00 [2.00..2.00] 5.24 - missed'
  row '4M ompi 4000 3600 0.90 [0.90..0.90] 1.17 1.03 met'
  row 'without gloo: no <gloo>'
  row 'missed 2 ranks: not behind any peer: <= 1.05 x best peer; 1 of 2; worst 1.25 at 8, shm2, allreduce, f32, medley'
  cp "$work/out" "$work/long"
}
python3 "$work/check_page.py" "$work/files/compare.html" 6 || fail "the page"
grep -q '^old$' "$work/readme" && fail "old tables are left"
for line in before after; do grep -q "^$line\$" "$work/readme" || fail "'$line' is lost"; done
grep -qF '| allreduce | ordinary | **1.25** (3.12) | 0.50 |' "$work/readme" || { cat "$work/readme"; fail "no table"; }

echo "== the short form says the same"
compare 0 --from "$work/kept/made-2-cores.json" && { cmp -s "$work/out" "$work/long" || { diff "$work/out" "$work/long"; fail "they differ"; }; }
grep -q '"us"' "$work/kept/made-2-cores.json" && fail "rounds are kept"
python3 "$work/check_page.py" "$work/kept/made-2-cores.html" 6 || fail "the page that is kept"
[ -s "$work/kept/made-2-cores.md" ] || fail "no Markdown"

echo "== joined"
compare 1 --from "$work/report.json" "$work/later.json" && {
  row '1M ompi 1000 900 0.90 [0.90..0.90] 1.17 - missed'
  row 'ERROR: shm2 reduce f32 8: medley: wrong result (default): rank 1: element 0'
  row '8 mpich 2 2.5'
}
compare 1 --from "$work/report.json" --check
compare 2 --from "$work/report.json" "$work/other.json" && row 'these reports come from different machines'
echo '{}' >"$work/none.json"
compare 2 --from "$work/none.json" && row 'not a report of bench/compare with schema 1'
compare 2 --from "$work/absent.json"
compare 2 --from "$work/report.json" --readme "$work/none.json" && row 'has not the marks'
compare 2 --config nowhere && row 'nowhere is not one of shm2'
compare 2 --sizes 6:8

echo "== a real run"
if grep -q 'fsanitize' "$build/config.status" 2>/dev/null; then
  echo "not tried: the worker cannot load a library that was built with a sanitizer"
elif ! { command -v gcc || command -v cc || command -v clang; } >/dev/null 2>&1; then
  echo "not tried: there is no C compiler"
elif [ ! -e "$build/libmedley.la" ]; then
  echo "not tried: the library was not built"
else
  peers=none
  command -v mpicc.openmpi >/dev/null 2>&1 && command -v mpirun.openmpi >/dev/null 2>&1 && peers=ompi
  [ $peers = ompi ] || echo "without a peer: Open MPI is not installed"
  cat >"$work/real.py" <<'EOF_PY'
import json, sys

report = json.load(open(sys.argv[1]))
config = report["configs"]["shm2"]
names = ["medley", "medley-mem"] + ([] if sys.argv[2] == "none" else [sys.argv[2]])
assert [(p["collective"], p["bytes"]) for p in config["points"]] == [
    (c, b) for c in ("allreduce", "gather") for b in (8, 1 << 16)], config["points"]
assert report["machine"]["cores"] >= 1 and config["libraries"]["medley"]["version"].startswith("Medley "), report
for point in config["points"]:
    assert list(point["series"]) == names, point
    for series in point["series"].values():
        assert len(series["us"]) == 2 and min(series["us"]) > 0 and series["iterations"] >= 1, point
EOF_PY
  set -- --peers $peers --rounds 2 --limits none --collectives allreduce,gather --out "$work/real"
  compare 0 "$@" --sizes 8 && compare 0 "$@" --sizes 8:64K:8192 --resume &&
    { python3 "$work/real.py" "$work/real/compare.json" $peers || { cat "$work/out"; fail "the report"; }; }
  python3 "$work/check_page.py" "$work/real/compare.html" 4 || fail "the page of the real run"

  # A type that MPI lacks is measured without it.
  compare 0 --peers $peers --rounds 1 --limits none --types bf16 --sizes 64 --out "$work/type" &&
    { grep -q '"type":"bf16".*"medley":{"us"' "$work/type/compare.json" || fail "no bf16"; }
  [ $peers = none ] || grep -q '"ompi":{"error":"not offered"}' "$work/type/compare.json" || fail "MPI has bf16"

  echo "== hosts, and bare sockets"
  compare 0 --config hosts1-1g,tcp2 --peers none --rounds 1 --sizes 64K --out "$work/hosts" && {
    sed -n 's/.*"error":"SKIP: \([^"]*\)".*/not tried between hosts: \1/p' "$work/hosts/compare.json"
    grep -q '"pump":{"us"' "$work/hosts/compare.json" || { cat "$work/out"; fail "no bare sockets"; }
  }
fi
finish
