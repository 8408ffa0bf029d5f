"""A disk of a test's own, small enough to be filled: a tmpfs, which only root may mount."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PAGE = 4096


class SmallDisk:
    """A file system that can be filled to its last page.

    Attributes:
        path: Its root.
        url: Of a store on it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = path / "store.db"
        self.url = f"sqlite:///{self.store}"
        self._filler = path / "filler"

    def fill(self, *, leave: int = 0) -> None:
        """Use up all space but so many pages."""
        try:
            with self._filler.open("ab", buffering=0) as filler:
                while True:
                    filler.write(b"\0" * PAGE)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

        os.truncate(self._filler, self._filler.stat().st_size - leave * PAGE)

    def free(self) -> None:
        """Give the space back."""
        self._filler.unlink()


@contextmanager
def mounted(path: Path, size: str = "2m") -> Iterator[SmallDisk]:
    """Mount such a disk; skip the test where that is not permitted."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")

    if done.returncode:
        pytest.skip(f"mounting is not permitted: {done.stderr.strip()}")

    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], timeout=20, check=True)
