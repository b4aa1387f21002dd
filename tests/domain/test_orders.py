"""Orders: all lines or none, each quantity once (jobs 29-31, READING 15-19)."""

import pytest


async def test_all_lines_or_none_and_every_short_line_is_named(check):
    await check("""
        stock    A 5
        stock    B 1
        order    o1 A=4 B=2 A=2             -> NEW 0
        hold     o1 r1                      -> B:INSUFFICIENT_STOCK A:INSUFFICIENT_STOCK
        stands   o1                         -> NEW A=4/0/0/0/0 B=2/0/0/0/0 A=2/0/0/0/0
        level    A                          -> 5 0 0
        moved                               -> nothing
        receive  A=1                        -> 6 0 0 6
        receive  B=1                        -> 2 0 0 2
        moved                               -> PURCHASE A 1/0/0 ; PURCHASE B 1/0/0
        hold     o1 r1                      -> RESERVED 8
        moved -> RESERVATION A 0/4/0 r1 ; RESERVATION B 0/2/0 r1 ; RESERVATION A 0/2/0 r1
        holds    r1                         -> ACTIVE A=4 B=2 A=2
        lasts    r1                         -> for ever
        hold     o1 r2                      -> RESERVED 0 warned
        stands   o1                         -> RESERVED A=4/4/0/0/0 B=2/2/0/0/0 A=2/2/0/0/0
        wait     9999h
        available A                         -> 0
    """)


async def test_an_order_is_taken_down_once(check):
    await check("""
        stock    A 5
        order    o1 A=4                     -> NEW 0
        order    o1 A=4                     -> NEW 0 warned
        order    o1 A=3                     -> ORDER_EXISTS
        order    o1 A=4 of=n1               -> ORDER_EXISTS
        order    o2 A=1 X=1 Y=2             -> X:PRODUCT_NOT_FOUND Y:PRODUCT_NOT_FOUND
        order    o2 A=1 of=n9               -> NEGOTIATION_NOT_FOUND
        order    o2 A=0.5                   -> QUANTITY_TOO_PRECISE
        order    o2 A=1 unit=KG             -> UNIT_MISMATCH
        hold     o2 r2                      -> ORDER_NOT_FOUND
        cancel   o2                         -> ORDER_NOT_FOUND
        deliver  o2                         -> ORDER_NOT_FOUND
        return   o2                         -> ORDER_NOT_FOUND
    """)


async def test_the_negotiations_goods_become_the_orders(check):
    await check("""
        stock    A 10
        stock    B 10
        stock    C 10
        reserve  r1 A=4 B=9                 -> ACTIVE 4 9
        reserve  r2 C=10 hard               -> ACTIVE 10
        order    o1 A=6 C=10 of=n1          -> NEW 0
        hold     o1 r3                      -> RESERVED 16
        holds    r1                         -> RELEASED REPLACED
        holds    r2                         -> RELEASED REPLACED
        holds    r3                         -> ACTIVE A=6 C=10
        level    A                          -> 10 6 0
        level    B                          -> 10 0 0       # the difference is given back
        negotiation n1 DEAD                 -> PROPOSAL > DEAD
        holds    r3                         -> ACTIVE A=6 C=10   # no longer its own
    """)
    await check("""
        stock    A 10
        deal     n2 PROPOSAL
        reserve  r1 A=4                     -> ACTIVE 4
        reserve  r2 A=6 hard to=n2          -> ACTIVE 6
        order    o1 A=5 of=n1               -> NEW 0
        hold     o1 r3                      -> A:INSUFFICIENT_STOCK
        holds    r1                         -> ACTIVE A=4   # what could not be converted is kept
        moved -> RESERVATION A 0/4/0 r1 ; RESERVATION A 0/6/0 r2
    """)


