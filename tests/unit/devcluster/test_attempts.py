"""The table of what tenants try, and the page that is made of it."""

from tests.devcluster import attempts


def test_the_page_is_current() -> None:
    """If not: python -m tests.devcluster.attempts --write docs/security/tenants.md"""
    page = attempts.ROOT / "docs" / "security" / "tenants.md"
    assert page.read_text() == attempts.page()


def test_there_are_many_and_each_has_its_own_name() -> None:
    slugs = [attempt.slug for attempt in attempts.ATTEMPTS]
    assert len(slugs) == len(set(slugs)) >= 40
    assert max(map(len, slugs)) <= 50


def test_both_people_try() -> None:
    assert {attempt.who for attempt in attempts.ATTEMPTS} == {attempts.TENANT, attempts.OWNER}
