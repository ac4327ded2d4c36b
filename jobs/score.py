"""Submit with: ray job submit --working-dir . -- python jobs/score.py models:/NAME/1 --input ROWS --output FOLDER"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mtl_ray.cli.main import main

main(["predict", *sys.argv[1:]])
