"""Hugging Face accelerate: keep SAM itself for `ascended`, and step through the prepared optimizer.

python examples/accelerate_loop.py     (or: accelerate launch examples/accelerate_loop.py)
"""

from __future__ import annotations

import argparse

import digits
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ravine.torch import SAM


def main(steps: int) -> None:
    """Train, print."""
    accelerator = Accelerator(cpu=True)
    x, y, held_x, held_y = digits.load()
    network = digits.network()
    sam = SAM(torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9), rho=0.05, model=network)
    loader = DataLoader(TensorDataset(x, y), batch_size=100, shuffle=True)
    model, opt, loader = accelerator.prepare(network, sam, loader)
    criterion = nn.CrossEntropyLoss()
    while sam.steps < steps:
        for inputs, labels in loader:
            opt.zero_grad()
            accelerator.backward(criterion(model(inputs), labels))
            with sam.ascended(scaler=accelerator.scaler):
                accelerator.backward(criterion(model(inputs), labels))
            opt.step()
            if sam.steps == steps:
                break
    print(f"{sam.steps} steps, held-out accuracy {digits.accuracy(network, held_x, held_y):.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    main(parser.parse_args().steps)
