"""The result of one training step, for progress metrics and for the guard."""

from dataclasses import dataclass, field

import numpy as np

from online_models.features.history_filter import HistoryTruncation
from online_models.progressive_predictions import ClickRanks, ClosedImpressions, PersonalizationGain
from online_models.protocols import LearnReport
from online_models.retrievers.two_tower import TowerReport
from online_models.state.contribution_caps import CapExceeded
from stream.records.batches import ExampleBatch


@dataclass(frozen=True, slots=True)
class StepReport:
    """Losses and norms of each part that a step trained, predicted before training."""

    slate_ranker: LearnReport = field(default_factory=LearnReport)  # over clicked slates
    candidate_ranker: LearnReport = field(default_factory=LearnReport)  # over candidate lists with one action
    two_tower: TowerReport = field(default_factory=TowerReport)  # over actions
    click_head_updates: int = 0  # shown items
    click_head_update_norm: float = 0.0  # root mean square of the parameter change per item
    unsampled_actions: int = 0  # actions beyond `ModelSettings.training_actions`, without a candidate list
    forgotten_lists: int = 0  # clicked and closed lists that did not train: their features were no longer cached

    @property
    def gradient_norms(self) -> dict[str, tuple[float, int]]:
        """Root mean square gradient norm before clipping, and number of updates, by component."""
        reports = {"slate_ranker": self.slate_ranker, "candidate_ranker": self.candidate_ranker}
        norms = {name: (report.rms_gradient_norm, report.updates) for name, report in reports.items()}
        return norms | {"two_tower": (self.two_tower.rms_gradient_norm, self.two_tower.updates)}

    @property
    def update_norms(self) -> dict[str, tuple[float, int]]:
        """Root mean square parameter change per update, and number of updates, by component."""
        reports = {"slate_ranker": self.slate_ranker, "candidate_ranker": self.candidate_ranker}
        norms = {name: (report.update_norm, report.updates) for name, report in reports.items()}
        return norms | {
            "two_tower": (self.two_tower.update_norm, self.two_tower.updates),
            "click_head": (self.click_head_update_norm, self.click_head_updates),
        }

    @property
    def skipped(self) -> int:
        """Updates skipped because a gradient was not finite."""
        return self.slate_ranker.skipped + self.candidate_ranker.skipped + self.two_tower.skipped

    @property
    def updates(self) -> int:
        return self.slate_ranker.updates + self.candidate_ranker.updates + self.two_tower.updates


@dataclass(frozen=True, slots=True)
class StepResult:
    """A batch with its predictions from before training, and reports of the training."""

    batch: ExampleBatch
    partition: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (n,) of each row; see `apply_step`
    closed: ClosedImpressions = field(default_factory=ClosedImpressions)
    clicks: ClickRanks = field(default_factory=ClickRanks)
    gain: PersonalizationGain = field(default_factory=PersonalizationGain)
    report: StepReport = field(default_factory=StepReport)
    cap_violations: tuple[CapExceeded, ...] = ()
    items_left_out: int = 0  # items that events named, beyond `ModelSettings.max_named_items`
    truncation: HistoryTruncation = field(default_factory=HistoryTruncation)  # of the histories in this step
