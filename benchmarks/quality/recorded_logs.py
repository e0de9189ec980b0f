"""Evaluate all recorded logs with `headrace replay evaluate`, and print markdown.

    python -m benchmarks.quality.recorded_logs [--data FOLDER] [--into docs/quality.md] [NAME…]

The default folder is shared/data beside the checkout. Missing logs are skipped with a message. The runs use one core,
one after another. With `--into`, each run replaces its section of that file; otherwise the sections are printed.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.harness.sections import replace_section

ROOT = Path(__file__).resolve().parents[2]
TOP_K_COLUMNS = (
    "recall",
    "recall_interval",
    "mrr",
    "ndcg",
    "returning_recall",
    "returning_mrr",
    "coverage",
    "events_per_second",
)
LIST_COLUMNS = ("impression_auc", "impression_mrr", "auc", "log_loss", "calibration")


@dataclass(frozen=True)
class Run:
    """Arguments of the command, with files relative to the data folder."""

    arguments: str
    peers: str  # results of other systems with the same protocol


RUNS = {
    "ml-100k": Run(
        "ml-100k/events.jsonl.gz --items ml-100k/items.jsonl.gz --min-value 5 --judge-from 0.3 --k 10",
        "Recall@10: popularity 0.105, item-item cosine 0.155, co-occurrence 0.158, blend of twelve scores 0.177",
    ),
    "rsc15": Run(
        "rsc15-100k/train.events.jsonl.gz rsc15-100k/test.events.jsonl.gz --items rsc15-100k/items.jsonl.gz"
        " --judge-from 0.83818 --k 20",
        "returning users, without repeats: VS-kNN 0.364 / 0.170",
    ),
    "rsc15-repeats": Run(
        "rsc15-100k/train.events.jsonl.gz rsc15-100k/test.events.jsonl.gz --items rsc15-100k/items.jsonl.gz"
        " --judge-from 0.83818 --k 20 --repeats",
        "returning users, with repeats: VS-kNN 0.688 / 0.367",
    ),
    "ebnerd-week1": Run(
        "ebnerd-week1/events.jsonl.gz --items ebnerd-week1/items.jsonl.gz --judge-every 20",
        "impression AUC / MRR: decayed clicks 0.72, click rate 0.67, listwise regression 0.7505 / 0.526",
    ),
    "trivago": Run(
        "trivago/events.jsonl.gz --items trivago/items.jsonl.gz --judge-every 10 --repeats",
        "impression AUC / MRR: original order 0.751, decayed clicks 0.673, listwise regression 0.8324 / 0.587",
    ),
    "movietweetings": Run(
        "movietweetings/events.jsonl.gz --items movietweetings/items.jsonl.gz --judge-every 10",
        "none known",
    ),
    "yoochoose-7d": Run(
        "yoochoose-7d/events.jsonl.gz --repeats --k 20 --batch 1024 --limit 400000 --judge-from 0.5 --judge-every 50",
        "none known",
    ),
    "obd-small": Run(
        "obd-small/events.jsonl.gz --items obd-small/items.jsonl.gz --judge-every 10",
        "none known; only 287 clicks, so all intervals are wide",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[*RUNS, []], help=", ".join(RUNS))
    parser.add_argument("--into", type=Path, metavar="FILE")
    options = parser.parse_args()
    for name in options.names or RUNS:
        run = RUNS[name]
        arguments = [
            argument if not argument.endswith(".gz") else str(options.data / argument)
            for argument in run.arguments.split()
        ]
        missing = [argument for argument in arguments if argument.endswith(".gz") and not Path(argument).exists()]
        if missing:
            print(f"{name}: skipped, {missing[0]} does not exist", file=sys.stderr)
            continue
        command = [sys.executable, "-m", "headrace", "replay", "evaluate", *arguments, "--json"]
        process = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
        section = format_markdown(name, run, json.loads(process.stdout))
        if options.into:
            options.into.write_text(replace_section(options.into.read_text(), name, section))
        else:
            print(section, flush=True)


def format_markdown(name: str, run: Run, result: dict[str, Any]) -> str:
    models, protocol = result["models"], result["protocol"]
    headrace_metrics = models["headrace"]
    actions = (
        f"{protocol['evaluated_actions']:,} actions evaluated",
        f"{headrace_metrics['evaluated_returning']:,} of returning users",
        f"{protocol['evaluated_unseen_items']:,} on items without earlier events",
        f"{protocol['evaluated_repeat_items']:,} on items that the user had interacted with",
    )
    lists = f"{headrace_metrics['evaluated_impressions']:,} lists evaluated"
    summary = f"{protocol['events']:,} events; {', '.join(actions)}; {lists}."
    parts = [f"### {name}", f"    headrace replay evaluate {run.arguments}", f"{summary} Peers: {run.peers}."]
    parts += [format_table(columns, models) for columns in (TOP_K_COLUMNS, LIST_COLUMNS)]
    return "\n\n".join(part for part in parts if part) + "\n"


def format_table(columns: tuple[str, ...], models: dict[str, Any]) -> str:
    """Table of the models that have the first metric; empty if there are none."""
    rows = [(name, values) for name, values in models.items() if values[columns[0]] is not None]
    if not rows:
        return ""
    head = ["model", *(column.replace("_", " ") for column in columns)]
    body = [[name, *(format_value(values[column]) for column in columns)] for name, values in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body))


def format_value(value: float | list[float] | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, list):
        return " to ".join(map(format_value, value))
    return f"{value:,.0f}" if value >= 10 else f"{value:.4f}"


if __name__ == "__main__":
    main()
