"""Downloads that end with the right file or with none: mirrors, time-outs, SHA-256.

The same text stands in every folder that downloads (a test keeps the copies equal).
"""

import contextlib
import hashlib
import http.client
import os
import shutil
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from console import Refusal, say

TIMEOUT = 10.0  # seconds without an answer or without a byte before the next mirror is tried


def fetch(urls: Sequence[str], path: Path, sha256: str, timeout: float = TIMEOUT) -> None:
    """Bring the file with this SHA-256 to `path`, trying the mirrors in order.

    A file that is already there and right is not fetched again. Bytes go to a `.partial`
    file that is renamed only when its hash agrees. Raises Refusal when all mirrors fail,
    with each reason and the way to place the file by hand.
    """
    if path.exists() and file_hash(path) == sha256:
        return
    partial = path.with_name(path.name + ".partial")
    failures = []
    for url in urls:
        say(f"fetching {url}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with urllib.request.urlopen(url, timeout=timeout) as source:
                with partial.open("wb") as file:
                    shutil.copyfileobj(source, file)
            if (found := file_hash(partial)) != sha256:
                raise ValueError(f"its SHA-256 is {found[:12]}…, not {sha256[:12]}…")
            os.replace(partial, path)
            return
        except (OSError, ValueError, http.client.HTTPException) as error:
            failures.append(f"{url}: {error}")
            with contextlib.suppress(OSError):
                partial.unlink()
    raise Refusal(f"{path.name} could not be fetched ({'; '.join(failures)}): place it at "
                  f"{path} yourself (SHA-256 {sha256})")


def file_hash(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
