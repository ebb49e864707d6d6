"""The promotions of a model in the registry's database: their stack, the champion, and what answers. Decides nothing."""

from typing import Protocol

from sqlmodel import Session, col, select

from services.registry.domain.promotion import DeploymentStatus, Promotion
from services.registry.rows import promotion_of
from services.registry.tables import ModelRow, PromotionRow


class PromotionStore(Protocol):
    """The part of `Store` that asks of promotions."""

    def retired_after(self, name: str) -> int | None:
        """The last promotion before the project was taken out of service; None while it is in service."""
        ...

    def promotions(self, name: str) -> int:
        """The number of the model's newest promotion; 0 where there was none."""
        ...

    def promotion(self, name: str, number: int) -> Promotion | None:
        """A promotion, or None."""
        ...

    def promotion_of(self, name: str, version: int) -> Promotion | None:
        """The newest promotion of a version, or None."""
        ...

    def was_deployed(self, name: str, version: int) -> bool:
        """Whether serving ever answered with the version."""
        ...

    def champion(self, name: str) -> Promotion | None:
        """The newest promotion in force that serving could deploy, or has not told of yet. None: the base."""
        ...

    def answering(self, name: str) -> int:
        """The version that answers requests: of the newest promotion in force that serving has deployed; 0 is the base."""
        ...

    def serving(self, name: str) -> Promotion | None:
        """The promotion that answers requests; None: the base, which nobody promoted."""
        ...

    def keep_promotion(self, name: str, promotion: Promotion) -> None:
        """Adds a promotion or puts it in place of the one of its number."""
        ...


class PromotionQueries:
    """`PromotionStore` in the service's database; whoever takes it has the session."""

    session: Session

    def retired_after(self, name: str) -> int | None:
        """The last promotion before the project was taken out of service; None while it is in service."""
        row = self.session.get(ModelRow, name)
        return None if row is None else row.retired_after

    def promotions(self, name: str) -> int:
        """The number of the model's newest promotion; 0 where there was none."""
        row = self.session.get(ModelRow, name)
        return 0 if row is None else row.promotions

    def promotion(self, name: str, number: int) -> Promotion | None:
        """A promotion, or None."""
        row = self.session.get(PromotionRow, (name, number))
        return None if row is None else promotion_of(row)

    def promotion_of(self, name: str, version: int) -> Promotion | None:
        """The newest promotion of a version, or None."""
        found = select(PromotionRow).where(PromotionRow.name == name, PromotionRow.version == version)
        row = self.session.exec(found.order_by(col(PromotionRow.number).desc()).limit(1)).first()
        return None if row is None else promotion_of(row)

    def was_deployed(self, name: str, version: int) -> bool:
        """Whether serving ever answered with the version."""
        of_version = select(PromotionRow.number).where(PromotionRow.name == name, PromotionRow.version == version)
        found = of_version.where(col(PromotionRow.status).in_(("deployed", "removed"))).limit(1)
        return self.session.exec(found).first() is not None

    def champion(self, name: str) -> Promotion | None:
        """The newest promotion in force that serving could deploy, or has not told of yet. None: the base."""
        return self._newest_promotion(name, "pending", "deployed")

    def answering(self, name: str) -> int:
        """The version that answers requests: of the newest promotion in force that serving has deployed; 0 is the base."""
        deployed = self.serving(name)
        return deployed.version if deployed else 0

    def serving(self, name: str) -> Promotion | None:
        """The promotion that answers requests; None: the base, which nobody promoted."""
        return self._newest_promotion(name, "deployed")

    def _newest_promotion(self, name: str, *statuses: DeploymentStatus) -> Promotion | None:
        number = col(PromotionRow.number)
        found = select(PromotionRow).where(PromotionRow.name == name, number > (self.retired_after(name) or 0))
        found = found.where(col(PromotionRow.status).in_(statuses))
        row = self.session.exec(found.order_by(number.desc()).limit(1)).first()
        return None if row is None else promotion_of(row)

    def keep_promotion(self, name: str, promotion: Promotion) -> None:
        """Adds a promotion or puts it in place of the one of its number."""
        row = self.session.get_one(ModelRow, name)
        row.promotions = max(row.promotions, promotion.number)
        self.session.add(row)
        fields = {field: getattr(promotion, field) for field in Promotion.__dataclass_fields__}
        self.session.merge(PromotionRow(name=name, **fields))
        self.session.flush()
