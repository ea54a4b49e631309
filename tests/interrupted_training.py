"""Trains in processes that are killed at chosen moments, for the tests of `--resume`.

    python interrupted_training.py < jobs.json

Takes lists of jobs: those of a list run one after the other, two lists at a time. A job is
`{"recipe", "output_dir", "resume", "die"}`. `die` is null or a moment: `["step", 5]` after the
fifth training step; `["before", "history.csv", 2]` and `["after", …]` around the second time that
this file is replaced; `["remove", "checkpoint", 1]` in the middle of its removal.

Each job is a fork of this process, which has imported everything and computed nothing: importing is
what takes the time. Prints how each ended, in lists again, the number of a signal being negative.
"""

import json
import os
import shutil
import signal
import sys
import traceback


def main():
    import keras  # noqa: F401
    import keras_hub  # noqa: F401
    import sklearn.model_selection  # noqa: F401
    import tiny_models

    import kerasfer.train  # noqa: F401

    tiny_models.register()
    chains = json.load(sys.stdin)
    codes = [[] for _ in chains]
    waiting, running = list(range(len(chains))), {}
    while waiting or running:
        while waiting and len(running) < 2:
            number = waiting.pop(0)
            child = os.fork()
            if child == 0:
                run(**chains[number][len(codes[number])])
            running[child] = number
        child, status = os.wait()
        number = running.pop(child)
        codes[number].append(os.waitstatus_to_exitcode(status))
        if len(codes[number]) < len(chains[number]):
            waiting.insert(0, number)
    print(json.dumps(codes))


def run(recipe, output_dir, resume, die):
    import tiny_models

    import kerasfer.train
    from kerasfer.recipe.schema import Recipe

    for figure in tiny_models.FIGURES:
        module, _, name = figure.rpartition(".")
        setattr(sys.modules[module], name, lambda *arguments, **options: None)
    sys.stdout = sys.stderr
    try:
        if die:
            arrange_death(*die)
        kerasfer.train.train(Recipe.model_validate(recipe), output_dir=output_dir, resume=resume)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def arrange_death(moment, *where):
    from kerasfer.train.callbacks import Record

    if moment == "step":
        counter = Counter(where[0])
        Record.on_train_batch_end = lambda self, batch, logs=None: counter.count() and die()
        return
    pattern, counter = where[0], Counter(where[1])
    replace, rmtree = os.replace, shutil.rmtree

    def mortal_replace(source, target):
        due = moment != "remove" and pattern in str(target) and counter.count()
        if due and moment == "before":
            die()
        replace(source, target)
        if due:
            die()

    def mortal_rmtree(path, **options):
        if pattern in str(path) and os.path.exists(path) and counter.count():
            os.unlink(os.path.join(path, sorted(os.listdir(path))[-1]))
            die()
        rmtree(path, **options)

    os.replace = mortal_replace
    if moment == "remove":
        shutil.rmtree = mortal_rmtree


class Counter:
    def __init__(self, left):
        self.left = left

    def count(self):
        self.left -= 1
        return self.left == 0


def die():
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
