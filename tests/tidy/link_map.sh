#!/usr/bin/env bash
# link_map: kilat-sim links the very objects of kilatd, all but main and the door, so that what the simulation
# shows is true of the server. Read from the maps that the linker writes: which member of which libkilat_*.a.
set -euo pipefail
cd "$KILAT_TOP"

members() { # prints libkilat_x.a(object) for each member that the link took in
    grep -oE 'libkilat_(core|proto|storage|queue|dns|settings|daemon)\.a\([^)]+\)' "$1" | sort -u
}
for map in build/release/kilatd.map build/release/kilat-sim.map; do
    [ -s "$map" ] || { echo "$map is missing: the program was not linked" && exit 1; }
done
# The engine's own threads and shards belong to the door's side of core/: the simulation drives shards itself.
difference=$(comm -3 <(members build/release/kilatd.map) <(members build/release/kilat-sim.map))
excused=$(grep -vE '^(#|$)' tests/tidy/link_map.allow || true)
difference=$(sed 's/^\t*//' <<<"$difference" | grep -vxF -- "${excused:-nothing}" || true)
if [ -n "$difference" ]; then
    printf 'linked into only one of kilatd and kilat-sim:\n%s\n' "$difference"
    exit 1
fi
# And none of the door's: neither the kernel's ring nor the real file calls.
if grep -qE 'libkilat_door\.a\(' build/release/kilat-sim.map; then
    echo "kilat-sim links the real door:"
    grep -oE 'libkilat_door\.a\([^)]+\)' build/release/kilat-sim.map | sort -u
    exit 1
fi
