"""All augmentations, for the tests of pictures and of batches."""

ALL = {
    "flip": True,
    "crop": 0.7,
    "shift": 0.1,
    "rotation": 15,
    "blur": 0.05,
    "brightness": 0.3,
    "contrast": 0.3,
    "erasing": 0.5,
    "mixup": 0.2,
}
