"""Writes logs for TensorBoard with every backend."""

import time

import keras


class TensorBoard(keras.callbacks.Callback):
    """Writes the values of each epoch as scalars for TensorBoard.

    `keras.callbacks.TensorBoard` needs TensorFlow. TensorBoard's own writer imports TensorFlow too,
    and its thread ignores a full disk. A resumed run writes its whole history again, so that every
    epoch occurs once.

    Args:
        folder: The folder of the logs. It is created.
        record: The `kerasfer.train.callbacks.Record` of the training.
    """

    def __init__(self, folder, record):
        super().__init__()
        self.folder = folder
        self.record = record
        self.file = None

    def on_epoch_end(self, epoch, logs=None):
        *before, row = self.record.state.history
        if self.file is None:
            self._open()
            for old in before:
                self._write(old)
        self._write(row)

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Closes the file. The next stage of the training opens another one."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def _open(self):
        from tensorboard.compat.proto.event_pb2 import Event  # Slow to import.
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.event, self.summary = Event, Summary
        self.folder.mkdir(exist_ok=True)
        for old in self.folder.glob("events.*"):
            old.unlink()
        # TensorBoard orders files by this number.
        self.file = (self.folder / f"events.out.tfevents.{int(time.time())}.kerasfer").open("wb")
        self.records = RecordWriter(self.file)
        self._record(file_version="brain.Event:2")

    def _write(self, row):
        scalars = [
            self.summary.Value(tag=name, simple_value=float(value))
            for name, value in row.items()
            if name != "epoch"
        ]
        self._record(step=row["epoch"], summary=self.summary(value=scalars))

    def _record(self, **content):
        event = self.event(wall_time=time.time(), **content)
        self.records.write(event.SerializeToString())
        self.file.flush()
