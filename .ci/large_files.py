"""Refuse files over 500 kB: python .ci/large_files.py FILE..."""

import sys
from pathlib import Path

LIMIT_BYTES = 500_000

large = [name for name in sys.argv[1:] if Path(name).stat().st_size > LIMIT_BYTES]
sys.exit("\n".join(f"{name} is over {LIMIT_BYTES // 1000} kB" for name in large) or 0)
