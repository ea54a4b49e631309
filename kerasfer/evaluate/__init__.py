"""Evaluation of trained models: predictions, metrics, and `evaluate` for a whole split."""


def __getattr__(name):
    # `evaluate` needs Keras; the metrics, which reports and tables use, do not.
    if name == "evaluate":
        from kerasfer.evaluate.evaluation import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