async def test_an_order_takes_from_soft_and_from_expired_never_from_hard(check):
    await check("""
        stock    A 10
        deal     n2 PROPOSAL
        reserve  r1 A=3 to=n2               -> ACTIVE 3
        reserve  r2 A=3 hard to=n2          -> ACTIVE 3
        reserve  r3 A=4 hours=1 to=n2       -> ACTIVE 4
        wait     2h
        order    o1 A=8                     -> NEW 0
        hold     o1 r4                      -> A:INSUFFICIENT_STOCK
        order    o2 A=7                     -> NEW 0
        hold     o2 r5                      -> RESERVED 7
        holds    r1                         -> RELEASED REPLACED
        holds    r2                         -> ACTIVE A=3
        holds    r3                         -> EXPIRED EXPIRED
        reserve  r6 A=1 hard to=n2          -> FAILED 0:INSUFFICIENT_STOCK
        holds    r5                         -> ACTIVE A=7
    """)


async def test_deliveries_in_parts_each_once(check):
    await check("""
        stock    A 10
        stock    B 10
        order    o1 A=4 B=2 A=3             -> NEW 0
        hold     o1 r1                      -> RESERVED 9
        deliver  o1 A=5 key=d1              -> PARTLY_DELIVERED 5
        stands   o1 -> PARTLY_DELIVERED A=4/0/4/0/0 B=2/2/0/0/0 A=3/2/1/0/0
        deliver  o1 A=5 key=d1              -> PARTLY_DELIVERED 5 warned    # the first answer
        deliver  o1 A=4 key=d1              -> RESERVATION_EXISTS
        deliver  o1 A=3 B=3                 -> A:EXCEEDS_ORDERED B:EXCEEDS_ORDERED
        deliver  o1 3=1                     -> PARTLY_DELIVERED 1
        deliver  o1 4=1                     -> NOT_ORDERED
        deliver  o1 C=1                     -> NOT_ORDERED
        deliver  o1 A=0.5                   -> QUANTITY_TOO_PRECISE
        level    A                          -> 4 1 0
        deliver  o1                         -> DELIVERED 3
        deliver  o1                         -> DELIVERED 0 warned
        deliver  o1 A=1                     -> A:EXCEEDS_ORDERED
        cancel   o1                         -> DELIVERED 0 warned
        hold     o1 r2                      -> DELIVERED 0 warned
        holds    r1                         -> CONSUMED CONSUMED
        level    A                          -> 3 0 0
        level    B                          -> 8 0 0
    """)


async def test_cancelling_whole_and_in_part(check):
    await check("""
        stock    A 10
        order    o1 A=4 A=3                 -> NEW 0
        hold     o1 r1                      -> RESERVED 7
        cancel   o1 2=1                     -> RESERVED 1
        deliver  o1 1=1                     -> PARTLY_DELIVERED 1
        cancel   o1                         -> DELIVERED 5
        cancel   o1                         -> DELIVERED 0 warned
        stands   o1                         -> DELIVERED A=4/0/1/3/0 A=3/0/0/3/0
        level    A                          -> 9 0 0
        holds    r1                         -> RELEASED CANCELLED
        order    o2 A=2                     -> NEW 0
        cancel   o2                         -> CANCELLED 2
        cancel   o2                         -> CANCELLED 0 warned
        hold     o2 r2                      -> ORDER_CANCELLED
        deliver  o2                         -> ORDER_CANCELLED
        return   o2                         -> EXCEEDS_DELIVERED
    """)


