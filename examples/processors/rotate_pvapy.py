"""Written for PvaPy's streaming framework: runs under `pvapy-hpc-consumer` and, unchanged, in a beamcast pool."""

import numpy as np
import pvaccess as pva
from pvapy.hpc.adImageProcessor import AdImageProcessor


class RotateProcessor(AdImageProcessor):
    """Turns each image by 90 degrees, `turns` times."""

    def __init__(self, configDict={}):  # noqa: B006, N803 - PvaPy's signature
        AdImageProcessor.__init__(self, configDict)
        self.turns = int(configDict.get("turns", 1))
        self.nRotated = 0

    def configure(self, configDict):  # noqa: N803 - PvaPy's name
        """New parameters while it runs."""
        self.turns = int(configDict.get("turns", self.turns))

    def process(self, pvObject):  # noqa: N803 - PvaPy's name
        """Publish the turned image."""
        (frameId, image, _nx, _ny, _nz, _colorMode, _fieldKey) = self.reshapeNtNdArray(pvObject)  # noqa: N806
        rotated = np.ascontiguousarray(np.rot90(image, self.turns))
        self.updateOutputChannel(self.generateNtNdArray2D(frameId, rotated))
        self.nRotated += 1
        return pvObject

    def getStats(self):  # noqa: N802 - PvaPy's name
        """What is shown under userStats."""
        return {"nRotated": self.nRotated}

    def getStatsPvaTypes(self):  # noqa: N802 - PvaPy's name
        """The types of the statistics."""
        return {"nRotated": pva.UINT}
