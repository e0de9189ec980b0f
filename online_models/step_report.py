"""How the lists of a step were predicted before they were learned."""

from dataclasses import dataclass, field

from online_models.rankers.listnet import ListReport
from online_models.retrievers.two_tower import TowerReport


@dataclass(frozen=True, slots=True)
class StepReport:
    """How the last step's lists were predicted before they were learnt."""

    ordered: ListReport = field(default_factory=ListReport)  # slates of which something was taken
    picked: ListReport = field(default_factory=ListReport)  # candidates of which one was taken
    embedded: TowerReport = field(default_factory=TowerReport)  # actions of which the tower learnt
    judged: int = 0  # places that were shown
    judged_norm: float = 0.0  # how far one of them moved the click head, root mean square

    @property
    def gradient_norms(self) -> dict[str, tuple[float, int]]:
        """Root mean square of each part, before clipping, and over how many."""
        lists = {"orderer": self.ordered, "picker": self.picked}
        norms = {name: (one.usual_gradient, one.updates) for name, one in lists.items()}
        return norms | {"tower": (self.embedded.usual_gradient, self.embedded.moved)}

    @property
    def update_norms(self) -> dict[str, tuple[float, int]]:
        """How far an update moved each part, root mean square, and over how many."""
        norms = {"orderer": self.ordered, "picker": self.picked}
        moved = {name: (one.update_norm, one.updates) for name, one in norms.items()}
        tower = self.embedded.update_norm, self.embedded.moved
        return moved | {"tower": tower, "clicks": (self.judged_norm, self.judged)}

    @property
    def skipped(self) -> int:
        """Updates left out because a gradient was not finite."""
        return self.ordered.skipped + self.picked.skipped + self.embedded.skipped

    @property
    def updates(self) -> int:
        return self.ordered.updates + self.picked.updates + self.embedded.moved
