"""Fixtures and rules of the whole suite: offline, seeded, tidy, and nothing skipped in CI."""

import os
import pickle
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

# Two processes with two threads each on two cores would wait for each other most of the time.
os.environ |= dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1")

import pytest
import torch
from filelock import FileLock

from support import ROOT, SHARED, load, run

NOT_SKIPPABLE = "needs ../shared/data"


@pytest.fixture(autouse=True)
def same_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts from the same seeds and thread count, and cannot reach a network."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: object) -> None:
        internet = self.family in (socket.AF_INET, socket.AF_INET6)
        if internet and address[0] != "127.0.0.1":
            raise OSError(f"a test tried to reach {address}")
        connect(self, address)

    resolve = socket.getaddrinfo

    def resolve_locally(host: str | bytes | None, *more: object, **how: object) -> list[tuple]:
        if host not in ("127.0.0.1", "localhost"):
            raise socket.gaierror(f"a test asked where {host} is")
        return resolve(host, *more, **how)

    monkeypatch.setattr(socket.socket, "connect", connect_locally)
    monkeypatch.setattr(socket, "getaddrinfo", resolve_locally)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="session")
def folder() -> Callable[[str], SimpleNamespace]:
    """Loads one folder's modules: `folder("lenet_from_scratch").model.LeNet`."""
    return load


@pytest.fixture(scope="session")
def quick_run(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
              ) -> Callable[[str], SimpleNamespace]:
    """Runs a folder's `train.py --quick` once for all processes of the suite.

    Gives its `out`, which no test may change, and its `result`.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if hasattr(pytestconfig, "workerinput") else base    # one of several

    def quick(name: str) -> SimpleNamespace:
        out, kept = base / "quick" / name, base / f"{name}.pickle"
        with FileLock(base / f"{name}.lock"):
            if not kept.exists():
                done = run(ROOT / name / "train.py", "--quick", "--out-dir", out, timeout=300)
                kept.write_bytes(pickle.dumps(done))
        result = pickle.loads(kept.read_bytes())
        assert result.returncode == 0, result.stderr
        return SimpleNamespace(out=out, result=result)

    return quick


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """The path of real data in `../shared/data`; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"{NOT_SKIPPABLE}/{name}")
        return SHARED

    return find


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPUs from all but `pytest -m gpu`: the other tests are about bits of CPUs."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave slow tests out unless -m names them, and gpu tests where there is no GPU."""
    no_gpu = pytest.mark.skip(reason="needs CUDA")
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(no_gpu)
    if "slow" not in config.option.markexpr:
        slow = [item for item in items if "slow" in item.keywords]
        items[:] = [item for item in items if "slow" not in item.keywords]
        config.hook.pytest_deselected(items=slow)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Remember the state of the tree."""
    session.config.tree_before = _tree()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail if the tests changed the tree, or if CI skipped what it could have run."""
    report = session.config.pluginmanager.get_plugin("terminalreporter")
    if hasattr(session.config, "workerinput"):     # one of several processes: the first decides
        return
    complaints = []
    if _tree() != session.config.tree_before:
        complaints.append(f"the tests changed the tree: {_tree()}")
    if os.environ.get("CI"):
        for skipped in report.stats.get("skipped", []):
            reason = str(skipped.longrepr[-1])
            if "CUDA" not in reason and (SHARED.exists() or NOT_SKIPPABLE not in reason):
                complaints.append(f"skipped in CI: {skipped.nodeid} ({reason})")
    for complaint in complaints:
        report.write_line(complaint, red=True)
    if complaints and exitstatus == 0:
        session.exitstatus = 1


def _tree() -> str:
    status = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True,
                            encoding="utf-8", check=False)
    if status.returncode and (ROOT / ".git").exists():
        raise RuntimeError(f"git does not say how the tree is: {status.stderr}")
    return status.stdout
