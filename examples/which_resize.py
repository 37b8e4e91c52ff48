"""Which resize rule suits my images? Compared on val, on one split, with the cache doing the work.

No rule wins everywhere, and the wrong one can cost several points.
"""

import headstart

DATA = "photos"

for rule in ("crop", "squash", "pad"):
    classifier = headstart.fit(
        DATA, f"runs/resize-{rule}", strategy="feature-extraction", resize=rule
    )
    val = classifier.report.val["accuracy"]
    print(f"{rule:<7} val accuracy {val.value:.3f} ({val.low:.3f} to {val.high:.3f}), n = {val.n}")
