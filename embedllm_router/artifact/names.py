"""What the name of an LLM says: providers spell the same LLM in many ways, and a spelling tells vendor, size and date.

`read_name` is the one reading of names: of deployments in any of LiteLLM's spellings, and of learned LLMs. The names
that a provider lets stand for a release, such as `gpt-4o` or `mistral-large-latest`, are in aliases.csv with the day
since when they do.
"""

import csv
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

__all__ = ["EFFORTS", "REASONING_EFFORTS", "Alias", "LLMName", "aliases_of", "read_name"]

EFFORTS: Final = ("thinking", "minimal", "low", "medium", "high", "xhigh", "max")
"""How much an LLM was told to reason: settings that name a variant of it, as in `gpt-5.4:high`."""

REASONING_EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
"""The efforts that a request can set, in rising order; LiteLLM's values of `reasoning_effort`."""

_NO_REASONING = frozenset({"instant", "none"})
_OFFERS = frozenset(
    {"free", "nitro", "floor", "extended", "online", "exacto", "beta", "self-moderated", "cloud", "latest", "batch"}
)
"""What OpenRouter and Ollama write behind a colon to say how an LLM is served, not which it is."""

_BEDROCK = re.compile(
    r"(?:[a-z-]+\.)?(ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai"
    r"|qwen|writer|xai|zai)\.(?=[a-z])(.+)"
)
_BEDROCK_VERSION = re.compile(r"-(?:v\d+:\d+|v[1-9]|\d+:\d+)(?::\d+k)?$")
_GATEWAYS = re.compile(
    r"^(?:(?:databricks|fw|anthropic|openai|cohere|nvidia|google|xai|zai|system\.ai\.)-?)+(?=meta-llama|llama|claude|gpt|gemini"
    r"|gemma|qwen|deepseek|glm|grok|kimi|inkling|command|nemotron|minimax|o\d)"
)
_SERVING = re.compile(
    r"-(?:fp8|fp4|fp16|bf16|nvfp4|mxfp4|int4|int8|awq|gptq|gguf|dynamic|maas|tput|versatile|specdec|hf|cloud|default"
    r"|q\d(?:-[a-z0-9]+)*)$"
)
"""How the weights are stored or served; what is asked of them is the same."""
_OPEN = r"(?:llama|qwen|mistral|mixtral|gemma|deepseek|phi|yi)"
_SPEED = re.compile(rf"^({_OPEN}.*(?:instruct|it|\d+b|v3|v3-\d|r1))-(?:turbo|lite|instant|fast)$")
_FAMILY_VERSION = re.compile(r"^(llama|codellama|gemma|phi|yi|claude|gpt|glm|hermes|granite)-?v?(?=\d)")
_GLUED = re.compile(r"^(gpt|qwen)-?(3|4|2|1)(5|1)(?=-)")
_CLAUDE = re.compile(r"^claude-(\d+(?:[.-]\d{1,2})?)-(opus|sonnet|haiku)(?=-|$|:)")
_EXPERTS = re.compile(r"^(llama-4-(?:maverick|scout))-17b(?:-\d+e)?")
_RELEASE = re.compile(
    r"-(?P<release>latest|\d{4}-\d{2}-\d{2}|\d{2}-\d{4}|\d{2}-\d{2}|\d{8}|\d{6}|\d{3,4}|\d{4}-\d{3})$"
)
_SIZE = re.compile(r"(?<![a-z\d.])(?:(\d+)x)?(\d+(?:\.\d+)?)b(?![a-z\d])")
_TUNED = re.compile(r"-(?:instruct|it)(?=-|$)")
_OFFERS_BASE = frozenset({"fireworks_ai", "replicate"})
_HAS_BASE = re.compile(r"^(?:code)?(?:llama|qwen[12]|mistral|mixtral|gemma|yi|deepseek-(?:coder|llm)).*\d+b")
_NO_ANSWERS = re.compile(r"-base$|guard|moderation|embed|rerank|ocr")
_VERSION = re.compile(r"(?<!\d)(\d{1,2})(?:-(\d{1,2})(?![\dbkmx]))?(?![\dbkmx])")
_THINKS = re.compile(r"(?<!non-)(?:thinking|reasoning|reasoner|think)(?=-|$)|(?:^|-)r1(?=-|$)|^o\d|^qwq|^magistral")

