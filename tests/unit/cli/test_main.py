"""What all commands have in common."""

import pytest

from mtl_ray.cli.main import main


def test_without_a_command_there_is_help_and_no_error(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert "Usage" in shown.out
    assert "error" not in shown.err


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]):
    main(["--version"])
    assert capsys.readouterr().out.startswith("mtl_ray 0.")


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_leaves_warnings_and_errors_alone(quiet: bool, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main([*(["--quiet"] if quiet else []), "check", "no such file.yaml"])
    assert "error: no such file.yaml: no such experiment file" in capsys.readouterr().err
    main([*(["--quiet"] if quiet else []), "check", "jobs/synthetic.yaml"])
    assert bool(capsys.readouterr().out) != quiet
