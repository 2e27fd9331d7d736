"""The shape of the packages: twins, directions of dependence, isolation, docstrings, public names.

Sources are read, not imported, so that this runs where a framework is missing; what must be
imported is imported in another process.
"""

import ast
import builtins
import doctest
import graphlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.sources import (
    ROOT,
    classes,
    exported,
    has_member,
    imported,
    lineage,
    methods,
    parameters,
    sources,
    surface,
)

CORE, TORCH, JAX = "constrained_core", "pyro_constrained", "numpyro_constrained"
TWINS = (TORCH, JAX)
EXAMPLES = ("benchmarks", "demo", "experiments", "tutorials")
"""Folders beside the packages; what two of them need is in ``rivals``."""

WINGS = {"arrays": (), "linear": ("arrays",), "fiber": ("arrays",), "walk": ("arrays", "fiber")}
"""Folders of the core and of kernels, and which others each imports."""

# "path" or "path: name" -> why the twins differ there. Beyond this table, a parameter `key` may be
# there in JAX only, and `tensor` and `torch.Size()` are read as `array` and `()`.
CALL = "PyTorch's and Pyro's names for what is __call__ in NumPyro"
LAYOUT = "vmap and scan rebuild pytrees from leaves: the shapes as given are kept beside them"
PYTREE = "NumPyro's protocol of pytrees and their equality"
DEVIATIONS = {
    "constraints.py: integer_linear_equality.check": CALL,
    "constraints.py: integer_linear_equality.eq": PYTREE,
    "constraints.py: integer_linear_equality.tree_flatten": PYTREE,
    "constraints.py: linear_equality.bind": "PyTorch binds to a device too; JAX places arrays",
    "constraints.py: linear_equality.check": CALL,
    "constraints.py: linear_equality.eq": PYTREE,
    "constraints.py: linear_equality.feasible_like": "NumPyro's protocol of constraints",
    "constraints.py: linear_equality.tree_flatten": PYTREE,
    "constraints.py: moving_linear_equality": "NumPyro's protocol of supports that move",
    "distributions/base.py: ConstrainedDistribution.expand": "PyTorch passes the instance to fill",
    "distributions/base.py: ConstrainedDistribution.infer_shapes": "Pyro passes names only",
    "distributions/discrete.py: ConstrainedDiscrete.__init__": LAYOUT,
    "distributions/discrete.py: ConstrainedDiscrete.sample": (
        "NumPyro draws latent sites by sample and differentiates through it"
    ),
    "distributions/location_scale.py: ConstrainedLocationScale.__init__": LAYOUT,
    "distributions/location_scale.py: ConstrainedLocationScale.sample": (
        "NumPyro draws latent sites by sample and differentiates through it"
    ),
    "distributions/multivariate_student_t.py: ConstrainedMultivariateStudentT.scale": (
        "in PyTorch an attribute only where given; a pytree has the same leaves always"
    ),
    "distributions/multivariate_student_t.py: ConstrainedMultivariateStudentT.scale_tril": (
        "in PyTorch an attribute only where given; a pytree has the same leaves always"
    ),
    "fiber_gibbs.py": "Pyro has no kernel of Gibbs updates as NumPyro's HMCGibbs",
    "fiber_sampler.py: FiberSampler.gibbs_fn": "what NumPyro's HMCGibbs asks for",
    "fiber_sampler.py: FiberSampler.gibbs_kernel": "Pyro has no kernel of Gibbs updates",
    "reparam.py: ConstrainedNormalReparam.apply": CALL,
    "reparam.py: MarginalExpectationReparam.apply": CALL,
    "transforms/linear_equality.py: LinearEqualityTransform.__init__": "PyTorch caches values",
    "transforms/linear_equality.py: LinearEqualityTransform.eq": PYTREE,
    "transforms/linear_equality.py: LinearEqualityTransform.log_abs_det_jacobian": (
        "NumPyro passes intermediates"
    ),
    "transforms/linear_equality.py: LinearEqualityTransform.onto": "PyTorch caches values",
    "transforms/linear_equality.py: LinearEqualityTransform.tree_flatten": PYTREE,
    "transforms/linear_equality.py: LinearEqualityTransform.with_cache": "PyTorch caches values",
}

