"""A teacher that takes its time and says when it begins, so that a test can kill what is at work. Copied to the sites."""

import os
import time
from pathlib import Path
from typing import Any

from nakt_fed.networks.unet import UNet


class SlowUNet(UNet):
    """The same weights and answers as a UNet."""

    def forward(self, pictures: Any) -> Any:
        Path(os.environ["NAKT_TEST_MARK"]).touch()
        time.sleep(float(os.environ["NAKT_TEST_PAUSE"]))
        return super().forward(pictures)


def unet(**settings: Any) -> SlowUNet:
    return SlowUNet(**settings)
