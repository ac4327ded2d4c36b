import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from mtl_ray.cluster.archive import package
from mtl_ray.errors import InputError

ROOT = Path(__file__).parents[3]
PLANTED = "hunter2secret"


def make(root: Path, *names: str, text: str = "x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_what_git_would_commit_is_what_is_packed():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("the project's folder is no git checkout")
    expected = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    assert package(ROOT).files == sorted(expected)


def test_environments_data_and_secrets_stay_even_where_an_ignore_file_asks_for_them(tmp_path: Path):
    never = [
        *(".venv/lib/x.py", "mine/pyvenv.cfg", "mine/lib/x.py", ".git/config", "a/__pycache__/x.pyc", "mlflow.db"),
        *("datasets/d/train/x.parquet", "runs/r/run.json", "mlruns/0/x", "mlartifacts/x", "a/.env", ".env.local"),
        *("prod.env", ".aws/credentials", "id_rsa", "cert/server.key", ".netrc", "cloned/.git/config"),
    ]
    make(tmp_path, *never, text=PLANTED)
    make(tmp_path, "shop.yaml", "a/code.py", "a/datasets/__init__.py", "b.parquet")
    (tmp_path / ".gitignore").write_text("!.env\n!.venv/\n!mlflow.db\n*.parquet\n")
    packed = package(tmp_path)
    assert packed.files == [".gitignore", "a/code.py", "a/datasets/__init__.py", "shop.yaml"]
    packed.write(tmp_path / "p.zip")
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        assert archive.namelist() == packed.files
        assert not any(PLANTED.encode() in archive.read(name) for name in archive.namelist())


def test_data_in_the_working_folder_stays(tmp_path: Path):
    make(tmp_path, "logs/day1.csv", "out/x", "log.csv", "shop.yaml")
    assert package(tmp_path, [tmp_path / "logs", tmp_path / "out", tmp_path / "log.csv"]).files == ["shop.yaml"]


def test_inner_ignore_files_have_the_last_word_and_rayignore_takes_back(tmp_path: Path):
    make(tmp_path, "a/x.log", "a/keep.log", "b/x.log", "gen/c.py", "big/x")
    (tmp_path / ".gitignore").write_text("*.log\ngen/\n")
    (tmp_path / ".rayignore").write_text("big/\n!gen/\n")
    make(tmp_path, "a/.gitignore", text="!keep.log\n")
    assert package(tmp_path).files == [".gitignore", ".rayignore", "a/.gitignore", "a/keep.log", "gen/c.py"]


def test_ignore_files_above_count_up_to_the_top_of_the_checkout(tmp_path: Path):
    make(tmp_path, ".gitignore", text="*.py\n")
    make(tmp_path, "repo/.git/HEAD", "repo/sub/x.log", "repo/sub/x.py")
    make(tmp_path, "repo/.gitignore", text="*.log\n")
    assert package(tmp_path / "repo/sub").files == ["x.py"]


def test_a_link_is_packed_only_if_it_leads_to_a_packed_file(tmp_path: Path):
    make(tmp_path, "outside.txt", "w/data/x", "w/inner.txt", "w/.env", text=PLANTED)
    for name, target in [("out", "../outside.txt"), ("folder", "data"), ("secret", ".env"), ("in", "inner.txt")]:
        (tmp_path / "w" / name).symlink_to(target)
    (tmp_path / "w" / "datum").symlink_to("data/x")
    make(tmp_path, "w/private/a.yaml", text=PLANTED)
    (tmp_path / "w/.gitignore").write_text("private/\n")
    (tmp_path / "w/a.yaml").symlink_to("private/a.yaml")
    assert package(tmp_path / "w", [tmp_path / "w/data"]).files == [".gitignore", "in", "inner.txt"]


def test_equal_files_make_an_equal_package(tmp_path: Path):
    for name in ("one", "two"):
        make(tmp_path / name, "b.py", "a.sh")
        (tmp_path / name / "a.sh").chmod(0o755)
        package(tmp_path / name).write(tmp_path / f"{name}.zip")
        os.utime(tmp_path / name / "b.py", (1, 1))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_too_much_is_refused_with_the_biggest_entries(tmp_path: Path):
    make(tmp_path, "a/b/movie.bin", text="x" * 3_000_000)
    make(tmp_path, "a/b/other.bin", text="x" * 1_500_000)
    make(tmp_path, "small.py")
    with pytest.raises(InputError) as refused:
        package(tmp_path, max_bytes=1_000_000)
    message = str(refused.value)
    assert "expected at most 1.0 MB to pack; found 4.3 MB, of which a/b/movie.bin 2.9 MB, a/b/other.bin 1.4" in message
    assert ".rayignore" in message
    assert "\n" not in message


def test_the_room_called_runs_is_packed_although_an_outer_file_ignores_folders_of_that_name(tmp_path: Path):
    code = [path.relative_to(ROOT).as_posix() for path in (ROOT / "mtl_ray/runs").glob("*.py")]
    make(tmp_path, *code, "runs/a-run/run.json", "other/runs/x")
    (tmp_path / "mtl_ray/.gitignore").write_text((ROOT / "mtl_ray/.gitignore").read_text())
    (tmp_path / ".gitignore").write_text("runs/\n")
    assert "mtl_ray/runs/run_folder.py" in code
    assert package(tmp_path).files == sorted([".gitignore", "mtl_ray/.gitignore", *code])
