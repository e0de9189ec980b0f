"""Speed and quality of rankers beside peers: the same million examples, in order, one core."""

# ruff: noqa: E402 - the number of threads must be set before numpy is imported
import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import argparse
import importlib.util
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from online_models.protocols import FeatureRows, PointwiseModel
from online_models.rankers import DeepFM, FactorizationMachine, FTRLRegression, FTRLSettings

RUNS = 5
BATCH = 1_024
SIZES = (10, 24, 50, 100, 300, 1_000, 2_000, 5_000, 10_000, 30_000, 100_000, 200_000)  # ids per field
NUMBERS = 3
CROSSES = ((0, 4), (1, 5), (2, 7), (5, 8))  # pairs of fields that interact in the true model
PRIOR = -1.6
API_EXAMPLES = 50_000  # for peers with one Python call per example
_NAMES = "abcdefghijkl"

Clock = Callable[[], float]


@dataclass(frozen=True)
class Examples:
    """Examples with their true click probabilities, which the learners do not see."""

    ids: np.ndarray  # (n, fields) int64, from 0 per field
    keys: np.ndarray  # (n, fields) uint64
    numbers: np.ndarray  # (n, NUMBERS) float32
    label: np.ndarray  # (n,) float32
    probability: np.ndarray  # (n,) float64, true probability


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    name: str
    examples: int
    train_rate: float  # examples/s
    predict_train_rate: float  # examples/s, each batch predicted before training on it
    log_loss: float  # progressive, over the second half
    auc: float


def generate_examples(n: int, seed: int) -> Examples:
    """Generate Zipf ids, normal numbers, and labels of a logistic model with low-rank crosses."""
    truth, rng = np.random.default_rng(7), np.random.default_rng(seed)
    ids, keys = np.empty((n, len(SIZES)), np.int64), np.empty((n, len(SIZES)), np.uint64)
    logit = np.full(n, PRIOR)
    for j, size in enumerate(SIZES):
        mass = np.cumsum(1 / np.arange(1, size + 1) ** 1.05)
        ids[:, j] = np.searchsorted(mass / mass[-1], rng.random(n))
        keys[:, j] = truth.integers(1, 2**64, size, dtype=np.uint64)[ids[:, j]]
        logit += truth.normal(0, 0.3, size)[ids[:, j]]
    numbers = rng.normal(0, 1, (n, NUMBERS)).astype(np.float32)
    logit += numbers @ truth.normal(0, 0.4, NUMBERS)
    vectors = [truth.normal(0, 1, (size, 4)) for size in SIZES]
    for first_field, second_field in CROSSES:
        first, second = (vectors[field][ids[:, field]] for field in (first_field, second_field))
        logit += 0.35 * np.einsum("nk,nk->n", first, second)
    probability = 1 / (1 + np.exp(-logit))
    return Examples(ids, keys, numbers, (rng.random(n) < probability).astype(np.float32), probability)


def log_loss(scores: np.ndarray, label: np.ndarray) -> float:
    scores = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(np.where(label > 0, np.log(scores), np.log(1 - scores))))


