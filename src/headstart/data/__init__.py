"""From folders of images to batches of pixels: find, check, split, decode, resize.

Nothing here knows of networks: data and backbones meet in
:class:`~headstart.inputspec.InputSpec`, and importing this package loads no torch.
"""
