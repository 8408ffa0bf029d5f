"""Audit a git checkout with two agents: `python agent.py PATH`. Kill it, run it again."""

from __future__ import annotations

import argparse
import asyncio

from agents import Agent
from checkout import Checkout
from durable_openai_agents import DurableRunner as Runner
from tools import (
    biggest_files,
    commits_by_author,
    files_by_suffix,
    latest_commits,
    list_folder,
    overview,
    read_file,
    search,
    show_commit,
)

writer = Agent[Checkout](
    name="Report writer",
    instructions="""You are the report writer. The auditor has collected the facts.
Show the oldest of the latest commits, then write a report of at most 30 lines in Markdown.
Copy every number literally from a tool's output; do not compute any.""",
    tools=[list_folder, read_file, show_commit],
)

auditor = Agent[Checkout](
    name="Auditor",
    instructions="""You audit a git repository with your tools; you never guess.
First call overview. Then call files_by_suffix, biggest_files, latest_commits and commits_by_author
at once. Then search for TODO|FIXME and for def test_, read the biggest text files, list the folder
of the biggest one and the root folder, show the latest commit and read the README.
When you have seen all that, hand over to the report writer.""",
    tools=[
        overview,
        files_by_suffix,
        biggest_files,
        latest_commits,
        commits_by_author,
        search,
        read_file,
        list_folder,
        show_commit,
    ],
    handoffs=[writer],
)


async def main(path: str, commit: str, workflow_id: str | None) -> None:
    checkout = Checkout.at(path, commit)
    result = await Runner.run(
        auditor,
        f"Audit the repository at commit {checkout.commit[:10]}.",
        context=checkout,
        max_turns=30,
        workflow_id=workflow_id or f"audit-{checkout.commit[:10]}",
    )
    print(result.final_output)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", nargs="?", default=".")
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--workflow-id")
    options = parser.parse_args()
    asyncio.run(main(options.path, options.commit, options.workflow_id))
