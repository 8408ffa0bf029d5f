"""Policies by name: a function in a module or a file, or a script of answers in JSON.

A script is a list of entries; the first that fits a request is its answer:

    [{"instructions": "You triage", "turn": 0,
      "calls": [{"name": "lookup", "arguments": {"id": 7}}]},
     {"instructions": "You triage", "text": "done"},
     {"instructions": "Extract", "json": {"city": "Rome"}}]

`instructions` is a substring of the agent's, `turn` the number of model outputs already in the
conversation; an entry without one of them fits all. `text`, `json` (text that is this JSON, for
structured output) and `calls` make the answer.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from ._answer import Answer, FunctionCall, Policy
from ._json import JsonObject, as_object, as_objects, as_text
from ._request import ModelRequest

_ENTRY_NAMES = frozenset({"instructions", "turn", "text", "json", "calls"})


class PolicyError(Exception):
    """No answer: the policy cannot be loaded, or has nothing to say to a request."""


def load_policy(reference: str) -> Policy:
    """Return the policy named `module:function`, `file.py:function` or `file.json`.

    Raises:
        PolicyError: There is none of that name.
    """
    if reference.endswith(".json"):
        entries: object = json.loads(Path(reference).read_text(encoding="utf-8"))
        return scripted(as_objects(entries))

    origin, _, name = reference.rpartition(":")
    if not origin:
        raise PolicyError(
            f"a policy is module:function, file.py:function or file.json: {reference}"
        )

    module = _load_file(Path(origin)) if origin.endswith(".py") else importlib.import_module(origin)
    policy: object = getattr(module, name, None)
    if not callable(policy):
        raise PolicyError(f"{origin} has no function {name}")

    return cast("Policy", policy)


def _load_file(path: Path) -> object:
    """Run a file as a module of its own; its folder becomes importable, as for a script."""
    if not path.is_file():
        raise PolicyError(f"there is no file {path}")

    spec = importlib.util.spec_from_file_location(f"policy_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise PolicyError(f"{path} is no Python file")

    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up while it is still being run.
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent))
    spec.loader.exec_module(module)
    return module


def reference_of(policy: Policy) -> str:
    """Return the `file.py:function` by which another process finds a function.

    Raises:
        PolicyError: It is not defined at the top of a module.
    """
    name = getattr(policy, "__qualname__", "")
    source = inspect.getsourcefile(inspect.unwrap(policy)) if inspect.isfunction(policy) else None
    if source is None or not name.isidentifier():
        raise PolicyError(
            f"a policy runs in another process, so it must be a function at the top of a file, "
            f"not {policy!r}"
        )

    return f"{Path(source).resolve()}:{name}"


def scripted(entries: Sequence[JsonObject]) -> Policy:
    """Return a policy that answers from a script (see the head of this module).

    Raises:
        PolicyError: An entry is malformed.
    """
    for entry in entries:
        unknown = set(entry) - _ENTRY_NAMES
        if unknown or not {"text", "json", "calls"} & set(entry):
            raise PolicyError(f"an entry has {sorted(_ENTRY_NAMES)} and some answer, not {entry}")

    def answer(request: ModelRequest) -> Answer:
        for entry in entries:
            if _fits(entry, request):
                return _answer_of(entry)

        raise PolicyError(f"the script has no answer for turn {request.turn} of {request.agent!r}")

    return answer


def _fits(entry: Mapping[str, object], request: ModelRequest) -> bool:
    turn = entry.get("turn", request.turn)
    return turn == request.turn and as_text(entry.get("instructions")) in request.instructions


def _answer_of(entry: Mapping[str, object]) -> Answer:
    text = json.dumps(entry["json"]) if "json" in entry else entry.get("text")
    return Answer(
        text=text if isinstance(text, str) else None,
        calls=tuple(
            FunctionCall(as_text(call.get("name")), as_object(call.get("arguments")))
            for call in as_objects(entry.get("calls"))
        ),
    )
