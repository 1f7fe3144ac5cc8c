"""Rankings in the decoder, with the actions that each can be run with: for tests of the engine."""

from routing.checks.runs import ACTIONS
from routing.methods import SCORERS

RANKINGS = [
    (name, action)
    for name, scorer in SCORERS.items()
    for action in ACTIONS
    if scorer.looks and (scorer.merge is None or action == "prune")
]
BY_MORE_THAN_THE_LAST_ROWS = [one for one in RANKINGS if SCORERS[one[0]].rank is not None]
IN_LAYERS_OF_ANY_MAKE = [one for one in BY_MORE_THAN_THE_LAST_ROWS if not SCORERS[one[0]].level]
