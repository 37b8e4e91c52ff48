"""headstart's pieces in a training loop of your own: a plain DataLoader, a plain optimizer."""

import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

import headstart
from headstart.strategy import names

model = headstart.create("bundled:efficientnet_lite0", classes=3, size=64)
images = headstart.dataset("photos", model.input_spec)

# The last two stages and the head learn; all below is frozen, its batch norms too.
phase = names.create("last-blocks:2").phases[-1]
headstart.apply(model, phase)
optimizer = torch.optim.AdamW(headstart.parameter_groups(model, phase))

train = images.torch("train", augment="light")
for epoch in range(2):
    train.set_epoch(epoch)
    model.train()  # what is frozen stays in inference mode
    for pixels, labels in DataLoader(train, batch_size=16, shuffle=True):
        loss = F.cross_entropy(model(pixels), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

model.eval()
with torch.no_grad():
    right = [
        (model(pixels).argmax(dim=1) == labels).sum().item()
        for pixels, labels in DataLoader(images.torch("test"), batch_size=16)
    ]
print(f"{sum(right)} of {len(images.split.test)} test images are right")
