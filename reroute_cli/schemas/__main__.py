"""`python -m reroute_cli.schemas`: rewrite the published schemas from the models."""

from reroute_cli.schemas import update

update()
