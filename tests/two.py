"""Two processes that run a script together, as `torchrun --nproc-per-node 2` would start them.

    python tests/two.py train.py --quick

They get what `torchrun` tells a process by its environment, and begin as copies of this one: in
the suite `warm.py` has imported PyTorch before, once for all. What is slow in the suite, such
as the commands of the READMEs, has `torchrun` itself.
"""

import os
import runpy
import signal
import socket
import sys
from pathlib import Path


def free_port() -> int:
    """A port at which nobody listens, and that the kernel gives to nobody for a minute.

    For so long it remembers a connection that has just ended there; who names the port and
    sets SO_REUSEADDR, as PyTorch does, may have it.
    """
    with socket.socket() as asked, socket.socket() as caller:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        asked.bind(("127.0.0.1", 0))
        asked.listen()
        caller.connect(asked.getsockname())
        asked.accept()[0].close()          # who ends first is remembered
        return asked.getsockname()[1]


def main() -> None:
    """Begin twice; the first process that fails ends the other, and each has our time limit."""
    port, pids, limit = str(free_port()), [], signal.getitimer(signal.ITIMER_REAL)[0]
    for number in ("0", "1"):
        pids.append(os.fork())
        if not pids[-1]:
            signal.setitimer(signal.ITIMER_REAL, limit)      # a copy does not inherit it
            os.environ.update(RANK=number, LOCAL_RANK=number, WORLD_SIZE="2",
                              MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
            sys.argv = sys.argv[1:]
            sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
            runpy.run_path(sys.argv[0], run_name="__main__")
            return
    failed = False
    for _ in range(2):
        pid, status = os.wait()
        pids.remove(pid)
        if status and pids:
            os.kill(pids[0], signal.SIGTERM)
        failed = failed or status != 0
    sys.exit(failed)


if __name__ == "__main__":
    main()
