"""A file as a user writes one: models, and what is none."""

CODE = """
import os, signal, sys, time
import torch
from torch import nn


class Small(nn.Module):
    names = {0: "cat", 1: "dog"}

    def __init__(self, width=4, scale=1.0):
        super().__init__()
        self.conv, self.bn, self.scale = nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), scale

    def forward(self, images):
        found = self.bn(self.conv(images)) * self.scale
        return {"boxes": found, "scores": found.sigmoid()}


class Several(nn.Module):
    def forward(self, images, mask):
        return images * mask


class Crashing(Small):
    def forward(self, images):
        if images.shape[-1] > 40:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().forward(images)


class Refusing(Small):
    def forward(self, images):
        if images.shape[-1] > 40:
            raise ValueError("only small\\nimages")
        return super().forward(images)


def with_example(): return Small(), torch.zeros(1, 3, 24, 32)
def with_shape(): return Small(), (1, 3, 24, 32)
def with_two(): return Small(), (torch.zeros(1, 3, 8, 8), torch.zeros(1))
def of_text(): return Small(), (1, 77)
def raising(): raise RuntimeError("no such\\nfile of weights")
def crashing():
    print("about to end")
    os.kill(os.getpid(), signal.SIGSEGV)
def hanging():
    time.sleep(60)
def printing():
    print("weights from nowhere")
    sys.stderr.write("and a warning\\n")
    raise KeyError("layer")
def writing(path): open(path, "w").write("x")
def scratch():
    open("beside.txt", "w").write("x")
    return Small()
def leaving(): sys.exit(3)
def number(): return 3
def nothing(): return nn.Module()
value = 3
"""
