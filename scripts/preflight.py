"""Name what this machine lacks before anything is downloaded. Standard library only, and it runs on any Python 3.

`--test` also looks for what the tests need.
"""

import ctypes.util
import importlib.util
import shutil
import sys

PYTHON = (3, 11)

python = f"python{PYTHON[0]}.{PYTHON[1]}"
is_new_enough = sys.version_info >= PYTHON
# what must be there: (is it?, Debian/Ubuntu packages, what for)
NEEDS = [
    (is_new_enough, f"{python} {python}-venv", f"selfhost (this is Python {sys.version.split()[0]})"),
    (not is_new_enough or importlib.util.find_spec("ensurepip") is not None, "python3-venv", "virtual environments"),
    (shutil.which("g++") is not None, "g++", "the kernels that engines compile when they start"),
    (ctypes.util.find_library("numa") is not None, "libnuma1", "vLLM on CPU"),
]
if "--test" in sys.argv[1:]:
    NEEDS += [
        (shutil.which("git") is not None, "git", "the tests"),
        (shutil.which("curl") is not None, "curl", "the tests"),
    ]

missing = [(package, purpose) for there, package, purpose in NEEDS if not there]
if missing:
    for package, purpose in missing:
        print(f"error: {package.split()[0]} is missing, needed for {purpose}", file=sys.stderr)
    then = "" if is_new_enough else f", then make PYTHON={python} up"
    sys.exit(f"hint: sudo apt-get install {' '.join(package for package, _ in missing)}{then}")
