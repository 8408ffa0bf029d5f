"""The offline stand-in for a model: reads the tool outputs that it is sent, and copies from them.

It decides by the number of model outputs in the conversation and by nothing else, so the same
request always gets the same answer. It knows no repository: paths, hashes, names and numbers all
come out of tool outputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from durable_openai_agents.testing import Answer, FunctionCall, ModelRequest

Step = Callable[["Findings"], Sequence[FunctionCall]]


class Findings:
    """The tool outputs of one conversation."""

    def __init__(self, request: ModelRequest) -> None:
        self._results = request.tool_results

    def lines(self, tool: str, nth: int = 0) -> list[str]:
        """Return the output of the nth call of a tool, empty if there was none."""
        outputs = [result.output for result in self._results if result.name == tool]
        return outputs[nth].splitlines() if nth < len(outputs) else []

    def number(self, tool: str, name: str) -> str:
        """Return what stands after `name: ` in a tool's output."""
        found = re.search(rf"^{name}: (\w+)", "\n".join(self.lines(tool)), re.MULTILINE)
        return found[1] if found else "?"

    def texts(self) -> list[str]:
        """Return the biggest text files' names, biggest first."""
        rows = [line.split("\t", 1) for line in self.lines("biggest_files")]
        return [row[1] for row in rows if not row[0].endswith("binary")]

    def read(self, path: str) -> list[str]:
        """Return the lines of a file that was read."""
        for result in self._results:
            if result.name == "read_file" and result.arguments.get("path") == path:
                return result.output.splitlines()[1:]

        return []

    def commits(self) -> list[list[str]]:
        """Return hash, date, author and subject of the latest commits."""
        return [line.split("\t", 3) for line in self.lines("latest_commits")]

    def readme(self) -> str:
        """Return the README of the root folder, which was listed second, else another file."""
        root = [line.split("\t", 1)[-1] for line in self.lines("list_folder", 1)]
        named = [name for name in root if name.lower().startswith("readme")]
        return next(iter(named), next(iter(self.texts()), "README.md"))


def _read(path: str) -> FunctionCall:
    return FunctionCall("read_file", {"path": path, "lines": 25})


def _folder(findings: Findings) -> FunctionCall:
    biggest = next(iter(findings.texts()), "")
    return FunctionCall("list_folder", {"folder": biggest.rpartition("/")[0] or "."})


def _commit(findings: Findings, index: int) -> FunctionCall:
    return FunctionCall("show_commit", {"commit": findings.commits()[index][0]})


def _two_searches(_findings: Findings) -> Sequence[FunctionCall]:
    return [FunctionCall("search", {"pattern": each}) for each in ("TODO|FIXME", "def test_")]


_AUDIT: tuple[Step, ...] = (
    lambda _: [FunctionCall("overview")],
    lambda _: [
        FunctionCall("files_by_suffix"),
        FunctionCall("biggest_files", {"limit": 5}),
        FunctionCall("latest_commits", {"limit": 5}),
        FunctionCall("commits_by_author"),
    ],
    _two_searches,
    lambda findings: [_read((findings.texts() or ["README.md"])[0])],
    lambda findings: [_read((findings.texts() or ["README.md"])[-1]), _folder(findings)],
    lambda findings: [_commit(findings, 0), FunctionCall("list_folder", {"folder": "."})],
    lambda findings: [_read(findings.readme())],
    lambda _: [FunctionCall("transfer_to_report_writer")],
)


def audit(request: ModelRequest) -> Answer:
    """Answer for both agents."""
    findings = Findings(request)
    if request.turn < len(_AUDIT):
        return Answer(calls=_AUDIT[request.turn](findings))

    if request.turn == len(_AUDIT):
        return Answer(calls=[_commit(findings, -1)])

    return Answer(_report(findings))


def _report(findings: Findings) -> str:
    def count(name: str) -> str:
        return findings.number("overview", name)

    suffixes = [line.split("\t") for line in findings.lines("files_by_suffix")[:5]]
    biggest = [line.split("\t", 1) for line in findings.lines("biggest_files")]
    authors = [line.split("\t", 1) for line in findings.lines("commits_by_author")[:5]]
    opening = next((line.strip() for line in findings.read(findings.readme()) if line.strip()), "")
    newest, oldest = findings.lines("show_commit"), findings.lines("show_commit", 1)
    return "\n".join(
        [
            f"# Audit of commit {count('commit')}",
            "",
            f"- **Size**: {count('files')} files, {count('bytes')} bytes",
            f"- **Folders**: {count('folders')}; **commits**: {count('commits')}",
            "- **Kinds**: " + ", ".join(f"{number} {suffix}" for number, suffix in suffixes),
            "- **Biggest files**:",
            *(f"    - `{name}`: {size}" for size, name in biggest),
            f"- **Open ends**: {_searched(findings, 0)}",
            f"- **Tests**: {_searched(findings, 1)}",
            "- **Authors**: " + ", ".join(f"{name} ({number})" for number, name in authors),
            "- **Latest commits**:",
            *(f"    - {each[0]} {each[1]} {each[2]}: {each[-1]}" for each in findings.commits()),
            f"- **The newest in detail**: {' | '.join(line.strip() for line in newest)}",
            f"- **The oldest of these**: {' | '.join(line.strip() for line in oldest)}",
            f"- **`{findings.readme()}` begins**: {opening}",
        ]
    )


def _searched(findings: Findings, nth: int) -> str:
    total, *files = findings.lines("search", nth)
    if not files:
        return total

    number, name = files[0].split("\t", 1)
    return f"{total}; most of them, {number}, in `{name}`"
