"""What becomes of a figure: repeats change nothing, nobody's promise is broken, no sale is lost."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cerniq_stock.domain.sync import (
    Chosen,
    Figure,
    Remembered,
    Shelf,
    Strategy,
    Verdict,
    decide,
    resolve,
)

AMOUNTS = st.integers(0, 60).map(Decimal)
STRATEGIES = st.sampled_from(Strategy)


@st.composite
def shelves(draw):
    firm, soft, blocked = draw(AMOUNTS), draw(AMOUNTS), draw(AMOUNTS)
    return Shelf(firm + soft + blocked + draw(AMOUNTS), blocked, firm, soft)


@st.composite
def figures(draw):
    total = draw(st.integers(-5, 150).map(Decimal))
    return Figure(total, draw(st.none() | st.integers(-20, 160).map(Decimal)))


KNOWN = st.none() | st.builds(Remembered, AMOUNTS, AMOUNTS, AMOUNTS)


@given(shelves(), figures(), KNOWN, STRATEGIES, st.booleans())
def test_what_is_firmly_promised_stays(shelf, figure, known, strategy, force):
    decision = decide(shelf, figure, known, strategy, force=force)
    assert decision.blocked >= 0
    assert decision.total >= shelf.firm + decision.blocked
    assert 0 <= decision.soft_given <= shelf.soft
    if decision.verdict in (Verdict.REVIEW, Verdict.SHORT):
        assert (decision.total, decision.blocked) == (shelf.total, shelf.blocked)
        assert decision.remembered == known or known is None


@given(shelves(), figures(), KNOWN, STRATEGIES)
def test_the_same_figure_again_changes_nothing(shelf, figure, known, strategy):
    first = decide(shelf, figure, known, strategy)
    if first.verdict in (Verdict.REVIEW, Verdict.SHORT):
        return
    soft = shelf.soft - first.soft_given
    after = Shelf(first.total, first.blocked, shelf.firm, soft)
    again = decide(after, figure, first.remembered, strategy)
    assert again.verdict is Verdict.AGREED
    assert (again.total, again.blocked) == (first.total, first.blocked)


@given(AMOUNTS, AMOUNTS, AMOUNTS, STRATEGIES)
def test_whose_figure_counts_does_not_depend_on_who_is_asked_first(local, erp, merged, strategy):
    turned = {Strategy.ERP_WINS: Strategy.LOCAL_WINS, Strategy.LOCAL_WINS: Strategy.ERP_WINS}
    other = turned.get(strategy, strategy)
    assert resolve(strategy, local, erp, merged) == resolve(other, erp, local, merged)


@given(
    st.integers(50, 100).map(Decimal),
    st.lists(st.tuples(st.sampled_from("sep"), st.integers(1, 5).map(Decimal)), max_size=12),
)
def test_merge_loses_no_sale_and_ends_where_both_meet(start, events):
    """Sales here (s) and there (e), and the ERP posting some of ours (p), in any order.

    When the ERP has posted everything that was sold here, both say the same, and it is the truth:
    each sale has been counted, and once. Where nothing was sold there, ours is the truth always.
    """
    local = erp = truth = start
    known = Remembered(start, start, start)
    unposted, sold_there = Decimal(0), False

    def sync() -> tuple[Decimal, Remembered]:
        shelf = Shelf(local, Decimal(0), Decimal(0), Decimal(0))
        decision = decide(shelf, Figure(erp), known, Strategy.MERGE)
        assert decision.remembered is not None
        return decision.total, decision.remembered

    for kind, amount in events:
        if kind == "s" and amount <= min(local, truth):
            local, truth, unposted = local - amount, truth - amount, unposted + amount
        elif kind == "e" and amount <= min(erp, truth):
            erp, truth, sold_there = erp - amount, truth - amount, True
        elif kind == "p":
            posted = min(amount, unposted)
            erp, unposted = erp - posted, unposted - posted
        local, known = sync()
        assert local == truth or sold_there
    erp -= unposted
    local, known = sync()
    assert local == erp == truth
    assert not known.pending


def test_what_was_sold_here_is_posted_part_by_part():
    """Five sold in two goes, posted in two goes: never a conflict, whatever the strategy."""
    for strategy in Strategy:
        known = Remembered(Decimal(10), Decimal(10), Decimal(10))
        for local, erp in ((7, 10), (5, 7), (5, 5)):
            shelf = Shelf(Decimal(local), Decimal(0), Decimal(0), Decimal(0))
            decision = decide(shelf, Figure(Decimal(erp)), known, strategy)
            assert (decision.total, decision.conflict) == (local, False)
            assert decision.remembered is not None
            known = decision.remembered


@pytest.mark.parametrize("total", [None, Decimal(4)])
def test_a_person_has_the_last_word(total):
    shelf = Shelf(Decimal(7), Decimal(0), Decimal(2), Decimal(3))
    known = Remembered(Decimal(10), Decimal(10), Decimal(10))
    decision = decide(shelf, Figure(Decimal(12)), known, Strategy.MANUAL, chosen=Chosen(total))
    assert decision.total == (7 if total is None else total)
    assert decision.soft_given == (0 if total is None else 1)
    assert decision.remembered is not None
    again = Shelf(decision.total, Decimal(0), Decimal(2), Decimal(3) - decision.soft_given)
    told = decide(again, Figure(Decimal(12)), decision.remembered, Strategy.MANUAL)
    assert told.verdict is Verdict.AGREED


def test_what_both_stood_at_last_may_be_newer_than_what_they_agreed_on():
    ten, eight = Decimal(10), Decimal(8)
    assert Remembered(eight, eight, ten).last_equal == eight
    assert Remembered(ten, eight, ten, Decimal(-2)).last_equal == ten
    assert Remembered(eight, eight, ten, Decimal(-1)).last_equal == ten
