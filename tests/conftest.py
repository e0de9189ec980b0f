"""Property tests: no deadline, since the first example of a kernel compiles it."""

from hypothesis import settings

settings.register_profile("headrace", deadline=None, max_examples=50)
settings.load_profile("headrace")