_VENDORS: Final = (
    ("anthropic", r"claude"),
    ("openai", r"gpt|chatgpt|o\d(?:-|$)|codex|computer-use|davinci|babbage"),
    ("google", r"gemini|gemma|codegemma|medgemma|palm|text-bison|chat-bison|text-unicorn|learnlm"),
    ("nvidia", r"nemotron|llama.*nemotron|nvidia"),
    ("meta", r"llama|code-?llama|muse-"),
    ("mistral", r"(?:open-)?mi[sx]tral|ministral|codestral|devstral|magistral|mathstral|pixtral|voxtral"),
    ("deepseek", r"deepseek"),
    ("qwen", r"qwen|qwq|qvq"),
    ("xai", r"grok"),
    ("cohere", r"command|c4ai|aya"),
    ("ai21", r"jamba|j2"),
    ("amazon", r"nova|titan"),
    ("microsoft", r"phi|mai-|wizardlm"),
    ("zhipu", r"(?:chat)?glm|codegeex|longwriter"),
    ("moonshot", r"kimi|moonshot"),
    ("minimax", r"minimax"),
    ("01-ai", r"yi-"),
    ("databricks", r"dbrx"),
    ("ibm", r"granite"),
    ("tencent", r"hunyuan|hy\d"),
    ("baidu", r"ernie"),
    ("bytedance", r"doubao|seed-"),
    ("xiaomi", r"mimo"),
    ("stepfun", r"step-"),
    ("inclusionai", r"(?:ling|ring)-"),
    ("nous", r"(?:nous-)?hermes"),
    ("writer", r"palmyra"),
    ("reka", r"reka"),
    ("inception", r"mercury"),
    ("liquid", r"lfm"),
    ("arcee", r"trinity|afm"),
    ("allenai", r"olmo|tulu"),
    ("perplexity", r"sonar|r1$|pplx"),
    ("meituan", r"longcat"),
    ("deepcogito", r"cogito"),
    ("internlm", r"internlm"),
    ("primeintellect", r"intellect"),
    ("lmsys", r"vicuna"),
    ("thinkingmachines", r"inkling"),
    ("poolside", r"laguna"),
    ("snowflake", r"snowflake"),
)
_VENDOR_OF = tuple((vendor, re.compile(rf"(?:{names})")) for vendor, names in _VENDORS)
_TIER: Final = re.compile(
    r"opus|sonnet|haiku|fable|mythos|mini|nano|micro|pro|flash|lite|large|small|medium|max|plus|air|coder|code|codex|vl"
    r"|vision|chat|turbo|fast|heavy|distill|premier|maverick|scout|oss|nemo|audio|search|image|r1|r|a"
)
"""Words that tell the tiers of a vendor's LLMs apart."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that stands for a release.

    Attributes:
        stands_for: The release's name.
        since: First day on which it did, ISO.
    """

    stands_for: str
    since: str


