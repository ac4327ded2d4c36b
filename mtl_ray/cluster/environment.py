"""Pass variables of the environment to a job, secret ones encrypted.

Ray writes the environment of a job into its logs (`runtime_env_agent.log` of every node) and shows it to everybody who
asks for the job. So secret variables are encrypted with a key derived from the cluster's token, which all its nodes
hold, and from the job's name, and each process of the job decrypts them when it starts. Without token authentication
none are sent.
"""

import base64
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
"""Variables that go with a job if they are set. One whose URL holds credentials is treated as a secret."""

SECRET = (
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_CLIENT_SECRET"),
)
"""Variables that go with a job encrypted, like those that the user names."""

ENCRYPTED = "MTL_RAY_SEALED"
"""Variable that holds the job's name and the encrypted secrets, with a colon between."""

SHORTEST_TOKEN = 16
"""Characters of a token with which secrets are encrypted; whoever has the variable can try short ones in turn."""

SETUP_HOOK = "mtl_ray.cluster.environment.decrypt_environment"
"""Function that every worker process of a job calls when it starts. The driver calls it in `cli.main`."""


@dataclass(frozen=True)
class ForwardedEnvironment:
    """The environment of a job."""

    variables: dict[str, str]
    names: list[str]
    """Names of the variables that are passed, secrets included."""
    withheld: list[str]
    """Names of secrets that are set but not passed, since the cluster has no token."""


def forwarded_environment(also: Sequence[str] = (), job: str = "") -> ForwardedEnvironment:
    """Return the variables that go with a job.

    Args:
        also: names of further variables, passed as secrets.
        job: name of the job; secrets of two jobs are encrypted with different keys.

    Raises:
        InputError: one of `also` is not set or is no name, or the cluster has no token to encrypt it with, or a short
            one.
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
    token = _token()
    if not token:
        if also:
            raise InputError(
                f"--env {also[0]}: expected token authentication, with which it is encrypted: RAY_AUTH_MODE=token and "
                "RAY_AUTH_TOKEN, here and on the cluster; without it Ray would write it into its logs"
            )
        return ForwardedEnvironment(plain, sorted(plain), sorted(secret))
    if len(token) < SHORTEST_TOKEN:
        raise InputError(
            f"RAY_AUTH_TOKEN: expected a token of at least {SHORTEST_TOKEN} characters, with which {', '.join(secret)} "
            f"can be encrypted; found {len(token)}; `ray get-auth-token --generate` makes one"
        )
    from cryptography.fernet import Fernet  # noqa: PLC0415 - slow to load

    encrypted = Fernet(_key(token, job)).encrypt(json.dumps(secret).encode()).decode()
    return ForwardedEnvironment({**plain, ENCRYPTED: f"{job}:{encrypted}"}, sorted([*plain, *secret]), [])


def decrypt_environment() -> None:
    """Decrypt the secret variables of the job into the environment of this process.

    Raises:
        RuntimeError: this process does not have the token that they were encrypted with.
    """
    if (variable := os.environ.get(ENCRYPTED)) is None:
        return
    from cryptography.fernet import Fernet, InvalidToken  # noqa: PLC0415 - slow to load

    token, (job, _, encrypted) = _token(), variable.rpartition(":")
    try:
        if not token:
            raise InvalidToken
        os.environ.update(json.loads(Fernet(_key(token, job)).decrypt(encrypted)))
    except InvalidToken:
        raise RuntimeError("the job's secrets were encrypted with another token than this node's") from None


def _token() -> str:
    """Return Ray's token; nothing if token authentication is off."""
    return (authorization_header() or "").removeprefix("Bearer ")


def _key(token: str, job: str) -> bytes:
    """Derive the key of a job's secrets (HKDF, RFC 5869)."""
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - slow to load
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

    derived = HKDF(SHA256(), length=32, salt=None, info=f"mtl_ray secrets of {job}".encode()).derive(token.encode())
    return base64.urlsafe_b64encode(derived)
