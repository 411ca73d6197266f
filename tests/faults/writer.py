"""A process that writes until it is killed, and reports each acknowledged write.

``python -m tests.faults.writer ADDRESS NAMESPACE WRITER [COUNT]`` prints a line ``kind number`` after each write.
"""

from __future__ import annotations

import os
import sys
import time

from botwire import Memory


def main(address: str, namespace: str, writer: str, count: str = "1000000000") -> None:
    memory = Memory(namespace, address, timeout=60)
    history = memory.history("shared")
    os.write(1, b"ready 0\n")
    sys.stdin.readline()
    begun = time.monotonic()
    for number in range(int(count)):
        match number % 3:
            case 0:
                memory.set(f"{writer}/{number}", {"writer": writer, "number": number})
                kind = "set"
            case 1:
                history.append([{"writer": writer, "number": number}])
                kind = "append"
            case _:
                memory.set_many({f"{writer}/{number}/{part}": number for part in "abc"})
                kind = "many"
        # One write(2), so that a line is printed completely or not at all.
        os.write(1, f"{kind} {number}\n".encode())
    os.write(1, f"took {time.monotonic() - begun}\n".encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
