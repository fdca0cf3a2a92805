"""Runs many Python scripts, each in a process of its own, and imports the libraries only once.

A script spends three seconds on importing PyTorch and its friends before it does anything; a
suite that runs hundreds of them would spend most of its time so. `Warm` starts one process that
imports them and then waits; for each script it forks, and the child becomes what `python
script.py …` would have been: with its own arguments, working directory, environment and files.

The child imports a folder's modules afresh: nothing of ours is in the first process.
"""

import atexit
import contextlib
import functools
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

IMPORTED = ("torch", "torch.distributed", "torchvision.transforms.v2", "numpy",
            "matplotlib.pyplot", "matplotlib.backends.backend_agg", "contourpy",
            "sklearn.datasets", "sklearn.decomposition", "sklearn.linear_model",
            "sklearn.manifold", "sklearn.model_selection", "sklearn.naive_bayes",
            "sklearn.pipeline", "PIL.Image", "safetensors.torch", "tqdm", "pytest")


class Warm:
    """A process with all libraries imported, which forks for each script that it is given."""

    def __init__(self, environment: dict[str, str], more: tuple[str, ...] = ()) -> None:
        self.begin = functools.partial(
            subprocess.Popen, [sys.executable, __file__, *more], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=environment, encoding="utf-8")
        self.process = self.begin()
        atexit.register(lambda: self.process.kill())

    def run(self, command: list[str], cwd: Path | None, environment: dict[str, str],
            timeout: float) -> subprocess.CompletedProcess:
        """What `subprocess.run([sys.executable, *command])` would give, with its texts.

        `command` begins with a script, or with -m and a module. Its result has the `seconds`
        that it took of the processors, too. Raises TimeoutExpired.
        """
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder, name) for name in ("out", "err")]
            answer = self._ask({
                "command": command, "cwd": str(cwd or Path.cwd()), "timeout": timeout,
                "environment": environment, "files": list(map(str, files))})
            code = answer["code"]
            said = [file.read_text(encoding="utf-8") for file in files]
        if code == -signal.SIGALRM:
            raise subprocess.TimeoutExpired(command, timeout, *said)
        result = subprocess.CompletedProcess([sys.executable, *command], code, *said)
        result.seconds = answer["seconds"]
        return result

    def _ask(self, request: dict) -> dict:
        """The answer to a request; whoever is interrupted leaves a process that has none."""
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())
        except BaseException:
            self.process.kill()
            self.process.wait()
            self.process = self.begin()
            raise


def serve() -> None:
    """Fork for each line of stdin; answer with exit code, or minus a signal, and seconds."""
    for name in (*IMPORTED, *sys.argv[1:]):
        with contextlib.suppress(ImportError):
            __import__(name)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            become(request)
        _, status, used = os.wait4(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGALRM:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)       # processes that it has begun
        print(json.dumps({"code": code, "seconds": used.ru_utime + used.ru_stime}), flush=True)


def become(request: dict) -> None:
    """Be the script of a request, to the end of this process.

    An alarm ends it if it takes too long; the script may handle all other signals itself.
    """
    os.setpgid(0, 0)
    signal.setitimer(signal.ITIMER_REAL, request["timeout"])
    for number, name in enumerate(["/dev/null", *request["files"]]):
        file = os.open(name, os.O_RDWR | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os._exit(code_of(request["command"]))


def code_of(command: list[str]) -> int:
    """Run a script or a module as the main one; its exit code."""
    module = command[1] if command[0] == "-m" else None
    sys.argv = command[1:] if module else command
    sys.path[0] = os.getcwd() if module else str(Path(command[0]).resolve().parent)
    code = 0
    try:
        if module:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        if isinstance(leaving.code, str):
            print(leaving.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


if __name__ == "__main__":
    serve()
