# SPDX-License-Identifier: Apache-2.0
# Runs that cover all pairs: for any two factors of what stands below, every combination of their levels is in some run.
# Most defects need no more than two things to meet. Greedy: of some random candidates, the one that covers most new pairs
# is next. -v seed=N; -v vendors="cuda hip ..."; prints a run a line, and what it did on the last.
function pick(n) { return 1 + int(rand() * n) }
function key(a, b, va, vb) { return a "," b "," va "," vb }
function gain(v, take,    a, b, n, k) {
  n = 0
  for (a = 1; a < factors; a++)
    for (b = a + 1; b <= factors; b++) {
      k = key(a, b, v[a], v[b])
      if (k in seen) continue
      n++
      if (take) seen[k] = 1
    }
  return n
}
function factor(name, list) { levels[++factors] = split(list, names); for (i in names) level[factors, i] = names[i] }
BEGIN {
  srand(seed)
  factor("first vendor", vendors)
  factor("second vendor", vendors)
  factor("who has what", "interleaved contiguous singletons uneven hosts_between shared_device")
  factor("how they are linked", "shm tcp two_hosts three_hosts a_host_each")
  factor("ranks", "2 3 4 5 6 7 8")
  factor("processes or threads", "processes threads")
  factor("setting", "none window staging queues delay deterministic nowait no_native")
  for (a = 1; a < factors; a++) for (b = a + 1; b <= factors; b++) left += levels[a] * levels[b]
  all = left
  while (left > 0) {
    most = -1
    for (k = 0; k < 30; k++) {
      for (f = 1; f <= factors; f++) v[f] = pick(levels[f])
      g = gain(v, 0)
      if (g <= most) continue
      most = g
      for (f = 1; f <= factors; f++) best[f] = v[f]
    }
    if (most <= 0) { # what is left is rare: look for it
      for (a = 1; a < factors && most <= 0; a++)
        for (b = a + 1; b <= factors && most <= 0; b++)
          for (x = 1; x <= levels[a] && most <= 0; x++)
            for (y = 1; y <= levels[b] && most <= 0; y++) {
              if (key(a, b, x, y) in seen) continue
              best[a] = x; best[b] = y; most = 1
            }
    }
    left -= gain(best, 1)
    line = ""
    for (f = 1; f <= factors; f++) line = line (f > 1 ? " " : "") level[f, best[f]]
    print line
    runs++
  }
  print "# seed " seed ": " runs " runs cover all " all " pairs of " factors " factors"
}
