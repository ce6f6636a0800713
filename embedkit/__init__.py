"""embedkit: make an embedded board Docker-ready, and prove it."""

__version__ = "0.1.0"
