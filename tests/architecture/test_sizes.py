"""Budgets: what fits on one screen gets read. A longer thing is listed here with its reason."""

import ast

from tests.architecture.source import (
    PACKAGE,
    Source,
    aliases,
    classes,
    docstring_lines,
    dotted,
    functions,
    num_lines,
    parse,
    product,
)

FUNCTION_LINES = 50
FILE_LINES = 400
CLASS_LINES = 200
PUBLIC_METHODS = 10
COLLABORATORS = 4
# What a constructor takes from these rooms is a value, not somebody to work with.
VALUE_ROOMS = {"errors", "ids", "protocol", "rounds"}

# Where → why it may be longer. An entry that is no longer needed fails a test.
ALLOWED = {
    "errors": "one tree on one page: a list of small classes that is read by looking up, not from top to bottom",
}
# A migration is history: one list of tables, written once, never edited, never called by the product.
MIGRATIONS = "storage.sql.migrations.versions."


def too_long(source: Source) -> dict[str, str]:
    """Return what is over its budget: place → found and wanted. The docstring of a function does not count."""
    wrong, names = {}, aliases(source)
    if (lines := len(source.text.splitlines())) > FILE_LINES:
        wrong[source.name] = f"{lines} lines, a file may have {FILE_LINES}"
    for function in functions(source.tree) if not source.name.startswith(MIGRATIONS) else ():
        if (lines := num_lines(function) - docstring_lines(function)) > FUNCTION_LINES:
            wrong[f"{source.name}.{function.name}"] = f"{lines} lines, a function may have {FUNCTION_LINES}"
    for node in classes(source.tree):
        if (lines := num_lines(node)) > CLASS_LINES:
            wrong[f"{source.name}.{node.name}"] = f"{lines} lines, a class may have {CLASS_LINES}"
        if (methods := num_public_methods(node)) > PUBLIC_METHODS:
            wrong[f"{source.name}.{node.name}()"] = f"{methods} public methods, a class may have {PUBLIC_METHODS}"
        if (others := num_collaborators(node, names)) > COLLABORATORS:
            wrong[f"{source.name}.{node.name}.__init__"] = f"{others} collaborators, a class may have {COLLABORATORS}"
    return wrong


def num_collaborators(node: ast.ClassDef, names: dict[str, str]) -> int:
    """Count the constructor's arguments that are objects of other rooms which do things, clocks and stores too."""
    constructor = next((f for f in functions(node) if f.name == "__init__"), None)
    if constructor is None:
        return 0
    arguments = [*constructor.args.args, *constructor.args.kwonlyargs]
    return sum(any(is_collaborator(part, names) for part in ast.walk(a.annotation)) for a in arguments if a.annotation)


def is_collaborator(node: ast.AST, names: dict[str, str]) -> bool:
    """Say whether a part of an annotation names a class of ours that is not a mere value."""
    parts = dotted(node, names).split(".") if isinstance(node, ast.Name | ast.Attribute) else []
    return len(parts) > 2 and parts[0] == PACKAGE and parts[1] not in VALUE_ROOMS and "settings" not in parts


def num_public_methods(node: ast.ClassDef) -> int:
    """Count the public methods of a class. Properties and setters are attributes, not methods."""
    methods = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
    return sum(
        not method.name.startswith("_")
        and not any("property" in ast.unparse(d) or ast.unparse(d).endswith(".setter") for d in method.decorator_list)
        for method in methods
    )


def test_everything_fits_its_budget() -> None:
    found = {place: text for source in product() for place, text in too_long(source).items()}
    assert {place: text for place, text in found.items() if place not in ALLOWED} == {}


def test_every_exception_is_still_needed() -> None:
    found = {place for source in product() for place in too_long(source)}
    assert sorted(ALLOWED.keys() - found) == []


def test_a_long_function_is_noticed_and_its_docstring_is_free() -> None:
    body = "\n".join("    x = 1" for _ in range(49))
    docstring = '    """First.\n' + "\n" * 30 + '    """\n'
    assert too_long(parse(f"def f():\n{docstring}{body}")) == {}
    assert too_long(parse(f"def f():\n{docstring}{body}\n    y = 2")) == {
        "planted.f": "51 lines, a function may have 50"
    }


def test_a_long_migration_is_fine() -> None:
    body = "\n".join("    x = 1" for _ in range(90))
    assert too_long(parse(f"def upgrade():\n{body}", f"{MIGRATIONS}first_0001")) == {}
    assert too_long(parse(f"def upgrade():\n{body}", "storage.sql.tables"))


def test_a_long_method_and_a_long_inner_function_are_noticed() -> None:
    body = "\n".join("            x = 1" for _ in range(51))
    source = parse(f"class A:\n    async def f(self):\n        def g():\n{body}")
    assert set(too_long(source)) == {"planted.f", "planted.g"}


def test_a_long_file_is_noticed() -> None:
    assert too_long(parse("\n" * 400)) == {}
    assert too_long(parse("\n" * 401)) == {"planted": "401 lines, a file may have 400"}


def test_a_long_class_is_noticed() -> None:
    assert too_long(parse("class A:\n" + "    x = 1\n" * 199)) == {}
    assert set(too_long(parse("class A:\n" + "    x = 1\n" * 200))) == {"planted.A"}


def test_a_class_with_many_methods_is_noticed() -> None:
    methods = "".join(f"    def m{i}(self): ...\n" for i in range(10))
    quiet = "    @property\n    def size(self): ...\n    def _inner(self): ...\n"
    assert too_long(parse(f"class A:\n{methods}{quiet}")) == {}
    assert set(too_long(parse(f"class A:\n{methods}{quiet}    def one_more(self): ...\n"))) == {"planted.A()"}


def test_a_class_with_many_collaborators_is_noticed() -> None:
    head = "from fed_compute.storage.blobs import A, B, C, D, E\nfrom fed_compute.ids import ClientId\nclass X:\n"
    four = "    def __init__(self, a: A, b: B, *, c: C | None, d: list[D], number: int, client: ClientId"
    assert too_long(parse(f"{head}{four}): ...")) == {}
    assert set(too_long(parse(f"{head}{four}, e: E): ..."))) == {"planted.X.__init__"}
