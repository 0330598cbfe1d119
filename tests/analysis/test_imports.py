"""The analysis runs on machines that have neither torch nor Ray."""

import subprocess
import sys

from synthetic import ROOT

CODE = """
import importlib.abc, sys
from pathlib import Path

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in ('torch', 'torchvision', 'ray'):
            raise ModuleNotFoundError(f'no module {name}, for the sake of this test', name=name)

sys.meta_path.insert(0, Absent())
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
scripts = sorted(path.stem for path in folder.glob('*.py'))
for name in scripts:
    importlib.import_module(name)
print(*scripts)
"""


def test_every_script_imports_without_torch_and_ray():
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(ROOT / "analysis")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert {"compare", "curves", "query"} <= set(done.stdout.split())
