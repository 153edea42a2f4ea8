"""The stored form of a routed request and of feedback on it.

One flat record with the decision and its outcome, one per answer that judged evaluation got from another LLM, which has
the same columns, and one per piece of feedback. These are the values that are stored,
queried and shown; the column lists below define the stored form.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime

__all__ = [
    "CANDIDATE_COLUMNS",
    "FEEDBACK_COLUMNS",
    "LONGEST_ID",
    "REQUEST_COLUMNS",
    "CandidateRecord",
    "FeedbackRecord",
    "RequestRecord",
    "bounded_id",
    "storable",
    "storable_text",
]

LONGEST_ID = 1_024
"""Characters of an id. LiteLLM's own for Responses have some 450; an index of PostgreSQL takes 2,700 bytes."""

_DIGEST_BYTES = 16


def storable(value: object) -> object:
    """A value as it is kept and found again: `storable_text` of a text, anything else as it is."""
    return storable_text(value) if isinstance(value, str) else value


def storable_text(text: str) -> str:
    """A text as it is kept and found again: no store holds halves of surrogate pairs and NUL, which JSON can."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def bounded_id(text: str) -> str:
    """An id as it is kept: one that is too long, which only a client makes up, ends in a hash of itself."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= LONGEST_ID:
        return text
    digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()
    return f"{data[: LONGEST_ID - len(digest) - 1].decode('utf-8', 'ignore')}-{digest}"