def auc(scores: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve."""
    ranks = np.empty(scores.size)
    ranks[np.argsort(scores, kind="stable")] = np.arange(1, scores.size + 1)
    hits = int(np.count_nonzero(label))
    return float((ranks[label > 0].sum() - hits * (hits + 1) / 2) / (hits * (scores.size - hits)))


def make_result(name: str, data: Examples, scores: np.ndarray, train_rate: float, predict_train_rate: float) -> Result:
    half = scores.size // 2
    late_scores, label = scores[half:], data.label[half : scores.size]
    quality = log_loss(late_scores, label), auc(late_scores, label)
    return Result(name, scores.size, train_rate, predict_train_rate, *quality)


def make_batches(data: Examples) -> list[FeatureRows]:
    batches = []
    for first in range(0, data.label.size, BATCH):
        part = slice(first, first + BATCH)
        label = data.label[part]
        weight, start = np.ones(label.size, np.float32), np.arange(label.size + 1)
        batches.append(FeatureRows(data.keys[part], data.numbers[part], label, weight, start))
    return batches


def measure_ranker(name: str, make: Callable[[], PointwiseModel], data: Examples, clock: Clock, runs: int) -> Result:
    """Predict, then train, batch by batch; kernels are compiled beforehand on other examples."""
    for batch in make_batches(generate_examples(4 * BATCH, seed=2)):
        warmup_ranker = make()
        warmup_ranker.predict(batch)
        warmup_ranker.learn(batch)
    batches, predict_times, train_times = make_batches(data), [], []
    for _ in range(runs):
        ranker, scores, predict_seconds, train_seconds = make(), [], 0.0, 0.0
        for batch in batches:
            begin = clock()
            scores.append(ranker.predict(batch))
            middle = clock()
            ranker.learn(batch)
            predict_seconds, train_seconds = predict_seconds + middle - begin, train_seconds + clock() - middle
        predict_times.append(predict_seconds)
        train_times.append(train_seconds)
    n, train_seconds = data.label.size, statistics.median(train_times)
    return make_result(
        name, data, np.concatenate(scores), n / train_seconds, n / (train_seconds + statistics.median(predict_times))
    )


def measure_rankers(data: Examples, clock: Clock, runs: int) -> Iterator[Result]:
    shape = len(SIZES), NUMBERS
    cross_settings = FTRLSettings(alpha=0.2, crosses=CROSSES)
    yield measure_ranker("headrace linear", lambda: FTRLRegression(*shape), data, clock, runs)
    yield measure_ranker(
        "headrace linear, explicit crosses", lambda: FTRLRegression(*shape, cross_settings), data, clock, runs
    )
    yield measure_ranker("headrace fm", lambda: FactorizationMachine(*shape), data, clock, runs)
    yield measure_ranker("headrace deep", lambda: DeepFM(*shape), data, clock, runs)


def _vw_line(data: Examples, i: int) -> str:
    fields = "".join(f" |{name} {value}" for name, value in zip(_NAMES, data.ids[i].tolist(), strict=True))
    numbers = " ".join(f"{name}:{value:.5f}" for name, value in zip("xyz", data.numbers[i].tolist(), strict=True))
    return f"{1 if data.label[i] > 0 else -1}{fields} |n {numbers}"


def measure_vowpal_wabbit(data: Examples, clock: Clock) -> Iterator[Result]:
    """Run its command-line driver on its binary cache, so that parsing text is not measured."""
    from vowpalwabbit import Workspace

    crosses = " ".join(f"-q {_NAMES[first_field]}{_NAMES[second_field]}" for first_field, second_field in CROSSES)
    variants = {
        "adaptive": "",
        "ftrl": "--ftrl --ftrl_alpha 0.1 --ftrl_beta 1",
        "adaptive, explicit crosses": crosses,
        "ftrl, explicit crosses": f"--ftrl --ftrl_alpha 0.2 --ftrl_beta 1 {crosses}",
        "adaptive, all pairs": "--interactions ::",
    }
    with tempfile.TemporaryDirectory() as folder:
        lines, scores = Path(folder, "examples.vw"), Path(folder, "scores")
        lines.write_text("\n".join(_vw_line(data, i) for i in range(data.label.size)) + "\n")
        common = f"--quiet --loss_function logistic --link logistic -b 22 -d {lines} --cache_file {folder}/cache"

        def run(options: str) -> float:
            begin = clock()
            Workspace(f"{common} {options}").finish()
            return data.label.size / (clock() - begin)

        run("-k")  # writes the cache
        for name, options in variants.items():
            rate = run(options)
            run(f"{options} -p {scores}")
            yield make_result(f"vowpal wabbit, {name}", data, np.loadtxt(scores), rate, rate)


def measure_vowpal_wabbit_api(data: Examples, clock: Clock) -> Iterator[Result]:
    from vowpalwabbit import Workspace

    n = min(API_EXAMPLES, data.label.size)
    lines = [_vw_line(data, i) for i in range(n)]
    workspace = Workspace("--quiet --loss_function logistic --link logistic -b 22")
    scores, begin = np.empty(n), clock()
    for i, line in enumerate(lines):
        example = workspace.parse(line)
        workspace.learn(example)
        scores[i] = example.get_simplelabel_prediction()
        workspace.finish_example(example)
    rate = n / (clock() - begin)
    yield make_result("vowpal wabbit, Python API", data, scores, rate, rate)


def measure_river(data: Examples, clock: Clock) -> Iterator[Result]:
    from river import facto, linear_model, optim

    models = {
        "logistic regression": linear_model.LogisticRegression(optim.AdaGrad(0.1)),
        "factorization machine": facto.FMClassifier(n_factors=16, weight_optimizer=optim.AdaGrad(0.1), seed=1),
    }
    for name, model in models.items():
        n = min(API_EXAMPLES if name == "logistic regression" else API_EXAMPLES // 5, data.label.size)
        rows: list[dict[str, float]] = []
        for i in range(n):
            row = {f"{field}{value}": 1.0 for field, value in zip(_NAMES, data.ids[i].tolist(), strict=True)}
            rows.append(row | dict(zip("xyz", data.numbers[i].tolist(), strict=True)))
        scores, begin = np.empty(n), clock()
        for i, row in enumerate(rows):
            scores[i] = model.predict_proba_one(row)[True]
            model.learn_one(row, bool(data.label[i]))
        rate = n / (clock() - begin)
        yield make_result(f"river, {name}", data, scores, rate, rate)


def measure_pytorch(data: Examples, clock: Clock) -> Iterator[Result]:
    """DeepFM in PyTorch: sparse embeddings with Adagrad, a network with Adam."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1)
    dim, fields = 16, len(SIZES)
    vectors = torch.nn.Embedding(sum(SIZES), dim, sparse=True)
    weights = torch.nn.Embedding(sum(SIZES), 1, sparse=True)
    torch.nn.init.normal_(vectors.weight, 0, 0.02)
    torch.nn.init.zeros_(weights.weight)
    network = torch.nn.Sequential(
        torch.nn.Linear(fields * dim + NUMBERS, 64),
        torch.nn.ReLU(),
        torch.nn.Linear(64, 32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 1),
    )
    sparse = torch.optim.Adagrad([*vectors.parameters(), *weights.parameters()], lr=0.05)
    dense = torch.optim.Adam(network.parameters(), lr=0.002)
    ids = torch.from_numpy(data.ids + np.concatenate([[0], np.cumsum(SIZES)[:-1]]))
    numbers, label = torch.from_numpy(data.numbers), torch.from_numpy(data.label)
    scores, begin = [], clock()
    for first in range(0, data.label.size, BATCH):
        part = slice(first, first + BATCH)
        v = vectors(ids[part])
        pairs = 0.5 * (v.sum(1).square() - v.square().sum(1)).sum(1)
        inputs = torch.cat([v.flatten(1), numbers[part]], 1)
        logit = weights(ids[part]).sum((1, 2)) + pairs + network(inputs)[:, 0]
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logit, label[part])
        sparse.zero_grad()
        dense.zero_grad()
        loss.backward()
        sparse.step()
        dense.step()
        scores.append(torch.sigmoid(logit.detach()).numpy())
    rate = data.label.size / (clock() - begin)
    yield make_result("torch, DeepFM", data, np.concatenate(scores), rate, rate)