async def test_what_is_not_reserved_comes_from_free_stock(check):
    await check("""
        tenant   warehouses=N,S
        stock    A 3 0 N
        stock    A 4 0 S
        stock    B 1 0 N
        order    o1 A=6 B=2                 -> NEW 0
        deliver  o1                         -> B:INSUFFICIENT_STOCK
        reserve  r1 A=2                     -> ACTIVE 2
        deliver  o1 A=6 B=2                 -> A:INSUFFICIENT_STOCK B:INSUFFICIENT_STOCK
        deliver  o1 A=5                     -> PARTLY_DELIVERED 5
        level    A N                        -> 2 2 0
        level    A S                        -> 0 0 0
        hold     o1 r2                      -> B:INSUFFICIENT_STOCK
        receive  B=1                        -> 2 0 0 2
        hold     o1 r2                      -> PARTLY_DELIVERED 3   # SOFT gives way
        stands   o1                         -> PARTLY_DELIVERED A=6/1/5/0/0 B=2/2/0/0/0
        deliver  o1                         -> DELIVERED 3
        level    A N                        -> 1 1 0
    """)
    await check("""
        stock    A 3
        reserve  r1 A=3 hours=1             -> ACTIVE 3
        order    o1 A=3                     -> NEW 0
        deliver  o1                         -> A:INSUFFICIENT_STOCK
        wait     2h
        deliver  o1                         -> DELIVERED 3
        holds    r1                         -> EXPIRED EXPIRED
        level    A                          -> 0 0 0
    """)


async def test_returns_after_delivery(check):
    await check("""
        tenant   warehouses=N,S
        stock    A 5 0 N
        order    o1 A=2 A=3                 -> NEW 0
        return   o1 A=1                     -> A:EXCEEDS_DELIVERED
        return   o1                         -> EXCEEDS_DELIVERED
        deliver  o1 A=4                     -> PARTLY_DELIVERED 4
        return   o1 A=3 into=S              -> PARTLY_DELIVERED 3
        return   o1 A=1 into=X              -> WAREHOUSE_UNKNOWN
        return   o1 A=2                     -> A:EXCEEDS_DELIVERED
        return   o1 2=1 key=b1              -> PARTLY_DELIVERED 1
        return   o1 2=1 key=b1              -> PARTLY_DELIVERED 1 warned
        return   o1                         -> PARTLY_DELIVERED 0 warned
        stands   o1                         -> PARTLY_DELIVERED A=2/0/2/0/2 A=3/0/2/0/2
        level    A N                        -> 2 0 0
        level    A S                        -> 3 0 0
    """)


async def test_the_reservation_of_an_order_is_the_orders_alone(check):
    await check("""
        stock    A 5
        order    o1 A=2                     -> NEW 0
        hold     o1 r1                      -> RESERVED 2
        release  r1                         -> ORDER_HOLDS
        consume  r1 A=1                     -> ORDER_HOLDS
        extend   r1 1                       -> ORDER_HOLDS
        reserve  r2 A=1 replaces=r1         -> RESERVATION_NOT_FOUND
        release  n1                         -> RELEASED (NOT_FOUND) warned
        holds    r1                         -> ACTIVE A=2
    """)


async def test_low_stock_is_told_once_whatever_was_held_before(check):
    await check("""
        product  A reorder_point=4
        stock    A 10
        reserve  r1 A=5                     -> ACTIVE 5
        told                                -> nothing
        order    o1 A=6 of=n1               -> NEW 0
        hold     o1 r2                      -> RESERVED 6
        told                                -> LOW_STOCK:A
        deliver  o1                         -> DELIVERED 6
        told                                -> nothing
    """)


async def test_discontinued_products_are_not_reserved(check):
    await check("""
        product  A status=DISCONTINUED
        stock    A 10
        order    o1 A=1                     -> NEW 0
        hold     o1 r1                      -> A:PRODUCT_DISCONTINUED
        deliver  o1                         -> DELIVERED 1
    """)


@pytest.mark.parametrize("verb", ["hold o1 r1", "deliver o1"])
async def test_a_failed_attempt_does_not_use_its_key_up(check, verb):
    await check(f"""
        stock    A 1
        order    o1 A=2                     -> NEW 0
        {verb} key=k                        -> A:INSUFFICIENT_STOCK
        receive  A=1                        -> 2 0 0 2
        {verb} key=k                        -> {"RESERVED" if "hold" in verb else "DELIVERED"} 2
    """)
