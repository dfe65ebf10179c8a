"""Name what this machine lacks before anything is downloaded. Standard library only: it runs on the bare machine."""

import ctypes.util
import importlib.util
import shutil
import sys

# what must be there: (is it?, Debian/Ubuntu package, what for)
NEEDS = [
    (importlib.util.find_spec("ensurepip") is not None, "python3-venv", "virtual environments"),
    (shutil.which("g++") is not None, "g++", "the kernels that engines compile when they start"),
    (ctypes.util.find_library("numa") is not None, "libnuma1", "vLLM on CPU"),
]

missing = [(package, purpose) for there, package, purpose in NEEDS if not there]
if missing:
    for package, purpose in missing:
        print(f"error: {package} is missing, needed for {purpose}", file=sys.stderr)
    sys.exit(f"hint: sudo apt-get install {' '.join(package for package, _ in missing)}")
