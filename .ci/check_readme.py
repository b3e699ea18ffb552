"""Check that the README's first two commands are what ``.ci/run`` runs, word for word."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main() -> int:
    """Compare, and print what differs."""
    script = (ROOT / ".ci" / "run").read_text()
    commands = re.findall(r"^install_and_\w+\(\) \{\n\s*(.+)\n\}", script, re.MULTILINE)
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    shown = [line for block in blocks[:2] for line in block.strip().splitlines()]
    for command, line in zip(commands, shown, strict=True):
        if command != line:
            print(f"README.md has\n  {line}\nbut .ci/run runs\n  {command}")
            return 1
    print("the README's two commands are the ones that are run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
