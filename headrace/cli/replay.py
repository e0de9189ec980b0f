"""`headrace replay`: the live code on a recorded log."""

from typing import Annotated

import typer

from headrace.cli.options import Config, Json

replay = typer.Typer(no_args_is_help=True, help="Run the live code on a recorded log: verify and evaluate.")


@replay.command("run")
def replay_run(config: Config = None, json: Json = False) -> None:
    """Replay the whole log through the live code and compare every bit with the live state."""
    from replay.verify import verify_log

    raise typer.Exit(verify_log(config, json))


@replay.command("evaluate")
def replay_evaluate(
    events: Annotated[
        list[str],
        typer.Argument(
            metavar="EVENTS…", help="Recorded events in time order, in any format of `produce`; - for standard input."
        ),
    ],
    items: Annotated[list[str] | None, typer.Option(metavar="FILE", help="Catalog of the log. Repeatable.")] = None,
    k: Annotated[int, typer.Option(min=1, max=1000, help="Length of the evaluated lists.")] = 10,
    repeats: Annotated[bool, typer.Option(help="Allow items that the user has already interacted with.")] = False,
    min_value: Annotated[float | None, typer.Option(help="Skip ratings below this value.")] = None,
    evaluate_from: Annotated[
        float,
        typer.Option(
            "--judge-from", min=0, max=1, help="Share of the events that only train, before evaluation starts."
        ),
    ] = 0.0,
    evaluate_every: Annotated[int, typer.Option("--judge-every", min=1, help="Evaluate every n-th action only.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Events per micro-batch.")] = 64,
    limit: Annotated[int | None, typer.Option(min=0, help="Maximum number of events.")] = None,
    sort: Annotated[bool, typer.Option("--sort", help="Sort the events by time first.")] = False,
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN[:FORMAT]", help="Column of a field, as in `produce`. Repeatable."),
    ] = None,
    preset: Annotated[str, typer.Option(help="Layout of the files, or `none`; default: guessed.")] = "",
    type: Annotated[str, typer.Option(help="Type of events that have none, such as rating.")] = "",
    json: Json = False,
) -> None:
    """Evaluate the live code on a recorded log: predict each batch, then train on it."""
    from replay.evaluation.evaluate import EvaluationOptions, evaluate_files
    from replay.files.options import ReadOptions

    options = EvaluationOptions(
        k=k, repeats=repeats, min_value=min_value, evaluate_from=evaluate_from, evaluate_every=evaluate_every,
        batch=batch, limit=limit,
        read=ReadOptions(maps=tuple(maps or ()), preset=preset, type=type, sort=sort),
    )  # fmt: skip
    raise typer.Exit(evaluate_files(events, items or [], options, as_json=json))
