"""Which variables of the environment go with a job, and how secret ones do.

Ray writes the environment of a job into its logs (`runtime_env_agent.log` of every node) and shows it to whoever asks
for the job. So secret variables are encrypted with a key made of the cluster's token, which all its nodes hold, and
each process of the job opens them when it starts. A cluster without token authentication is sent none.
"""

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from mtl_ray.cluster.ray_compat import authorization_header
from mtl_ray.credentials import without_credentials
from mtl_ray.errors import InputError

PLAIN = (
    *("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_S3_ENDPOINT_URL"),
    *("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
    *("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "OMP_NUM_THREADS"),
)
"""Variables that go with a job where they are set; one whose URL holds credentials goes as a secret one."""

SECRET = (
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET"),
)
"""Variables that go with a job encrypted, as those that the user names do."""

ENCRYPTED = "MTL_RAY_SEALED"
"""Variable that holds the secret ones."""

OPEN = "mtl_ray.cluster.environment.decrypt_environment"
"""What every worker process of a job runs when it starts; its driver does so by itself."""


@dataclass(frozen=True)
class ForwardedEnvironment:
    """The environment of a job."""

    variables: dict[str, str]
    names: list[str]
    """What is passed, secret ones included."""
    withheld: list[str]
    """Secret ones that are set, but not passed to a cluster without a token."""


def forwarded_environment(also: Sequence[str] = ()) -> ForwardedEnvironment:
    """The variables that go with a job.

    Args:
        also: names of further ones, passed as secrets.

    Raises:
        InputError: one of `also` is not set, is no name, or the cluster has no token to encrypt it with.
    """
    for name in also:
        if not name.isidentifier():
            raise InputError("--env: expected the name of a variable, whose value is taken from the environment")
        if name not in os.environ:
            raise InputError(f"--env {name}: expected a variable that is set; it is not")
    plain = {name: os.environ[name] for name in PLAIN if name in os.environ and name not in also}
    secret = {name: os.environ[name] for name in (*SECRET, *also) if name in os.environ}
    for name in [name for name, value in plain.items() if without_credentials(value) != value]:
        secret[name] = plain.pop(name)
    if not secret:
        return ForwardedEnvironment(plain, sorted(plain), [])
    key = _key()
    if key is None:
        if also:
            raise InputError(
                f"--env {also[0]}: expected token authentication, with which it is encrypted: RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN, here and on the cluster; without it Ray would write it into its logs"
            )
        return ForwardedEnvironment(plain, sorted(plain), sorted(secret))
    from cryptography.fernet import Fernet  # noqa: PLC0415 - slow to load

    sealed = Fernet(key).encrypt(json.dumps(secret).encode()).decode()
    return ForwardedEnvironment({**plain, ENCRYPTED: sealed}, sorted([*plain, *secret]), [])


def decrypt_environment() -> None:
    """Put the secret variables of the job into the environment of this process. Raises RuntimeError without its key."""
    if (sealed := os.environ.get(ENCRYPTED)) is None:
        return
    from cryptography.fernet import Fernet, InvalidToken  # noqa: PLC0415 - slow to load

    key = _key()
    try:
        if key is None:
            raise InvalidToken
        os.environ.update(json.loads(Fernet(key).decrypt(sealed)))
    except InvalidToken:
        raise RuntimeError("the job's secrets were encrypted with another token than this node's") from None


def _key() -> bytes | None:
    """Made of the token of Ray's token authentication; None where that is off."""
    token = authorization_header()
    if not token:
        return None
    return base64.urlsafe_b64encode(hashlib.sha256(f"mtl_ray {token}".encode()).digest())
