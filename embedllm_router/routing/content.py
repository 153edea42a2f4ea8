"""Parts of messages: which are text, how large each is, and which words are the person's own.

A part is a string or a JSON object with a `type`. Text is embedded and counted; attachments and the traffic of tools
are counted only. Coding agents put notes of their own into user messages (`<system-reminder>…`), which are counted and
not embedded. Pure, total, and linear in the size of what is read.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import orjson

from embedllm_router.routing.pool import Capability

__all__ = ["Content", "is_marked", "is_unsaid", "json_bytes", "n_bytes", "own_words", "read_content", "unsaid"]

_TOKENS_PER_ATTACHMENT: Final = 1_000  # an image, audio clip or file: a round figure, providers differ tenfold
_TOKENS_PER_PAGE: Final = 2_000  # of a PDF: Anthropic states 1,500 to 3,000, its picture not counted
_BYTES_PER_PAGE: Final = 50_000  # of a PDF whose pages cannot be counted
_LOOKED_AT: Final = 4 << 20  # characters of base64 in which pages are counted; the rest is taken to be like them
_MAX_DEPTH: Final = 6  # nesting of parts beyond this is nobody's real request
_TEXT_TYPES: Final = frozenset({"text", "input_text", "output_text", "refusal"})
_TOOL_ENDINGS: Final = ("_call", "_call_output", "_tool_result", "_approval_request", "_approval_response")
_UNSAID_TYPES: Final = frozenset(
    {"reasoning", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "mcp_tool_use", "tool_result"}
)
_RETURNED: Final = ("content", "output")  # fields in which a tool returns parts
_NEEDED: Final = {
    "image_url": Capability.VISION,
    "input_image": Capability.VISION,
    "image": Capability.VISION,
    "computer_screenshot": Capability.VISION,
    "input_audio": Capability.AUDIO,
}
_FILES: Final = frozenset({"file", "input_file", "document"})
_MARK: Final = "cache_control"
_PAGE: Final = re.compile(rb"/Type\s?/Page\b")  # not /Pages, the tree of them


@dataclass(frozen=True, slots=True)
class Content:
    """What a message holds.

    Attributes:
        text: Its texts, each on lines of its own; empty when it has none.
        n_bytes: Of all that is text, tool traffic included, in UTF-8.
        n_tokens: Of what is no text.
        needs: What an LLM must be able to do to read it.
        marks_cache: Whether the provider is asked to cache the prompt up to here.
    """

    text: str = ""
    n_bytes: int = 0
    n_tokens: int = 0
    needs: frozenset[Capability] = frozenset()
    marks_cache: bool = False


_Part = str | Content


def n_bytes(text: str) -> int:
    """Bytes of a text in UTF-8; a lone surrogate counts as one."""
    return len(text) if text.isascii() else len(text.encode("utf-8", errors="replace"))


def json_bytes(value: object) -> int:
    """Bytes of a value as JSON; of one that JSON cannot say or that is nested too deep, about as many, or 0."""
    if isinstance(value, str):
        return n_bytes(value)
    try:
        return len(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
    except (orjson.JSONEncodeError, RecursionError):
        try:
            return n_bytes(str(value))
        except RecursionError:
            return 0


def read_content(content: object, called: Iterable[object] = ()) -> Content:
    """Reads a message's content.

    Args:
        content: A string, a part, or a list of them; what is none of these holds nothing.
        called: Calls of tools that stand beside the content.
    """
    size = sum(map(json_bytes, called))
    if isinstance(content, str):
        return Content(content if content.strip() else "", size + n_bytes(content))
    parts = list(_parts(content, 0))
    texts = (part for part in parts if isinstance(part, str) and part.strip())
    found = _measured(parts, "\n".join(texts), size)
    return replace(found, marks_cache=True) if is_marked(content) else found


def is_marked(listed: object) -> bool:
    """Whether an item of a list asks the provider to cache the prompt up to there."""
    return isinstance(listed, list) and any(isinstance(one, Mapping) and one.get(_MARK) for one in listed)


def _measured(parts: Iterable[_Part], text: str = "", size: int = 0) -> Content:
    """The sum of parts, with a text of its own."""
    n_tokens, needs = 0, frozenset[Capability]()
    for part in parts:
        if isinstance(part, str):
            size += n_bytes(part)
        else:
            size += part.n_bytes
            n_tokens += part.n_tokens
            needs |= part.needs
    return Content(text, size, n_tokens, needs)


def _parts(content: object, depth: int) -> Iterator[_Part]:
    """Texts to embed, and everything else measured, in order."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, list) and depth < _MAX_DEPTH:
        for item in content:
            yield from _parts(item, depth + 1)
    elif isinstance(content, Mapping):
        yield from _part(content, depth)


def _part(part: Mapping[str, object], depth: int) -> Iterator[_Part]:
    kind, text = str(part.get("type", "text")), part.get("text")
    if kind in _TEXT_TYPES and isinstance(text, str):
        yield text
    elif is_unsaid(kind):
        yield unsaid(part, depth)
    elif kind == "search_result":
        yield from _parts([part.get("title"), part.get("content")], depth + 1)
    elif kind in _FILES:
        yield from _file(part, depth)
    else:
        needed = _NEEDED.get(kind)
        yield Content(n_tokens=_TOKENS_PER_ATTACHMENT, needs=frozenset({needed} if needed else ()))


def is_unsaid(kind: str) -> bool:
    """Whether parts of a type are none that anybody says: reasoning, calls of tools and what these return."""
    return kind in _UNSAID_TYPES or kind.endswith(_TOOL_ENDINGS)