PEERS = {
    "vowpal wabbit": ("vowpalwabbit", measure_vowpal_wabbit),
    "vowpal wabbit's Python API": ("vowpalwabbit", measure_vowpal_wabbit_api),
    "river": ("river", measure_river),
    "torch": ("torch", measure_pytorch),
}


def build_table(results: list[Result], best_possible: tuple[float, float]) -> Table:
    table = Table(caption="Predict, then train, in one pass; loss over the second half. Vowpal Wabbit has two threads.")
    table.add_column("learner", no_wrap=True)
    for column in ("examples", "train/s", "predict+train/s", "log loss", "AUC"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in results:
        rates = f"{row.train_rate:,.0f}", f"{row.predict_train_rate:,.0f}"
        table.add_row(row.name, f"{row.examples:,}", *rates, f"{row.log_loss:.4f}", f"{row.auc:.4f}")
    table.add_section()
    table.add_row("true probabilities", "", "", "", f"{best_possible[0]:.4f}", f"{best_possible[1]:.4f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=RUNS, help="number of runs of Headrace's rankers")
    parser.add_argument("--cpu", action="store_true", help="measure CPU seconds of all threads, for a busy machine")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    console = Console(stderr=True)
    data = generate_examples(arguments.examples, seed=1)
    clock = time.process_time if arguments.cpu else time.perf_counter
    half = data.label.size // 2
    best_possible = (
        log_loss(data.probability[half:], data.label[half:]),
        auc(data.probability[half:], data.label[half:]),
    )
    results = []
    for row in measure_rankers(data, clock, arguments.runs):
        console.print(f"{row.name}: {row.train_rate:,.0f} examples/s", highlight=False)
        results.append(row)
    for name, (package, peer) in PEERS.items():
        if importlib.util.find_spec(package) is None:
            hint = f"{name} is skipped; to install it: {sys.executable} -m pip install {package}"
            console.print(hint, highlight=False, soft_wrap=True)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # raised by the peers
            for row in peer(data, clock):
                console.print(f"{row.name}: {row.train_rate:,.0f} examples/s", highlight=False)
                results.append(row)
    if arguments.json:
        rows = [asdict(row) for row in results]
        print(
            json.dumps(
                {"rows": rows, "true_probabilities": {"log_loss": best_possible[0], "auc": best_possible[1]}}, indent=2
            )
        )
    else:
        Console(width=None if sys.stdout.isatty() else 110).print(build_table(results, best_possible))


if __name__ == "__main__":
    main()
