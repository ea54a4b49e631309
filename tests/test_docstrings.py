"""Every example in a docstring runs and gives the value that it shows."""

import doctest
import importlib
import pkgutil

import pytest

import kerasfer

MODULES = [module.name for module in pkgutil.walk_packages(kerasfer.__path__, "kerasfer.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    module = importlib.import_module(name)
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0
