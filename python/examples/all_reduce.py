"""Sums an array over two or more processes with nothing but NumPy (or any other buffer).

python python/examples/all_reduce.py 0 2 127.0.0.1:29510 &
python python/examples/all_reduce.py 1 2 127.0.0.1:29510
"""

import sys

import halo
import numpy


def main() -> None:
    rank, world, rendezvous = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    with halo.Communicator(rank, world, rendezvous=rendezvous) as communicator:
        values = numpy.full(1 << 16, rank + 1, dtype=numpy.float32)
        communicator.all_reduce(values)
        for link in communicator.links:
            print(f"rank {rank}: sum {values[0]:.0f}, rank {link.peer} on {link.host} by {link.transport}")


if __name__ == "__main__":
    main()
