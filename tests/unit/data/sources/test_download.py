"""A folder, a zip and the address of a zip give the same folder, once, or one clear error."""

import hashlib
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from mtl_ray.data.sources import download, unzip
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


def encrypt(path: Path) -> None:
    """Mark the files of a zip as encrypted, as its directory and their headers say."""
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        found = content.find(signature)
        while found >= 0:
            content[found + place] |= 1
            found = content.find(signature, found + 1)
    path.write_bytes(content)


def test_an_encrypted_zip_is_refused(tmp_path, cache):
    write_zip(tmp_path / "log.zip")
    encrypt(tmp_path / "log.zip")
    with pytest.raises(InputError, match=r"log\.zip: expected a zip without password, found log/a\.csv"):
        local_folder(str(tmp_path / "log.zip"), str(cache))
    assert list(cache.iterdir()) == []


def test_a_zip_that_unpacks_to_far_more_than_itself_is_refused_before_it_is_unpacked(tmp_path, cache, monkeypatch):
    monkeypatch.setattr(unzip, "LARGE_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "log.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.csv", bytes(1 << 20))
    assert local_folder(str(tmp_path / "log.zip"), str(cache))
    with zipfile.ZipFile(tmp_path / "log.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.csv", bytes(3 << 20))
    with pytest.raises(InputError, match=r"expected at most 100 times the 3,\d+ bytes .* found 3,145,728"):
        local_folder(str(tmp_path / "log.zip"), str(cache))


def test_a_zip_that_the_disk_cannot_hold_is_refused_before_it_is_unpacked(tmp_path, cache, monkeypatch):
    write_zip(tmp_path / "log.zip")
    monkeypatch.setattr(unzip.shutil, "disk_usage", lambda _: SimpleNamespace(free=30))
    with pytest.raises(InputError, match=r"expected room for its 40 bytes in .*cache, found 30 bytes free"):
        local_folder(str(tmp_path / "log.zip"), str(cache))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("x" * 300 + ".csv",), "File name too long"),
        (("a", "a/b.csv"), "Not a directory|File exists|Is a directory"),
        (("/".join(["deep"] * 2000),), "at most 50 folders within each other"),
    ],
    ids=["long", "file and folder", "deep"],
)
def test_names_that_no_disk_holds_are_an_input_error(tmp_path, cache, names, message):
    write_zip(tmp_path / "log.zip", names)
    with pytest.raises(InputError, match=f"log\\.zip.*({message})") as caught:
        local_folder(str(tmp_path / "log.zip"), str(cache))
    assert len(str(caught.value)) < 500
    assert list(cache.iterdir()) == []


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_in_a_zip_is_refused(tmp_path, cache):
    write_zip(tmp_path / "log.zip", ("a.csv", "a.csv"))
    with pytest.raises(InputError, match=r"expected each name once, found a\.csv again"):
        local_folder(str(tmp_path / "log.zip"), str(cache))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_within_a_zip_names_the_file(tmp_path, cache, method):
    with zipfile.ZipFile(tmp_path / "log.zip", "w", method) as file:
        file.writestr("a.csv", bytes(range(256)) * 99)
    content = bytearray((tmp_path / "log.zip").read_bytes())
    content[60:90] = bytes(30)
    (tmp_path / "log.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"log\.zip: a\.csv: expected a zip, found what cannot be unpacked"):
        local_folder(str(tmp_path / "log.zip"), str(cache))


def test_a_method_that_python_does_not_know_is_named(tmp_path, cache):
    write_zip(tmp_path / "log.zip", ("a.csv",))
    content = bytearray((tmp_path / "log.zip").read_bytes())
    for signature, place in ((b"PK\x01\x02", 10), (b"PK\x03\x04", 8)):
        content[content.find(signature) + place] = 9  # Deflate64
    (tmp_path / "log.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"log\.zip: a\.csv: expected a zip that Python unpacks, found .*; unpack it"):
        local_folder(str(tmp_path / "log.zip"), str(cache))
