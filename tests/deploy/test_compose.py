from pathlib import Path

from relay.config import load

_DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_configuration_for_compose_is_valid() -> None:
    config = load(str(_DEPLOY / "outgate.compose.toml"), environment={})

    # A container's file system is read-only but for the state directory.
    assert config.state_dir == "/var/lib/outgate"
    assert config.log.events == "stdout"
    assert config.ingress.listen[0].host == "0.0.0.0"


def test_it_is_no_open_relay_for_googles_customers() -> None:
    config = load(str(_DEPLOY / "outgate.compose.toml"), environment={})

    assert all(tenant.proof for tenant in config.tenant if "google" in tenant.networks)
