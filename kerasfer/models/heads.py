import keras

from kerasfer.layers import ClassProbabilities


def classify(features, class_names, dropout=0.0):
    """Adds the end of every model: dropout, a dense layer, a softmax that knows the classes."""
    if dropout:
        features = keras.layers.Dropout(dropout, name="dropout")(features)
    logits = keras.layers.Dense(len(class_names), name="logits")(features)
    return ClassProbabilities(class_names, name="probabilities")(logits)
