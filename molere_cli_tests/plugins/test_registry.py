"""The registry: names, prefixes, and plugins that are broken."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import warnings
from importlib.metadata import EntryPoint, entry_points
from types import SimpleNamespace

import pytest
import typer

from molere_cli import BackboneFamily, BackboneSpec, ConfigError, MethodSpec, SplitSpec, hookimpl
from molere_cli.commands import app as entry
from molere_cli.commands.plugin_commands import CORE_COMMANDS
from molere_cli.foundation.errors import PluginError, UnknownNameError
from molere_cli.registry.entries import PluginWarning
from molere_cli.registry.registry import Registry, empty_registry, load_plugins

_numbers = itertools.count()


def never(*_arguments):
    raise AssertionError("nothing is listed or built at registration")


def backbone(name: str) -> BackboneSpec:
    return BackboneSpec(name=name, description="", build=never)


def family(prefix: str, *names: str, plain_names: bool = True) -> BackboneFamily:
    return BackboneFamily(
        prefix=prefix,
        description="",
        list_names=lambda: names,
        build=lambda name, request: (prefix, name),
        plain_names=plain_names,
    )


class Backbones:
    """A plugin that offers the given backbones."""

    def __init__(self, *specs) -> None:
        self.specs = specs

    @hookimpl
    def register_backbones(self, register):
        for spec in self.specs:
            register(spec)


def registry_of(*, first_party=(), **plugins) -> Registry:
    registry = empty_registry()
    for name, plugin in plugins.items():
        registry.add(plugin, name, first_party=name in first_party)
    return registry


@pytest.fixture
def entry_point(tmp_path, monkeypatch):
    """Makes an entry point of the group `molere` for a module of the given text."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(text: str, *, name: str | None = None) -> EntryPoint:
        module = f"plugin_under_test_{next(_numbers)}"
        (tmp_path / f"{module}.py").write_text(f"from molere_cli import *\n{text}")
        return EntryPoint(name=name or module, value=module, group="molere")

    yield make
    for module in [name for name in sys.modules if name.startswith("plugin_under_test_")]:
        del sys.modules[module]


GOOD = """
@hookimpl
def register_splits(register):
    register(SplitSpec(name="good", description="", choose=lambda request: None))
"""


def problem_of(registry: Registry, entry: EntryPoint) -> str:
    """Load an entry point with something wrong with it: the sentence that is recorded and warned of."""
    with pytest.warns(PluginWarning) as caught:
        registry.load(entry)
    (problem,) = registry.problems
    assert problem.plugin == entry.name
    assert [str(warning.message) for warning in caught] == [f"plugin {entry.name} {problem.message}"]
    assert "\n" not in problem.message
    return problem.message


def assert_works(registry: Registry, entry: EntryPoint) -> None:
    """A plugin that comes after a broken one is loaded as ever."""
    num_problems = len(registry.problems)
    registry.load(entry)
    assert len(registry.problems) == num_problems
    assert registry.splits.get("good").name == "good"


# --- names


def test_a_name_is_found_plain_and_prefixed():
    registry = registry_of(one=Backbones(backbone("net"), backbone("other")))
    assert registry.backbone("net") is registry.backbone("one:net")


def test_an_unknown_name_suggests_the_nearest():
    registry = registry_of(one=Backbones(backbone("small_cnn"), backbone("resnet20")))
    with pytest.raises(UnknownNameError, match=r"^unknown backbone 'smal_cnn'; did you mean 'small_cnn'\?$"):
        registry.backbone("smal_cnn")


def test_an_unknown_name_near_nothing_lists_what_there_is():
    registry = registry_of(one=Backbones(backbone("b"), backbone("a")))
    with pytest.raises(UnknownNameError, match=r"^unknown backbone 'zzzzzz'; known: a, b$"):
        registry.backbone("zzzzzz")


def test_unknown_names_of_other_kinds_say_their_kind():
    registry = empty_registry()
    for of_kind in (registry.datasets, registry.splits, registry.reweighters, registry.methods):
        with pytest.raises(UnknownNameError, match=f"^unknown {of_kind.kind} 'x'; known: none$"):
            of_kind.get("x")


def test_a_long_list_of_names_is_not_printed():
    registry = registry_of(one=Backbones(family("many", *(f"net{n}" for n in range(30)))))
    with pytest.raises(UnknownNameError, match=r"known: 30 names; see `molere plugins`"):
        registry.backbone("qqqqqq")


