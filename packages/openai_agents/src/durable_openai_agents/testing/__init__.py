"""An offline model for tests: the OpenAI APIs over real HTTP, answered by a function of yours.

    from durable_openai_agents.testing import Answer, ModelRequest, ModelServer

    def policy(request: ModelRequest) -> Answer:
        return Answer(f"You said: {request.user_text}")

    with ModelServer(policy) as server:
        client = AsyncOpenAI(base_url=server.base_url, api_key="dummy")

The server is a process of its own and keeps a log of every model call, and of whatever tool bodies
post to its ledger: what it says ran, and how often, does not depend on the program under test.
"""

from __future__ import annotations

from ._answer import Answer, FunctionCall, Policy
from ._api import read_request
from ._fault import Fault, FaultRule
from ._model_server import LoggedRequest, ModelServer, ModelServerError
from ._policy import PolicyError
from ._request import BadRequestError, ModelRequest, ToolResult

__all__ = [
    "Answer",
    "BadRequestError",
    "Fault",
    "FaultRule",
    "FunctionCall",
    "LoggedRequest",
    "ModelRequest",
    "ModelServer",
    "ModelServerError",
    "Policy",
    "PolicyError",
    "ToolResult",
    "read_request",
]
