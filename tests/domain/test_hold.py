"""What becomes of what is held: extend, release, sell, end a negotiation (READING 6-9, 13)."""

import pytest

from tests.domain.script import Pure
from tests.domain.script import check as check_table


async def test_extending_within_the_tenants_limits(check):
    await check("""
        tenant   max_extensions=2 max_reservation_h=100
        stock    A 5
        reserve  r1 A=1 hours=24            -> ACTIVE 1
        extend   r1 24                      -> r1 x1
        lasts    r1                         -> 48h
        extend   r1 53                      -> DURATION_LIMIT
        extend   r1 52                      -> r1 x2        # 100 hours in all, to the hour
        lasts    r1                         -> 100h
        extend   r1 1                       -> EXTENSION_LIMIT
        reserve  r2 A=1 hours=1             -> ACTIVE 1
        reserve  r3 A=1                     -> ACTIVE 1
        release  r3                         -> RELEASED A=1
        extend   r3 1                       -> RESERVATION_ENDED
        extend   r9 1                       -> RESERVATION_NOT_FOUND
    """)
    await check("""
        stock    A 5
        reserve  r1 A=5 hours=24            -> ACTIVE 5
        wait     23h
        extend   r1 24                      -> r1 x1
        wait     23h
        reserve  r2 A=1                     -> FAILED 0:INSUFFICIENT_STOCK  # its lines last longer
        extend   r2 1                       -> RESERVATION_ENDED
        wait     2h
        extend   r1 24                      -> RESERVATION_EXPIRED
        reserve  r3 A=5                     -> ACTIVE 5
        extend   r1 24                      -> RESERVATION_EXPIRED
    """)


async def test_releasing_whole_and_in_part(check):
    await check("""
        stock    A 10
        stock    B 10
        reserve  r1 A=2 B=3 A=4             -> ACTIVE 2 3 4
        moved -> RESERVATION A 0/2/0 r1 ; RESERVATION B 0/3/0 r1 ; RESERVATION A 0/4/0 r1
        release  r1 A=3                     -> PARTIAL A=3      # from its lines in their order
        holds    r1                         -> ACTIVE B=3 A=3
        moved                               -> RELEASE A 0/-2/0 r1 ; RELEASE A 0/-1/0 r1
        release  r1 A=5 B=1 NONE=1          -> PARTIAL B=1 A=3 warned
        release  r1                         -> RELEASED B=2
        holds    r1                         -> RELEASED MANUAL
        release  r1                         -> RELEASED (RELEASED) warned
        release  r1 CANCELLED               -> RELEASED (RELEASED) warned
        release  r9                         -> RELEASED (NOT_FOUND) warned
        level    A                          -> 10 0 0
        reserve  r2 A=1                     -> ACTIVE 1
        release  r2 EXPIRED                 -> NOT_EXPIRED
        release  r2 DEAD                    -> RELEASED A=1
        holds    r2                         -> RELEASED DEAD
    """)


async def test_releasing_what_has_expired(check):
    await check("""
        stock    A 5
        reserve  r1 A=2 hours=1             -> ACTIVE 2
        reserve  r2 A=2 hours=1             -> ACTIVE 2
        wait     1h
        release  r1 EXPIRED                 -> EXPIRED A=2
        release  r1 EXPIRED                 -> EXPIRED (EXPIRED) warned
        release  r2 MANUAL                  -> EXPIRED A=2      # it was over before
        holds    r2                         -> EXPIRED EXPIRED
        consume  r1                         -> RESERVATION_EXPIRED
        available A                         -> 5
    """)