def test_an_ambiguous_name_lists_the_prefixed_forms():
    registry = registry_of(
        one=Backbones(backbone("net")),
        two=Backbones(backbone("net")),
        three=Backbones(family("f", "net")),
    )
    with pytest.raises(UnknownNameError, match=r"more than once; say which: one:net, two:net, f:net$"):
        registry.backbone("net")
    assert registry.backbone("one:net") is not registry.backbone("two:net")
    assert registry.backbone("f:net").build(None) == ("f", "net")


def test_a_name_in_two_families_is_ambiguous():
    registry = registry_of(one=Backbones(family("f", "net"), family("g", "net", "solo")))
    with pytest.raises(UnknownNameError, match=r"say which: f:net, g:net$"):
        registry.backbone("net")
    assert registry.backbone("solo").build(None) == ("g", "solo")


def test_a_family_without_plain_names_is_asked_for_by_its_prefix():
    registry = registry_of(
        one=Backbones(family("f", "net"), family("g", "net", "squeezenet", plain_names=False))
    )
    assert registry.backbone("net").build(None) == ("f", "net")
    assert registry.backbone("g:net").build(None) == ("g", "net")
    with pytest.raises(UnknownNameError, match=r"did you mean 'g:squeezenet'\?"):
        registry.backbone("squeezenet")


def test_an_unknown_member_of_a_family_suggests_the_nearest():
    registry = registry_of(one=Backbones(family("f", "resnet18", "vit")))
    with pytest.raises(UnknownNameError, match=r"did you mean 'f:resnet18'\?"):
        registry.backbone("f:resnet81")


def test_families_are_not_listed_at_registration():
    lazy = BackboneFamily(prefix="lazy", description="", list_names=never, build=never)
    registry = registry_of(one=Backbones(lazy))
    assert [entry.spec.prefix for entry in registry.families.entries] == ["lazy"]
    with pytest.raises(PluginError, match="nothing is listed"):
        registry.backbone("lazy:net")


def test_every_hook_fills_its_shelf(entry_point):
    text = """
def nothing(*_): ...
@hookimpl
def register_backbones(register):
    register(BackboneSpec(name="b", description="", build=nothing))
@hookimpl
def register_datasets(register):
    register(DatasetSpec(name="d", description="", load=nothing))
@hookimpl
def register_splits(register):
    register(SplitSpec(name="s", description="", choose=nothing))
@hookimpl
def register_reweighters(register):
    register(ReweighterSpec(name="r", description="", build=nothing, lr=1.0))
@hookimpl
def register_methods(register):
    register(MethodSpec(name="m", description="", build=nothing, label="M"))
"""
    registry = empty_registry()
    registry.load(entry_point(text, name="whole"))
    kinds = (registry.backbones, registry.datasets, registry.splits, registry.reweighters, registry.methods)
    assert [entry.prefixed for of_kind in kinds for entry in of_kind.entries] == [
        f"whole:{name}" for name in "bdsrm"
    ]
    assert registry.problems == []


# --- broken plugins


def test_a_plugin_that_fails_to_import_is_recorded(entry_point):
    registry = empty_registry()
    message = problem_of(registry, entry_point("import no_such_module_anywhere"))
    assert message == "failed to import: ModuleNotFoundError: No module named 'no_such_module_anywhere'"
    assert_works(registry, entry_point(GOOD))


def test_a_plugin_with_a_syntax_error_is_recorded(entry_point):
    registry = empty_registry()
    assert problem_of(registry, entry_point("def")).startswith("failed to import: SyntaxError")
    assert_works(registry, entry_point(GOOD))


def test_a_misspelt_hook_is_recorded_with_its_right_name(entry_point):
    registry = empty_registry()
    message = problem_of(registry, entry_point("@hookimpl\ndef register_spilts(register): ..."))
    assert message == "has no hook 'register_spilts' to implement; did you mean 'register_splits'?"
    assert_works(registry, entry_point(GOOD))


def test_a_hook_of_the_wrong_arguments_is_recorded(entry_point):
    registry = empty_registry()
    message = problem_of(registry, entry_point("@hookimpl\ndef register_splits(registrar): ..."))
    assert message.startswith("cannot be registered:")
    assert "registrar" in message
    assert_works(registry, entry_point(GOOD))


