#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Each layer includes only what stands left of it. plan and algo are pure: they know no thread, socket or file.
. "${srcdir:-.}/tests/lib.sh"

# What the files of folder $1 may include, as an extended regular expression of paths.
allowed() {
  base='lib/base/'
  net="$base|lib/net/"
  contracts="$net|medley/plugin\\.h"
  case $1 in
  lib/base) echo "$base" ;;
  lib/net) echo "$net" ;;
  lib/topo | lib/boot | lib/mem | lib/dev | lib/reduce) echo "$contracts|$1/" ;;
  # They map the segments that lib/mem makes.
  transports | devices) echo "$contracts|lib/mem/mem\\.h|$1/" ;;
  lib/plan) echo "$base|medley/plugin\\.h|lib/reduce/reduce\\.h|lib/topo/team\\.h|lib/plan/" ;;
  lib/algo) echo "$base|lib/plan/plan\\.h|lib/algo/" ;;
  lib/engine) echo "$contracts|lib/(topo|boot|mem|dev|reduce|plan|algo|engine)/" ;;
  lib/api) echo "$contracts|lib/" ;;
  esac
}

for folder in lib/base lib/net lib/topo lib/boot lib/mem lib/dev lib/reduce lib/plan lib/algo lib/engine lib/api transports devices; do
  [ -d "$top/$folder" ] || continue
  may=$(allowed $folder)
  # "file:include" of all that is ours: in quotes, or one of the installed headers.
  (cd "$top" && find $folder -name '*.[ch]' -exec grep -HoE '^ *# *include +("[^"]+"|<medley/[^>]+>)' {} +) |
    sed -E 's/: *# *include +["<]/ /; s/[">]$//' >"$work/includes"
  while read -r file include; do
    case $include in config.h) continue ;; esac
    echo "$include" | grep -qE "^($may)" || fail "$file includes $include; $folder may include only $may"
  done <"$work/includes"
done

impure='pthread|threads|poll|sys/(socket|epoll|mman|wait|un)|netinet/.*|arpa/.*|netdb|unistd|fcntl'
for file in $(cd "$top" && find lib/plan lib/algo -name '*.[ch]'); do
  bad=$(grep -oE "^ *# *include +<($impure)\.h>" "$top/$file") && fail "$file is not pure: $bad"
done
finish
