"""Propensities are exact: proved by counting draws, and audited while the system runs."""

import numpy as np
import pytest

from online_models.bandits import UCB, BetaThompson, EpsilonGreedy, GaussianThompson, Policy, Posterior, SquareCB
from online_models.bandits.propensity_audit import AuditSettings, PropensityAudit
from online_models.bandits.slate_sampling import sample_slate
from stream.jit import kernel
from tests.support.chi_square import assert_frequencies_match

POSTERIOR = Posterior(np.array([0.5, 0.45, 0.4, 0.2]), np.array([0.05, 0.1, 0.15, 0.1]))
POLICIES = {
    "epsilon": Policy(EpsilonGreedy(0.2)),
    "squarecb": Policy(SquareCB(50.0)),
    "thompson": Policy(BetaThompson()),
    "gaussian thompson": Policy(GaussianThompson()),
    "ucb": Policy(UCB(temperature=0.05)),
}


@kernel
def sample_slates(
    ranking: np.ndarray, probabilities: np.ndarray, uniforms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slates of two, (n, 2), and their probabilities, drawn as `Policy.sample` draws them."""
    slates, slate_probabilities = np.empty((len(uniforms), 2), np.int64), np.empty(len(uniforms))
    arms = np.arange(probabilities.size)
    for n in range(len(uniforms)):
        rows, _, _, _, propensities = sample_slate(ranking, arms, probabilities, 1.0, 2, uniforms[n])
        slates[n, 0], slates[n, 1] = rows[0], rows[1]
        slate_probabilities[n] = propensities[0] * propensities[1]
    return slates, slate_probabilities


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
def test_slate_frequencies_match_propensities_in_a_million_draws(policy: Policy) -> None:
    n_draws = 10**6
    ranking = np.argsort(-POSTERIOR.means)[:2]
    uniforms = np.random.default_rng(11).random((n_draws, 2, 2))
    slates, slate_probabilities = sample_slates(ranking, policy.probabilities(POSTERIOR), uniforms)
    rng = np.random.default_rng(11)
    selections = [policy.sample(POSTERIOR, 2, rng) for _ in range(1_000)]

    assert [selection.rows.tolist() for selection in selections] == slates[:1_000].tolist()
    assert [selection.propensities.prod() for selection in selections] == slate_probabilities[:1_000].tolist()
    assert_frequencies_match(slates @ [POSTERIOR.means.size, 1], slate_probabilities, least_outcomes=6)


def test_true_propensities_rarely_raise_an_alarm() -> None:
    rng, alarms = np.random.default_rng(5), 0
    for _ in range(300):
        audit = PropensityAudit(AuditSettings(false_alarm=0.05))
        for _ in range(200):
            probabilities = rng.dirichlet(np.full(5, 0.3))
            audit.update(probabilities, int(rng.choice(5, p=probabilities)))
        alarms += audit.alarm

    assert alarms <= 300 * 0.05


@pytest.mark.parametrize("factor", [0.5, 1.25], ids=["half", "a quarter more"])
def test_wrong_propensities_raise_an_alarm(factor: float) -> None:
    rng, audit = np.random.default_rng(5), PropensityAudit()
    for _ in range(20_000):
        audit.update(np.array([0.2, 0.8]), int(rng.random() > 0.2 * factor))

    assert audit.alarm
    assert np.sign(audit.deviations[5]) == np.sign(factor - 1)


def test_policy_passes_the_audit_of_its_own_draws() -> None:
    rng, audit, policy = np.random.default_rng(5), PropensityAudit(), POLICIES["ucb"]
    for _ in range(20_000):
        audit.update(policy.probabilities(POSTERIOR), int(policy.sample(POSTERIOR, 1, rng).rows[0]))

    assert not audit.alarm
    assert np.abs(audit.deviations).max() < 4.75


@pytest.mark.parametrize(("name", "value"), [("false_alarm", 0.0), ("stakes", (1.0,)), ("stakes", ())])
def test_invalid_audit_setting_is_rejected_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        AuditSettings(**{name: value})  # type: ignore[arg-type]
