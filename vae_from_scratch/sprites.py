"""Fetch the Pokémon sprites of a public archive, when asked to, and prove them whole.

The pictures belong to Nintendo, Creatures and GAME FREAK. They are not part of this collection,
and neither are weights or pictures made from them; what you do with them is up to you.
"""

# no tensors here: only files

import contextlib
import hashlib
import http.client
import os
import shutil
import urllib.request
import zipfile
from pathlib import Path

from console import Refusal, say
from download import TIMEOUT

ARCHIVE = "https://github.com/msikma/pokesprite/archive/refs/heads/master.zip"
INSIDE = "/pokemon-gen8/regular/"      # 1,332 sprites of 68×56 pixels
SHA256 = "07abf9290928f3b5b3d86b2e8750ea665145afcfdf309d0e52e23297970c1aa5"


def fetch_sprites(folder: Path) -> Path:
    """The folder of sprites, fetched if it is not there. Raises Refusal if that fails."""
    if folder.is_dir():
        return folder
    packed = folder.with_name("pokesprite.zip.partial")
    partial = folder.with_name("pokemon.partial")
    say(f"fetching {ARCHIVE}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(ARCHIVE, timeout=TIMEOUT) as source:
            with packed.open("wb") as file:
                shutil.copyfileobj(source, file)
        unpack(packed, partial)
        if (found := hash_of(partial)) != SHA256:
            raise ValueError(f"the SHA-256 of the sprites is {found[:12]}…, not {SHA256[:12]}…")
        os.replace(partial, folder)
    except (OSError, ValueError, http.client.HTTPException, zipfile.BadZipFile) as error:
        raise Refusal(f"the sprites could not be fetched ({ARCHIVE}: {error}): place them in "
                      f"{folder} yourself, or name a folder of yours with --data") from None
    finally:
        with contextlib.suppress(OSError):
            packed.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def unpack(packed: Path, folder: Path) -> None:
    """Write the sprites of the archive into a new folder; their names alone, never a path."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with zipfile.ZipFile(packed) as archive:
        for name in archive.namelist():
            place, _, file = name.rpartition("/")
            if f"/{place.partition('/')[2]}/" == INSIDE and file.endswith(".png"):
                (folder / file).write_bytes(archive.read(name))


def hash_of(folder: Path) -> str:
    """SHA-256 over names and bytes of the sprites, in the order of their names."""
    sha = hashlib.sha256()
    for path in sorted(folder.glob("*.png")):
        sha.update(path.name.encode() + path.read_bytes())
    return sha.hexdigest()
