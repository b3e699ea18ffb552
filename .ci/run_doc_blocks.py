"""Run the Python blocks of Markdown files: the blocks of one file in one process, in order, in an empty folder.

A block after the line ``<!-- not run: REASON -->`` is only compiled.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```python\n(.*?)```", re.DOTALL)

TORCHDATA = "ignore:'set_vital' is deprecated:UserWarning"  # torchdata 0.11 on torch 2.13


def main(files: list[str]) -> int:
    """Run the blocks of all *files*; return how many files failed."""
    failed = 0
    for file in files:
        text = Path(file).read_text()
        found = [(bool(it[1]), it[2], text.count("\n", 0, it.start(2)) + 1) for it in BLOCK.finditer(text)]
        # Blank lines before a block keep the line numbers of the Markdown file.
        program = ""
        for only_compiled, code, line in found:
            if only_compiled:
                compile(code, file, "exec")
                continue
            program += "\n" * (line - 1 - program.count("\n")) + code
        with tempfile.TemporaryDirectory() as folder:
            name = Path(folder) / (Path(file).name + ".py")
            name.write_text(program)
            done = subprocess.run(
                [sys.executable, "-W", "error", "-W", TORCHDATA, str(name)],
                cwd=folder,
                env={**os.environ, "MPLBACKEND": "agg"},
                check=False,
            )
        print(f"{file}: {len(found)} blocks, {'ok' if done.returncode == 0 else 'FAILED'}")
        failed += done.returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