@dataclass(frozen=True, slots=True)
class CandidateRecord:
    """One candidate of a decision.

    Attributes:
        name: The model group.
        llm: The learned LLM it stands for; None when none does.
        p_correct: Probability of a correct answer, in [0, 1]; None without a learned LLM.
        expected_output_tokens: Tokens the answer was expected to take; None likewise.
        cost_usd: Expected cost of the request in USD; None when LLM or price is unknown.
        utility: p_correct - cost_weight * cost_usd; None likewise.
        excluded: Why it could not be chosen; None when it could.
        usual_p_correct: Its mean p_correct on typical prompts, by which near ties are settled; None where they are not.
        usual_cost_usd: What a typical request to it costs; None likewise.
        propensity: Probability with which exploration would have chosen it; None where nothing was explored.
        known_by: What its LLM was known by: "labels", "published", "family" or "like"; None when it was not known.
        p_correct_low: Lower end of the 95 % interval of p_correct, by how well the LLM was known; None when unknown.
        p_correct_high: Upper end.
        p_unshrunk: Its p_correct before it was shrunk because prompt or caller are unlike training; None where nothing
            was.
    """

    name: str
    llm: str | None
    p_correct: float | None
    expected_output_tokens: float | None
    cost_usd: float | None
    utility: float | None
    excluded: str | None
    usual_p_correct: float | None = None
    usual_cost_usd: float | None = None
    propensity: float | None = None
    known_by: str | None = None
    p_correct_low: float | None = None
    p_correct_high: float | None = None
    p_unshrunk: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One routed request: the decision, its reason, and the outcome.

    Attributes:
        at: When it was decided, UTC.
        request_id: LiteLLM's call id, which clients see as `x-litellm-call-id`.
        virtual_model: Model name in the request.
        call_type: LiteLLM's name of the endpoint.
        key_alias: Alias of the API key; None when it has none.
        team_alias: Alias of the key's team; None when it has none.
        key_hash: Hash of the API key's id, see `owners`; None without a key.
        user_hash: Keyed hash of the end user's id, else of the id of the key's user; None without either.
        artifact: Id of the weights that decided; None when routing failed open without any.
        encoder: Id of the prompt encoder, which says whether `embedding` may be used with other weights.
        generation: Number of the snapshot of configuration and weights that decided; 1 after start.
        arm: "live", or "canary" for the share of requests that tries other weights or another objective.
        reason: Why the chosen one was chosen: a `policy.Reason`, or "failed_open".
        failed_open: Class of the error that made the default answer; None when routing decided.
        objective_from: Who set the objective: "config", "header", "body" or "canary"; None when routing failed open.
        cost_weight: λ, accuracy given up per USD; None when routing failed open.
        min_p_correct: τ; None when unset.
        within: Distance from the best candidate's p_correct that is allowed; None when unset.
        max_cost_usd: Limit on the expected cost; None when unset.
        latency_weight: Accuracy given up per second of waiting; None when routing failed open. So is the next one.
        near_tie_margin: Utility that may be lost so that near ties go to the same candidate; 0 when they do not.
        floor_met: Whether a candidate reached the floor; None when the objective sets none.
        chosen: Model group the request was sent to.
        llm: Learned LLM it stands for.
        p_correct: Its probability of a correct answer; None when routing failed open. So are the next three.
        expected_output_tokens: Tokens expected of its answer.
        expected_cost_usd: Its expected cost of the request in USD.
        utility: Its utility.
        propensity: Probability with which the policy chose it, in (0, 1]; 1 for a deterministic decision.
        exploration: How other candidates were tried, "epsilon" or "thompson"; None when nothing was explored. The
            next four likewise.
        exploration_epsilon: Share of requests that draw one of those within the caps evenly.
        exploration_max_loss: What another candidate might lose in p_correct.
        exploration_max_extra_usd: What another candidate might cost more.
        exploration_spread: How uncertain predictions were taken to be, with "thompson".
        runner_up: The second best candidate; None when there was none.
        likeliest: The most accurate candidate, by p_correct, among those that could be chosen.
        likeliest_p_correct: Its probability.
        likeliest_cost_usd: Its expected cost.
        cheapest: The candidate with the lowest expected cost among those that could be chosen.
        cheapest_p_correct: Its probability.
        cheapest_cost_usd: Its expected cost.
        baseline: The candidate that the virtual model names as its baseline; None without one, or where it could not be
            chosen. The next two likewise.
        baseline_p_correct: Its probability.
        baseline_cost_usd: Its expected cost.
        candidates: Everything weighed: the ranked ones best first, then the excluded ones.
        category: Name of the training category nearest to the prompt; None when the weights hold none.
        novelty: OOD score: share of ordinary prompts that lie nearer to the training prompts, in [0, 1]; None when not
            measured.
        hedge: How far predictions were moved to what holds on unknown kinds of prompt, in [0, 1], because the prompt or
            its caller's prompts are unlike those of training; None when routing failed open.
        prompt_chars: Length of the embedded text in characters.
        input_tokens: Estimated tokens of the whole request.
        max_output_tokens: The request's own limit on the answer; None when it set none.
        needs: What an LLM had to be able to do, besides text.
        service_tier: The tier of service it asked for, such as "flex"; None for the usual one.
        prompt_hash: Keyed hash of the embedded text; equal prompts of one store have equal hashes.
        prompt: The embedded text; only where the settings ask for it.
        embedding: Prompt embedding as base64 of little-endian float16; only where the settings ask for it.
        encode_ms: Milliseconds spent embedding.
        score_ms: Milliseconds spent predicting.
        decide_ms: Milliseconds spent weighing.
        route_ms: Milliseconds spent in the hook, all together.
        shadow_artifact: Weights that decided in the shadow; None when nothing did. So are the next three.
        shadow_chosen: What the shadow would have chosen.
        shadow_p_correct: The shadow's probability for its choice.
        shadow_cost_usd: The shadow's expected cost of its choice.
        status: "success", "failure", or "unknown" when no outcome was ever reported.
        served: Model group that answered, after fallbacks; None when none did.
        fallback: Whether another group answered than the chosen one.
        served_p_correct: Probability predicted for the one that answered; None when unknown.
        error: Class of the final error; None on success.
        response_id: Id inside the response body; None when unknown.
        billed_input_tokens: Input tokens the provider counted; None when unknown.
        billed_output_tokens: Output tokens the provider counted; None when unknown.
        billed_cost_usd: Billed cost in USD; None when unknown.
        latency_ms: From the call to its last byte; None when unknown.
        total_ms: From the request's arrival to the last byte, with attempts that failed and the pauses between them;
            None when unknown.
        failed_attempts: Calls that failed, in order, retries and fallbacks among them: model group and class of error.
        judged_for: Id of the user's request for which judged evaluation got this answer; None for a user's request. The
            next ones are None there, too.
        judging: "contender" for another LLM's answer to the same request, "double" for the user's answer judged against
            a copy of itself.
        judging_share: Probability with which the user's request was drawn, in (0, 1].
        judge: Model group that judged; None when none was asked.
        judge_score: Its score of this answer over both orders, in [0, 1]; None without a verdict.
        judge_score_served: Its score of the user's answer; of a double, of the copy.
        judge_reversed: Whether it ranked the two the other way round when their order was swapped.
        judging_usd: What its calls cost in USD, on one row of each request that was judged.
    """

    at: datetime
    request_id: str
    virtual_model: str
    call_type: str
    key_alias: str | None = None
    team_alias: str | None = None
    key_hash: str | None = None
    user_hash: str | None = None
    artifact: str | None = None
    encoder: str | None = None
    generation: int = 1
    arm: str = "live"
    reason: str
    failed_open: str | None = None
    objective_from: str | None = None
    cost_weight: float | None = None
    min_p_correct: float | None = None
    within: float | None = None
    max_cost_usd: float | None = None
    latency_weight: float | None = None
    near_tie_margin: float | None = None
    floor_met: bool | None = None
    chosen: str
    llm: str | None = None
    p_correct: float | None = None
    expected_output_tokens: float | None = None
    expected_cost_usd: float | None = None
    utility: float | None = None
    propensity: float = 1.0
    exploration: str | None = None
    exploration_epsilon: float | None = None
    exploration_max_loss: float | None = None
    exploration_max_extra_usd: float | None = None
    exploration_spread: float | None = None
    runner_up: str | None = None
    likeliest: str | None = None
    likeliest_p_correct: float | None = None
    likeliest_cost_usd: float | None = None
    cheapest: str | None = None
    cheapest_p_correct: float | None = None
    cheapest_cost_usd: float | None = None
    baseline: str | None = None
    baseline_p_correct: float | None = None
    baseline_cost_usd: float | None = None
    candidates: tuple[CandidateRecord, ...] = ()
    category: str | None = None
    novelty: float | None = None
    hedge: float | None = None
    prompt_chars: int | None = None
    input_tokens: int | None = None
    max_output_tokens: int | None = None
    needs: tuple[str, ...] = ()
    service_tier: str | None = None
    prompt_hash: str | None = None
    prompt: str | None = None
    embedding: str | None = None
    encode_ms: float | None = None
    score_ms: float | None = None
    decide_ms: float | None = None
    route_ms: float
    shadow_artifact: str | None = None
    shadow_chosen: str | None = None
    shadow_p_correct: float | None = None
    shadow_cost_usd: float | None = None
    status: str
    served: str | None = None
    fallback: bool = False
    served_p_correct: float | None = None
    error: str | None = None
    response_id: str | None = None
    billed_input_tokens: int | None = None
    billed_output_tokens: int | None = None
    billed_cost_usd: float | None = None
    latency_ms: float | None = None
    total_ms: float | None = None
    failed_attempts: tuple[str, ...] = ()
    judged_for: str | None = None
    judging: str | None = None
    judging_share: float | None = None
    judge: str | None = None
    judge_score: float | None = None
    judge_score_served: float | None = None
    judge_reversed: bool | None = None
    judging_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRecord:
    """Feedback on one answer.

    Attributes:
        at: When it was given, UTC.
        request_id: The routed request: LiteLLM's call id, or the id inside the response body.
        score: In [0, 1]; 1 is a correct answer.
        source: Who gave it, such as "user", "judge:gpt-4o" or "import".
        key_alias: Alias of the API key that gave it; None when it has none.
    """

    at: datetime
    request_id: str
    score: float
    source: str
    key_alias: str | None = None


_SQL_TYPES = {"str": "VARCHAR", "float": "DOUBLE", "int": "BIGINT", "bool": "BOOLEAN", "datetime": "TIMESTAMP"}


def _columns(record: type, nested: Mapping[str, str]) -> dict[str, str]:
    """Column name → DuckDB type, in the order of a dataclass's fields."""
    names = {f.name: getattr(f.type, "__name__", str(f.type)).split(" | ")[0] for f in fields(record)}
    return {name: nested.get(name) or _SQL_TYPES[kind] for name, kind in names.items()}


CANDIDATE_COLUMNS = _columns(CandidateRecord, {})
"""Name → DuckDB type of a candidate's fields."""

_CANDIDATES = f"STRUCT({', '.join(f'{name} {kind}' for name, kind in CANDIDATE_COLUMNS.items())})[]"

REQUEST_COLUMNS = _columns(
    RequestRecord, {"candidates": _CANDIDATES, "needs": "VARCHAR[]", "failed_attempts": "VARCHAR[]"}
)
"""Name → DuckDB type of a stored request. Readers fill a column that an older file lacks with NULL."""

FEEDBACK_COLUMNS = _columns(FeedbackRecord, {})
"""Name → DuckDB type of stored feedback."""
