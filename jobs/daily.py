"""Submit with: ray job submit --working-dir . -- python jobs/daily.py jobs/daily.yaml --score ROWS --output FOLDER"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mtl_ray.cli.main import main

main(["daily", *sys.argv[1:]])