def test_adding_an_object_that_does_not_fit_raises_nothing():
    class Misfit:
        @hookimpl
        def register_splits(self, registrar): ...

    with pytest.warns(PluginWarning, match=r"misfit cannot be registered: .*registrar"):
        registry = registry_of(misfit=Misfit())
    assert [problem.plugin for problem in registry.problems] == ["misfit"]


def test_a_hook_that_raises_is_recorded_and_the_plugins_other_hooks_count(entry_point):
    text = """
@hookimpl
def register_methods(register):
    raise RuntimeError("no\\nlicence")
@hookimpl
def register_reweighters(register):
    register(ReweighterSpec(name="r", description="", build=lambda request: None, lr=1.0))
"""
    registry = empty_registry()
    message = problem_of(registry, entry_point(text))
    assert message == "failed in register_methods: RuntimeError: no licence"
    assert registry.reweighters.get("r").lr == 1.0
    assert_works(registry, entry_point(GOOD))


def test_registering_what_is_no_record_is_recorded(entry_point):
    registry = empty_registry()
    text = "@hookimpl\ndef register_splits(register):\n    register('s')"
    message = problem_of(registry, entry_point(text))
    assert message == (
        "failed in register_splits: TypeError: a split strategy is registered as a SplitSpec, not 's'"
    )
    assert_works(registry, entry_point(GOOD))


def test_a_name_that_two_plugins_offer_is_no_problem_until_it_is_asked_for(entry_point):
    registry = empty_registry()
    registry.load(entry_point(GOOD, name="first"))
    registry.load(entry_point(GOOD, name="second"))
    assert registry.problems == []
    assert registry.collisions() == [
        "split strategy 'good' is offered as first:good and second:good; say which"
    ]
    assert registry.splits.get("first:good") is not registry.splits.get("second:good")
    with pytest.raises(UnknownNameError, match="say which: first:good, second:good"):
        registry.splits.get("good")


def test_a_name_that_one_plugin_offers_twice_counts_once():
    class Twice:
        @hookimpl
        def register_splits(self, register):
            for description in ("first", "second"):
                register(SplitSpec(name="s", description=description, choose=never))

    with pytest.warns(PluginWarning, match="'s' twice; the first counts"):
        registry = registry_of(twice=Twice())
    assert registry.splits.get("s").description == "first"


def test_families_of_one_prefix_are_told_apart_where_they_must_be():
    registry = registry_of(one=Backbones(family("f", "a", "b")), two=Backbones(family("f", "b")))
    assert registry.problems == []
    assert registry.collisions() == ["backbone family 'f' is offered as one:f and two:f; say which"]
    assert registry.backbone("f:a").build(None) == ("f", "a")
    assert registry.backbone("two:f:b").build(None) == ("f", "b")
    for name in ("f:b", "b"):
        with pytest.raises(UnknownNameError, match=r"say which: one:f:b, two:f:b$"):
            registry.backbone(name)


# --- names of the core's own distribution


def taken(registry: Registry, name: str) -> tuple[BackboneSpec, str]:
    """What a plain name that is offered twice gives, and the warning."""
    with pytest.warns(PluginWarning) as caught:
        spec = registry.backbone(name)
    (warning,) = caught
    return spec, str(warning.message)


@pytest.mark.parametrize("order", [("ours", "theirs"), ("theirs", "ours")])
def test_a_third_party_takes_no_name_from_our_own(order):
    plugins = {name: Backbones(backbone("net")) for name in order}
    registry = registry_of(first_party=["ours"], **plugins)
    assert registry.problems == []
    spec, warning = taken(registry, "net")
    assert spec is registry.backbone("ours:net")
    assert warning == "backbone 'net' is ours:net; say theirs:net for the other"
    assert registry.backbone("theirs:net") is not spec
    assert registry.collisions() == [
        f"backbone 'net' is offered as {order[0]}:net and {order[1]}:net; net alone is ours:net"
    ]


