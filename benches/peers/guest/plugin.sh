# The net plugin in two virtual machines, over rxe0 and the cable between them. Machine 0 serves and machine 1 calls.
. "$(dirname "$0")/functions.sh"
first=192.168.100.1

for round in $(seq "$ROUNDS"); do
  echo "@ round $round"
  if wanted ib_write_lat; then
    if [ "$RANK" = 0 ]; then
      ib_write_lat -d rxe0 -x 1 -s 8192 -n 1000 >/dev/null || exit 1
    else
      write_lat_client 8192 "$first"
    fi
  fi
  if wanted halo; then
    HALO_TRANSPORT=rdma "$PLUGIN_HOST" --library "$PLUGIN" peer bench --rank "$RANK" --rendezvous "$first:29700" \
      latency:8192:1000 stream:4194304:40:4 2>/run/plugin.err || { cat /run/plugin.err >&2; exit 1; }
  fi
  if wanted ib_write_bw_one_way; then
    set -- ib_write_bw -d rxe0 -x 1 -s 4194304 -n 40 --report_gbits
    if [ "$RANK" = 0 ]; then
      "$@" >/dev/null || exit 1
    else
      persist "$@" "$first"
      # The fourth column is the average in Gb/s.
      awk '$1 == 4194304 { printf "@ ib_write_bw_one_way %s %.3f\n", $1, $1 * 8 / $4 / 1000 }' /run/persist.out
    fi
  fi
done
