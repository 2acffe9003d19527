// The arithmetic between a picture and a network: cuts and resizes as Pillow and torchvision do, to the last bit, so
// that a face has the same scores here as in Python. A picture is `{data, width, height}`, as ImageData is: RGBA bytes,
// row by row. Alpha is left aside: a canvas has put the picture on black.

/**
 * Cut a square out of a picture, as `fer_hf.inference.alignment.crop_face`: bilinear, at the picture's own scale.
 *
 * @param picture
 * @param {{corner: number[], right: number[], side: number}} square - In pixels of the picture; `right` is the unit
 *     vector along its top. What lies beyond the picture is black.
 * @returns The square as a picture.
 */
export function cut({ data, width, height }, square) {
  const side = Math.max(1, Math.min(Math.round(square.side), 2 * Math.max(width, height)));
  const pixels = new Uint8ClampedArray(side * side * 4);
  const [cornerX, cornerY] = square.corner;
  const [stepX, stepY] = square.right.map((part) => (part * square.side) / side);
  for (let row = 0, to = 0; row < side; row++) {
    for (let column = 0; column < side; column++, to += 4) {
      const x = cornerX + stepX * (column + 0.5) - stepY * (row + 0.5);
      const y = cornerY + stepY * (column + 0.5) + stepX * (row + 0.5);
      if (!(x >= 0 && x < width && y >= 0 && y < height)) continue;
      const left = Math.floor(x - 0.5), top = Math.floor(y - 0.5);
      const shareX = x - 0.5 - left, shareY = y - 0.5 - top;
      const x0 = 4 * Math.max(left, 0), x1 = 4 * Math.min(left + 1, width - 1);
      const y0 = 4 * width * Math.max(top, 0), y1 = 4 * width * Math.min(top + 1, height - 1);
      for (let channel = 0; channel < 3; channel++) {
        const above = between(data[y0 + x0 + channel], data[y0 + x1 + channel], shareX);
        const below = between(data[y1 + x0 + channel], data[y1 + x1 + channel], shareX);
        pixels[to + channel] = Math.floor(between(above, below, shareY));
      }
    }
  }
  return { data: pixels, width: side, height: side };
}

const between = (a, b, share) => a + (b - a) * share;

/** Filters by name: how far each reaches, in pixels of the smaller picture, and its weight at a distance. */
const FILTERS = {
  bilinear: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    reach: 2,
    weight(x) {
      x = Math.abs(x);
      if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
      return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
    },
  },
};

/** Resize a picture with antialiasing: each new pixel is a weighted mean of all that lie under it. */
export function resize(picture, width, height, filter) {
  return resizeRows(resizeRows(picture, width, filter), height, filter);
}

/** Resizes each row, and turns the result on its side: done twice, it resizes both sides. */
function resizeRows({ data, width, height }, to, filter) {
  const { starts, weights, bits } = taps(width, to, FILTERS[filter]);
  const resized = new Uint8ClampedArray(to * height * 4);
  for (let i = 0, at = 0; i < to; i++) {
    const own = weights[i];
    for (let row = 0; row < height; row++, at += 4) {
      for (let channel = 0; channel < 3; channel++) {
        let sum = 1 << (bits - 1);
        for (let j = 0, from = 4 * (row * width + starts[i]) + channel; j < own.length; j++, from += 4) {
          sum += own[j] * data[from];
        }
        resized[at + channel] = sum >> bits;
      }
    }
  }
  return { data: resized, width: height, height: to };
}

/** The first pixel under each new one, and the weights of all: integers of 16 bits, in units of 2 to the `-bits`. */
function taps(from, to, { reach, weight }) {
  const scale = Math.max(1, from / to);
  const starts = [], shares = [];
  for (let i = 0; i < to; i++) {
    const center = (from / to) * (i + 0.5);
    const start = Math.max(0, Math.trunc(center - reach * scale + 0.5));
    const end = Math.min(from, Math.trunc(center + reach * scale + 0.5));
    const own = Array.from({ length: end - start }, (_, j) => weight((start + j - center + 0.5) / scale));
    const sum = own.reduce((a, b) => a + b);
    starts.push(start);
    shares.push(own.map((share) => share / sum));
  }
  const largest = Math.max(...shares.flat());
  let bits = 0;
  while (bits < 22 && Math.trunc(0.5 + largest * 2 ** (bits + 1)) < 2 ** 15) bits++;
  const rounded = (share) => Math.trunc(share * 2 ** bits + Math.sign(share) * 0.5);
  return { starts, weights: shares.map((own) => Int32Array.from(own, rounded)), bits };
}
