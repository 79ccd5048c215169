"""The configuration file: ``load`` it, and pass the frozen ``Config`` around."""

from relay.config.load import load, read
from relay.config.problems import find_notices
from relay.config.schema import Config
from relay.config.units import Endpoint, Rate, Rates, Seconds

__all__ = ["Config", "Endpoint", "Rate", "Rates", "Seconds", "find_notices", "load", "read"]
