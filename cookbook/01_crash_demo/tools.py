"""What the auditor can do: look at one commit of a git checkout."""

# ruff: noqa: D417 - docstrings are for the model, which never sees `ctx`

from __future__ import annotations

import re
from collections import Counter

from agents import function_tool
from agents.tool_context import ToolContext
from checkout import Checkout, Entry, GitError, shown
from ledger import witnessed


@function_tool
@witnessed
async def overview(ctx: ToolContext[Checkout]) -> str:
    """Count the files, bytes, folders and commits of the repository."""
    entries = await ctx.context.entries_async()
    commits = await ctx.context.git_async("rev-list", "--count", ctx.context.commit)
    return "\n".join(
        [
            f"commit: {ctx.context.commit[:10]}",
            f"files: {len(entries)}",
            f"bytes: {sum(entry.size for entry in entries)}",
            f"folders: {len({entry.folder for entry in entries})}",
            f"commits: {commits.decode().strip()}",
        ]
    )


@function_tool
@witnessed
def files_by_suffix(ctx: ToolContext[Checkout]) -> str:
    """Count the files of each suffix, most frequent first."""
    counts = Counter(entry.suffix for entry in ctx.context.entries())
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return "\n".join(f"{count}\t{suffix}" for suffix, count in ranked[:10])


@function_tool
@witnessed
def biggest_files(ctx: ToolContext[Checkout], limit: int) -> str:
    """List the biggest files with their sizes.

    Args:
        limit: How many.
    """
    entries = sorted(ctx.context.entries(), key=lambda entry: (-entry.size, entry.name))
    return "\n".join(f"{_size(ctx.context, entry)}\t{entry.name}" for entry in entries[:limit])


def _size(checkout: Checkout, entry: Entry) -> str:
    data = checkout.git("cat-file", "blob", entry.blob)
    lines = "binary" if b"\0" in data else f"{len(data.splitlines())} lines"
    return f"{entry.size} bytes, {lines}"


@function_tool
@witnessed
def list_folder(ctx: ToolContext[Checkout], folder: str) -> str:
    """List what lies directly in a folder.

    Args:
        folder: Its path from the root of the repository, "." for the root itself.
    """
    prefix = "" if folder in {"", "."} else f"{folder.rstrip('/')}/"
    inside = [entry for entry in ctx.context.entries() if entry.name.startswith(prefix)]
    if not inside:
        return f"there is no folder {folder}"

    names = Counter(entry.name.removeprefix(prefix).partition("/")[0] for entry in inside)
    files = {entry.name: entry.size for entry in inside}
    lines = [
        f"{files[prefix + name]} bytes\t{name}"
        if prefix + name in files
        else f"{count} files\t{name}/"
        for name, count in sorted(names.items())
    ]
    return "\n".join([f"entries: {len(names)}", *lines[:60]])


@function_tool
@witnessed
async def read_file(ctx: ToolContext[Checkout], path: str, lines: int) -> str:
    """Read the first lines of a text file.

    Args:
        path: Its path from the root of the repository, as another tool showed it.
        lines: How many lines at most.
    """
    entries = await ctx.context.entries_async()
    blob = next((entry.blob for entry in entries if entry.name == path), None)
    if blob is None:
        return f"there is no file {path}"

    data = await ctx.context.git_async("cat-file", "blob", blob)
    if b"\0" in data:
        return f"{path} is binary"

    text = data.decode(errors="replace").splitlines()
    head = "\n".join(line[:200] for line in text[:lines])
    return f"lines: {len(text)}\n{head}"


@function_tool
@witnessed
async def search(ctx: ToolContext[Checkout], pattern: str) -> str:
    """Count the lines that match, in all and in the files that have most of them.

    Args:
        pattern: An extended regular expression.
    """
    options = ("--count", "--null", "-I", "--extended-regexp", "--full-name")
    try:
        found = await ctx.context.git_async("grep", *options, "-e", pattern, ctx.context.commit)
    except GitError as error:
        # Finding nothing is a failure to git grep too, but a silent one.
        if "fatal" in str(error):
            return str(error)

        found = b""

    counts = [
        (int(count), shown(name.partition(b":")[2]))
        for name, count in re.findall(rb"([^\0]+)\0(\d+)\n", found)
    ]
    ranked = sorted(counts, key=lambda pair: (-pair[0], pair[1]))
    total = f"{sum(count for count, _ in counts)} lines in {len(counts)} files match {pattern}"
    return "\n".join([total, *(f"{count}\t{name}" for count, name in ranked[:5])])


@function_tool
@witnessed
async def latest_commits(ctx: ToolContext[Checkout], limit: int) -> str:
    """List the latest commits: hash, date, author, subject.

    Args:
        limit: How many.
    """
    form = "--format=%H%x09%as%x09%an%x09%s"
    found = await ctx.context.git_async("log", form, f"--max-count={limit}", ctx.context.commit)
    fields = [line.split("\t", 3) for line in found.decode(errors="replace").splitlines()]
    return "\n".join("\t".join([each[0][:10], *each[1:]]) for each in fields)


@function_tool
@witnessed
async def commits_by_author(ctx: ToolContext[Checkout]) -> str:
    """Count the commits of each author, most active first."""
    found = await ctx.context.git_async("shortlog", "-s", "-n", ctx.context.commit)
    lines = found.decode(errors="replace").splitlines()
    return "\n".join(line.strip() for line in lines[:10])


@function_tool
@witnessed
async def show_commit(ctx: ToolContext[Checkout], commit: str) -> str:
    """Show who made a commit, when, and how much it changed.

    Args:
        commit: Its hash.
    """
    if not re.fullmatch(r"[0-9a-f]{4,64}", commit):
        return f"{commit} is no hash of a commit"

    options = ("--shortstat", "--first-parent", "-m", "--no-ext-diff", "--format=%an, %as: %s")
    try:
        found = await ctx.context.git_async("show", *options, commit)
    except GitError as error:
        return str(error)

    return found.decode(errors="replace").replace("\n\n", "\n").strip()
