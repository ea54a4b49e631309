import pytest


@pytest.fixture(autouse=True)
def registered_models(monkeypatch):
    """Lets the recipes of these tests name the models of `tiny_models`."""
    import tiny_models

    from kerasfer.models import MODELS

    for name in ("tiny", "tiny_spd"):
        monkeypatch.setitem(MODELS, name, getattr(tiny_models, name))
