"""The configuration that the demo writes."""

from pathlib import Path

import pytest

from relay.config import load
from workers.emulation.internet import Internet
from workers.emulation.premises import HOSTNAME, choose_sources, make_premises


def test_the_configuration_is_one_that_the_gateway_takes(tmp_path: Path) -> None:
    premises = make_premises(tmp_path)
    internet = Internet(premises.receiver_context)
    internet.close()
    sources = choose_sources()
    premises.write_configuration(internet.receivers, sources)

    config = load(str(premises.configuration), environment={})

    assert config.ingress.hostname == HOSTNAME
    assert config.ingress.tls.required
    assert config.pool == {"default": {"a": 5, "b": 3, "c": 2}}
    assert [source.ehlo for source in config.source] == [source.ehlo for source in sources]
    assert [site.tls for site in config.site].count("opportunistic") == 1
    ports = [route.hosts[0].port for route in config.route]
    assert ports == [receiver.port for receiver in internet.receivers]


def test_there_are_three_sources_whatever_the_machine_has() -> None:
    sources = choose_sources()

    assert [source.weight for source in sources] == [5, 3, 2]
    assert len({source.address for source in sources}) in (1, 3)
    assert len({source.ehlo for source in sources}) == 3


def test_sources_share_an_address_where_there_is_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.emulation.premises._can_bind", lambda address: False)

    assert {source.address for source in choose_sources()} == {"127.0.0.1"}
