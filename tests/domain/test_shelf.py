"""What happens on the shelf: receive, return, adjust, count; and who is told of low stock."""

import pytest


async def test_receiving_returning_and_counting(check):
    await check("""
        tenant   warehouses=W1,W2
        product  K unit=KG
        stock    A 5
        receive  A=3                        -> 8 0 0 8
        receive  A=4 into=W2                -> 4 0 0 4      # its first level there
        take_back A=1 into=W2               -> 5 0 0 5
        receive  K=0.125                    -> 0.125 0 0 0.125
        moved -> PURCHASE A 3/0/0 ; PURCHASE A 4/0/0 ; RETURN A 1/0/0 ; PURCHASE K 0.125/0/0
        count    A=8                        -> 8 0 0 8
        moved                               -> nothing      # nothing to correct
        count    A=6                        -> 6 0 0 6
        count    K=0.2                      -> 0.2 0 0 0.2
        moved                               -> ADJUSTMENT A -2/0/0 ; ADJUSTMENT K 0.075/0/0
        adjust   A -1 2                     -> 5 0 2 3
        moved                               -> ADJUSTMENT A -1/0/2
        count    K=0 into=W2                -> 0 0 0 0
        level    K W2                       -> none
        receive  NONE=1                     -> PRODUCT_UNKNOWN
        receive  A=1 into=W3                -> WAREHOUSE_UNKNOWN
        receive  A=0.5                      -> QUANTITY_TOO_PRECISE
        take_back K=0.0005                  -> QUANTITY_TOO_PRECISE
        adjust   A 0 0.5                    -> QUANTITY_TOO_PRECISE
        count    A=1.5                      -> QUANTITY_TOO_PRECISE
        level    A W1                       -> 5 0 2
        level    A W2                       -> 5 0 0
    """)


async def test_soft_gives_way_to_what_is_really_there(check):
    await check("""
        stock    A 10 1
        reserve  r1 A=2 hard                -> ACTIVE 2
        reserve  r2 A=3 URGENT              -> ACTIVE 3
        reserve  r3 A=3                     -> ACTIVE 3
        moved -> RESERVATION A 0/2/0 r1 ; RESERVATION A 0/3/0 r2 ; RESERVATION A 0/3/0 r3
        count    A=7                        -> 7 6 1 0 r3
        moved -> RELEASE A 0/-2/0 r3 by=stocktake ; ADJUSTMENT A -3/0/0
        holds    r3                         -> ACTIVE A=1
        told                                -> RESERVATION_DISPLACED:r3 LOW_STOCK:A
        adjust   A -3 0                     -> 4 3 1 0 r3 r2
        holds    r2                         -> ACTIVE A=1
        holds    r3                         -> RELEASED REPLACED
        adjust   A 0 1                      -> 4 2 2 0 r2
        adjust   A -1 0                     -> BELOW_RESERVED   # the rest is HARD or blocked
        adjust   A 0 1                      -> BELOW_RESERVED
        count    A=3                        -> BELOW_RESERVED
        adjust   A -9 -2                    -> BELOW_RESERVED
        adjust   A 0 -3                     -> BELOW_RESERVED   # less than nothing blocked
        adjust   A -1 -1                    -> 3 2 1 0
        level    A                          -> 3 2 1
    """)


async def test_only_that_warehouse_gives_way(check):
    await check("""
        tenant   warehouses=W1,W2
        stock    A 2
        stock    A 2 0 W2
        reserve  r1 A=2                     -> ACTIVE 2
        reserve  r2 A=2                     -> ACTIVE 2
        count    A=1                        -> 1 1 0 0 r1
        holds    r2                         -> ACTIVE A@W2=2
        count    A=1 into=W2                -> 1 1 0 0 r2
        adjust   A 0 1 into=W2              -> 1 0 1 0 r2
        holds    r2                         -> RELEASED REPLACED
    """)


async def test_expired_holders_give_way_to_a_count_before_soft_ones(check):
    await check("""
        stock    A 5
        reserve  r1 A=2 hard hours=1        -> ACTIVE 2
        reserve  r2 A=3                     -> ACTIVE 3
        wait     1h
        adjust   A -2 0                     -> 3 3 0 0
        holds    r1                         -> EXPIRED EXPIRED
        holds    r2                         -> ACTIVE A=3
    """)


@pytest.mark.parametrize("language", ["ro", "en"])
async def test_low_stock_is_told_once_per_crossing(check, language):
    await check(f"""
        tenant   language={language}
        product  A reorder_point=5
        product  O reorder_point=5 status=INACTIVE
        stock    A 10
        stock    O 10
        reserve  r1 A=4                     -> ACTIVE 4
        told                                -> nothing
        reserve  r2 A=1                     -> ACTIVE 1
        told                                -> LOW_STOCK:A      # at the point itself
        reserve  r3 A=1                     -> ACTIVE 1
        adjust   A 0 1                      -> 10 6 1 3
        consume  r3                         -> CONSUMED A=1
        told                                -> nothing          # it was low before
        receive  A=1                        -> 10 5 1 4
        release  r2                         -> RELEASED A=1
        told                                -> nothing
        release  r1                         -> RELEASED A=4
        adjust   A 0 4                      -> 10 0 5 5
        told                                -> LOW_STOCK:A      # the next crossing, another path
        adjust   A 0 -4                     -> 10 0 1 9
        count    A=5                        -> 5 0 1 4
        told                                -> LOW_STOCK:A
        reserve  r4 O=9                     -> ACTIVE 9
        told                                -> nothing          # only for what is ACTIVE
    """)


async def test_low_stock_in_several_lines_and_warehouses(check):
    await check("""
        tenant   warehouses=W1,W2
        product  A reorder_point=3
        stock    A 3 0 W1
        stock    A 3 0 W2
        reserve  r1 A=2 A=1 A=1             -> ACTIVE 2 1 1
        told                                -> LOW_STOCK:A      # over both warehouses, once
        level    A W1                       -> 3 3 0
    """)


async def test_hard_taking_from_soft_crosses_nothing(check):
    await check("""
        product  A reorder_point=3
        stock    A 5
        reserve  r1 A=5                     -> ACTIVE 5
        told                                -> LOW_STOCK:A
        reserve  r2 A=5 hard                -> ACTIVE 5
        told                                -> RESERVATION_DISPLACED:r1
    """)


async def test_replacing_while_low_crosses_nothing(check):
    await check("""
        product  A reorder_point=5
        stock    A 8
        reserve  r1 A=5                     -> ACTIVE 5
        told                                -> LOW_STOCK:A
        reserve  r2 A=5 replaces=r1         -> ACTIVE 5
        told                                -> nothing
    """)
