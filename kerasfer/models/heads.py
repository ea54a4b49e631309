import keras

from kerasfer.layers import ClassProbabilities


def classify(features, class_names, dropout=0.0):
    """Adds the classifier of every model: dropout, a dense layer and a softmax with class names."""
    if dropout:
        features = keras.layers.Dropout(dropout, name="dropout")(features)
    logits = keras.layers.Dense(len(class_names), name="logits")(features)
    return ClassProbabilities(class_names, name="probabilities")(logits)
