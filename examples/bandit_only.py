"""A bandit on string ids: find the better of three headlines, for each kind of reader.

Run `python examples/bandit_only.py`. Every choice comes with its propensity, the exact probability of the draw: log it,
and another policy can be evaluated later on the same clicks.
"""

import numpy as np

from headrace.bandits import Arms, DisjointLinear, GaussianThompson, Policy

CLICK_RATES = {"calm": (0.05, 0.02), "bold": (0.04, 0.12), "question": (0.03, 0.03)}  # of new and of regular readers
READERS = {"new reader": [1.0, 0.0], "regular": [0.0, 1.0]}  # contexts

bandit, policy = DisjointLinear(width=2), Policy(GaussianThompson())
headlines, rng = Arms(list(CLICK_RATES)), np.random.default_rng(1)

for visit in range(20_000):
    reader = visit % 2
    context = list(READERS.values())[reader]
    choice = policy.choose(bandit, headlines, context, rng=rng)
    clicked = rng.random() < CLICK_RATES[choice.item][reader]
    bandit.learn(choice, reward=float(clicked))

for name, context in READERS.items():
    probabilities = policy.probabilities(bandit.posterior(bandit.lookup(headlines.keys), np.array([context])))
    shares = ", ".join(f"{item} {share:.2f}" for item, share in zip(headlines.ids, probabilities, strict=True))
    choice = policy.choose(bandit, headlines, context, rng=rng)
    print(f"{name}: {shares}; shown: {choice.item}, propensity {choice.propensity:.2f}")
