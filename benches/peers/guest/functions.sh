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

# write_lat_client BYTES SERVER [PREFIX...]: halves of the round trips of ib_write_lat, unsorted.
write_lat_client() {
  bytes=$1 server=$2
  shift 2
  persist "$@" ib_write_lat -d rxe0 -x 1 -s "$bytes" -n 1000 -U "$server"
  printf '@ ib_write_lat %s' "$bytes"
  awk '$1 ~ /^[0-9]+,$/ && NF == 2 { printf " %s", $2 } END { print "" }' /run/persist.out
}

tagged() { sed -u -n "s/^{/@ $1 {/p"; }
