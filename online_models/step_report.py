"""How the lists of a step were predicted before they were learned."""

from dataclasses import dataclass, field

from online_models.rankers.listnet import ListReport
from online_models.retrievers.two_tower import TowerReport


@dataclass(frozen=True, slots=True)
class StepReport:
    """How the last step's lists were predicted before they were learnt."""

    slate_ranker: ListReport = field(default_factory=ListReport)  # slates of which something was taken
    candidate_ranker: ListReport = field(default_factory=ListReport)  # candidates of which one was taken
    two_tower: TowerReport = field(default_factory=TowerReport)  # actions of which the tower learnt
    click_head_updates: int = 0  # places that were shown
    click_head_update_norm: float = 0.0  # how far one of them moved the click head, root mean square

    @property
    def gradient_norms(self) -> dict[str, tuple[float, int]]:
        """Root mean square of each part, before clipping, and over how many."""
        reports = {"slate_ranker": self.slate_ranker, "candidate_ranker": self.candidate_ranker}
        norms = {name: (report.rms_gradient_norm, report.updates) for name, report in reports.items()}
        return norms | {"two_tower": (self.two_tower.rms_gradient_norm, self.two_tower.updates)}

    @property
    def update_norms(self) -> dict[str, tuple[float, int]]:
        """How far an update moved each part, root mean square, and over how many."""
        reports = {"slate_ranker": self.slate_ranker, "candidate_ranker": self.candidate_ranker}
        component_norms = {name: (report.update_norm, report.updates) for name, report in reports.items()}
        two_tower = self.two_tower.update_norm, self.two_tower.updates
        return component_norms | {
            "two_tower": two_tower,
            "click_head": (self.click_head_update_norm, self.click_head_updates),
        }

    @property
    def skipped(self) -> int:
        """Updates left out because a gradient was not finite."""
        return self.slate_ranker.skipped + self.candidate_ranker.skipped + self.two_tower.skipped

    @property
    def updates(self) -> int:
        return self.slate_ranker.updates + self.candidate_ranker.updates + self.two_tower.updates
