"""The null observer takes what any observer takes."""

import inspect

from services.runtime.engine.observer import EngineObserver, NullObserver


def test_the_null_observer_has_every_method_of_the_protocol_with_the_same_arguments() -> None:
    methods = [name for name in vars(EngineObserver) if not name.startswith("_")]
    assert methods
    for name in methods:
        assert inspect.signature(getattr(NullObserver, name)) == inspect.signature(getattr(EngineObserver, name))
