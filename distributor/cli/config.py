"""`distributor config show`: prints the effective configuration and where each value comes from."""

from __future__ import annotations

import typer

from distributor.cli.options import Config, Json
from distributor.cli.render import print_json, stderr_line, table

app = typer.Typer(help="Show the configuration.", no_args_is_help=True, epilog="\b\nexample:\n  distributor config show")


@app.command(epilog="\b\nexample:\n  distributor config show --json | jq '.values[\"transport.rate\"]'")
def show(chosen: Config = None, as_json: Json = False) -> None:
    """Print the effective values and where each came from; secrets as references."""
    from distributor import bootstrap

    settings = bootstrap.settings(chosen)
    if as_json:
        values = {key: {"value": found.value, "origin": found.origin} for key, found in settings.origins.items()}
        print_json("config", {"file": str(settings.file), "values": values})
        return
    stderr_line(str(settings.file))
    table(("key", "value", "origin"), ((key, _written(found.value), found.origin) for key, found in settings.origins.items()))


def _written(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "true" if value else "false"
        case list():
            return ", ".join(map(str, value))
    return str(value)
