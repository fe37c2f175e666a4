"""Files of stand-ins, judged in this process against their modules. Nothing here imports torch before a test needs it."""

from __future__ import annotations

import pytest

from detparity.core.clock import Clock


@pytest.fixture(scope="session")
def oracles():
    """Oracles by what was asked for: files of one module share what it gives."""
    from detparity.kit.tests.checks.foreign import stand_ins

    from detparity.checks.foreign.truth import ForeignOracle

    found = {}

    def oracle(name, module, layout):
        module = module if module is not None else stand_ins.made(name)
        key = (name, id(module), layout)
        if key not in found:
            found[key] = ForeignOracle(stand_ins.reference_of(name, module, layout))
        return found[key]

    return oracle


@pytest.fixture
def judged(oracles, tmp_path):
    """Call with a name, a kind and the content of a file for its context.

    module: what it is judged against; promises: other than those of the kind; layout: "" where the file is to state it.
    """
    from detparity.kit.tests.checks.foreign import stand_ins

    from detparity.checks.foreign.open_file import ForeignSource, open_context

    def judge(name, kind, content, module=None, promises=None, quick=True, layout=None):
        path = tmp_path / ("file.pt" if kind == stand_ins.TRACED else "file.onnx")
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        oracle = oracles(name, module, layout)
        promised = promises or stand_ins.promises_of(name, kind)
        reference = oracle.reference
        known = {f"{reference.facts.title} {reference.facts.digest}": oracle}
        source = ForeignSource(lambda path: reference, lambda path: promised, oracles=known)
        return open_context(path, source, None, Clock(), quick)

    return judge


@pytest.fixture
def outcomes():
    """Call with a context for the outcomes of all checks that apply, by id."""
    from detparity.checks import ON_ENDPOINT, ON_IMAGES, ON_TARGET

    return lambda context: {
        name: context.outcome(name)
        for name, check in context.checks.items()
        if check.applies(context.contract) and name not in (*ON_IMAGES, *ON_ENDPOINT, *ON_TARGET)
    }
