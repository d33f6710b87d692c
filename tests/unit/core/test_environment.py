"""What is asked of the environment, and what stands where nothing is said."""

from pathlib import Path

from vesalius.core import environment


def test_the_environment(monkeypatch):
    monkeypatch.setenv("VESALIUS_HOME", "/somewhere")
    assert environment.home() == Path("/somewhere")
    monkeypatch.delenv("VESALIUS_HOME")
    assert environment.home() == Path.home() / ".cache" / "vesalius"
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert environment.process_rank() == (0, 1)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert environment.process_rank() == (3, 8)
    assert environment.local_rank() == 1
