"""Adds the man page, made from the commands, and the documents that hints name to a wheel that is built."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManPage(BuildHookInterface[Any]):
    """A build hook of hatchling's; it needs typer, which `build-system.requires` names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the page beside the wheel's other files, and name all files to install."""
        del version
        sys.path.insert(0, self.root)
        from distributor.cli.manual import page  # noqa: PLC0415  found only now

        made = Path(self.directory) / "distributor.1"
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(page(), encoding="utf-8")
        build_data["shared_data"][str(made)] = "share/man/man1/distributor.1"
        for document in sorted((Path(self.root) / "docs").glob("*.md")):  # a hint says "see docs/NAME.md"
            build_data["shared_data"][str(document)] = f"share/doc/distributor/docs/{document.name}"
