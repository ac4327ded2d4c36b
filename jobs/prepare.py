"""Submit with: ray job submit --working-dir . -- python jobs/prepare.py jobs/synthetic.yaml"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mtl_ray.cli.main import main

main(["prepare", *sys.argv[1:]])
