# The net plugin's messages in one virtual machine, each rank on a processor of its own (see one-machine.sh).
. "$(dirname "$0")/functions.sh"

export HALO_TRANSPORT=rdma

for round in $(seq "$ROUNDS"); do
  echo "@ round $round"
  if wanted ib_write_lat; then write_lat_pinned 8192; fi
  if wanted fabric_write; then
    # It ties itself to a processor.
    set -- chrt -i 0 "$FABRIC_WRITE" --rendezvous "$ADDRESS:29710" 8192:1000
    "$@" --rank 1 >/dev/null 2>&1 &
    "$@" --rank 0 || exit 1
    wait $! || exit 1
  fi
  if wanted halo; then
    set -- chrt -i 0 "$PLUGIN_HOST" --library "$PLUGIN" peer bench --rendezvous "$ADDRESS:29700" latency:8192:1000
    taskset -c 1 "$@" --rank 1 >/dev/null 2>&1 &
    taskset -c 0 "$@" --rank 0 2>/run/plugin.err || { cat /run/plugin.err >&2; exit 1; }
    wait $! || exit 1
  fi
done
