import socket

from kerasfer.models.downloads import is_reachable


def test_a_server_is_reachable(monkeypatch):
    monkeypatch.delenv("http_proxy", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert is_reachable(url)
    assert not is_reachable(url)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert is_reachable(url)