# What DESIGN promises, with the arguments of the constructors.
ESTIMATOR = "gradient_estimator='pathwise'"
GIVEN = ["A", "k"]
OPTIONAL = ["A=None", "k=None"]
DISCRETE = ["gradient_estimator='score_function'", "validate_args=None", "k_max=None"]
DISCRETE += ["max_transitions=None"]
SIGNATURES = {
    "ConstrainedMultivariateNormal": (
        ["loc", "covariance_matrix=None", *OPTIONAL],
        ["precision_matrix=None", "scale_tril=None", ESTIMATOR, "validate_args=None"],
    ),
    "ConstrainedNormal": (["loc", "scale", *GIVEN], [ESTIMATOR, "validate_args=None"]),
    "ConstrainedLowRankMultivariateNormal": (
        ["loc", "cov_factor", "cov_diag", *GIVEN],
        [ESTIMATOR, "validate_args=None"],
    ),
    "ConstrainedMultivariateStudentT": (
        ["df", "loc", "scale_tril=None", *OPTIONAL],
        ["scale=None", "per_group=False", ESTIMATOR, "validate_args=None"],
    ),
    "ConstrainedGMRF": (
        ["loc", "precision_matrix", *GIVEN],
        ["precision_root=None", ESTIMATOR, "validate_args=None"],
    ),
    "ConstrainedPoisson": (["rate", *GIVEN], DISCRETE),
    "ConstrainedBernoulli": (["probs=None", *OPTIONAL], ["logits=None", *DISCRETE]),
    "ConstrainedCategorical": (["probs=None", *OPTIONAL], ["logits=None", *DISCRETE]),
    "LinearEqualityTransform": ([*GIVEN, "basis=None"], []),
    "integer_linear_equality": (GIVEN, []),
    "linear_equality": (GIVEN, []),
}
PUBLIC = [
    *(name for name in SIGNATURES if name.startswith("Constrained")),
    *("constrain", "GroupSum", "SparseMatrix", "fields.besag", "fields.lattice"),
    *("fields.random_walk", "fields.kronecker", "summing_matrix"),
    "transforms.LinearEqualityTransform",
    *("constraints.integer_linear_equality", "constraints.linear_equality"),
    *("reparam.ConstrainedNormalReparam", "reparam.auto_reparam", "errors.ConstraintError"),
    "reparam.MarginalExpectationReparam",
    *("ConstraintError", "InfeasibleConstraintError", "IntractableConstraintError"),
    *("UnboundedSupportError", "errors.InfeasibleConstraintError"),
    *("FiberSampler", "FiberSamplerWarning", "errors.FiberSamplerWarning"),
    *("errors.IntractableConstraintError", "errors.UnboundedSupportError"),
    *(
        "ParameterError",
        "errors.ParameterError",
        "NoBaseLawError",
        "errors.NoBaseLawError",
        "explain",
    ),
]
MEMBERS = [
    *("A", "k", "rank", "base_dist", "mean", "variance", "support", "log_prob", "sample"),
    *("rsample", "expand", "entropy", "constraint_log_prob", "residual"),
]
GAUSSIAN = ["covariance", "project", "expected_l1", "expected_l2", "crps"]
COUNTS = ["covariance", "marginal_log_prob", "enumerate_support", "has_rsample"]
COUNTS += ["with_estimator"]
NOT_OF_STUDENT_T = {"expected_l1", "crps"}

LAYERS = [["_requirements", "kernels"], ["constraints", "transforms", "estimators"]]
LAYERS += [["distributions"]]
LAYERS += [["reparam", "registry", "fiber_sampler", "fiber_gibbs", "explanation"], [""]]
FOREIGN = {CORE: {"numpy", "scipy"}, TORCH: {"torch", "pyro"}, JAX: {"jax", "numpyro"}}


# Twins


def is_excused(package: str, other: str, name: str) -> bool:
    """A member that only ``package`` defines where it stands: fine if the other has it elsewhere,
    and told already if its class is missing too or an ancestor introduces it."""
    owner, _, member = name.partition(".")
    if not member:
        return False
    introduced = any(member in methods(c) for c in list(lineage(package, owner))[1:])
    return introduced or owner not in classes(other) or has_member(other, owner, member)


def module_differences(path: str) -> Iterator[str]:
    torch, jax = (surface(package, path) for package in TWINS)
    yield from set(exported(sources(TORCH)[path])) ^ set(exported(sources(JAX)[path]))
    yield from (name for name in torch.keys() & jax.keys() if torch[name] != jax[name])
    for one, other, package, twin in ((torch, jax, TORCH, JAX), (jax, torch, JAX, TORCH)):
        missing = one.keys() - other.keys()
        yield from (name for name in missing if not is_excused(package, twin, name))


