import pytest

from mtl_ray.config import parse
from mtl_ray.credentials import without_credentials
from mtl_ray.errors import InputError, first_line
from mtl_ray.storage import Folder
from mtl_ray.tracking.tracked_run import Run
from tests.support import TREE, small_experiment

PLANTED = "hunter2secret"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"http://ann:{PLANTED}@host:5000/x", "http://host:5000/x"),
        (f"https://{PLANTED}@host/x", "https://host/x"),
        (f"s3://KEY:{PLANTED}@bucket/a?region=x", "s3://bucket/a?region=x"),
        (f"s3://KEY:sl/ash{PLANTED}@bucket/a", "s3://bucket/a"),
        (f"postgresql://ann:{PLANTED}@db/mlflow", "postgresql://db/mlflow"),
        (f"abfss://c@account.net/x?client_secret={PLANTED}&y=1", "abfss://c@account.net/x?client_secret=***&y=1"),
        (f"https://h/x?X-Amz-Signature={PLANTED}", "https://h/x?X-Amz-Signature=***"),
        (f"https://h/x?apikey={PLANTED}&y=1", "https://h/x?apikey=***&y=1"),
        (f"https://h/x?y=1&X-API-Key={PLANTED}", "https://h/x?y=1&X-API-Key=***"),
        (f"wasbs://c@a.blob.net/x?sas={PLANTED}", "wasbs://c@a.blob.net/x?sas=***"),
        (f"wasbs://c@a.blob.net/x?sas_token={PLANTED}", "wasbs://c@a.blob.net/x?sas_token=***"),
        (f"https://h/x?AccountKey={PLANTED}", "https://h/x?AccountKey=***"),
        (f"https://h/x?key={PLANTED}", "https://h/x?key=***"),
        (f"https://h/x#access_token={PLANTED}", "https://h/x#access_token=***"),
        (f"HTTP://{PLANTED}@host/x", "HTTP://host/x"),
        (f"Https://a{PLANTED}@b{PLANTED}@host/x", "Https://host/x"),
        (f"HTTPS://ann:{PLANTED}@host/x", "HTTPS://host/x"),
        (f"http://ann:{PLANTED}@{PLANTED}@host/x", "http://host/x"),
        (f"http://ann:{PLANTED}/a@{PLANTED}@host:5000/x", "http://host:5000/x"),
        (f"postgresql://ann:12{PLANTED}?#/{PLANTED}@db:5432/mlflow", "postgresql://db:5432/mlflow"),
        (f"postgresql://ann@corp.com:{PLANTED}@db/mlflow", "postgresql://db/mlflow"),
        (f"http://ann@corp.com:{PLANTED}@h/x", "http://h/x"),
        (f"API request to http://ann:{PLANTED}@h/api failed: 'x'", "API request to http://h/api failed: 'x'"),
    ],
)
def test_urls_are_shown_without_credentials(text: str, shown: str):
    assert without_credentials(text) == shown
    assert without_credentials(shown) == shown


@pytest.mark.parametrize(
    "url",
    [
        *("s3://bucket/a?endpoint_override=http://127.0.0.1:9000", "http://127.0.0.1:5000/models/a@champion"),
        *("hdfs://ann@host:8020/x", "abfss://container@account.dfs.core.windows.net/x", "sqlite:////x/mlflow.db"),
        *("http://h:5000?who=ann@corp", "http://[::1]:5000/models/a@champion", "hdfs://ann@host:8020"),
        *("s3://bucket/a?keyboard=x&disaster=y&monkey=z", "https://host/a@b", "file:///x:y@z"),
        *("models:/shop@champion", "/a:b@c", "user:password@host"),
    ],
)
def test_urls_without_credentials_stay_as_they_are(url: str):
    assert without_credentials(url) == url


@pytest.mark.parametrize(
    "tree",
    [
        TREE | {"tracking": {"uri": f"http://ann:{PLANTED}@host"}},
        TREE | {"training": {"output": f"s3://KEY:{PLANTED}@bucket"}},
        TREE | {"data": TREE["data"] | {"source": {"kind": "table", "interactions": f"s3://K:{PLANTED}@bucket"}}},
        TREE | {"compare": {"variants": {"a": {"data.raw": f"https://{PLANTED}@host/x"}}}},
    ],
)
def test_an_experiment_with_credentials_is_refused_without_repeating_them(tree: dict):
    with pytest.raises(InputError, match="expected a URL without user name, password or token") as refused:
        parse(tree, "e.yaml")
    assert PLANTED not in str(refused.value)
    assert "MLFLOW_TRACKING_PASSWORD" in str(refused.value)


def test_a_location_with_credentials_is_refused_wherever_it_is_given():
    with pytest.raises(InputError) as refused:
        Folder(f"s3://KEY:{PLANTED}@bucket/rows")
    assert PLANTED not in str(refused.value)


def test_an_error_never_repeats_credentials():
    assert PLANTED not in str(InputError(f"found 'http://a:{PLANTED}@h'"))
    assert PLANTED not in first_line(OSError(f"cannot reach http://a:{PLANTED}@h"))


def test_a_server_of_the_environment_is_noted_without_its_password_and_found_again(tmp_path, monkeypatch):
    from mtl_ray.runs.run_folder import RunFolder

    own = f"http://ann:{PLANTED}@127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    experiment, folder = small_experiment(), RunFolder(str(tmp_path / "run"))
    with pytest.warns(UserWarning, match="could not create the run") as warned:
        run = Run.start(experiment, "run", folder.create())
    assert PLANTED not in "".join(str(each.message) for each in warned)
    folder.write_record("train", experiment, run)
    assert PLANTED not in folder.read_text("run.json")
    record = folder.record_to_resume("train", experiment)
    assert record.tracking_uri == "http://127.0.0.1:9"
    assert Run(record.tracking_uri, None, folder).uri == own
