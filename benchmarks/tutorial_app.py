"""The tutorial's way of serving, to compare with: Flask, and Keras loaded at each request.

Written after the pattern that the widespread end-to-end chest-cancer tutorials share: the body's
base64 goes into one fixed file, and each request loads the whole model from disk. Only
benchmarks/serving.py starts it.
"""

from __future__ import annotations

import base64
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main(model_path: str, port: int) -> None:
    """Serve POST /predict until stopped."""
    import keras
    import numpy as np
    from flask import Flask, Response, jsonify, request

    app = Flask(__name__)
    upload = Path(tempfile.mkdtemp()) / "inputImage.png"

    @app.get("/ping")
    def ping() -> str:
        return "\n"

    @app.post("/predict")
    def predict() -> Response:
        upload.write_bytes(base64.b64decode(request.get_json()["image"]))
        model = keras.models.load_model(model_path)
        side = model.input_shape[1]
        picture = keras.utils.load_img(upload, target_size=(side, side))
        pixels = np.expand_dims(keras.utils.img_to_array(picture, dtype="uint8"), 0)
        p = model.predict(pixels, verbose=0)[0]
        return jsonify([{"image": int(np.argmax(p)), "p": [float(value) for value in p]}])

    app.run(host="127.0.0.1", port=port)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
