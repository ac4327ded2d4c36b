import os

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["GIT_PYTHON_REFRESH"] = "quiet"
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
# Of the S3 server on loopback; processes of Ray have the environment of when it was started.
os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in its own
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run tests that share what takes long to make in one process: those of a trained model, others by file."""
    for item in items:
        shares_model = "trained" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("trained" if shares_model else str(item.path)))