def test_a_third_party_takes_no_name_from_a_family_of_ours():
    registry = registry_of(
        first_party=["ours"],
        ours=Backbones(family("f", "net")),
        theirs=Backbones(backbone("net"), family("g", "net"), family("f", "net")),
    )
    spec, warning = taken(registry, "net")
    assert warning == "backbone 'net' is ours:f:net; say theirs:net or g:net or theirs:f:net for the other"
    assert spec.build(None) == ("f", "net")
    spec, warning = taken(registry, "f:net")
    assert warning == "backbone 'f:net' is ours:f:net; say theirs:f:net for the other"
    for form in ("theirs:net", "g:net", "theirs:f:net", "ours:f:net"):
        assert registry.backbone(form).name == "net"


def test_two_of_our_own_by_one_name_are_ambiguous():
    registry = registry_of(
        first_party=["one", "two"], one=Backbones(backbone("net")), two=Backbones(backbone("net"))
    )
    with pytest.raises(UnknownNameError, match="say which: one:net, two:net"):
        registry.backbone("net")


def test_our_own_are_those_of_the_distribution_of_the_core_and_come_first(entry_point, monkeypatch):
    third = entry_point(GOOD, name="molere_splits")  # a name of ours
    entries = [third, *entry_points(group="molere")]
    monkeypatch.setattr("molere_cli.registry.registry.entry_points", lambda group: entries)
    with pytest.warns(PluginWarning, match="plugin molere_splits is installed twice; plugin_under_test_"):
        registry = load_plugins()
    assert {entry.first_party for entry in registry.entries()} == {True}
    assert registry.splits.get("random").name == "random"


def test_an_entry_point_of_a_name_that_is_taken_is_left_out(entry_point):
    registry = empty_registry()
    registry.load(entry_point(GOOD, name="same"))
    message = problem_of(registry, entry_point(GOOD, name="same"))
    assert message.startswith("is installed twice; plugin_under_test_")
    assert registry.splits.get("good").name == "good"


def test_one_module_under_two_names_is_recorded(entry_point):
    registry = empty_registry()
    entry = entry_point(GOOD)
    registry.load(entry)
    again = EntryPoint(name="alias", value=entry.value, group="molere")
    assert problem_of(registry, again) == f"is the same plugin as {entry.name}, which counts"
    assert registry.splits.get("good").name == "good"


# --- commands


class Commands:
    """A plugin that adds commands which say whose they are."""

    def __init__(self, owner: str, *names: str) -> None:
        self.owner, self.names = owner, names

    @hookimpl
    def register_commands(self, app):
        for name in self.names:
            app.command(name, help=f"Of {self.owner}.")(lambda: print(f"run by {self.owner}"))


@pytest.fixture
def with_plugins(molere, monkeypatch):
    """Runs `molere LINE` where these plugins are all that there is."""

    def call(line: str, **plugins):
        registry = registry_of(**plugins)
        monkeypatch.setattr("molere_cli.commands.app.load_plugins", lambda: registry)
        monkeypatch.setattr("molere_cli.registry.registry.load_plugins", lambda: registry)
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # as outside tests, which turn them into errors
            return molere(line)

    return call


def test_a_plugin_adds_commands_to_molere(with_plugins):
    mine = Commands("mine", "one", "two-words")
    assert with_plugins("two-words", mine=mine) == (0, "run by mine\n", "")
    listed = with_plugins("--help", mine=mine).out
    assert listed.index("train") < listed.index("one") < listed.index("two-words")
    rows = json.loads(with_plugins("plugins commands --json", mine=mine).out)
    assert rows == [
        {"kind": "commands", "name": name, "plugin": "mine", "description": "Of mine."} for name in mine.names
    ]
    assert with_plugins("plugins commands --filter 'two*'", mine=mine).out.count("Of mine.") == 1


def test_a_command_without_its_plugin_is_no_command(with_plugins):
    done = with_plugins("oneself", mine=Commands("mine", "oneself"), yours=Commands("yours"))
    assert done.code == 0
    done = with_plugins("oneself")
    assert (done.code, done.out) == (2, "")
    assert "No such command 'oneself'" in done.err


def test_a_group_of_commands_is_added_whole(with_plugins):
    class Plugin:
        @hookimpl
        def register_commands(self, app):
            group = typer.Typer()
            group.command("first")(lambda: print("first"))
            group.command("second")(lambda: print("second"))
            app.add_typer(group, name="both", help="Two of them.")

    assert with_plugins("both second", mine=Plugin()).out == "second\n"
    assert "Two of them." in with_plugins("--help", mine=Plugin()).out


