"""The peer of `train_step.py`: the same networks and the same step in plain PyTorch."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    def __init__(self, channels, filters, stride):
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(channels, filters, 3, stride, 1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(inplace=True),
            nn.Conv2d(filters, filters, 3, 1, 1, bias=False),
            nn.BatchNorm2d(filters),
        )
        self.shortcut = nn.Identity()
        if stride > 1 or channels != filters:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
            )

    def forward(self, x):
        return torch.relu_(self.path(x) + self.shortcut(x))


def resnet(name, stem):
    """Builds `(batch, 3, side, side)` → `(batch, 512, h, w)`."""
    if stem == "small":
        layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
    else:
        layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(3, 2, 1))
    channels = 64
    for stage, blocks in enumerate(BLOCKS[name]):
        for block in range(blocks):
            filters, stride = 64 * 2**stage, 2 if stage and not block else 1
            layers.append(Block(channels, filters, stride))
            channels = filters
    return nn.Sequential(*layers)


class Classifier(nn.Module):
    """ResNet18 with average pooling, or OBSR: two ResNet34 with bilinear pooling."""

    def __init__(self, name, stem, num_classes):
        super().__init__()
        networks = ("resnet34", "resnet34") if name == "obsr" else (name,)
        self.extractors = nn.ModuleList(resnet(network, stem) for network in networks)
        self.logits = nn.Linear(512**2 if name == "obsr" else 512, num_classes)
        self.register_buffer("mean", torch.tensor(MEAN).reshape(3, 1, 1) * 255)
        self.register_buffer("deviation", torch.tensor(DEVIATION).reshape(3, 1, 1) * 255)

    def forward(self, pictures):
        scaled = (pictures - self.mean) / self.deviation
        maps = [extractor(scaled).flatten(2) for extractor in self.extractors]
        if len(maps) == 1:
            return self.logits(maps[0].mean(2))
        with torch.autocast(pictures.device.type, enabled=False):  # M overflows in half precision
            pooled = (maps[0].float() @ maps[1].float().mT).flatten(1)
            pooled = normalize(pooled.sign() * torch.sqrt(pooled.abs() + 1e-8))
        return self.logits(pooled)


def make_step(name, image_size, stem, batch, bfloat16, num_classes=7):
    """Returns one training step as a function, and its facts."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = Classifier(name, stem, num_classes).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    rng = np.random.default_rng(0)
    pictures = rng.uniform(0, 255, (batch, image_size, image_size, 3)).astype("float32")
    labels = np.arange(batch) % num_classes

    def step():
        # (batch, side, side, 3) → channels first, in channels-last memory: no copy.
        x = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2)
        y = torch.from_numpy(labels).to(device)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bfloat16):
            loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, {"parameters": sum(weight.numel() for weight in model.parameters())}
