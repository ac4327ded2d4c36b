"""The command line: `mtl-ray VERB EXPERIMENT.yaml [--set dotted.path=value ...] [--json FILE]`."""

import json
import os
import shlex
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from mtl_ray.cli.cluster import submit
from mtl_ray.cli.console import Json, Keys, console, echo, names_of, options, write_result
from mtl_ray.cli.drafting import init
from mtl_ray.cli.models import drift, evaluate, export, predict, promote, recommend, serve
from mtl_ray.cli.outcome import require_registered, tell_findings, tell_lost
from mtl_ray.cluster.causes import causes, full_disk
from mtl_ray.cluster.environment import decrypt_environment
from mtl_ray.credentials import without_credentials
from mtl_ray.errors import InputError

# Libraries are slow to load, and `mtl-ray --help` needs none.
# ruff: noqa: PLC0415

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

File = Annotated[str, typer.Argument(help="Experiment file (YAML).", metavar="EXPERIMENT")]
Set = Annotated[list[str], typer.Option("--set", help="Override a setting: dotted.path=value.", metavar="PATH=VALUE")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Exit codes: 0 success, 1 failure, 2 bad input, 3 drift, 130 interrupted."""
    decrypt_environment()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    warnings.showwarning = _show
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        if code := app(args=arguments, standalone_mode=False):  # 130 after Ctrl-C
            raise SystemExit(code)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except typer._click.exceptions.NoArgsIsHelpError:  # pyright: ignore[reportAttributeAccessIssue]
        raise SystemExit(2) from None  # the help has been printed
    except typer._click.exceptions.ClickException as error:  # pyright: ignore[reportAttributeAccessIssue]
        print(f"error: {error.format_message()}", file=sys.stderr)
        raise SystemExit(2) from None
    except typer.Abort:
        raise SystemExit(130) from None
    except Exception as error:
        for cause in causes(error):
            if isinstance(cause, InputError):
                print(f"error: {cause}", file=sys.stderr)
                raise SystemExit(2) from None
        if line := full_disk(error):
            print(f"error: {line}", file=sys.stderr)
            raise SystemExit(1) from None
        print(without_credentials(traceback.format_exc()), end="", file=sys.stderr)
        raise SystemExit(1) from error


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning as one line, except those about type hints, which MLflow shows whatever the filters say."""
    if "type hints" not in str(message):
        print(f"warning: {without_credentials(str(message))}", file=sys.stderr)


app.callback()(options)
app.command()(init)


@app.command()
def check(
    experiment: Annotated[str | None, typer.Argument(help="Experiment file (YAML).", metavar="EXPERIMENT")] = None,
    changes: Set = [],  # noqa: B006 - typer reads the default, nobody changes it
    json_schema: Annotated[bool, typer.Option("--json-schema", help="Print the JSON Schema of the file.")] = False,
    json_file: Json = None,
) -> None:
    """Validate the experiment file and print the plan; nothing is prepared or trained."""
    from mtl_ray.comparison.grid import grid
    from mtl_ray.config import Experiment, load
    from mtl_ray.tuning.space import check_tune, parameters_of

    if json_schema:
        print(json.dumps(Experiment.model_json_schema(), indent=2))
        return
    if experiment is None:
        raise InputError("check: expected an experiment file, or --json-schema")
    settings = load(experiment, changes)
    grid_runs = grid(settings) if settings.compare else []
    if settings.tune:
        check_tune(settings)
    from mtl_ray.workflows.plan import plan  # report mistakes before loading slow libraries

    result = plan(settings)
    for line in result.lines():
        console.print(line, highlight=False, markup=False)
    if grid_runs:
        variants = dict.fromkeys(each.variant for each in grid_runs)
        echo(f"compare: {len(grid_runs)} trainings, {', '.join(variants)}")
    if search := settings.tune:
        space = ", ".join(parameters_of(settings)) or "what the file leaves open"
        echo(f"tune: {search.size} over {space}, by {search.algorithm.kind}")
        if settings.training.ensemble > 1:
            echo("each trial trains a single model; `--refit` and `mtl-ray train best.yaml` train the ensemble")
    write_result(json_file, result.to_dict())


@app.command()
def prepare(experiment: File, changes: Set = [], json_file: Json = None) -> None:  # noqa: B006
    """Make the encoded data set: read, validate, split, fit on train, encode, write."""
    from mtl_ray.config import load

    settings = load(experiment, changes)
    from mtl_ray.data.prepare import prepare as run

    prepared = run(settings, echo=echo)
    quality = prepared.quality
    *counts, place = prepared.lines()
    for line in counts:
        echo(line)
    for example in quality["examples"]:
        echo(f"  e.g. {example}")
    for entity, counts in quality["leakage"].items():
        seen = ", ".join(f"{number:,} {where}" for where, number in counts.items() if where != "tested")
        echo(f"{counts['tested']:,} tested {entity}s: {seen}")
    tell_findings(quality)
    echo(place)
    write_result(json_file, {"dataset": prepared.folder.location, "quality": quality, "reused": prepared.reused})


@app.command()
def train(
    experiment: File,
    changes: Set = [],  # noqa: B006
    resume: Annotated[str | None, typer.Option(help="Continue this interrupted run.", metavar="RUN")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Write a profiler's trace of some steps.")] = False,
    json_file: Json = None,
) -> None:
    """Prepare if needed, train, evaluate on the test rows, log to MLflow and register the model."""
    from mtl_ray.config import load

    settings = load(experiment, changes)
    from mtl_ray.runs.train import train as run

    trained = run(settings, resume=resume, profile=profile, echo=echo)
    console.print(trained.table())
    for line in trained.lines():
        echo(line)
    write_result(
        json_file,
        {
            "metrics": trained.evaluation.metrics,
            "constant": trained.evaluation.constant,
            "baselines": trained.evaluation.baselines,
            "run": trained.name,
            "run_id": trained.run_id,
            "model_uri": trained.model_uri,
            "checkpoint": str(trained.checkpoint),
            "dataset": trained.prepared.folder.location,
        },
    )
    tell_lost(trained.folder)
    require_registered(settings, trained.model_uri, f"mtl-ray train {experiment} --resume {trained.name}")


@app.command()
def daily(
    experiment: File,
    rows: Annotated[str, typer.Option("--score", help="Raw rows to score: Parquet or CSV file, folder or glob.")],
    output: Annotated[str, typer.Option("--output", help="Folder to write the scores to.")],
    changes: Set = [],  # noqa: B006
    keys: Keys = None,
    json_file: Json = None,
) -> None:
    """Prepare the grown log, train from the champion's weights, pass the gate and score. Repeated after a crash, it
    continues where it stopped."""
    from mtl_ray.config import load

    settings = load(experiment, changes)
    from rich.markdown import Markdown

    from mtl_ray.promotion.promote import PromotionError
    from mtl_ray.workflows.daily import daily as run

    try:
        day = run(settings, rows, output, names_of(keys), echo)
    except (PromotionError, ConnectionError) as error:
        echo(f"error: {error}")
        raise typer.Exit(1) from None
    console.print(Markdown(day.decision["note"]))
    echo(f"MLflow run: {day.run_id}")
    echo(f"report: {day.folder}/report.html")
    bad = sum(day.scored.quarantined.values())
    echo(f"version {day.champion} scored {day.scored.num_rows:,} rows, {bad:,} bad: {day.scored.folder}")
    write_result(json_file, day.to_dict())
    tell_lost(day.folder)


@app.command()
def compare(
    experiment: File,
    changes: Set = [],  # noqa: B006
    resume: Annotated[str | None, typer.Option(help="Continue this interrupted comparison.", metavar="RUN")] = None,
    affinity: Annotated[
        str | None, typer.Option(help="Instead: which tasks help this one, from one training.", metavar="TASK")
    ] = None,
    json_file: Json = None,
) -> None:
    """Train a grid of variants on the same folds and seeds, and compare them by task and segment with paired tests."""
    from mtl_ray.comparison.grid import grid
    from mtl_ray.config import load

    settings = load(experiment, changes)
    if affinity is not None:
        from mtl_ray.comparison.task_selection import select_tasks

        selection = select_tasks(settings, affinity, echo)
        console.print(selection.table())
        echo(f"tasks that help {affinity}: {', '.join(selection.helpful) or 'none'}")
        echo(f"files: {selection.folder}/affinity.json, affinity.png, suggested.yaml")
        found = {"affinity": selection.affinity, "helpful": selection.helpful, "folder": selection.folder.location}
        write_result(json_file, found)
        return
    grid(settings)  # report mistakes before loading slow libraries
    from mtl_ray.comparison.run import compare as run

    command = shlex.join(
        ["mtl-ray", "compare", experiment, *(word for change in changes for word in ("--set", change))]
    )
    compared = run(settings, resume=resume, command=command, echo=echo)
    console.print(compared.table())
    for line in compared.lines():
        echo(line)
    result = {"run": compared.name, "run_id": compared.run_id, "folder": compared.folder.location}
    write_result(json_file, {**result, **compared.comparison.to_dict()})
    tell_lost(compared.folder)


@app.command()
def report(run: Annotated[str, typer.Argument(help="Folder of a run: runs/NAME.", metavar="RUN")]) -> None:
    """Write the report of a finished run again: an HTML file and pictures, in the run's folder and in MLflow."""
    from mtl_ray.workflows.report import report as make

    folder = make(run)
    echo(f"report: {folder}/report.html")
    tell_lost(folder)


@app.command()
def tune(
    experiment: File,
    changes: Set = [],  # noqa: B006
    resume: Annotated[str | None, typer.Option(help="Continue this interrupted search.", metavar="RUN")] = None,
    num_refits: Annotated[
        int, typer.Option("--refit", help="Train the winner on all labels but the test's, over so many seeds.", min=0)
    ] = 0,
    minutes: Annotated[
        float | None,
        typer.Option(help="Search for so long, with or without a section `tune`, and register the best as one model."),
    ] = None,
    json_file: Json = None,
) -> None:
    """Search task weights, task subsets, architectures and any other setting, and write the best as a file."""
    from mtl_ray.config import load
    from mtl_ray.tuning.space import check_tune

    settings = load(experiment, changes if minutes is None else [*changes, f"tune.minutes={minutes:g}"])
    check_tune(settings)  # report mistakes before loading slow libraries
    from rich.live import Live

    from mtl_ray.tuning.run import tune as run

    with Live(console=console, auto_refresh=False) as live:
        shown = sys.stdout.isatty()
        show = (lambda now: live.update(now.table(20), refresh=True)) if shown else (lambda _: None)
        tuned = run(settings, num_refits=num_refits, resume=resume, show=show, echo=echo)
        live.update("")
    console.print(tuned.table())
    for line in tuned.lines():
        echo(line)
    write_result(json_file, tuned.to_dict())
    tell_lost(tuned.folder)
    if tuned.tuning.best is None or (tuned.refitted and tuned.refitted["candidate"] is None):
        raise typer.Exit(1)


for command in (evaluate, predict, recommend, drift, export, promote, serve):
    app.command()(command)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(submit)


if __name__ == "__main__":
    main()
