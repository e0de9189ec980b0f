"""Every recorded log through `headrace replay evaluate`, as markdown.

    python -m benchmarks.quality.recorded_logs [--data FOLDER] [--into docs/quality.md] [NAME…]

Logs are read from shared/data beside the checkout if no folder is named; those that are not there are named and left
out. Runs one after another on one core; with names, those runs only. With `--into`, each run's section of that file
is replaced, else they are printed.
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
TOP_K_COLUMNS = ("recall", "mrr", "ndcg", "returning_recall", "returning_mrr", "coverage", "events_per_second")
LIST_COLUMNS = ("impression_auc", "impression_mrr", "auc", "log_loss", "calibration")


@dataclass(frozen=True)
class Run:
    """One row of runs: the arguments of the verb, with files by their place below the data folder."""

    arguments: str
    peers: str  # what published or measured elsewhere on the same protocol


RUNS = {
    "ml-100k": Run(
        "ml-100k/events.jsonl.gz --items ml-100k/items.jsonl.gz --min-value 5 --judge-from 0.3 --k 10",
        "Recall@10: popularity 0.105, item-item cosine 0.155, co-occurrence 0.158, blend of twelve scores 0.177",
    ),
    "rsc15": Run(
        "rsc15-100k/train.events.jsonl.gz rsc15-100k/test.events.jsonl.gz --items rsc15-100k/items.jsonl.gz"
        " --judge-from 0.83818 --k 20",
        "of returning people, all seen dropped: VS-kNN 0.364 / 0.170",
    ),
    "rsc15-repeats": Run(
        "rsc15-100k/train.events.jsonl.gz rsc15-100k/test.events.jsonl.gz --items rsc15-100k/items.jsonl.gz"
        " --judge-from 0.83818 --k 20 --repeats",
        "of returning people, repeats allowed: VS-kNN 0.688 / 0.367",
    ),
    "ebnerd-week1": Run(
        "ebnerd-week1/events.jsonl.gz --items ebnerd-week1/items.jsonl.gz --judge-every 20",
        "impression AUC / MRR: fading clicks 0.72, click rate 0.67, listwise regression of 40 lines 0.7505 / 0.526",
    ),
    "trivago": Run(
        "trivago/events.jsonl.gz --items trivago/items.jsonl.gz --judge-every 10 --repeats",
        "impression AUC / MRR: as listed 0.751, fading clicks 0.673, listwise regression of 40 lines 0.8324 / 0.587",
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
        "none known; 287 clicks in all, so every number is wide",
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
            print(f"{name}: left out, {missing[0]} is not there", file=sys.stderr)
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
    summary = (
        f"{protocol['events']:,} events; {protocol['evaluated_actions']:,} actions judged,"
        f" {headrace_metrics['evaluated_returning']:,} of returning people,"
        f" {protocol['evaluated_unseen_items']:,} on items nobody had seen,"
        f" {protocol['evaluated_repeat_items']:,} on items they had met; {headrace_metrics['evaluated_impressions']:,} lists judged."
    )
    parts = [f"### {name}", f"    headrace replay evaluate {run.arguments}", f"{summary} Peers: {run.peers}."]
    parts += [format_table(columns, models) for columns in (TOP_K_COLUMNS, LIST_COLUMNS)]
    return "\n\n".join(part for part in parts if part) + "\n"


def format_table(columns: tuple[str, ...], models: dict[str, Any]) -> str:
    """The models that have the first measure; empty if there is none."""
    rows = [(name, values) for name, values in models.items() if values[columns[0]] is not None]
    if not rows:
        return ""
    head = ["model", *(column.replace("_", " ") for column in columns)]
    body = [[name, *(format_value(values[column]) for column in columns)] for name, values in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body))


def format_value(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 10 else f"{value:.4f}"


if __name__ == "__main__":
    main()
