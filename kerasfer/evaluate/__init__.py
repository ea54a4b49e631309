"""Evaluation of trained models: predictions, metrics, and `evaluate` for a whole split."""


def __getattr__(name):
    # `evaluate` imports Keras. Reports and tables use only the metrics, which do not.
    if name == "evaluate":
        from kerasfer.evaluate.evaluation import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
