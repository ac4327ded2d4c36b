"""The command `submit`, which runs another command on a Ray cluster."""

from pathlib import Path
from typing import Annotated

import typer

from mtl_ray.cli.console import echo
from mtl_ray.errors import InputError

LOCATION_OPTIONS = ("score", "output")
"""Options of commands that name locations."""

# Libraries are slow to load, and `mtl-ray --help` needs none.
# ruff: noqa: PLC0415


def submit(
    context: typer.Context,
    verb: Annotated[str, typer.Argument(help="A command that takes an experiment file.", metavar="VERB")],
    experiment: Annotated[str, typer.Argument(help="Experiment file (YAML).", metavar="EXPERIMENT")],
    address: Annotated[
        str, typer.Option(help="Dashboard of the cluster.", envvar="RAY_API_SERVER_ADDRESS")
    ] = "http://127.0.0.1:8265",
    follow: Annotated[bool, typer.Option("--follow", help="Copy the job's output and exit with its code.")] = False,
    changes: Annotated[
        list[str], typer.Option("--set", help="Override a setting: dotted.path=value.", metavar="PATH=VALUE")
    ] = [],  # noqa: B006 - typer reads the default, nobody changes it
    env: Annotated[
        list[str],
        typer.Option(help="Also pass this variable of the environment, encrypted.", metavar="NAME"),
    ] = [],  # noqa: B006
    folder: Annotated[Path, typer.Option("--working-dir", help="Folder to pack and run in.")] = Path(),
    max_megabytes: Annotated[float, typer.Option(help="Largest size of what is packed.", min=0.001)] = 50.0,
) -> None:
    """Run a command on a Ray cluster, with the files of the working folder; other options go to the command."""
    group = context.parent.command if context.parent else None
    commands = {n: c for n, c in getattr(group, "commands", {}).items() if n != context.info_name}
    verbs = [n for n, c in commands.items() if any(p.name == "experiment" for p in c.params)]
    if verb not in verbs:
        raise InputError(f"submit: expected a command that takes an experiment file: {', '.join(verbs)}; found {verb}")
    options = [*(word for change in changes for word in ("--set", change)), *context.args]
    parsed = commands[verb].make_context(verb, [experiment, *options])  # report mistakes here, not on the cluster

    from mtl_ray.cluster.environment import forwarded_environment
    from mtl_ray.cluster.submit import SubmissionError, check_locations, new_name, pack
    from mtl_ray.cluster.submit import follow as follow_job
    from mtl_ray.cluster.submit import submit as run
    from mtl_ray.config import load

    settings = load(experiment, changes)
    check_locations(settings, {f"--{name}": parsed.params.get(name) for name in LOCATION_OPTIONS})
    name = new_name(f"{settings.name}-{verb}")
    environment = forwarded_environment(env, name)
    packed, inside = pack(folder, experiment, settings, int(max_megabytes * 2**20))
    echo(f"packed: {len(packed.files) + len(packed.beside):,} files, {packed.num_bytes / 2**20:.1f} MB")
    if environment.names:
        echo(f"environment: {', '.join(environment.names)}")
    if environment.withheld:
        echo(
            f"not passed: {', '.join(environment.withheld)}; that needs token authentication (RAY_AUTH_MODE=token), "
            "since Ray would write them into its logs"
        )
    is_logged = verb not in ("check", "prepare")
    if is_logged and settings.tracking.uri is None and "MLFLOW_TRACKING_URI" not in environment.names:
        echo(
            "neither tracking.uri nor MLFLOW_TRACKING_URI is set here: unless it is on the cluster, the MLflow runs "
            "are lost with the job's copy of the working folder"
        )
    try:
        job = run([verb, inside, *options], packed, environment, address, name)
        echo(f"job: {job.name}")
        if follow:
            code = follow_job(job, echo)
            if code:
                raise typer.Exit(code)
        else:
            echo(f"its output: {job.command('logs')} --follow")
            echo(f"to stop it: {job.command('stop')}")
    except SubmissionError as error:
        echo(f"error: {error}")
        raise typer.Exit(1) from None
