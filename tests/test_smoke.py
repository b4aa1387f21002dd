async def test_schema(superuser):
    assert await superuser.fetchval("select count(*) from tenants") == 0
