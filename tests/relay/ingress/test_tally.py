from relay.config.schema import Tenant
from relay.ingress.tally import TenantSessions


def make_tenant(connections: int | None) -> Tenant:
    return Tenant(name="acme", domains=("acme.example",), connections=connections)


def test_a_session_counts_once_and_until_it_ends() -> None:
    sessions, tenant = TenantSessions(), make_tenant(2)
    first: set[str] = set()
    second: set[str] = set()
    third: set[str] = set()

    assert sessions.enter(tenant, first)
    assert sessions.enter(tenant, first)
    assert sessions.enter(tenant, second)
    assert not sessions.enter(tenant, third)
    assert third == set()

    sessions.leave(first)
    assert sessions.enter(tenant, third)


def test_without_a_limit_all_are_let_in() -> None:
    sessions = TenantSessions()

    assert all(sessions.enter(make_tenant(None), set()) for _ in range(1000))
