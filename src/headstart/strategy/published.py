"""Published tables: strategies that ask for nothing but the number of training images.

Two tables that tutorials repeat disagree on where one row ends and the next begins, and the
hyper-rule of Big Transfer (BiT) sets the steps by size. None of them looks at the task. Here they
can be run, and ``what_tables_say`` tells what they would choose, beside a choice that was measured.
"""

from __future__ import annotations

from dataclasses import replace

from headstart.errors import UsageError
from headstart.strategy.patterns import HEAD
from headstart.strategy.phase import Phase, Rate, Train
from headstart.strategy.presets import feature_extraction, fine_tune, gradual
from headstart.strategy.strategy import Strategy

__all__ = ["TABLES", "bit", "table", "what_tables_say"]

TABLES = ((500, 2_000), (1_000, 10_000))  # the two that are published

_HEAD_EPOCHS = 25  # the tables say 20 to 30,
_GRADUAL_EPOCHS = 10  # three times 10,
_ALL_EPOCHS = 40  # and 30 to 50

_BIT_BATCH = 512
_BIT_RATE = 0.003  # at that batch size
_BIT_STEPS = ((20_000, 500), (500_000, 10_000))  # fewer images than the first take the second
_BIT_MOST_STEPS = 20_000
_BIT_MIXUP = 0.1  # from 20,000 images on


def table(low: int, high: int, images: int | None = None) -> Strategy:
    """Choose by the number of training images alone, as tutorials do.

    Fewer than ``low``: ``feature-extraction``, the head trained for 25 epochs at 1e-3. From ``low``
    to ``high``: ``gradual``, three times 10 epochs. More: ``fine-tune``, everything for 40 epochs.
    Expect a choice that ignores how far the images are from ImageNet's, and how many classes share
    them: ten images a class are treated like a hundred where the sum is the same.

    Measured: nothing of its own; docs/strategies.md has what the three it chooses from reached.

    Args:
        low: The fewest images of ``gradual``.
        high: The most images of ``gradual``.
        images: How many there are to learn from. None is ``gradual``, whose phases take every
            option that the others take, where only the name is to be read.

    Raises:
        UsageError: ``low`` is not below ``high``.
    """
    if not low < high:
        raise UsageError(
            f"table:{low}-{high} needs two whole numbers of images, the smaller one first.",
            field="strategy",
            hint="Published are table:500-2000 and table:1000-10000.",
        )
    return replace(_row(low, high, low if images is None else images), name=f"table:{low}-{high}")


def bit(images: int | None = None, batch_size: int = 32) -> Strategy:
    """Train everything by SGD for as many steps as BiT's hyper-rule gives so many images.

    500 steps of 512 images below 20,000 training images, 10,000 below 500,000, 20,000 from there
    on; the rate is 0.003, and mixup is 0.1 from 20,000 images on (Kolesnikov 2020,
    arXiv:1912.11370). A smaller batch has the rate reduced in proportion and sees as many images,
    as the authors do it on small machines. Expect it to be slow on few images: 500 steps are
    256,000 images, 640 epochs of 400, and hours on a CPU.

    It differs from the paper's: the rate falls to a tenth after each third of the training, where
    BiT cuts it at 40, 60 and 80 % (30, 60 and 90 % of a longer one); the first 100 steps (500 of a
    longer one) do not warm up; momentum is Nesterov's; images have our light augmentation at the
    size that is asked for, not crops at the 128 or 480 pixels of BiT's rule; and the networks at
    hand have batch norms, which are held, where BiT's have group norms.

    Measured: not yet.

    Args:
        images: How many there are to learn from. None is 20,000, where only the name is to be read.
        batch_size: Images a step. ``--batch-size`` changes it later and leaves the rate alone.
    """
    n = _BIT_STEPS[0][0] if images is None else images
    fit = Train(
        epochs=_bit_epochs(n),
        batch_size=batch_size,
        optimizer="sgd",
        schedule="step",
        weight_decay=0.0,
        clip=None,
        label_smoothing=0.0,
        mixup=0.0 if n < _BIT_STEPS[0][0] else _BIT_MIXUP,
        monitor="none",
    )
    rate = _BIT_RATE * batch_size / _BIT_BATCH
    rates = (Rate(HEAD, rate), Rate("stage:0..-1", rate))
    return Strategy("bit", (Phase(rates, fit, "light"),))


def what_tables_say(images: int) -> tuple[tuple[str, str], ...]:
    """Return what each published table would choose for so many training images, in words.

    Returns:
        Pairs of the strategy's name, as ``names.create`` takes it, and its choice with the reason.
    """
    said = [(f"table:{low}-{high}", _row_in_words(low, high, images)) for low, high in TABLES]
    steps, epochs = _bit_steps(images), _bit_epochs(images)
    words = (
        f"everything for {steps:,} steps of {_BIT_BATCH} images, {epochs:,} "
        f"{'epoch' if epochs == 1 else 'epochs'} here ({_bit_reason(images)})"
    )
    return (*said, ("bit", words))


def _row(low: int, high: int, images: int) -> Strategy:
    if images < low:
        return feature_extraction(epochs=_HEAD_EPOCHS)
    if images <= high:
        return gradual((_GRADUAL_EPOCHS,) * 3)
    return fine_tune(epochs=_ALL_EPOCHS)


def _row_in_words(low: int, high: int, images: int) -> str:
    name = _row(low, high, images).name
    if images < low:
        return f"{name}: the head for {_HEAD_EPOCHS} epochs (fewer than {low:,} images)"
    if images <= high:
        return (
            f"{name}: the head, then the last stage, then everything, {_GRADUAL_EPOCHS} epochs "
            f"each ({low:,} to {high:,} images)"
        )
    return f"{name}: everything for {_ALL_EPOCHS} epochs (more than {high:,} images)"


def _bit_steps(images: int) -> int:
    return next((steps for below, steps in _BIT_STEPS if images < below), _BIT_MOST_STEPS)


def _bit_epochs(images: int) -> int:
    """Return the epochs in which as many images are seen as in all steps of the rule."""
    return max(1, round(_bit_steps(images) * _BIT_BATCH / max(1, images)))


def _bit_reason(images: int) -> str:
    limits = [below for below, _ in _BIT_STEPS]
    below = next((limit for limit in limits if images < limit), None)
    return f"fewer than {below:,} images" if below else f"{limits[-1]:,} images or more"