@dataclass(frozen=True, slots=True)
class LLMName:
    """What a name says.

    Attributes:
        id: The name without provider, region and way of serving: what an LLM is called that has no id.
        spelling: The name without provider, region, way of serving, release and effort; spelled in one way.
        release: What tells releases apart, as it is written: a date, a number or "latest"; "" without one.
        effort: Its reasoning effort, one of `EFFORTS`; None where the name sets none.
        vendor: Who made it; None when the name does not say.
        family: Vendor's word and tier, such as "claude-sonnet" or "gpt-mini"; "" without a vendor.
        size_b: Parameters in billions; None when the name does not say.
        released: Month of the release, YYYY-MM; None when the name does not say.
        version: Its version in its line, such as (5, 4) of "gpt-5.4-mini"; () when the name does not say.
        thinking: Whether the name says that it reasons before it answers.
        fine_tuned: Whether it is somebody's own fine-tune of the LLM.
        base: Whether it may be a base model, which completes texts, or a classifier: neither answers prompts.
    """

    id: str
    spelling: str
    release: str
    effort: str | None
    vendor: str | None
    family: str
    size_b: float | None
    released: str | None
    version: tuple[int, ...]
    thinking: bool
    fine_tuned: bool
    base: bool

    @property
    def loose(self) -> str:
        """The spelling without the word for instruction tuning, which many providers leave out."""
        return _TUNED.sub("", self.spelling) if self.vendor != "openai" else self.spelling

    @property
    def key(self) -> tuple[str, str, str | None, bool]:
        """Equal for two names of the same release with the same effort."""
        return self.spelling, self.release, self.effort, self.fine_tuned


def read_name(name: str) -> LLMName:
    """Reads the name of an LLM.

    Args:
        name: A learned LLM's id, or what a deployment calls its LLM: `openai/gpt-4o`, `us.anthropic.claude-…-v1:0`,
            `ollama/llama3.1:8b`, `vertex_ai/claude-…@20240229` and so on.

    Returns:
        What it says; for a name of no known form the name itself.
    """
    tuned, text = _without_fine_tuning(name.strip().lower())
    provider = text.partition("/")[0] if "/" in text else ""
    head, tags = _tags(_last_segment(text))
    head, effort = _with_tags(head, tags)
    dotted = _spelled(head)
    spelling, release = _release(dotted.replace(".", "-"))
    vendor = next((vendor for vendor, known in _VENDOR_OF if known.match(spelling)), None)
    base = bool(_NO_ANSWERS.search(spelling)) or (
        provider in _OFFERS_BASE and bool(_HAS_BASE.match(spelling)) and not re.search(r"instruct|-it\b|chat", spelling)
    )
    return LLMName(
        id=("ft:" if tuned else "") + dotted.removesuffix("-latest") + (f":{effort}" if effort else ""),
        spelling=spelling,
        release=release,
        effort=effort,
        vendor=vendor,
        family=_family(spelling) if vendor else "",
        size_b=_size(dotted),
        released=_month(release),
        version=_version(spelling),
        thinking=effort is not None or bool(_THINKS.search(spelling)),
        fine_tuned=tuned,
        base=base,
    )


def aliases_of(name: str) -> tuple[Alias, ...]:
    """The releases that a name has stood for, oldest first; none for a name that is no alias."""
    text = name.strip().lower()
    head, _ = _with_tags(*_tags(_last_segment(text)))
    spelled = _spelled(head).replace(".", "-")
    places = ("ollama/", "") if text.startswith(("ollama/", "ollama_chat/")) else ("",)
    keys = [f"{place}{one}" for place in places for one in (spelled, spelled.removesuffix("-latest"))]
    return next((found for key in keys if (found := _aliases().get(key))), ())


@cache
def _aliases() -> dict[str, tuple[Alias, ...]]:
    rows = csv.DictReader((files(__package__) / "aliases.csv").read_text(encoding="utf-8").splitlines())
    found: dict[str, tuple[Alias, ...]] = {}
    for row in rows:
        place, _, name = row["alias"].rpartition("/")
        spelled = _spelled(name).replace(".", "-")
        key = f"{place}/{spelled}" if place else spelled
        found[key] = (*found.get(key, ()), Alias(row["stands_for"], row["since"]))
    return found


def _without_fine_tuning(text: str) -> tuple[bool, str]:
    """Takes `ft:gpt-4o-mini-2024-07-18:acme::id` apart, also with a provider before it."""
    found = re.search(r"(?:^|/)ft:([^:]+)", text)
    return (True, found[1]) if found else (False, text)


