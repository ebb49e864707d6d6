from contracts.project import ProjectSpec
from services.registry.domain.revision import revision


def test_the_revision_depends_on_the_meaning_alone():
    plain = ProjectSpec.model_validate({"project": "p", "base": "b"})
    spelt = ProjectSpec.model_validate({"base": "b", "project": "p", "prep": {"freeze": {"quiet": "20s"}}})
    other = ProjectSpec.model_validate({"project": "p", "base": "b", "prep": {"freeze": {"quiet": "21s"}}})
    assert revision(plain) == revision(spelt)
    assert revision(plain) != revision(other)
    assert len(revision(plain)) == 64
