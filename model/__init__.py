"""What happens inside the model: pixels, the network, the runtime and the pyfunc."""

import sys

# OpenVINO and NNCF report to Google Analytics that they were imported, from a process that they
# fork. A machine with patients' scans reports nothing, and a fork beside the import of h5py prints
# errors. They do without where their package for it cannot be imported; this comes before them.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as `import` takes it
