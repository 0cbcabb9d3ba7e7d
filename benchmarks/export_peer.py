"""optimum's export without its validation: ``python -P export_peer.py MODEL FOLDER``, in optimum's environment.

`optimum-cli export onnx` always compares its model with the original; tritonsmith does that in stages of their own
(``reference`` and ``check``). So both are measured, with and without.
"""

import sys

from optimum.exporters.onnx import main_export  # type: ignore[import-not-found]

if __name__ == "__main__":
    main_export(sys.argv[1], sys.argv[2], task="feature-extraction", library_name="transformers", do_validation=False)
