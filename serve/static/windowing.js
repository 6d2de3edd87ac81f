// Windows: which grey values become black, which white.

/** Hounsfield units: centre and width, as radiologists set them. */
export const WINDOWS = {
  lung: { words: "Lung", centre: -600, width: 1500 },
  soft: { words: "Soft tissue", centre: 40, width: 400 },
  bone: { words: "Bone", centre: 400, width: 1800 },
};

/** Return a table from a value, offset by 32768, to a grey level 0-255. */
function table({ centre, width }, inverted) {
  const levels = new Uint8ClampedArray(65536);
  for (let i = 0; i < levels.length; i += 1) {
    const share = (i - 32768 - (centre - 0.5)) / (width - 1) + 0.5; // DICOM PS3.3 C.11.2.1.2.1
    levels[i] = 255 * (inverted ? 1 - share : share);
  }
  return levels;
}

const tables = new Map();

/** Return pixels as an ImageData: HU through a window, grey levels as they are. */
export function grey({ values, width, height, unit, inverted }, name) {
  const image = new ImageData(width, height);
  const out = new Uint32Array(image.data.buffer);
  if (unit !== "HU") {
    for (let i = 0; i < out.length; i += 1) out[i] = 0xff000000 | (values[i] * 0x010101);
    return image;
  }
  const key = `${name} ${inverted}`;
  if (!tables.has(key)) tables.set(key, table(WINDOWS[name], inverted));
  const levels = tables.get(key);
  for (let i = 0; i < out.length; i += 1) {
    out[i] = 0xff000000 | (levels[values[i] + 32768] * 0x010101);
  }
  return image;
}

/** Draw pixels onto a canvas of their own size, or of at most `side` pixels. */
export function draw(canvas, pixels, name, side = Infinity) {
  const scale = Math.min(1, side / Math.max(pixels.width, pixels.height));
  const target = canvas.getContext("2d");
  if (scale === 1) {
    Object.assign(canvas, { width: pixels.width, height: pixels.height });
    target.putImageData(grey(pixels, name), 0, 0);
    return;
  }
  const whole = document.createElement("canvas");
  draw(whole, pixels, name);
  canvas.width = Math.round(pixels.width * scale);
  canvas.height = Math.round(pixels.height * scale);
  target.imageSmoothingQuality = "high";
  target.drawImage(whole, 0, 0, canvas.width, canvas.height);
}

/** Return width / height of a picture on the body, whose pixels need not be square. */
export function aspect({ width, height, spacing }) {
  return spacing ? (width * spacing[1]) / (height * spacing[0]) : width / height;
}