async def test_consuming_sells(check):
    await check("""
        stock    A 10 1
        stock    B 5
        reserve  r1 A=6 B=1                 -> ACTIVE 6 1
        available A                         -> 3
        moved                               -> RESERVATION A 0/6/0 r1 ; RESERVATION B 0/1/0 r1
        consume  r1 A=2                     -> PARTIAL A=2
        level    A                          -> 8 4 1            # total and reserved fall ...
        available A                         -> 3                # ... available stays
        moved                               -> SALE A -2/-2/0 r1
        consume  r1 A=5                     -> EXCEEDS_RESERVED
        consume  r1 A=1 C=1                 -> NOT_RESERVED
        consume  r1 A=3 A=2                 -> EXCEEDS_RESERVED # together more than it holds
        holds    r1                         -> ACTIVE A=4 B=1   # a refused sale sells nothing
        release  r1 A=1                     -> PARTIAL A=1
        consume  r1                         -> CONSUMED A=3 B=1
        holds    r1                         -> CONSUMED CONSUMED
        level    A                          -> 5 0 1
        consume  r1                         -> CONSUMED (CONSUMED) warned
        release  r1                         -> CONSUMED (CONSUMED) warned
        consume  r9                         -> RESERVATION_NOT_FOUND
        reserve  r2 A=1                     -> ACTIVE 1
        release  r2                         -> RELEASED A=1
        consume  r2                         -> RESERVATION_ENDED
        reserve  r3 C=1                     -> FAILED 0:PRODUCT_NOT_FOUND
        consume  r3                         -> RESERVATION_ENDED
        reserve  r4 A=1 hours=1             -> ACTIVE 1
        wait     1h
        consume  r4                         -> RESERVATION_EXPIRED
        level    A                          -> 5 1 1            # refused, so nothing was written
    """)


async def test_consuming_what_is_left_of_a_displaced_reservation(check):
    await check("""
        stock    A 5
        reserve  r1 A=5                     -> ACTIVE 5
        reserve  r2 A=2 hard                -> ACTIVE 2
        consume  r1 A=4                     -> EXCEEDS_RESERVED
        consume  r1                         -> CONSUMED A=3
        level    A                          -> 2 2 0
    """)


async def test_releasing_by_negotiation(check):
    await check("""
        stock    A 9
        stock    B 9
        deal     n2 PROPOSAL
        reserve  r1 A=2                     -> ACTIVE 2
        reserve  r2 A=2 to=n2               -> ACTIVE 2
        reserve  r3 A=1 B=4                 -> ACTIVE 1 4
        release  n1 A=3 B=1                 -> PARTIAL A=3 B=1
        holds    r1                         -> RELEASED MANUAL
        holds    r3                         -> ACTIVE B=3
        release  n1                         -> RELEASED B=3
        release  n1                         -> RELEASED (NOT_FOUND) warned
        consume  n2                         -> CONSUMED A=2
        level    A                          -> 7 0 0
        level    B                          -> 9 0 0
    """)


async def test_a_negotiation_that_ends_gives_all_back(check):
    for state in ("DEAD", "TIMEOUT"):
        await check(f"""
            tenant   warehouses=W1,W2
            stock    A 2
            stock    A 5 0 W2
            stock    B 5
            deal     n2 PROPOSAL
            reserve  r1 A=6 B=2                 -> ACTIVE 6 2
            reserve  r2 A=1 to=n2               -> ACTIVE 1
            reserve  r3 B=1 hours=1             -> ACTIVE 1
            reserve  r4 B=1 hard                -> ACTIVE 1
            wait     1h
            negotiation n1 CLOSING              -> PROPOSAL > CLOSING
            negotiation n1 {state}              -> CLOSING > {state} r1 r4  # r3 was over already
            holds    r1                         -> RELEASED DEAD
            holds    r2                         -> ACTIVE A@W2=1
            level    A W1                       -> 2 0 0
            level    A W2                       -> 5 1 0
            available B                         -> 5
            reserve  r5 A=1                     -> NEGOTIATION_CLOSED
            negotiation n1 {state}              -> {state} > {state}
            negotiation n3 {state}              -> new > {state}
        """)


