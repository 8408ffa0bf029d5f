"""A git checkout, read at one commit.

Files are read from the commit rather than from the working tree: an audit that was killed, and is
continued while somebody edits a file, still speaks of one state. Names are shown on one line, with
odd characters escaped; the shown name is also how a file is asked for.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from dataclasses import dataclass


class GitError(Exception):
    """Git refused; the text is what it said."""


@dataclass(frozen=True)
class Entry:
    """A regular file of the commit."""

    name: str
    blob: str
    size: int

    @property
    def folder(self) -> str:
        return self.name.rpartition("/")[0] or "."

    @property
    def suffix(self) -> str:
        stem, dot, suffix = self.name.rpartition("/")[2].rpartition(".")
        return f".{suffix}" if dot and stem else "(no suffix)"


@dataclass(frozen=True)
class Checkout:
    root: str
    commit: str

    @classmethod
    def at(cls, path: str, commit: str = "HEAD") -> Checkout:
        """Return the checkout that `path` lies in.

        Raises:
            GitError: It lies in none, or there is no such commit.
        """
        root = _text(_run(path, "rev-parse", "--show-toplevel")).rstrip("\n")
        found = _run(root, "rev-parse", "--verify", "--end-of-options", f"{commit}^{{commit}}")
        return cls(root, _text(found).strip())

    def git(self, *arguments: str) -> bytes:
        return _run(self.root, *arguments)

    async def git_async(self, *arguments: str) -> bytes:
        process = await asyncio.create_subprocess_exec(
            *_command(self.root, arguments),
            env=_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, error = await process.communicate()
        if process.returncode:
            raise GitError(_text(error).strip() or f"git {arguments[0]} failed")

        return output

    def entries(self) -> list[Entry]:
        return _entries(self.git(*self._listing))

    async def entries_async(self) -> list[Entry]:
        return _entries(await self.git_async(*self._listing))

    @property
    def _listing(self) -> tuple[str, ...]:
        return ("ls-tree", "-r", "-l", "-z", "--full-tree", self.commit)


def shown(name: bytes) -> str:
    """Return a file name as one line of text; different names stay different."""
    return "".join(
        letter if letter.isprintable() and letter != "\\" else _escaped(letter)
        for letter in name.decode(errors="surrogateescape")
    )


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"

    return letter.encode("unicode_escape").decode()


def _entries(listing: bytes) -> list[Entry]:
    entries: list[Entry] = []
    for line in listing.split(b"\0")[:-1]:
        about, _, name = line.partition(b"\t")
        mode, _, blob, size = about.decode().split()
        # Symbolic links and submodules are no files of this repository.
        if mode in {"100644", "100755"}:
            entries.append(Entry(shown(name), blob, int(size)))

    return entries


def _run(folder: str, *arguments: str) -> bytes:
    done = subprocess.run(
        _command(folder, arguments),
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise GitError(_text(done.stderr).strip() or f"git {arguments[0]} failed")

    return done.stdout


def _command(folder: str, arguments: tuple[str, ...]) -> list[str]:
    return ["git", "--no-pager", "-C", folder, "-c", "color.ui=false", *arguments]


def _environment() -> dict[str, str]:
    # Run from a git hook, variables such as GIT_DIR would point at another repository.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return kept | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")
