"""Submit with: ray job submit --working-dir . -- python jobs/train.py jobs/synthetic.yaml"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mtl_ray.cli.main import main

main(["train", *sys.argv[1:]])
