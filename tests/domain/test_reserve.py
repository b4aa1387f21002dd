"""What a reservation answers, and what it leaves (READING 1-5, 10, 12)."""

from tests.domain.script import Pure
from tests.domain.script import check as check_table


async def test_full_partial_and_unavailable(check):
    await check("""
        product  A restock_date=2026-04-01
        stock    A 10 3               # three of them cannot be promised
        reserve  r1 A=4               -> ACTIVE 4
        reserve  r2 A=2 URGENT        -> ACTIVE 2
        reserve  r3 A=5               -> PARTIAL 1
        reserve  r4 A=1               -> FAILED 0:INSUFFICIENT_STOCK
        saw      r1                   -> 7>3
        saw      r3                   -> 1>0
        saw      r4                   -> 0>0
        backorder r1                  -> -
        backorder r3                  -> 2026-04-01
        backorder r4                  -> 2026-04-01
        level    A                    -> 10 7 3
        available A                   -> 0
        holds    r3                   -> ACTIVE A=1
        holds    r4                   -> FAILED
        lasts    r1                   -> 72h
        moved                         -> RESERVATION A 0/4/0 r1 ; RESERVATION A 0/2/0 r2 ; \
                                         RESERVATION A 0/1/0 r3
    """)


async def test_a_line_is_refused_alone(check):
    await check("""
        product  A
        product  OLD status=DISCONTINUED
        product  OFF status=INACTIVE
        stock    A 5
        stock    OLD 5
        stock    OFF 5
        reserve  r1 A=2 NONE=1 OLD=1 OFF=1  -> PARTIAL 2 0:PRODUCT_NOT_FOUND \
                                               0:PRODUCT_DISCONTINUED 1
        saw      r1                         -> 5>3 0>0 5>5 5>4
        reserve  r2 NONE=1                  -> FAILED 0:PRODUCT_NOT_FOUND
        reserve  r3 OLD=1                   -> FAILED 0:PRODUCT_DISCONTINUED
        reserve  r4 A=1 id=A                -> ACTIVE 1
        reserve  r5 A=1 id=OFF              -> FAILED 0:PRODUCT_NOT_FOUND  # READING 4
        saw      r5                         -> 0>0
        level    A                          -> 5 3 0
    """)


async def test_units_and_their_precision(check):
    await check("""
        product  A
        product  K unit=KG
        stock    A 10
        stock    K 10
        reserve  r1 K=0.125 unit=KG         -> ACTIVE 0.125
        reserve  r2 K=1.0005                -> QUANTITY_TOO_PRECISE
        reserve  r3 A=0.5                   -> QUANTITY_TOO_PRECISE
        reserve  r4 A=1 unit=KG             -> UNIT_MISMATCH
        reserve  r5 A=1 K=1 unit=BUC        -> UNIT_MISMATCH     # one bad line refuses all
        reserve  r6 A=2.000 unit=BUC        -> ACTIVE 2
        reserve  r7 NONE=0.0001 unit=M3     -> FAILED 0:PRODUCT_NOT_FOUND  # no unit to compare with
        level    A                          -> 10 2 0
        level    K                          -> 10 0.125 0
    """)


async def test_lines_of_one_sku_see_each_other(check):
    await check("""
        stock    A 5
        reserve  r1 A=2 A=2 A=2             -> PARTIAL 2 2 1
        saw      r1                         -> 5>3 3>1 1>0
        holds    r1                         -> ACTIVE A=2 A=2 A=1
        reserve  r2 A=1 A=1                 -> FAILED 0:INSUFFICIENT_STOCK 0:INSUFFICIENT_STOCK
        level    A                          -> 5 5 0
    """)


async def test_one_warehouse_that_has_all_else_the_tenants_order(check):
    await check("""
        tenant   warehouses=W1,W2
        stock    A 3 0 W1
        stock    A 9 4 W2                   # four blocked: five to promise
        reserve  r1 A=4                     -> ACTIVE 4
        holds    r1                         -> ACTIVE A@W2=4
        reserve  r2 A=1                     -> ACTIVE 1
        holds    r2                         -> ACTIVE A@W1=1
        reserve  r3 A=3                     -> ACTIVE 3
        holds    r3                         -> ACTIVE A@W1=2 A@W2=1
        saw      r3                         -> 3>0
        level    A W1                       -> 3 3 0
        level    A W2                       -> 9 5 4
        release  r3 A=2                     -> PARTIAL A=2
        holds    r3                         -> ACTIVE A@W2=1
    """)


