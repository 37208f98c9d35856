"""Whether the tests marked `gpu` compute on this GPU, as IRPIPE_GPU_TESTS says."""

import os

IS_GPU = os.environ.get("IRPIPE_GPU_TESTS", "") not in ("", "0")
