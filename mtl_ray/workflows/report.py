"""Make the report of a run anew from what is in its folder: one HTML file and pictures."""

from mtl_ray.comparison import report as compare_report
from mtl_ray.config import parse
from mtl_ray.errors import InputError
from mtl_ray.runs import report as train_report
from mtl_ray.runs.run_folder import RUN_FILE
from mtl_ray.storage import Folder
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.tuning import report as tuning_report


def report(location: str) -> Folder:
    """Make the report of the run in a folder anew; returns the folder.

    Raises:
        InputError: it is no run's folder, or the run did not end.
    """
    folder = Folder(location)
    if not folder.exists(RUN_FILE):
        raise InputError(f"{location}: expected the folder of a run, such as runs/NAME; found no {RUN_FILE} there")
    note = folder.read_json(RUN_FILE)
    run = Run(note["tracking_uri"], note["run_id"], folder)
    experiment = parse(note["experiment"], RUN_FILE)
    match note["command"]:
        case "compare":
            compare_report.write_report(experiment, folder, run)
        case "tune":
            tuning_report.write_report(experiment, folder, run)
        case _:
            train_report.write_report(folder, run)
    return folder
