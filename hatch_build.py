"""Adds to a wheel that is built what is made from the commands (the man page, completion for shells), and the documents that hints name."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPLETION = {  # shell -> where it looks for completion of a command
    "bash": "share/bash-completion/completions/distributor",
    "fish": "share/fish/vendor_completions.d/distributor.fish",
    "zsh": "share/zsh/site-functions/_distributor",
}


class SharedFiles(BuildHookInterface[Any]):
    """A build hook of hatchling's; it needs typer, which `build-system.requires` names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write them beside the wheel, and name all files to install."""
        del version
        sys.path.insert(0, self.root)
        from distributor.cli.manual import completion, page  # noqa: PLC0415  found only now

        made = self._made = Path(tempfile.mkdtemp(prefix="distributor-"))
        files = {"share/man/man1/distributor.1": page(), **{place: completion(shell) for shell, place in COMPLETION.items()}}
        for place, text in files.items():
            (made / place).parent.mkdir(parents=True, exist_ok=True)
            (made / place).write_text(text, encoding="utf-8")
            build_data["shared_data"][str(made / place)] = place
        for document in sorted((Path(self.root) / "docs").rglob("*")):  # a hint says "see docs/NAME.md", which names docs/deploy/...
            if document.is_file() and document.suffix != ".svg":
                build_data["shared_data"][str(document)] = f"share/doc/distributor/{document.relative_to(self.root).as_posix()}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Take away what was made."""
        del version, build_data, artifact_path
        shutil.rmtree(self._made)
