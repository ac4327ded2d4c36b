"""Write the report of a run again, from the files in its folder."""

from mtl_ray.comparison import report as compare_report
from mtl_ray.errors import InputError
from mtl_ray.runs import report as train_report
from mtl_ray.runs.records import RUN_FILE
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.tuning import report as tuning_report


def report(location: str) -> RunFolder:
    """Write the report of the run in a folder again; return the folder.

    Raises:
        InputError: it is not the folder of a run, or the run has not finished.
    """
    folder = RunFolder(location)
    if not folder.has_record:
        raise InputError(f"{location}: expected the folder of a run, such as runs/NAME; found no {RUN_FILE} there")
    record = folder.read_record()
    experiment, run = record.parse_experiment(), record.tracked_run(folder)
    match record.command:
        case "compare":
            compare_report.write_report(experiment, folder, run)
        case "tune":
            tuning_report.write_report(record.parse_searched(), folder, run)
        case _:
            train_report.write_report(folder, run)
    return folder
