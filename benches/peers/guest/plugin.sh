# The net plugin in two virtual machines, over rxe0 and the cable between them. Machine 0 serves and machine 1 calls.
. "$(dirname "$0")/functions.sh"
first=192.168.100.1

for round in $(seq "$ROUNDS"); do
  echo "@ round $round"
  if wanted ib_write_lat; then write_lat 8192 "$first"; fi
  if wanted fabric_write; then
    HALO_TRANSPORT=rdma "$FABRIC_WRITE" --rank "$RANK" --rendezvous "$first:29710" 8192:1000 || exit 1
  fi
  if wanted halo; then
    HALO_TRANSPORT=rdma "$PLUGIN_HOST" --library "$PLUGIN" peer bench --rank "$RANK" --rendezvous "$first:29700" \
      latency:8192:1000 2>/run/plugin.err || { cat /run/plugin.err >&2; exit 1; }
  fi
  # In turn and in short pieces: the host's spells of some seconds are then both's.
  for piece in 1 2 3 4; do
    if wanted halo; then
      HALO_TRANSPORT=rdma "$PLUGIN_HOST" --library "$PLUGIN" peer bench --rank "$RANK" --rendezvous "$first:29700" \
        stream:4194304:10:4 2>/run/plugin.err || { cat /run/plugin.err >&2; exit 1; }
    fi
    if wanted ib_write_bw_one_way; then write_bw ib_write_bw_one_way 1 10 "$first"; fi
  done
done
