"""Everything that people read is plain English: names, docstrings, comments, messages and documents."""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("stream", "online_models", "serving", "replay", "headrace", "tests", "benchmarks", "examples")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
TEXTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "operations").rglob("*.*"),
        *(ROOT / "serving").rglob("*.html"),
        *(ROOT / name for name in ("compose.yaml", "pyproject.toml", "Makefile", "Dockerfile", ".ci/run")),
    ]
)
SELF = Path(__file__).resolve()

# Old or private words for things that have a standard name, and the name to use.
WORDS = {
    r"told|tells?|telling": "summary, message, reported, says (as a verb: report, print, show)",
    r"foret(?:old|ells?|elling)|foresees?|foreseen": "predict, predicted",
    r"(?<!--)judg(?:es?|ed|ing|ement)": "score, predict, evaluate, validate",
    r"weigh(?:s|ed|ing)?": "weight, probability, score",
    r"taught|teach(?:es|ing)?|teacher": "trained, train",
    r"learnt": "learned",
    r"borne|bears? with|lest|whoever|whomever|whence|anew|reckon\w*|forebears?": "a plain modern phrase",
    r"lately": "recent, recently",
    r"mend(?:s|ed|ing)?": "fix, repair",
    r"wed|meant for|met": "interacted, matched",
    r"catalogues?|neighbours?|neighbouring|colours?|behaviours?|favour\w*|honour\w*|centres?|grey": "American spelling",
    r"(?:normal|standard|initial|optim|recogn|summar|serial|organ|real|util)is(?:e|ed|es|ing|ation)": "-ize",
}
BANNED = {re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE): advice for pattern, advice in WORDS.items()}
# Names that say nothing of what they hold.
NAMES = re.compile(
    r"_*(?:told|asked|chosen|judged?|judges|weighed|weigh|foretold|foresee|foreseen|taught|teaches|learnt|lately|met|mend"
    r"|fault_of|borne|usual|wanted|forebears|people|person|persons|catalogue\w*|\w*neighbour\w*)"
)
OPENINGS = re.compile(r"(?:what|whether|how|which|who|whose|of)\b", re.IGNORECASE)
LONGEST = 90  # characters of a docstring's first line


def allowed(line: str) -> bool:
    """Lines that quote another system's word, such as a file name, opt out by a comment."""
    return "language: quoted" in line


def phrases(source: str) -> Iterator[tuple[int, str]]:
    """Comments and strings of a module, with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING) or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
            for offset, line in enumerate(token.string.split("\n")):
                yield token.start[0] + offset, line


def faults(lines: Iterable[tuple[int, str]], path: Path) -> list[str]:
    """Banned words with their place and the advice."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}; use {advice}"
        for number, line in lines
        if not allowed(line)
        for pattern, advice in BANNED.items()
        for match in pattern.finditer(line)
    ]


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text.partition("\n")[0]


def names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Names that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [path for path in SOURCES if path != SELF], ids=name_of)
class TestSource:
    def test_strings_and_comments_are_plain_english(self, path: Path) -> None:
        assert faults(phrases(path.read_text(encoding="utf-8")), path) == []

    def test_docstrings_open_with_the_thing(self, path: Path) -> None:
        lines = list(docstrings(ast.parse(path.read_bytes())))

        assert [f"{number}: {line}" for number, line in lines if len(line) > LONGEST or OPENINGS.match(line)] == []

    def test_names_are_standard_terms(self, path: Path) -> None:
        lines = list(names(ast.parse(path.read_bytes())))

        assert [f"{number}: {name}" for number, name in lines if NAMES.fullmatch(name)] == []
        assert [number for number, name in lines if name == "one"] == []


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_document_is_plain_english(path: Path) -> None:
    lines = enumerate(path.read_text(encoding="utf-8").split("\n"), 1)

    assert faults(lines, path) == []
