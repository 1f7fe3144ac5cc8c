"""The Pareto front against its definition, point by point."""

from hypothesis import given
from hypothesis import strategies as st

from reroute_cli.studies.sweep import CostPoint, pareto_front, rival

FEW = st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0])  # few values, so that ties are common


@st.composite
def _points(draw):
    pairs = draw(st.lists(st.tuples(FEW | st.floats(0, 1), FEW | st.floats(0, 1)), min_size=1, max_size=12))
    return [CostPoint(str(number), cost, score) for number, (cost, score) in enumerate(pairs)]


def _dominated(point, points):
    """The definition: somebody costs no more, scores no less, and differs."""
    return any(
        other.cost <= point.cost
        and other.score >= point.score
        and (other.cost, other.score) != (point.cost, point.score)
        for other in points
    )


@given(_points())
def test_the_front_is_whoever_is_not_dominated(points):
    """Brute force over all pairs gives the same points."""
    wanted = {point.name for point in points if not _dominated(point, points)}
    assert {point.name for point in pareto_front(points)} == wanted


@given(_points())
def test_the_front_rises(points):
    """Cheapest first; who costs more scores more."""
    front = pareto_front(points)
    assert front == sorted(front, key=lambda point: (point.cost, point.score))


@given(_points())
def test_a_rival_is_on_the_front_and_scores_highest_of_those_that_cost_no_more(points):
    """So every other point's distance to the front is a difference from one arm of it."""
    front = pareto_front(points)
    for point in points:
        if point not in front:
            found = rival(point, front)
            assert found in front
            assert found.cost <= point.cost
            assert found.score == max(other.score for other in points if other.cost <= point.cost)