def public_modules(package: str) -> set[str]:
    """Kernels are native to their framework: parity of values guards them."""
    return {path for path in sources(package) if not path.startswith("kernels/")}


def differences() -> set[str]:
    torch, jax = (public_modules(package) for package in TWINS)
    return (torch ^ jax) | {
        f"{path}: {name}" for path in torch & jax for name in module_differences(path)
    }


def test_twins_differ_only_where_listed():
    assert differences() - DEVIATIONS.keys() == set()


def test_listed_deviations_exist():
    assert DEVIATIONS.keys() - differences() == set()


def error_texts(package: str) -> dict[str, str]:
    """What is raised with words of its own, and where."""
    found = {}
    for path, tree in sources(package).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
                texts = (part for part in ast.walk(node.exc) if isinstance(part, ast.Constant))
                if any(isinstance(text.value, str) and " " in text.value for text in texts):
                    found[ast.unparse(node.exc)] = f"{path}:{node.lineno}"
    return found


def test_no_error_is_worded_twice():
    """Words that both twins need stand in the core; arguments of its functions may be the same."""
    torch, jax = (error_texts(package) for package in TWINS)
    shared = {
        text: place
        for text, place in torch.items()
        if text in jax and not text.startswith(("no_reparametrised_draw(", "TypeError("))
    }
    assert not shared


@pytest.mark.parametrize("package", [CORE, *TWINS])
def test_exports_are_sorted_and_exist(package: str):
    for path, tree in sources(package).items():
        names = exported(tree)
        assert "__all__" in ast.unparse(tree), path
        assert len(set(names)) == len(names), path
        stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        bound = {part.asname or part.name for part in ast.walk(tree) if isinstance(part, ast.alias)}
        defined = {getattr(node, "name", None) for node in tree.body}
        assert set(names) <= stored | bound | defined, path


# Directions


def layer(module: str) -> int:
    part = [*module.split("."), ""][1]
    return next(i for i, names in enumerate(LAYERS) if part in names)


@pytest.mark.parametrize("package", [CORE, *TWINS])
def test_only_what_a_package_may_import(package: str):
    allowed = {package, CORE, *FOREIGN[CORE], *FOREIGN[package], *sys.stdlib_module_names}
    for module, targets in imported(package).items():
        assert {target.partition(".")[0] for target in targets} <= allowed, module


@pytest.mark.parametrize("package", TWINS)
def test_dependencies_point_one_way(package: str):
    for module, targets in imported(package).items():
        own = [target for target in targets if target.partition(".")[0] == package]
        upward = [target for target in own if layer(target) > layer(module)]
        assert not upward, f"{module} is below {upward}"


@pytest.mark.parametrize("package", [CORE, *TWINS])
def test_no_cycles(package: str):
    graphlib.TopologicalSorter(imported(package)).prepare()


@pytest.mark.parametrize("package", [CORE, *TWINS])
def test_wings_are_apart(package: str):
    prefix = f"{package}." if package == CORE else f"{package}.kernels."
    for module, targets in imported(package).items():
        wing = module.removeprefix(prefix).partition(".")[0]
        if module.startswith(prefix) and wing in WINGS:
            found = {
                t.removeprefix(prefix).partition(".")[0] for t in targets if t.startswith(prefix)
            }
            assert found & WINGS.keys() <= {wing, *WINGS[wing]}, module


@pytest.mark.parametrize("folder", [*EXAMPLES, "rivals"])
def test_examples_stand_alone(folder: str):
    for module, targets in imported(folder).items():
        found = {target.partition(".")[0] for target in targets}
        assert not found & ({*EXAMPLES, "rivals"} - {folder, "rivals"}), module


OPERATIONS = "register_autograd", "register_fake", "register_lowering"
"""What tells a framework of an operation that it does not know."""


@pytest.mark.parametrize("package", TWINS)
def test_only_the_registry_registers(package: str):
    for path, tree in sources(package).items():
        names = [n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)]
        names += [n.id for n in ast.walk(tree) if isinstance(n, ast.Name)]
        registers = any(name.startswith("register") for name in names if name not in OPERATIONS)
        assert registers == (path == "registry.py"), path


# Isolation and public names