@pytest.mark.parametrize("name", CORE_COMMANDS)
def test_no_plugin_takes_a_command_of_the_core(with_plugins, name):
    mine = Commands("mine", name, "free")
    done = with_plugins("free", mine=mine)
    assert (done.code, done.out) == (0, "run by mine\n")
    sentence = f"plugin mine registers the command {name!r} of molere_cli, which counts"
    assert done.err == f"warning: {sentence}\n"
    done = with_plugins("plugins --check", mine=mine)
    assert (done.code, done.err) == (1, f"{sentence}\n")
    assert "run by mine" not in with_plugins(f"{name} --help", mine=mine).out


def test_the_commands_of_the_core_are_those_whose_names_are_guarded():
    without_plugins = typer.main.get_group(entry.app).commands
    assert tuple(without_plugins) == CORE_COMMANDS


def test_of_two_commands_by_one_name_the_first_counts(with_plugins):
    plugins = {"first": Commands("first", "same"), "second": Commands("second", "same", "other")}
    done = with_plugins("same", **plugins)
    assert done.out == "run by first\n"
    assert done.err == "warning: plugin second registers the command 'same' of first, which counts\n"
    assert with_plugins("other", **plugins).out == "run by second\n"


def raises(app):
    raise RuntimeError("no\nlicence")


def takes_what_no_command_can(app):
    @app.command()
    def broken(given: list[list[int]]): ...


@pytest.mark.parametrize(
    ("hook", "sentence"),
    [
        (raises, "plugin broken failed in register_commands: RuntimeError: no licence"),
        (takes_what_no_command_can, "plugin broken has a command that cannot be built: List types with "),
    ],
)
def test_a_plugin_whose_commands_fail_is_a_warning_and_the_others_count(with_plugins, hook, sentence):
    broken = SimpleNamespace(register_commands=hookimpl(hook))
    done = with_plugins("mine", broken=broken, good=Commands("good", "mine"))
    assert (done.code, done.out) == (0, "run by good\n")
    assert done.err.startswith(f"warning: {sentence}")
    assert done.err.count("\n") == 1
    assert with_plugins("plugins --check", broken=broken).code == 1


def test_a_mistake_that_a_command_tells_is_a_sentence_and_its_bug_a_traceback(with_plugins):
    class Plugin:
        @hookimpl
        def register_commands(self, app):
            @app.command()
            def mistaken():
                raise ConfigError("mine needs more")

            @app.command()
            def wrong():
                raise KeyError("mine")

    assert with_plugins("mistaken", mine=Plugin()) == (1, "", "molere: mine needs more\n")
    with pytest.raises(KeyError, match="mine"):
        with_plugins("wrong", mine=Plugin())


# --- what is given as a string

REFERENCES = """
import sys
module = "{offered}"
@hookimpl
def register_backbones(register):
    options = f"{{module}}:Given"
    register(BackboneSpec(name="b", description="", build=f"{{module}}:nested.give", options=options))
    give = f"{{module}}:give"
    register(
        BackboneFamily(
            prefix="f", description="", list_names=f"{{module}}:names", build=give, options=options
        )
    )
@hookimpl
def register_datasets(register):
    register(DatasetSpec(name="d", description="", load=f"{{module}}:give", options=f"{{module}}:Given"))
@hookimpl
def register_splits(register):
    register(SplitSpec(name="s", description="", choose=f"{{module}}:give"))
@hookimpl
def register_reweighters(register):
    given = f"{{module}}:Given"
    register(ReweighterSpec(name="r", description="", build=given, lr=f"{{module}}:LR", options=given))
@hookimpl
def register_methods(register):
    register(
        MethodSpec(
            name="m", description="", build=f"{{module}}:give", label="M", options=f"{{module}}:Given"
        )
    )
"""
OFFERED = """
import types
LR = 0.25
class Given(Options):
    width: int = 3
def names():
    return ["net"]
def give(*what):
    return what
nested = types.SimpleNamespace(give=give)
"""