async def test_only_an_open_negotiation_reserves(check):
    await check("""
        stock    A 10
        deal     n2 NEGOTIATION
        deal     n3 CLOSING
        deal     n4 WON
        deal     n5 DEAD
        reserve  r1 A=1 to=n1               -> ACTIVE 1
        reserve  r2 A=1 to=n2               -> ACTIVE 1
        reserve  r3 A=1 to=n3               -> ACTIVE 1
        reserve  r4 A=1 to=n4               -> NEGOTIATION_CLOSED
        reserve  r5 A=1 to=n5               -> NEGOTIATION_CLOSED
        reserve  r6 A=1 to=n6               -> NEGOTIATION_NOT_FOUND
        negotiation n6 DISCOVERY            -> new > DISCOVERY
        reserve  r7 A=1 to=n6               -> NEGOTIATION_CLOSED
        negotiation n6 PROPOSAL             -> DISCOVERY > PROPOSAL
        reserve  r8 A=1 to=n6               -> ACTIVE 1
        level    A                          -> 10 4 0
    """)


async def test_a_key_has_one_effect(check):
    await check("""
        stock    A 10
        reserve  r1 A=4 key=k               -> ACTIVE 4
        reserve  r2 A=4 key=k               -> ACTIVE 4 again       # the same question
        reserve  r3 A=5 key=k               -> RESERVATION_EXISTS   # another one
        reserve  r4 A=4 key=k hard          -> RESERVATION_EXISTS
        reserve  r5 A=40 key=p              -> PARTIAL 6
        reserve  r6 A=40 key=p              -> PARTIAL 6 again
        reserve  r7 A=1 key=f               -> FAILED 0:INSUFFICIENT_STOCK
        release  r1                         -> RELEASED A=4
        reserve  r8 A=1 key=f               -> FAILED 0:INSUFFICIENT_STOCK again  # the first answer
        reserve  r9 A=4 key=k               -> ACTIVE 4 again
        level    A                          -> 10 6 0
        reserve  r0 A=1 key=w to=n9         -> NEGOTIATION_NOT_FOUND
        negotiation n9 PROPOSAL             -> new > PROPOSAL
        reserve  r0 A=1 key=w to=n9         -> ACTIVE 1        # refusing used no key up
    """)


async def test_replacing_takes_the_goods_over(check):
    await check("""
        product  A
        stock    A 5
        stock    B 5
        stock    C 1
        deal     n2 PROPOSAL
        reserve  r1 A=4 B=1                 -> ACTIVE 4 1
        reserve  r2 A=9 to=n2               -> PARTIAL 1
        reserve  r3 A=5 B=2 replaces=r1     -> PARTIAL 4 2
        holds    r1                         -> RELEASED REPLACED
        holds    r3                         -> ACTIVE A=4 B=2
        saw      r3                         -> 4>0 5>3
        moved                               -> RESERVATION A 0/4/0 r1 ; RESERVATION B 0/1/0 r1 ; \
            RESERVATION A 0/1/0 r2 ; RELEASE A 0/-4/0 r1 ; RELEASE B 0/-1/0 r1 ; \
            RESERVATION A 0/4/0 r3 ; RESERVATION B 0/2/0 r3
        reserve  r4 C=1                     -> ACTIVE 1
        reserve  r5 C=1 replaces=r3         -> FAILED 0:INSUFFICIENT_STOCK
        holds    r3                         -> ACTIVE A=4 B=2       # nothing to be had: it stays
        reserve  r6 NONE=1 replaces=r3      -> FAILED 0:PRODUCT_NOT_FOUND
        holds    r3                         -> ACTIVE A=4 B=2
        reserve  r7 B=1 replaces=r2         -> RESERVATION_NOT_FOUND   # another negotiation's
        reserve  r8 B=1 replaces=r0         -> RESERVATION_NOT_FOUND
        reserve  r9 B=1 replaces=r1         -> RESERVATION_ENDED
        reserve  ra A=1 replaces=r3 key=k   -> ACTIVE 1
        reserve  rb A=1 replaces=r3 key=k   -> ACTIVE 1 again
        level    A                          -> 5 2 0
        level    B                          -> 5 0 0
        wait     72h
        reserve  rc A=1 replaces=ra         -> RESERVATION_EXPIRED
    """)


