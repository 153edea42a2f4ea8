"""Processes that train together do what one does with a batch as large as theirs together; one alone is as ever."""

import functools
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import small_table, write_set
from team_worker import OPTIONS, curves, skilled
from torch import nn

from embedllm_router.artifact.weights import load_artifact
from embedllm_router.errors import DataError
from embedllm_router.training.fit.decoder import Head
from embedllm_router.training.fit.distill import save_table
from embedllm_router.training.fit.team import Team
from embedllm_router.training.fit.training import mean_logits, standardisation, train_decoder

WORKER = Path(__file__).parents[1] / "helpers" / "team_worker.py"
LOCAL = {"GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def workers(batch: int) -> list[subprocess.Popen[str]]:
    """The two processes that torchrun would start on this machine."""
    shared = os.environ | LOCAL | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        subprocess.Popen(
            [sys.executable, str(WORKER), str(batch)],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


@functools.cache
def alone_with_double_batch() -> dict[str, Any]:
    return curves(32, Team())


def launched(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a module in two processes of Accelerate on this machine."""
    how = ["--cpu", "--num_processes=2", "--num_machines=1", f"--main_process_port={free_port()}"]
    how += ["--mixed_precision=no", "--dynamo_backend=no"]
    command = [sys.executable, "-m", "accelerate.commands.launch", *how, *arguments]
    return subprocess.run(command, env=os.environ | LOCAL, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def test_two_processes_have_the_loss_curve_of_one_with_a_batch_twice_as_large() -> None:
    started, alone = workers(16), alone_with_double_batch()
    said = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert said[1][0] == "", "the main process alone speaks"
    together = json.loads(said[0][0])
    assert together["size"] == 2
    for kind in ("rows", "copies", "pairs"):
        assert [head for head, *_ in together[kind]] == [head for head, *_ in alone[kind]]
        for (_, *losses), (_, *expected) in zip(together[kind], alone[kind], strict=True):
            assert losses == pytest.approx(expected, rel=1e-4)
    assert together["copies"] != together["rows"]
    assert together["rows"][3][2] < together["rows"][0][2] - 0.05, "the curve is one of learning"
    assert together["bias"] == pytest.approx(alone["bias"], abs=1e-4)
    assert together["sum_of_biases"] == pytest.approx([2 * b for b in together["bias"]]), "both hold the same weights"
    before, after = together["threads"]
    assert before is None or (before > 0 and after == 0), "a thread that outlives the team may abort the process's end"


def test_the_batch_is_what_makes_the_curve() -> None:
    """The tolerance above would notice a team that forgot to add its batches up."""
    small, large = curves(16, Team()), alone_with_double_batch()
    assert small["rows"][0][1:] != pytest.approx(large["rows"][0][1:], rel=2e-3)


def test_train_on_two_processes_writes_and_says_once(tmp_path: Path) -> None:
    folder = write_set(tmp_path / "data", n=60)
    out = tmp_path / "out"
    train = [
        "train",
        f"--data={folder}",
        f"--out={out}",
        "--min-labels=20",
        "--max-epochs=2",
        "--members=1",
        "--threads=1",
        "--json",
    ]
    save_table(tmp_path / "table", small_table(tmp_path / "planted"))
    done = launched("-m", "embedllm_router", *train, f"--encoder={tmp_path / 'table'}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["artifact"] == load_artifact(out).id
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "out", "planted", "table"], "no draft, no checkpoint"


def test_one_process_alone_trains_bit_for_bit_as_the_plain_loop_does() -> None:
    """A second implementation without teams, lessons or checkpoints, dropout and all."""
    data = replace(skilled(), observed=skilled().observed | True)
    options = replace(OPTIONS, dropout=0.3, input_dropout=0.1, category_smoothing=0.0, max_epochs=3, batch_prompts=32)
    options = replace(options, calibration_strength=1e12)  # leaves the logits all but alone
    history = [r for r in train_decoder(data, options).history if r.head.startswith("correctness")]
    mean, scale = standardisation(data.x[data.split.train], unit_length=False)
    x, labels = ((torch.from_numpy(data.x) - mean) / scale).clamp(-8, 8), torch.from_numpy(data.labels)
    torch.manual_seed(options.seed * 1000)
    head = Head(x.shape[1], options.hidden, options.d_llm, labels.shape[1], dropout=options.dropout)
    head.llm_bias.data.copy_(torch.from_numpy(mean_logits(data)))
    optimiser = torch.optim.AdamW(head.parameters(), options.learning_rate, weight_decay=options.weight_decay)
    steps = 8 * options.max_epochs + 1
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, options.learning_rate, total_steps=steps, pct_start=0.1)
    for record in history:
        losses = []
        head.train()
        for batch in torch.split(torch.from_numpy(data.split.train)[torch.randperm(241)], 32):
            out = head(nn.functional.dropout(x[batch], options.input_dropout))
            loss = nn.functional.binary_cross_entropy_with_logits(out, labels[batch].float(), reduction="none").sum()
            loss = loss / torch.tensor(float(out.numel()))
            optimiser.zero_grad()
            torch.autograd.backward([loss])
            optimiser.step()
            schedule.step()
            losses.append(loss.detach())
        head.eval()
        with torch.no_grad():
            rows = torch.from_numpy(data.split.validation)
            valid = nn.functional.binary_cross_entropy_with_logits(head(x[rows]), labels[rows].float())
        assert record.train_loss == sum(losses, torch.zeros(())).item() / len(losses)
        assert record.validation_loss == pytest.approx(valid.item(), rel=1e-6)


def test_shares_of_a_batch_are_the_batch_even_where_it_is_smaller_than_the_team() -> None:
    for n in (0, 1, 2, 7):
        parts = [Team(3, rank).share(torch.arange(n)) for rank in range(3)]
        assert torch.cat(parts).tolist() == list(range(n))


def test_members_with_different_data_are_refused() -> None:
    class Deceived(Team):
        """A team of two whose other member has another fingerprint."""

        def sum(self, part: torch.Tensor) -> torch.Tensor:
            return part + part + 1

    with pytest.raises(DataError, match="read different data"):
        Deceived(2, 0).check_same("0123456789abcdef")
