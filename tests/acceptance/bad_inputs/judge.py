"""What makes an answer to a wrong request a good one."""

import json
import re
from collections.abc import Collection
from typing import Any

from fed_compute import errors
from tests.acceptance.bad_inputs.case import Case, Wanted
from tests.acceptance.bad_inputs.wire import Reply

PROBLEM = "application/problem+json"
BEFORE_ANY_CALL = {"malformed_request", "headers_too_large", "headers_stalled", "not_found", "method_not_allowed"}
"""Codes of requests that reach no call, so that no call documents them."""

INSIDE = re.compile(
    r'Traceback|File "|site-packages|\.py\b|fed_compute\.|sqlite|/tmp/|/usr/|/home/|/root/|/work/', re.IGNORECASE
)
"""What says something of the inside: of code, folders, libraries."""

KNOWN = {
    kind.code: kind.status
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.FedComputeError)
}


class Documented:
    """Which codes the OpenAPI document names for which call."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._calls = {
            (method.upper(), re.compile(re.sub(r"\{[^}]+\}", "[^/]+", path))): call["responses"]
            for path, calls in document["paths"].items()
            for method, call in calls.items()
        }

    def names(self, request: bytes, status: int, code: str) -> bool:
        """Say whether the code is named for the call that a request makes. One that makes none passes."""
        method, _, rest = request.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
        path = rest.rpartition(" ")[0].partition("?")[0]
        for (known, pattern), responses in self._calls.items():
            if known == method and pattern.fullmatch(path):
                return f"`{code}`" in responses.get(str(status), {}).get("description", "")
        return True


def complaints(
    case: Case, request: bytes, reply: Reply | None, documented: Documented, *, secrets: Collection[str]
) -> list[str]:
    """Return what is wrong with an answer; nothing if it is the right refusal."""
    if reply is None:
        return [] if case.may_hang_up or case.cut else ["hung up without an answer"]
    text = reply.body.decode("utf-8", "replace")
    found = [f"tells of the inside: {match[0]!r}" for match in [INSIDE.search(text)] if match]
    found += ["tells a key"] if any(secret in text for secret in secrets) else []
    if reply.status >= 500 or reply.status < 400:
        found.append(f"answered {reply.status}: {text[:200]}")
    if request.startswith(b"HEAD "):  # whose answers have no body
        right = reply.status in {status for status, _ in case.wanted}
        return found if right else [*found, f"answered {reply.status}, wanted {_written(case.wanted)}"]
    if reply.headers.get("content-type") != PROBLEM:
        return [*found, f"no problem document but {reply.headers.get('content-type')}: {text[:200]}"]
    document = json.loads(text)
    code = document["code"]
    if (reply.status, code) not in case.wanted:
        found.append(f"answered {reply.status} {code} ({document['detail'][:200]}), wanted {_written(case.wanted)}")
    if document["status"] != reply.status or KNOWN.get(code) != reply.status:
        found.append(f"answered {reply.status} with a document of {document['status']} and the code {code}")
    if code not in BEFORE_ANY_CALL and not documented.names(request, reply.status, code):
        found.append(f"{reply.status} {code} is not documented for this call")
    if not document["detail"] or not document["title"] or document["type"] != f"urn:fed-compute:error:{code}":
        found.append(f"the document is not whole: {text[:200]}")
    return found


def _written(wanted: Collection[Wanted]) -> str:
    return " or ".join(f"{status} {code}" for status, code in sorted(wanted)) or "to be left alone"
