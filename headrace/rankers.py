"""Rankers: the protocol to implement, and those that come with Headrace."""

from online_models.rankers import *  # noqa: F403 - the face of the package, whole
