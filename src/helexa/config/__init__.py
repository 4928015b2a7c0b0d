"""What an operator wrote, turned into settings: defaults < file < environment < flags.

`load` remembers where each value came from and refuses what it cannot use; it never
repairs. Nothing outside this package and `cli` reads the environment.
"""

from helexa.config.load import Config, load
from helexa.config.origin import ConfigRefused, Layer, Origin, Problem

__all__ = ["Config", "ConfigRefused", "Layer", "Origin", "Problem", "load"]
