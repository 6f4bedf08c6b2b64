# One rank in each of two virtual machines, over rxe0 and the cable between them. Machine 0 serves and machine 1 calls,
# except for OpenMPI, whose launcher on machine 0 reaches machine 1 by ssh.
. "$(dirname "$0")/functions.sh"
first=192.168.100.1 second=192.168.100.2

if [ "$RANK" = 1 ] && wanted openmpi; then
  mkdir -p /run/sshd
  /usr/sbin/sshd -f "$SSH/sshd_config" || exit 1
fi

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
    "$HALO_RANK" --rank "$RANK" --world 2 --rendezvous "$first:29510" --transport rdma 8192:1000 4194304:20 \
      >/run/halo.out || exit 1
    tagged halo </run/halo.out
  fi
  if wanted ib_write_bw; then
    set -- ib_write_bw -b -d rxe0 -x 1 -s 4194304 -n 20 --report_gbits
    if [ "$RANK" = 0 ]; then
      "$@" >/dev/null || exit 1
    else
      persist "$@" "$first"
      # The fourth column is both directions' average in Gb/s: half of it is what one direction carries.
      awk '$1 == 4194304 { printf "@ ib_write_bw %s %.3f\n", $1, $1 * 8 / ($4 / 2) / 1000 }' /run/persist.out
    fi
  fi
  if wanted openmpi; then
    if [ "$RANK" = 0 ]; then
      "$OPENMPI/bin/mpirun" --allow-run-as-root --bind-to none -np 2 --host "$first:1,$second:1" \
        --prefix "$OPENMPI" --prtemca plm_ssh_args "-F $SSH/ssh_config" --prtemca prte_if_include 192.168.100.0/24 \
        --mca pml ob1 --mca btl self,tcp --mca btl_tcp_if_include 192.168.100.0/24 \
        "$OPENMPI/all_reduce" 8192:1000 >/run/openmpi.out 2>/run/openmpi.err
      status=$?
      tagged openmpi </run/openmpi.out
      # Machine 1 only has to stay until here.
      ssh -F "$SSH/ssh_config" "$second" touch "/run/openmpi.$round"
      [ "$status" = 0 ] || { cat /run/openmpi.err >&2; exit 1; }
    else
      until [ -e "/run/openmpi.$round" ]; do sleep 0.2; done
    fi
  fi
done
