"""Lines within a long epoch."""

import keras
import numpy as np

from kerasfer.train import callbacks
from kerasfer.train.callbacks import PrintEpochs


def test_a_long_epoch_prints_lines(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
    progress = PrintEpochs(None, epochs=3)
    progress.set_params({"steps": 5})
    progress.on_epoch_begin(1)
    for batch in range(5):
        now[0] += 20
        progress.on_train_batch_end(batch, {"loss": 2.0 - batch / 10})
    monkeypatch.undo()
    assert capsys.readouterr().out.splitlines() == [
        "epoch 2/3  step 2 of 5  loss 1.9000  1 min 0 s left in this epoch",
        "epoch 2/3  step 4 of 5  loss 1.7000  20 s left in this epoch",
    ]


class OnlyBatches(PrintEpochs):
    def on_epoch_end(self, epoch, logs=None):
        pass


def test_lines_of_a_real_training(capsys):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    data = np.ones((6, 4), "float32"), np.ones((6, 2), "float32")
    progress = OnlyBatches(None, epochs=2, interval=0)
    model.fit(*data, batch_size=2, epochs=2, verbose=0, callbacks=[progress])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  loss")[0] for line in lines] == [
        f"epoch {epoch}/2  step {step} of 3" for epoch in (1, 2) for step in (1, 2, 3)
    ]
