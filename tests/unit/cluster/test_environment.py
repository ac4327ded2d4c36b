import json
import os

import pytest

from mtl_ray.cluster.environment import ENCRYPTED, PLAIN, SECRET, decrypt_environment, forwarded_environment
from mtl_ray.errors import InputError

PLANTED = "hunter2secret"
TOKEN = "t" * 32


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in (*PLAIN, *SECRET, ENCRYPTED):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def token(monkeypatch):
    def set_token(value: str | None) -> None:
        headers = {"authorization": f"Bearer {value}"} if value else {}
        place = "ray._private.authentication.http_token_authentication.get_auth_headers_if_auth_enabled"
        monkeypatch.setattr(place, lambda _: headers)

    return set_token


def test_only_variables_of_the_list_are_passed(monkeypatch, token):
    token(TOKEN)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    monkeypatch.setenv("SOMETHING_ELSE", PLANTED)
    assert forwarded_environment().variables == {"MLFLOW_TRACKING_URI": "http://host"}


def test_secrets_are_encrypted_and_opened_with_the_same_token_alone(monkeypatch, token):
    token(TOKEN)
    secrets = {"MLFLOW_TRACKING_PASSWORD": PLANTED, "MLFLOW_TRACKING_URI": f"http://a:{PLANTED}@h", "MINE": PLANTED}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    found = forwarded_environment(["MINE"])
    assert set(found.variables) == {ENCRYPTED}
    assert PLANTED not in json.dumps(found.variables)
    assert found.names == sorted(secrets)
    for name in secrets:
        monkeypatch.delenv(name)
    monkeypatch.setenv(ENCRYPTED, found.variables[ENCRYPTED])
    for other in ("u" * 32, None):
        token(other)
        with pytest.raises(RuntimeError, match="another token"):
            decrypt_environment()
        assert "MINE" not in os.environ
    token(TOKEN)
    decrypt_environment()
    assert {name: os.environ[name] for name in secrets} == secrets


def test_without_a_token_no_secret_is_passed(monkeypatch, token):
    token(None)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLANTED)
    monkeypatch.setenv("AWS_REGION", "x")
    found = forwarded_environment()
    assert (found.variables, found.withheld) == ({"AWS_REGION": "x"}, ["AWS_SECRET_ACCESS_KEY"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"A={PLANTED}", "--env: expected the name of a variable"),
        ("NOT_THERE", "--env NOT_THERE: expected a variable that is set"),
        ("MINE", "--env MINE: expected token authentication"),
    ],
)
def test_a_variable_that_cannot_be_passed_is_refused(name: str, message: str, monkeypatch, token):
    token(None)
    monkeypatch.setenv("MINE", PLANTED)
    with pytest.raises(InputError, match=message) as refused:
        forwarded_environment([name])
    assert PLANTED not in str(refused.value)


def test_each_job_has_a_key_of_its_own(monkeypatch, token):
    token(TOKEN)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLANTED)
    variable = forwarded_environment(job="shop-train-1").variables[ENCRYPTED]
    assert variable.startswith("shop-train-1:")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv(ENCRYPTED, variable.replace("train-1", "train-2"))
    with pytest.raises(RuntimeError):
        decrypt_environment()
    monkeypatch.setenv(ENCRYPTED, variable)
    decrypt_environment()
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == PLANTED


def test_a_token_that_can_be_guessed_encrypts_no_secret(monkeypatch, token):
    token("x" * 15)
    assert forwarded_environment().variables == {}
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PLANTED)
    with pytest.raises(InputError, match="RAY_AUTH_TOKEN: expected a token of at least 16 characters") as refused:
        forwarded_environment()
    assert PLANTED not in str(refused.value)
