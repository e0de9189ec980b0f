"""Fakes for tests, with the same protocols as the drivers: a log, a store, a clock, and a crash as a value."""

from stream.clock import ManualClock
from stream.memory.log import Crash, MemoryLog
from stream.memory.source import Crashed, MemorySource
from stream.memory.store import MemoryStore

__all__ = ["Crash", "Crashed", "ManualClock", "MemoryLog", "MemorySource", "MemoryStore"]