BLOCKER = """
import functools, sys
BLOCKED = {blocked!r}
class Blocker:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)
sys.meta_path.insert(0, Blocker)
import {package}
{use}
for name in {names!r}:
    functools.reduce(getattr, name.split("."), {package})
assert not BLOCKED & sys.modules.keys()
SLOW_TO_IMPORT = {{"torch._dynamo", "scipy.optimize", "scipy.stats"}}
assert not SLOW_TO_IMPORT & sys.modules.keys()
"""
USE = {
    CORE: "import numpy; constrained_core.plan_constraint(numpy.ones((1, 3)))",
    TORCH: """
import torch
law = pyro_constrained.ConstrainedNormal(torch.zeros(3), torch.ones(3), torch.ones(3), 1.0)
assert law.log_prob(law.rsample()).isfinite()
""",
    JAX: """
import jax
ones = jax.numpy.ones(3)
law = numpyro_constrained.ConstrainedNormal(ones, ones, ones, 1.0)
assert jax.numpy.isfinite(law.log_prob(law.sample(jax.random.key(0))))
""",
}


@pytest.mark.parametrize("package", [CORE, *TWINS])
def test_works_without_the_other_framework(package: str):
    """It is imported and used, and has the public names, where others cannot be imported."""
    for framework in FOREIGN[package]:
        if importlib.util.find_spec(framework) is None:
            pytest.skip(f"{framework} is not installed")
    blocked = (FOREIGN[TORCH] | FOREIGN[JAX]) - FOREIGN[package]
    blocked |= {other for other in TWINS if other != package}
    names = [] if package == CORE else PUBLIC
    script = BLOCKER.format(blocked=blocked, package=package, use=USE[package], names=names)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", TWINS)
@pytest.mark.parametrize("name", SIGNATURES)
def test_constructor_arguments(package: str, name: str):
    extra = {"self", "support_tolerance=None", "tolerance=None", "cache_size=0", "upper=None"}
    given = parameters(methods(classes(package)[name])["__init__"])
    positional, _, keywords = ", ".join(p for p in given if p not in extra).partition(", *, ")
    assert (positional.split(", "), keywords.split(", ") if keywords else []) == SIGNATURES[name]


@pytest.mark.parametrize("package", TWINS)
@pytest.mark.parametrize("name", [name for name in SIGNATURES if name.startswith("Constrained")])
def test_members_of_every_law(package: str, name: str):
    exempt = NOT_OF_STUDENT_T if "StudentT" in name else set()
    own = COUNTS if SIGNATURES[name][1][-4:] == DISCRETE else GAUSSIAN
    missing = [member for member in MEMBERS + own if not has_member(package, name, member)]
    assert set(missing) == exempt


# Docstrings


@pytest.mark.parametrize("package", TWINS)
@pytest.mark.parametrize("name", [*SIGNATURES, "_Constrain"])
def test_docstring_sections(package: str, name: str):
    text = ast.get_docstring(classes(package)[name]) or ""
    for section in ("Args:", "Raises:", "Example:", ">>>"):
        assert section in text
    function = methods(classes(package)[name])["__init__"]
    for part in ast.walk(function.args):
        if isinstance(part, ast.arg) and part.arg != "self":
            assert re.search(rf"^    {part.arg}: ", text, re.MULTILINE), part.arg


@pytest.mark.parametrize("package", [CORE, *TWINS])
def test_everything_public_has_a_docstring(package: str):
    for path, tree in sources(package).items():
        assert ast.get_docstring(tree), path
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}: {node.name}"


def names_to_import(source: str) -> set[str]:
    """Names that a piece of code reads and neither makes nor imports."""
    used, made = set(), set(dir(builtins))
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name, ctx=ast.Load()):
                used.add(name)
            case ast.Name(id=name) | ast.arg(arg=name) | ast.FunctionDef(name=name):
                made.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                made |= {alias.asname or alias.name.partition(".")[0] for alias in aliases}
    return used - made


@pytest.mark.parametrize("package", [CORE, *TWINS])
def test_examples_of_docstrings_stand_alone(package: str):
    public = set().union(*(exported(tree) for tree in sources(package).values()))
    for path, tree in sources(package).items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                examples = doctest.DocTestParser().get_examples(ast.get_docstring(node) or "")
                missing = names_to_import("".join(example.source for example in examples)) - public
                assert not missing, f"{path}: {getattr(node, 'name', '')}"
