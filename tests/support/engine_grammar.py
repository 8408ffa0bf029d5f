"""Which random programs there are: the parameters of each step, and two ways to draw programs."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from hypothesis import strategies as st

__all__ = ["GRAMMAR", "PROGRAMS", "random_program"]

VALUES = (0, 1, 2, 3)
SECONDS = (0, 0.5, 2, 5, 60)
# What a parameter is drawn from; "node" is a step, "nodes" are several.
PARAMETERS: dict[str, tuple[Any, ...]] = {
    "value": VALUES,
    "seconds": SECONDS,
    "lock": (0, 1),
    "count": (1, 2, 3),
}
GRAMMAR: dict[str, tuple[str, ...]] = {
    "call": ("value",),
    "fail": ("value",),
    "break": ("value",),
    "slow": ("value",),
    "patient": ("value",),
    "withdraw": ("value",),
    "thread": ("value",),
    "sleep": ("seconds",),
    "random": (),
    "seq": ("nodes",),
    "gather": ("nodes",),
    "group": ("nodes",),
    "crew": ("nodes",),
    "race": ("nodes",),
    "completed": ("nodes",),
    "started": ("nodes",),
    "lists": ("nodes",),
    "generator": ("nodes",),
    "left": ("nodes",),
    "wait": ("seconds", "nodes"),
    "workers": ("count", "nodes"),
    "timeout": ("seconds", "node"),
    "wait_for": ("seconds", "node"),
    "shield": ("seconds", "node"),
    "scope": ("seconds", "node"),
    "deadline": ("seconds", "node"),
    "armour": ("seconds", "node"),
    "cancel": ("node", "node"),
    "twice": ("node", "node"),
    "finally": ("node", "node"),
    "swallow": ("node",),
    "dismiss": ("nodes", "node"),
    "lock": ("lock", "node"),
    "permit": ("value", "node"),
    "condition": ("count", "node"),
    "signal": ("node",),
    "spawn": ("node",),
}
LEAVES = [name for name, rest in GRAMMAR.items() if not {"node", "nodes"} & {*rest}]
# Calls that succeed are what most programs are made of.
USUAL_LEAVES = [*LEAVES, "call", "call", "slow", "sleep", "break", "patient"]
COMPOUND = [name for name in GRAMMAR if name not in LEAVES]


def _step(name: str, node: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    drawn = {"node": node, "nodes": st.lists(node, min_size=1, max_size=4)}
    parts = [drawn[p] if p in drawn else st.sampled_from(PARAMETERS[p]) for p in GRAMMAR[name]]
    return st.tuples(st.just(name), *parts)


_NOTHING: st.SearchStrategy[Any] = st.nothing()
PROGRAMS = st.recursive(
    st.sampled_from(USUAL_LEAVES).flatmap(lambda name: _step(name, _NOTHING)),
    lambda node: st.one_of([_step(name, node) for name in COMPOUND]),
    max_leaves=12,
).map(lambda program: json.loads(json.dumps(program)))


def random_program(chance: Random, depth: int = 6) -> list[Any]:
    """Return a program; the same for the same state of the generator."""
    name = chance.choice(COMPOUND if chance.random() < depth / 7 else USUAL_LEAVES)
    parts: list[Any] = [name]
    for parameter in GRAMMAR[name]:
        match parameter:
            case "node":
                parts.append(random_program(chance, depth - 1))
            case "nodes":
                count = chance.choice((1, 2, 2, 3))
                parts.append([random_program(chance, depth - 1) for _ in range(count)])
            case _:
                parts.append(chance.choice(PARAMETERS[parameter]))

    return parts
