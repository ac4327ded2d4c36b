import os

from hypothesis import HealthCheck, settings

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["GIT_PYTHON_REFRESH"] = "quiet"
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
# Of the S3 server on loopback; processes of Ray have the environment of when it was started.
os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

# How fast an example is says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
