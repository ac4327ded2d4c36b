"""A folder, a zip and the address of a zip give the same folder, once, or one clear error."""

import hashlib
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mtl_ray.data.sources import download
from mtl_ray.data.sources.download import local_folder
from mtl_ray.errors import InputError


@pytest.fixture
def site(tmp_path):
    """A folder, and the address at which its files are served."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(download, "RETRIES", 0)
    return tmp_path / "cache"


def write_zip(path: Path, names: tuple[str, ...] = ("log/a.csv", "log/b.csv")) -> str:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, f"content of {name}")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def files_of(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


EXPECTED = {"a.csv": "content of log/a.csv", "b.csv": "content of log/b.csv"}


def test_a_folder_is_itself(tmp_path, cache):
    assert local_folder(str(tmp_path), str(cache)) == tmp_path
    assert not cache.exists()


def test_a_zip_is_unpacked_once(tmp_path, cache):
    write_zip(tmp_path / "log.zip")
    folder = local_folder(str(tmp_path / "log.zip"), str(cache))
    assert files_of(folder) == EXPECTED
    (folder / "kept").write_text("here")
    assert local_folder(str(tmp_path / "log.zip"), str(cache)) == folder
    assert (folder / "kept").exists()


def test_a_zip_that_changes_is_unpacked_anew(tmp_path, cache):
    write_zip(tmp_path / "log.zip")
    before = local_folder(str(tmp_path / "log.zip"), str(cache))
    write_zip(tmp_path / "log.zip", ("log/c.csv",))
    after = local_folder(str(tmp_path / "log.zip"), str(cache))
    assert before != after
    assert files_of(after) == {"c.csv": "content of log/c.csv"}


def test_a_zip_of_several_entries_gives_the_folder_around_them(tmp_path, cache):
    write_zip(tmp_path / "log.zip", ("a.csv", "__MACOSX/x", "b.csv"))
    assert {"a.csv", "b.csv"} <= {path.name for path in local_folder(str(tmp_path / "log.zip"), str(cache)).iterdir()}


def test_an_address_is_downloaded_once(site, cache, capsys):
    folder, address = site
    digest = write_zip(folder / "log.zip")
    first = local_folder(f"{address}/log.zip", str(cache), digest)
    assert files_of(first) == EXPECTED
    (folder / "log.zip").unlink()
    assert local_folder(f"{address}/log.zip", str(cache), digest) == first
    assert "log.zip" not in capsys.readouterr().out
    assert list(cache.iterdir()) == [first.parent]


@pytest.mark.parametrize("by_address", [True, False])
def test_a_wrong_checksum_is_refused_and_leaves_nothing(site, cache, by_address):
    folder, address = site
    digest = write_zip(folder / "log.zip")
    raw = f"{address}/log.zip" if by_address else str(folder / "log.zip")
    with pytest.raises(InputError, match=rf"expected a zip with the sha256 0000, found {digest}; try again"):
        local_folder(raw, str(cache), "0000")
    assert not cache.exists() or not list(cache.iterdir())


def test_not_found_says_so_and_what_to_do(site, cache):
    with pytest.raises(
        InputError, match=r"/none\.zip: expected a zip to download, found HTTP 404 .*data\.raw can point"
    ):
        local_folder(f"{site[1]}/none.zip", str(cache))
    assert not list(cache.iterdir())


def test_offline_says_so_and_what_to_do(site, cache):
    port = ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler)
    address = f"http://127.0.0.1:{port.server_port}/log.zip"
    port.server_close()
    with pytest.raises(InputError, match=r"expected a zip to download, found .*refused.*data\.raw can point") as caught:
        local_folder(address, str(cache))
    assert "\n" not in str(caught.value)


def test_a_download_that_is_cut_short_is_refused(site, cache, monkeypatch):
    folder, address = site
    write_zip(folder / "log.zip")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "copyfile", lambda _, source, target: target.write(source.read(50)))
    with pytest.raises(InputError, match=r"expected [\d,]+ bytes, found 50"):
        local_folder(f"{address}/log.zip", str(cache))


def test_a_failed_download_is_tried_again(site, cache, monkeypatch):
    folder, address = site
    write_zip(folder / "log.zip")
    monkeypatch.setattr(download, "RETRIES", 1)
    get, attempts = SimpleHTTPRequestHandler.do_GET, []

    def fail_first(handler):
        attempts.append(handler.path)
        handler.send_error(503) if len(attempts) == 1 else get(handler)

    monkeypatch.setattr(SimpleHTTPRequestHandler, "do_GET", fail_first)
    assert files_of(local_folder(f"{address}/log.zip", str(cache))) == EXPECTED
    assert len(attempts) == 2


def test_what_is_no_zip_is_refused(site, cache):
    folder, address = site
    (folder / "log.zip").write_text("<html>")
    for raw in (str(folder / "log.zip"), f"{address}/log.zip"):
        with pytest.raises(InputError, match=r"log\.zip: expected a (folder or a )?zip, found"):
            local_folder(raw, str(cache))


def test_a_zip_that_would_write_outside_is_refused(tmp_path, cache):
    write_zip(tmp_path / "log.zip", ("../../outside.csv",))
    with pytest.raises(InputError, match=r"expected files inside the zip's folder, found \.\./\.\./outside\.csv"):
        local_folder(str(tmp_path / "log.zip"), str(cache))
    assert not list(tmp_path.rglob("outside.csv"))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("/nowhere/at/all", r"/nowhere/at/all: expected a folder or a zip, found nothing there"),
        ("s3://bucket/log", r"expected a folder, a zip or an http\(s\) URL, found s3://"),
    ],
)
def test_what_is_not_there_is_named(raw, message, cache):
    with pytest.raises(InputError, match=message):
        local_folder(raw, str(cache))


def test_a_slow_second_process_keeps_the_first_ones_folder(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a").touch()
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/a").touch()
    download._give_name(tmp_path / "mine", tmp_path / "theirs")
    assert (tmp_path / "theirs/a").exists()
