"""Public checks of rankers, retrievers, bandits and other parts: run them over your own."""

from online_models.checks import *  # noqa: F403 - the face of the package, whole
