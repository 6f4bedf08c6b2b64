# What both guests' scripts share. HALO_RANK, OPENMPI, PEERS and ROUNDS come from the rig's environment.
# Every measurement is one line: `@ PEER` and either a line of JSON, or `BYTES SAMPLE...` in microseconds.
set -u

wanted() { case " $PEERS " in *" $1 "*) true ;; *) false ;; esac; }

# Runs the client of a pair until its server listens.
persist() {
  for attempt in $(seq 200); do
    "$@" >/run/persist.out 2>/run/persist.err && return 0
    sleep 0.1
  done
  cat /run/persist.out /run/persist.err >&2
  echo "\`$*\` found no server" >&2
  exit 1
}

# Of a size that takes long, fewer.
round_trips() { if [ "$1" -le 49152 ]; then echo 1000; elif [ "$1" -le 524288 ]; then echo 100; else echo 20; fi; }

# write_lat_client BYTES SERVER [PREFIX...]: halves of the round trips of ib_write_lat, unsorted.
write_lat_client() {
  bytes=$1 server=$2
  shift 2
  persist "$@" ib_write_lat -d rxe0 -x 1 -s "$bytes" -n "$(round_trips "$bytes")" -U "$server"
  printf '@ ib_write_lat %s' "$bytes"
  awk '$1 ~ /^[0-9]+,$/ && NF == 2 { printf " %s", $2 } END { print "" }' /run/persist.out
}

# write_lat_pinned BYTES: both sides in this machine, each on a processor of its own.
write_lat_pinned() {
  taskset -c 1 chrt -i 0 ib_write_lat -d rxe0 -x 1 -s "$1" -n 1000 >/dev/null 2>&1 &
  write_lat_client "$1" "$ADDRESS" taskset -c 0 chrt -i 0
  wait
}

# write_lat BYTES SERVER: both sides, machine 0's as the server.
write_lat() {
  if [ "$RANK" = 0 ]; then
    ib_write_lat -d rxe0 -x 1 -s "$1" -n "$(round_trips "$1")" >/dev/null || exit 1
  else
    write_lat_client "$1" "$2"
  fi
}

# write_bw PEER DIRECTIONS COUNT SERVER [OPTION...]: ib_write_bw of 4 MiB, machine 0 as the server; microseconds of a message
# in one direction.
write_bw() {
  peer=$1 directions=$2 count=$3 server=$4
  shift 4
  set -- ib_write_bw "$@" -d rxe0 -x 1 -s 4194304 -n "$count" --report_gbits
  if [ "$RANK" = 0 ]; then
    "$@" >/dev/null || exit 1
  else
    persist "$@" "$server"
    # The fourth column is the average of all directions together, in Gb/s.
    awk -v peer="$peer" -v directions="$directions" \
      '$1 == 4194304 { printf "@ %s %s %.3f\n", peer, $1, $1 * 8 / ($4 / directions) / 1000 }' /run/persist.out
  fi
}

# rounds_of MEASURE...: all of them in every round, another one first in each.
rounds_of() {
  for round in $(seq "$ROUNDS"); do
    echo "@ round $round"
    for measure in "$@"; do "$measure"; done
    next=$1
    shift
    set -- "$@" "$next"
  done
}

tagged() { sed -u -n "s/^{/@ $1 {/p"; }
