"""The pages: links lead somewhere, every example has a page, its pictures are there and small (P20)."""

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
EXAMPLES = sorted(path.parent for path in (REPOSITORY / "examples").glob("*/workflow.toml"))
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("examples/**/*.md")]
)
LARGEST_PICTURE_BYTES = 100_000


def links(page: Path) -> list[str]:
    """Where a page's links and pictures lead, without those to other sites."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in links(page):
        file, _, heading = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert heading in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles], (
                link
            )


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_says_what_one_needs_to_know(example: Path) -> None:
    text = (example / "README.md").read_text()
    assert "```sh\n" in text, "one command"
    assert "```text\n" in text, "what one sees"
    assert re.search(r"takes some \d+ s", text), "how long it takes"
    assert re.search(r"\*\*With your own (detector|source)\*\*", text), "how to change it"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_pictures_are_shown_and_small(example: Path) -> None:
    pictures = {path.name for path in example.glob("*.png")}
    assert pictures == {link for link in links(example / "README.md") if link.endswith(".png")}
    for name in pictures:
        assert (example / name).stat().st_size < LARGEST_PICTURE_BYTES


def test_the_list_of_examples_names_each() -> None:
    listed = links(REPOSITORY / "examples" / "README.md")
    assert {link.partition("/")[0] for link in listed} == {example.name for example in EXAMPLES}


def test_the_readme_shows_the_first_example() -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    example = tomllib.loads((REPOSITORY / "examples" / "first-light" / "workflow.toml").read_text())
    example.pop("description")
    assert tomllib.loads(shown) == example


@pytest.mark.parametrize("folder", ["tutorials", "how-to", "reference", "explanation"])
def test_the_readme_leads_to_every_page(folder: str) -> None:
    """Where to go on: nobody has to know a page's name to find it."""
    linked = set(links(REPOSITORY / "README.md"))
    pages = {str(page.relative_to(REPOSITORY)) for page in (REPOSITORY / "docs" / folder).glob("*.md")}
    assert not pages - linked, 'link them in README.md under "Where to go on"'
