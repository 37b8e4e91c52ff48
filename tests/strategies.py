"""Names of strategies for tests: every preset, in each form that it has."""

NAMES = (
    "feature-extraction",
    "probe-then-fine-tune",
    "fine-tune",
    "last-blocks",
    "last-blocks:1",
    "last-blocks:3",
    "freeze-first:2",
    "freeze-first:10layers",
    "gradual",
    "gradual:epochs=1/2/3",
    "gradual:rates=1e-2/1e-3/1e-4",
    "gradual:epochs=2/3/5,rates=1e-2/1e-3/1e-4",
    "gradual:blockwise",
    "discriminative",
    "discriminative:low=1e-6,high=1e-2",
    "discriminative:decay=0.5",
    "norm-only",
    "bias-only",
    "scratch",
    "scratch:small-cnn",
)