async def test_hard_takes_from_soft(check):
    await check("""
        tenant   language=en
        stock    A 10
        deal     n2 PROPOSAL
        reserve  r1 A=3 URGENT              -> ACTIVE 3
        reserve  r2 A=2 HIGH                -> ACTIVE 2
        reserve  r3 A=2 to=n2               -> ACTIVE 2
        reserve  r4 A=2                     -> ACTIVE 2
        moved -> RESERVATION A 0/3/0 r1 ; RESERVATION A 0/2/0 r2 ; RESERVATION A 0/2/0 r3 ; \
                 RESERVATION A 0/2/0 r4
        reserve  r5 A=4 hard                -> ACTIVE 4  # one is free; then the last NORMAL ones
        saw      r5                         -> 1>0
        holds    r4                         -> RELEASED REPLACED
        holds    r3                         -> ACTIVE A=1
        told                                -> RESERVATION_DISPLACED:r4 RESERVATION_DISPLACED:r3 \
                                               LOW_STOCK:A
        moved -> RELEASE A 0/-2/0 r4 by=r5 ; RELEASE A 0/-1/0 r3 by=r5 ; RESERVATION A 0/4/0 r5
        reserve  r6 A=9                     -> FAILED 0:INSUFFICIENT_STOCK  # SOFT takes from nobody
        reserve  r7 A=5 hard                -> ACTIVE 5  # NORMAL, then HIGH, then URGENT
        holds    r3                         -> RELEASED REPLACED
        holds    r2                         -> RELEASED REPLACED
        holds    r1                         -> ACTIVE A=1
        reserve  r8 A=5 hard                -> PARTIAL 1  # never from HARD
        holds    r1                         -> RELEASED REPLACED
        holds    r5                         -> ACTIVE A=4
        reserve  r9 A=1 hard URGENT         -> FAILED 0:INSUFFICIENT_STOCK
        level    A                          -> 10 10 0
    """)


async def test_hard_takes_the_latest_first_whatever_its_id(check):
    await check("""
        stock    A 4
        reserve  r9 A=2                     -> ACTIVE 2
        wait     1m
        reserve  r1 A=2                     -> ACTIVE 2
        reserve  r5 A=1 hard                -> ACTIVE 1
        holds    r1                         -> ACTIVE A=1
        holds    r9                         -> ACTIVE A=2
    """)


async def test_hard_takes_only_what_it_asks_for(check):
    await check("""
        tenant   warehouses=W1,W2
        stock    A 2 0 W1
        stock    A 2 0 W2
        stock    B 1
        reserve  r1 A=4 B=1                 -> ACTIVE 4 1
        reserve  r2 A=3 hard                -> ACTIVE 3
        holds    r1                         -> ACTIVE A@W2=1 B@W1=1
        release  r1                         -> RELEASED A=1 B=1
        level    A W2                       -> 2 1 0
        reserve  r3 A=2 A=2 hard            -> PARTIAL 1 0:INSUFFICIENT_STOCK
    """)


async def test_expired_holders_give_way_before_soft_ones(check):
    await check("""
        stock    A 5
        reserve  r1 A=2 hours=1 hard        -> ACTIVE 2
        reserve  r2 A=2 hours=2             -> ACTIVE 2
        moved -> RESERVATION A 0/2/0 r1 ; RESERVATION A 0/2/0 r2
        wait     1h
        available A                         -> 3
        level    A                          -> 5 4 0
        reserve  r3 A=3 hard                -> ACTIVE 3
        saw      r3                         -> 3>0
        holds    r1                         -> EXPIRED EXPIRED
        holds    r2                         -> ACTIVE A=2
        moved -> RELEASE A 0/-2/0 r1 ; RESERVATION A 0/3/0 r3
        wait     1h
        reserve  r4 A=1                     -> ACTIVE 1     # a SOFT one takes expired goods, too
        holds    r2                         -> EXPIRED EXPIRED
        level    A                          -> 5 4 0
    """)


async def test_an_expired_reservation_gives_way_product_by_product(check):
    await check("""
        stock    A 2
        stock    B 2
        reserve  r1 A=2 B=2 hours=1         -> ACTIVE 2 2
        wait     1h
        reserve  r2 A=1                     -> ACTIVE 1
        holds    r1                         -> ACTIVE B=2       # over, B is not written down
        available B                         -> 2
        extend   r1 24                      -> RESERVATION_EXPIRED
        reserve  r3 B=1                     -> ACTIVE 1
        holds    r1                         -> EXPIRED EXPIRED
        level    B                          -> 2 1 0
    """)


async def test_expiry_is_exact_to_the_microsecond():
    for left, answer, available in ((1, "ACTIVE 1", 1), (0, "ACTIVE 3", 3)):
        await check_table(
            Pure(batched=False),
            f"""
            stock     A 3
            reserve   r1 A=2 hours=1        -> ACTIVE 2
            wait      59m
            wait      {60_000_000 - left}u
            available A                     -> {available}
            reserve   r2 A={available}      -> {answer}
            holds     r1                    -> {"ACTIVE A=2" if left else "EXPIRED EXPIRED"}
            """,
        )


async def test_a_level_made_in_the_batch_stands_in_the_tenants_order():
    table = """
        tenant   warehouses=W1,W2,W3
        stock    A 1 0 W1
        stock    A 9 0 W3
        receive  A=5 into=W2                -> 5 0 0 5
        reserve  r1 A=4                     -> ACTIVE 4
        holds    r1                         -> ACTIVE A@W2=4
    """
    await check_table(Pure(batched=False), table)
    await check_table(Pure(batched=True), table)
