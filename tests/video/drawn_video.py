"""Videos of moving colored squares, and a detector and a model that recognize the colors."""

import numpy as np

from kerasfer.faces import Face
from kerasfer.predict import Predictor
from kerasfer.predict.runtimes import Runtime
from kerasfer.video.footage import import_cv2

CLASS_NAMES = ("happy", "sad", "angry")
RED, GREEN, BLUE = (230, 20, 20), (20, 230, 20), (20, 20, 230)


def frame_of(*squares, size=(160, 96)):
    """Draws squares, each (x, y, side, color), on a dark frame: uint8 RGB."""
    frame = np.full((size[1], size[0], 3), 40, "uint8")
    for x, y, side, color in squares:
        frame[max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)] = color
    return frame


def write_video(path, frames, fps=25.0, codec="mp4v"):
    """Writes uint8 RGB frames into a video file and returns its path."""
    cv2 = import_cv2()
    frames = list(frames)
    size = frames[0].shape[1::-1]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size)
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def read_video(path):
    """Returns the frames of a video file, a list of uint8 RGB, and its frame rate."""
    cv2 = import_cv2()
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    return frames, capture.get(cv2.CAP_PROP_FPS)


def find_squares(picture):
    """Detects at most one square of each color."""
    faces = []
    for channel in range(3):
        others = np.delete(picture, channel, axis=2).max(axis=2)
        rows, columns = np.nonzero((picture[..., channel] > 140) & (others < 110))
        if len(rows) > 50:
            x, y = columns.min(), rows.min()
            box = (x, y, columns.max() + 1 - x, rows.max() + 1 - y)
            faces.append(Face(tuple(map(float, box)), 1.0))
    return faces


def predict_colors(images):
    """Returns the shares of red, green and blue as probabilities."""
    means = images.mean(axis=(1, 2)) + 1e-6
    return means / means.sum(axis=1, keepdims=True)


def color_predictor(faces=find_squares, image_size=16):
    return Predictor(Runtime("fake", "fake", CLASS_NAMES, image_size, predict_colors), faces=faces)