async def test_keyed_commands_answer_once(check):
    await check("""
        stock    A 10
        reserve  r1 A=6 hours=24            -> ACTIVE 6
        extend   r1 24 key=e                -> r1 x1
        extend   r1 24 key=e                -> r1 x1
        extend   r1 23 key=e                -> RESERVATION_EXISTS
        lasts    r1                         -> 48h
        release  r1 A=1 key=p               -> PARTIAL A=1
        release  r1 A=1 key=p               -> PARTIAL A=1
        release  r1 A=2 key=p               -> RESERVATION_EXISTS
        consume  r1 A=9 key=c               -> EXCEEDS_RESERVED
        consume  r1 A=2 key=c               -> PARTIAL A=2      # refused before: the key was free
        consume  r1 A=2 key=c               -> PARTIAL A=2
        receive  A=5 key=r                  -> 13 3 0 10
        receive  A=5 key=r                  -> 13 3 0 10
        take_back A=5 key=r                 -> RESERVATION_EXISTS
        count    A=20 key=s                 -> 20 3 0 17
        adjust   A -1 0 key=a               -> 19 3 0 16
        count    A=20 key=s                 -> 20 3 0 17        # the first answer
        adjust   A -1 0 key=a               -> 19 3 0 16
        level    A                          -> 19 3 0
        negotiation n1 DEAD key=d           -> PROPOSAL > DEAD r1
        negotiation n1 PROPOSAL             -> DEAD > PROPOSAL
        negotiation n1 DEAD key=d           -> PROPOSAL > DEAD r1
        deal     n1                         -> PROPOSAL
        reserve  r2 A=1 key=d               -> ACTIVE 1   # keys of reservations stand apart
    """)


async def test_a_reservation_lasts_until_the_microsecond():
    for left, answer in ((1, "r1 x1"), (0, "RESERVATION_EXPIRED")):
        await check_table(
            Pure(batched=True),
            f"""
            stock    A 3
            reserve  r1 A=2 hours=1         -> ACTIVE 2
            wait     59m
            wait     {60_000_000 - left}u
            extend   r1 1                   -> {answer}
            """,
        )


async def test_a_live_negotiation_cannot_be_released_as_expired(check):
    await check("""
        stock    A 5
        reserve  r1 A=1                     -> ACTIVE 1
        release  n1 EXPIRED                 -> NOT_EXPIRED
    """)


async def test_a_sale_by_negotiation_takes_what_is_asked_or_nothing(check):
    await check("""
        stock    A 5
        reserve  r1 A=2                     -> ACTIVE 2
        consume  n1 A=3                     -> EXCEEDS_RESERVED
        level    A                          -> 5 2 0
    """)


async def test_a_sale_of_nothing_is_refused_by_negotiation_too(check):
    await check("""
        stock    A 5
        consume  n1                         -> RESERVATION_NOT_FOUND
    """)


@pytest.mark.parametrize("verb", ["release", "consume"])
async def test_pieces_are_not_released_in_fractions(check, verb):
    await check(f"""
        stock    A 5
        reserve  r1 A=2                     -> ACTIVE 2
        {verb}   r1 A=0.5                   -> QUANTITY_TOO_PRECISE
    """)


async def test_a_reservation_cannot_start_longer_than_allowed(check):
    await check("""
        tenant   max_reservation_h=48
        stock    A 5
        reserve  r1 A=2 hours=72            -> DURATION_LIMIT
    """)


async def test_what_was_sold_is_not_sold_again(check):
    """That all of it be sold is true already; that so much of it be sold is another delivery."""
    await check("""
        stock    A 5
        reserve  r1 A=3                     -> ACTIVE 3
        consume  r1                         -> CONSUMED A=3
        consume  r1                         -> CONSUMED (CONSUMED) warned
        consume  r1 A=3                     -> RESERVATION_ENDED
        level    A                          -> 2 0 0
    """)


async def test_a_victim_of_two_lines_is_told_once(check):
    await check("""
        stock    A 4
        reserve  r1 A=2 A=2                 -> ACTIVE 2 2
        adjust   A -4 0                     -> 0 0 0 0 r1
        holds    r1                         -> RELEASED REPLACED
    """)
