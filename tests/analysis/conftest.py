"""The analysis scripts import one another by name, as they do when they are run; so do their tests."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2] / "analysis"), str(Path(__file__).parent)]