def unsaid(part: Mapping[str, object], depth: int = 0) -> Content:
    """The size of reasoning, a tool call or its result: text as bytes, images and files in it as attachments."""
    returned = {name: part[name] for name in _RETURNED if isinstance(part.get(name), list | Mapping)}
    rest = {name: value for name, value in part.items() if name not in returned}
    return _measured(_parts(list(returned.values()), depth), size=json_bytes(rest))


def _file(part: Mapping[str, object], depth: int) -> Iterator[_Part]:
    """A file: text of documents that are text, pages of a PDF."""
    source, nested = part.get("source"), part.get("file")
    if isinstance(source, Mapping):
        kind, data = source.get("type"), source.get("data")
        if kind == "text" and isinstance(data, str):
            yield data
        elif kind == "content":
            yield from _parts(source.get("content"), depth + 1)
        else:
            yield _encoded(str(source.get("media_type") or "application/pdf"), data)
        return
    data = (nested if isinstance(nested, Mapping) else part).get("file_data")
    head, comma, body = data.partition(",") if isinstance(data, str) and data.startswith("data:") else ("", "", data)
    yield _encoded(head.removeprefix("data:").partition(";")[0] if comma else "application/pdf", body)


def _encoded(media_type: str, data: object) -> Content:
    """A file in base64; `data` is no string where the file lies elsewhere."""
    size = len(data) * 3 // 4 if isinstance(data, str) else 0
    if media_type.startswith("text/") or media_type.endswith(("json", "xml", "yaml")):
        return Content(n_bytes=size)
    if media_type.startswith("image/"):
        return Content(n_tokens=_TOKENS_PER_ATTACHMENT, needs=frozenset({Capability.VISION}))
    needs = frozenset({Capability.PDF})
    if not isinstance(data, str):
        return Content(n_tokens=_TOKENS_PER_ATTACHMENT, needs=needs)
    return Content(n_tokens=_TOKENS_PER_PAGE * _n_pages(data, size), needs=needs)


def _n_pages(data: str, size: int) -> int:
    """Pages of a PDF, at least 1; by its size where page objects are compressed or it is no base64."""
    looked_at = data[: min(len(data), _LOOKED_AT) & ~3]
    try:
        pdf = base64.b64decode(looked_at)
    except (binascii.Error, ValueError):
        pdf = b""
    return max(round(len(_PAGE.findall(pdf)) * len(data) / max(len(looked_at), 1)) or size // _BYTES_PER_PAGE, 1)


_ENDS: Final = 65_536  # characters at either end: more than is ever embedded
_NOTES: Final = (
    # Claude Code
    *("system-reminder", "local-command-stdout", "local-command-stderr", "bash-stdout", "bash-stderr"),
    *("ide_opened_file", "ide_selection", "ide_diagnostics", "new-diagnostics", "task-notification"),
    *("user-prompt-submit-hook", "session-start-hook", "post-tool-use-hook"),
    # Codex
    *("environment_context", "user_instructions", "INSTRUCTIONS", "permissions instructions", "turn_aborted"),
    # Cline, Roo
    *("environment_details", "explicit_instructions"),
    # Cursor
    *("user_info", "project_layout", "git_status", "additional_data", "open_and_recently_viewed_files"),
    *("attached_files", "cursor_rules_context", "always_applied_workspace_rules", "system_reminder", "todo_list"),
    *("agent_requestable_workspace_rules", "user_rules", "linter_errors", "recently_viewed_files"),
    # Copilot
    *("reminderInstructions", "editorContext", "repoContext", "workspace_info", "environment_info"),
    # OpenHands
    *("RUNTIME_INFORMATION", "REPOSITORY_INFO", "REPOSITORY_INSTRUCTIONS", "EXTRA_INFO"),
    # Windsurf
    *("ADDITIONAL_METADATA", "MEMORIES", "EPHEMERAL_MESSAGE"),
)
"""Frames of what the programs named write into user messages; no word that people are likely to use as a tag."""
_REQUESTS: Final = ("user_query", "userRequest", "user_request", "USER_REQUEST")
"""Frames that the same programs put around what the person wrote."""


@lru_cache(maxsize=256)
def _opening_tag(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"<({'|'.join(map(re.escape, names))})(?:[ \\t][^<>]{{0,300}})?>")


def own_words(text: str) -> str:
    """What a person wrote of a user message, without what a coding agent added.

    Args:
        text: A user message; of a long one both ends are read.

    Returns:
        The contents of the agent's frame for the person's request where there is one, else the text without the agent's
        notes. Empty when the message has nothing else.
    """
    if len(text) > 2 * _ENDS:
        text = text[:_ENDS] + text[-_ENDS:]
    requests = [text[start:end] for _, start, end, _ in _frames(text, _REQUESTS)]
    if requests:
        return "\n".join(one.strip() for one in requests)
    kept, at = [], 0
    for first, _, _, last in _frames(text, _NOTES):
        kept.append(text[at:first])
        at = last
    return "".join([*kept, text[at:]]).strip() if at else text


def _frames(text: str, names: tuple[str, ...]) -> Iterator[tuple[int, int, int, int]]:
    """Of each closed frame: where its tag, its contents, its closing tag begin, and where that ends.

    A name that is closed nowhere further on is looked for no more, which keeps the time linear.
    """
    at = 0
    while names and (tag := _opening_tag(names).search(text, at)) is not None:
        name, at = tag[1], tag.end()
        end = text.find(f"</{name}>", at)
        if end < 0:
            names = tuple(one for one in names if one != name)
            continue
        at = end + len(name) + 3
        yield tag.start(), tag.end(), end, at
