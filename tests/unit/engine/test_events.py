"""TensorBoard events against the published checksum vectors and against TensorBoard's own reader."""

import pytest

from vesalius.engine.events import Events, crc32c


@pytest.mark.parametrize(
    ("data", "checksum"),
    [(b"\x00" * 32, 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E), (b"123456789", 0xE3069283)],
)
def test_checksum_vectors_of_rfc_3720(data, checksum):
    assert crc32c(data) == checksum


def test_tensorboard_reads_what_is_written(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="the reader is TensorBoard's own")
    events = Events(tmp_path)
    for step, loss in [(1, 2.5), (300, 0.25)]:
        events.scalars(step, {"loss": loss, "learning_rate": 1e-3})
    seen = reader.EventAccumulator(str(tmp_path))
    seen.Reload()
    assert sorted(seen.Tags()["scalars"]) == ["learning_rate", "loss"]
    assert [(e.step, e.value) for e in seen.Scalars("loss")] == [(1, 2.5), (300, 0.25)]