def _last_segment(text: str) -> str:
    last = text.rsplit("/", maxsplit=1)[-1].partition("#")[0]
    found = _BEDROCK.fullmatch(last)
    if not found:
        return last
    vendor, rest = found.groups()
    if vendor == "anthropic":
        rest = re.sub(r"^claude(-instant)?-v(\d+)(?::(\d+))?(?::\d+k)?$", _old_claude, rest)
    rest = _BEDROCK_VERSION.sub("", re.sub(r"-v0:(\d)$", r"-v0.\1", rest))
    return rest if vendor != "deepseek" or rest.startswith("deepseek") else f"deepseek-{rest}"


def _old_claude(found: re.Match[str]) -> str:
    instant, major, minor = found.groups()
    return f"claude{instant or ''}-{major}" + (f".{minor}" if minor and minor != "0" else "")


def _tags(last: str) -> tuple[str, list[str]]:
    head, *tags = last.split(":")
    return head, tags


def _with_tags(head: str, tags: list[str]) -> tuple[str, str | None]:
    """The name with what stands behind colons: a size belongs to it, an effort is told apart, an offer is left out."""
    effort = None
    for tag in tags:
        if tag in EFFORTS:
            effort = tag
        elif re.match(r"\d+(?:\.\d+)?[bm]|\d+x\d+b|e\d+b", tag):
            head += f"-{tag}"
        elif tag not in _OFFERS and not re.fullmatch(r"\d+k?", tag) and tag not in _NO_REASONING:
            head += f":{tag}"
        elif tag in _NO_REASONING:
            head += "-non-thinking"
    return head, effort


def _spelled(text: str) -> str:
    """One spelling for each way of writing versions, tiers and ways of serving."""
    text = re.sub(r"[_@ ]", "-", text)
    text = re.sub(r"(?<=\d)p(?=\d)", ".", text)  # Fireworks writes 3p1 for 3.1
    text = _GATEWAYS.sub("", text).removeprefix("meta-") if not text.startswith("snowflake") else text
    text = re.sub(r"^llama-v(?=\d)", "llama-", text)
    while True:
        shorter = _SERVING.sub("", text)
        shorter = _SPEED.sub(r"\1", shorter)
        if shorter == text:
            break
        text = shorter
    text = _GLUED.sub(r"\1-\2.\3", text)
    text = _FAMILY_VERSION.sub(r"\1-", text)
    text = re.sub(r"^qwen-(?=\d)", "qwen", text)
    text = re.sub(r"^(claude-3[.-]5-sonnet)-v2", r"\1", text)  # Vertex; its date says the same
    text = _CLAUDE.sub(r"claude-\2-\1", text)
    return _EXPERTS.sub(r"\1", text)


def _release(spelled: str) -> tuple[str, str]:
    found = _RELEASE.search(spelled)
    return (spelled[: found.start()], _plain(found["release"])) if found else (spelled, "")


def _plain(release: str) -> str:
    """A release without separators, year first: 2024-08-06 and 20240806 are one, and so are 08-2024 and 2024-08."""
    if re.fullmatch(r"\d{2}-\d{4}", release):
        month, year = release.split("-")
        return year + month
    return release.replace("-", "")


def _month(release: str) -> str | None:
    if re.fullmatch(r"20\d{6}", release) or re.fullmatch(r"20\d{4}", release):
        year, month = release[:4], release[4:6]
    elif re.fullmatch(r"2[2-9]\d{4}", release) or re.fullmatch(r"2[2-9](?:0[1-9]|1[0-2])", release):
        year, month = f"20{release[:2]}", release[2:4]
    else:
        return None
    return f"{year}-{month}" if "01" <= month <= "12" else None


def _size(dotted: str) -> float | None:
    found = _SIZE.search(dotted)
    return None if found is None else float(found[1] or 1) * float(found[2])


def _version(spelling: str) -> tuple[int, ...]:
    found = _VERSION.search(spelling)
    return () if found is None else tuple(int(part) for part in found.groups() if part)


def _family(spelling: str) -> str:
    words = re.split(r"[-:]", spelling)
    first = re.sub(r"[\d.]+$", "", words[0]) or words[0]
    return "-".join([first, *(word for word in words[1:] if _TIER.fullmatch(word))])