def test_whatever_is_called_may_be_a_string_which_is_resolved_when_it_is_needed(entry_point):
    offered = entry_point(OFFERED).value
    registry = empty_registry()
    registry.load(entry_point(REFERENCES.format(offered=offered), name="strings"))
    assert registry.problems == []
    reweighter, method = registry.reweighters.get("r"), registry.methods.get("m")
    assert offered not in sys.modules
    assert registry.backbone("b").build(1) == (1,)
    assert registry.backbone("f:net").build(1) == ("net", 1)
    assert registry.datasets.get("d").load(1) == registry.splits.get("s").choose(1) == method.build(1) == (1,)
    assert reweighter.lr == 0.25
    specs = (registry.backbone("b"), registry.backbone("net"), registry.datasets.get("d"), reweighter, method)
    assert [spec.options().width for spec in specs] == [3] * 5
    assert type(reweighter.build(width=4)) is reweighter.options
    registry.check()
    assert registry.problems == []


@pytest.mark.parametrize(
    ("field", "text", "wrong"),
    [
        ("build", "no_such:build", "leads nowhere: ModuleNotFoundError: No module named 'no_such'"),
        ("build", "math:no_such", "leads nowhere: AttributeError: module 'math' has no attribute 'no_such'"),
        ("build", "math", "leads nowhere: ValueError: 'math' is not of the form package.module:attribute"),
        ("build", "math:__doc__", "is something else"),
        ("options", "math:sqrt", "is something else"),
        ("options", "enum:Enum", "is something else"),
    ],
)
def test_a_string_that_leads_nowhere_is_found_by_the_check(entry_point, field, text, wrong):
    registry = empty_registry()
    given = {"name": "m", "description": "", "label": "M", "build": "math:sqrt", field: text}
    hook = f"@hookimpl\ndef register_methods(register):\n    register(MethodSpec(**{given}))"
    registry.load(entry_point(hook, name="p"))
    assert registry.problems == []
    with pytest.warns(PluginWarning, match=r"^plugin p says "):
        registry.check()
    (problem,) = registry.problems
    assert problem.message == f"says {text!r} for {field} of its method 'm', which {wrong}"


@pytest.mark.parametrize(("field", "value"), [("build", None), ("options", dict), ("options", BackboneSpec)])
def test_a_value_of_another_kind_is_a_problem_at_once(entry_point, field, value):
    given = {"name": "m", "description": "", "label": "M", "build": never, field: value}

    class Plugin:
        @hookimpl
        def register_methods(self, register):
            register(MethodSpec(**given))

    with pytest.warns(PluginWarning, match=f"failed in register_methods: TypeError: {field} is "):
        assert registry_of(p=Plugin()).methods.entries == []


def test_a_string_that_leads_to_something_else_is_named_when_it_is_needed():
    registry = registry_of(
        p=Backbones(BackboneSpec(name="net", description="", build=never, options="enum:Enum"))
    )
    with pytest.raises(PluginError) as caught:
        registry.backbone("net").options()
    assert str(caught.value) == (
        "plugin p: backbone 'net' says 'enum:Enum' for options, which is something else"
    )


def test_the_check_survives_a_module_that_exits(entry_point):
    exits = entry_point("raise SystemExit(3)").value
    registry = registry_of(
        one=Backbones(BackboneSpec(name="net", description="", build=f"{exits}:build")),
    )
    with pytest.warns(PluginWarning, match="leads nowhere: SystemExit: 3"):
        registry.check()


def test_every_string_of_our_own_leads_somewhere():
    registry = load_plugins()
    registry.check()
    assert registry.problems == []
    assert registry.collisions() == []


def test_a_record_without_a_value_for_a_field_is_refused_and_prints_as_its_name():
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'build'"):
        MethodSpec(name="m", description="", label="M")
    assert repr(MethodSpec(name="m", description="", build="no_such:thing", label="M")) == "MethodSpec('m')"


# --- cost


@pytest.mark.parametrize(
    "code",
    [
        "import molere_cli",
        "from molere_cli.registry.registry import load_plugins; load_plugins()",
    ],
)
def test_importing_and_loading_plugins_leaves_heavy_packages_alone(code):
    heavy = ["torch", "torchvision", "timm", "sklearn", "datasets", "scipy", "altair", "pyarrow", "numpy"]
    check = f"{code}\nimport sys\nprint([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", check], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_all_that_molere_cli_exports_can_be_imported():
    import molere_cli

    for name in molere_cli.__all__:
        assert getattr(molere_cli, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = molere_cli.nonsense


def test_a_method_uses_nothing_unless_it_says_so():
    spec = MethodSpec(name="m", description="", build=never, label="M")
    assert (spec.split, spec.uses) == ("none", frozenset())
