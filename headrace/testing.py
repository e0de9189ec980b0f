"""Fakes for tests and experiments: log, store and clock in memory, and a crash as a value."""

from stream.testing import *  # noqa: F403 - the face of the module, whole
